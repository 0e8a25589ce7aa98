//! A shard's results on their way: every file of its run directory, and the manifest last.

use std::collections::BTreeMap;
use std::path::Path;

use futures::{StreamExt as _, TryStreamExt as _};
use harness_core::record::together::{Common, Delivered, Lateness, SHARD_SCHEMA};
use harness_core::units::Nanos;

use super::{AT_ONCE, Store, named};
use crate::run_dir::{self, FinishedRun};

/// Where manifests are.
pub(super) const MANIFESTS: &str = "manifests";
/// Where the files are that they name.
pub(super) const SHARDS: &str = "shards";

/// Puts a shard's results, and gives the name of their manifest.
///
/// # Errors
/// A sentence when anything of it did not arrive. Then there is no manifest, and nothing of it counts;
/// the run directory is as it was.
pub async fn deliver(
    store: &Store,
    dir: &Path,
    run: &FinishedRun,
    common: &Common,
) -> Result<String, String> {
    let shard = run.facts.context.shard.unwrap_or_default();
    let start = run.facts.context.start.clone();
    let start = start.ok_or("it never met the other shards")?;
    let name = named(shard, &run.facts.run_id);
    let files = run_dir::files(dir).map_err(|error| error.to_string())?;
    let objects: BTreeMap<_, _> = futures::stream::iter(files)
        .map(|file| {
            let object = format!("{SHARDS}/{name}/{file}");
            async move {
                let put = store.upload(&object, &dir.join(&file)).await;
                put.map(|object| (file, object))
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
        .map_err(|error| error.to_string())?;
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    for row in &run.rows {
        *outcomes.entry(row.outcome.name().to_owned()).or_default() += 1;
    }
    let delivered = Delivered {
        schema: SHARD_SCHEMA.into(),
        shard,
        run_id: run.facts.run_id.clone(),
        common: common.clone(),
        start,
        rows: run.rows.len() as u64,
        scheduled: run.facts.generator.scheduled,
        outcomes,
        lateness: lateness(run),
        objects,
    };
    let manifest = format!("{MANIFESTS}/{name}.json");
    match store.create(&manifest, &delivered).await {
        Ok(true) => Ok(manifest),
        Ok(false) => Err(format!("{manifest} is there already, and is another one")),
        Err(error) => Err(error.to_string()),
    }
}

fn lateness(run: &FinishedRun) -> Lateness {
    let sent = run.rows.iter().filter(|row| row.sent().is_some());
    let mut late: Vec<Nanos> = sent.map(|row| row.lateness()).collect();
    late.sort_unstable();
    // Nearest rank.
    let at = |percent: usize| {
        let rank = (late.len() * percent).div_ceil(100).max(1) - 1;
        late.get(rank).copied().unwrap_or_default()
    };
    Lateness {
        p50: at(50),
        p99: at(99),
        max: late.last().copied().unwrap_or_default(),
    }
}
