//! Writes the documents that the scenarios send.
//!
//! `cargo run --release -p target-service --example documents -- --out scenarios/data`
//!
//! The corpus that the models learnt from may not be published, so these are composed of sentences
//! written for this project (`templates.txt`), to the length curve of the corpus. Each row holds the
//! newsgroup it was written for and what the bundled models answer, for scenarios that check the
//! answers. A document that a model is unsure about is written again: an answer that another
//! processor's rounding could turn must not decide a run.

mod templates;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use target_service::model::{self, Infer, LoadedModel};
use templates::Templates;

#[derive(Parser)]
#[command(about = "Writes the documents that the scenarios send")]
struct Cli {
    /// Directory for documents.jsonl and long.jsonl.
    #[arg(long)]
    out: PathBuf,
    /// Everything random follows from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Share of the corpus at most this long, in bytes, with the ends chosen by us.
const LENGTHS: [(f64, f64); 6] = [
    (0.0, 110.0),
    (0.05, 194.0),
    (0.5, 806.0),
    (0.95, 2865.0),
    (0.99, 5602.0),
    (1.0, 7500.0),
];
const LONG: [(f64, f64); 2] = [(0.0, 4300.0), (1.0, 12_000.0)];

/// The least probability that both models must give their answer.
const SURE: f32 = 0.6;

fn main() -> Result<()> {
    let cli = Cli::parse();
    let templates = Templates::parse(include_str!("templates.txt"))?;
    let mut judges = Judges {
        bert: Judge::new("bert")?,
        tfidf: Judge::new("tfidf")?,
    };
    fs::create_dir_all(&cli.out)?;
    for (name, prefix, count, curve) in [
        ("documents.jsonl", "doc", 600, &LENGTHS[..]),
        ("long.jsonl", "long", 60, &LONG[..]),
    ] {
        let mut rng = ChaCha8Rng::seed_from_u64(cli.seed ^ count as u64);
        let mut lengths: Vec<usize> = (0..count)
            .map(|i| quantile(curve, (f64::from(i) + 0.5) / f64::from(count)))
            .collect();
        lengths.shuffle(&mut rng);
        let mut text = String::new();
        let mut right = 0;
        for (at, length) in lengths.iter().enumerate() {
            let label = &templates.groups()[at % templates.groups().len()];
            let row = row(&templates, label, *length, &mut rng, &mut judges)?;
            right += usize::from(row.answer == *label);
            let mut json = json!({
                "id": format!("{prefix}-{at:04}"),
                "text": row.text,
                "label": label,
                "answer": row.answer,
            });
            if row.answer_tfidf != row.answer {
                json["answer_tfidf"] = row.answer_tfidf.into();
            }
            text.push_str(&json.to_string());
            text.push('\n');
        }
        let path = cli.out.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        println!(
            "{}: {count} rows, answer is the label in {right}",
            path.display()
        );
    }
    Ok(())
}

struct Row {
    text: String,
    answer: String,
    answer_tfidf: String,
}

fn row(
    templates: &Templates,
    label: &str,
    length: usize,
    rng: &mut ChaCha8Rng,
    judges: &mut Judges,
) -> Result<Row> {
    for _ in 0..50 {
        let text = templates.compose(label, length, rng)?;
        if let (Some(answer), Some(answer_tfidf)) =
            (judges.bert.answer(&text)?, judges.tfidf.answer(&text)?)
        {
            return Ok(Row {
                text,
                answer,
                answer_tfidf,
            });
        }
    }
    bail!("no document of {length} bytes on {label} that both models are sure about")
}

/// The length at `share` of the curve; between its points lengths grow geometrically.
fn quantile(curve: &[(f64, f64)], share: f64) -> usize {
    let at = curve
        .iter()
        .position(|(to, _)| share <= *to)
        .unwrap_or(curve.len() - 1)
        .max(1);
    let ((from, low), (to, high)) = (curve[at - 1], curve[at]);
    let part = (share - from) / (to - from);
    (low.ln() + part * (high.ln() - low.ln())).exp().round() as usize
}

struct Judges {
    bert: Judge,
    tfidf: Judge,
}

struct Judge {
    model: LoadedModel,
    engine: Box<dyn Infer>,
}

impl Judge {
    fn new(name: &str) -> Result<Self> {
        let model = model::bundled(name)?;
        let engine = model.engine(1);
        Ok(Self { model, engine })
    }

    /// The label, if the model is sure.
    fn answer(&mut self, text: &str) -> Result<Option<String>> {
        let encoded = self.model.preprocess().encode(text)?;
        let answer = self.engine.infer(&[&encoded]).remove(0)?;
        let best = answer.best();
        let sure = answer.scores[best] >= SURE;
        Ok(sure.then(|| self.model.info.labels[best].clone()))
    }
}
