//! The four newsgroups out of the 20 Newsgroups tables.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use target_service::model::LoadedModel;

use crate::Common;

/// The labels, in the order of the models' scores.
pub(crate) const LABELS: [&str; 4] = [
    "rec.autos",
    "rec.motorcycles",
    "rec.sport.baseball",
    "rec.sport.hockey",
];

/// A document and the index of its label in [`LABELS`].
#[derive(Clone)]
pub(crate) struct Document {
    pub(crate) text: String,
    pub(crate) label: u32,
}

/// What to learn from and what to judge by.
pub(crate) struct Corpus {
    pub(crate) train: Vec<Document>,
    pub(crate) judge: Vec<Document>,
    /// How `judge` is called: "validation" or "test".
    pub(crate) judged_on: &'static str,
}

impl Corpus {
    /// The documents that the options ask for, the training ones shuffled by the seed.
    pub(crate) fn read(options: &Common) -> Result<Self> {
        let mut train = table(&options.corpus.join("20newsgroups-train.tab"))?;
        // The split has its own seed, so that a recipe's seed does not choose its own examination.
        train.shuffle(&mut ChaCha8Rng::seed_from_u64(20));
        let (judge, judged_on) = if options.validate {
            (train.split_off(train.len() * 5 / 6), "validation")
        } else {
            (
                table(&options.corpus.join("20newsgroups-test.tab"))?,
                "test",
            )
        };
        eprintln!("{} to train, {} {judged_on}", train.len(), judge.len());
        Ok(Self {
            train,
            judge,
            judged_on,
        })
    }
}

/// `id2label` as `config.json` has it.
pub(crate) fn id2label() -> serde_json::Value {
    LABELS
        .iter()
        .enumerate()
        .map(|(id, label)| (id.to_string(), serde_json::Value::from(*label)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn table(path: &Path) -> Result<Vec<Document>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let documents: Vec<Document> = text
        .lines()
        .filter_map(|line| {
            let (group, text) = line.split_once('\t')?;
            let label = LABELS.iter().position(|known| *known == group)?;
            Some(Document {
                text: text.to_owned(),
                label: u32::try_from(label).ok()?,
            })
        })
        .collect();
    ensure!(
        !documents.is_empty(),
        "{} has no documents of {LABELS:?}",
        path.display()
    );
    Ok(documents)
}

/// Prints how well `model`, as it was written and loaded again, does on the documents held out.
pub(crate) fn judge(model: &LoadedModel, corpus: &Corpus) -> Result<()> {
    let preprocess = model.preprocess();
    let mut engine = model.engine(1);
    let mut surprise = 0.0;
    let mut table = [[0u32; LABELS.len()]; LABELS.len()];
    for document in &corpus.judge {
        let encoded = preprocess.encode(&document.text)?;
        let answer = engine.infer(&[&encoded]).remove(0)?;
        let right = answer.scores[document.label as usize];
        surprise -= f64::from(right.max(1e-9)).ln();
        table[document.label as usize][answer.best()] += 1;
    }
    let right: u32 = (0..LABELS.len()).map(|i| table[i][i]).sum();
    println!("model {} {:?}", model.info.revision, model.info);
    println!("rows: label; columns: answer");
    for (label, row) in LABELS.iter().zip(table) {
        println!("{label:20} {row:?}");
    }
    println!(
        "{} accuracy {:.4} ({right} of {}), mean log loss {:.4}",
        corpus.judged_on,
        f64::from(right) / corpus.judge.len() as f64,
        corpus.judge.len(),
        surprise / corpus.judge.len() as f64
    );
    Ok(())
}
