//! Trains the models that are committed under `target-service/models`.
//!
//! `cargo run --release -p target-service --example train -- tfidf --corpus DIR --minilm DIR --out DIR`
//!
//! Where the corpus and the word list come from, which recipe was chosen and how well it does is in
//! `target-service/models/README.md`. The corpus itself is never committed.

mod bert;
mod corpus;
mod head;
mod tfidf;
mod vocabulary;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Trains the models committed under target-service/models")]
struct Cli {
    #[command(subcommand)]
    model: Model,
}

#[derive(Subcommand)]
enum Model {
    /// Weighted words and a linear layer.
    Tfidf(Common),
    /// A small encoder of the BERT family.
    Bert {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        recipe: bert::Recipe,
    },
    /// A linear head over the frozen embedder in --minilm.
    Head {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        recipe: head::Recipe,
    },
    /// Judge the model in --out instead of training one.
    Judge(Common),
}

#[derive(Args)]
struct Common {
    /// Directory with 20newsgroups-train.tab and 20newsgroups-test.tab.
    #[arg(long)]
    corpus: PathBuf,
    /// Directory of all-MiniLM-L6-v2 (vocab.txt, tokenizer.json, model.safetensors).
    #[arg(long)]
    minilm: PathBuf,
    /// Where to write the model's files.
    #[arg(long)]
    out: PathBuf,
    /// Everything random follows from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hold a sixth of the training documents out, judge on them, and leave the test documents
    /// alone: how recipes are compared.
    #[arg(long)]
    validate: bool,
}

fn main() -> Result<()> {
    match Cli::parse().model {
        Model::Tfidf(common) => tfidf::train(&common),
        Model::Judge(common) => corpus::judge(
            &target_service::model::load(&common.out)?,
            &corpus::Corpus::read(&common)?,
        ),
        Model::Bert { common, recipe } => bert::train(&common, recipe),
        Model::Head { common, recipe } => head::train(&common, &recipe),
    }
}
