//! The gate's side: waits until every shard has put its manifest, and fetches what the manifests name.
//! Whatever is missing, there twice, of another run or changed is said, and nothing is merged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use harness_core::record::together::{
    Delivered, GATE_SCHEMA, Judged, SHARD_SCHEMA, START_SCHEMA, Start, missing, why_not_whole,
};
use tokio::time::Instant;

use super::barrier::{READY, START};
use super::deliver::{MANIFESTS, SHARDS};
use super::gate::GATE;
use super::{AT_ONCE, Store, StoreError, every, named, parted};
use crate::progress::Progress;
use crate::run_dir::is_plain;

/// All shards' results, on this machine's disk.
#[derive(Debug)]
pub struct Gathered {
    /// Their run directories, by shard.
    pub dirs: Vec<PathBuf>,
    /// What they said of themselves, in the same order.
    pub delivered: Vec<Delivered>,
    /// What a gate before this one was answered.
    pub judged: Option<Judged>,
}

/// Waits until all results are there, for `wait` at most, and fetches them below `into`.
///
/// # Errors
/// Why these cannot be merged, one sentence each.
pub async fn gather(
    store: &Store,
    shards: Option<u32>,
    wait: Duration,
    into: &Path,
    progress: &Progress,
) -> Result<Gathered, Vec<String>> {
    let one = |error: StoreError| vec![error.to_string()];
    let (start, names) = all_there(store, shards, wait, progress).await?;
    let mut delivered: Vec<Delivered> = futures::stream::iter(&names)
        .map(|name| manifest(store, name))
        .buffered(AT_ONCE)
        .try_collect()
        .await
        .map_err(one)?;
    delivered.sort_by_key(|one| one.shard);
    let wrong = why_not_whole(&start, &delivered);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let judged: Option<Judged> = store.read(GATE).await.map_err(one)?;
    if let Some(judged) = judged.as_ref().filter(|j| j.schema != GATE_SCHEMA) {
        let what = format!(
            "format is `{}`, this version reads `{GATE_SCHEMA}`",
            judged.schema
        );
        return Err(one(store.changed(GATE, what)));
    }
    let mut dirs = Vec::new();
    for shard in &delivered {
        progress.moving(format!("fetching shard {}", shard.shard));
        let name = named(shard.shard, &shard.run_id);
        let dir = into.join(&name);
        fetch(store, &format!("{SHARDS}/{name}"), shard, &dir)
            .await
            .map_err(one)?;
        dirs.push(dir);
    }
    Ok(Gathered {
        dirs,
        delivered,
        judged,
    })
}

/// One manifest, as its name says.
async fn manifest(store: &Store, name: &str) -> Result<Delivered, StoreError> {
    let name = &format!("{MANIFESTS}/{name}");
    let there: Option<Delivered> = store.read(name).await?;
    let there = there.ok_or_else(|| store.changed(name, "was there and is gone".into()))?;
    if there.schema != SHARD_SCHEMA {
        let what = format!(
            "format is `{}`, this version reads `{SHARD_SCHEMA}`",
            there.schema
        );
        return Err(store.changed(name, what));
    }
    if *name != format!("{MANIFESTS}/{}.json", named(there.shard, &there.run_id)) {
        return Err(store.changed(
            name,
            format!(
                "is the manifest of shard {} of {}",
                there.shard, there.run_id
            ),
        ));
    }
    match there.objects.keys().find(|file| !is_plain(file)) {
        Some(file) => Err(store.changed(name, format!("names {file}, which lies outside"))),
        None => Ok(there),
    }
}

async fn fetch(
    store: &Store,
    below: &str,
    shard: &Delivered,
    dir: &Path,
) -> Result<(), StoreError> {
    futures::stream::iter(&shard.objects)
        .map(|(file, object)| {
            let to = dir.join(file);
            async move {
                store
                    .download(&format!("{below}/{file}"), object, &to)
                    .await
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// The start, and the names of as many manifests as there are shards.
async fn all_there(
    store: &Store,
    shards: Option<u32>,
    wait: Duration,
    progress: &Progress,
) -> Result<(Start, Vec<String>), Vec<String>> {
    let deadline = Instant::now() + wait;
    loop {
        let seen = look(store).await;
        let over = Instant::now() >= deadline;
        match seen {
            Err(error @ StoreError::Changed { .. }) => return Err(vec![error.to_string()]),
            Err(error) if over => return Err(vec![error.to_string()]),
            Err(_) => {}
            Ok(seen) => {
                if let Some(start) = seen.start.as_ref() {
                    let wrong = seen.wrong(start, shards);
                    if !wrong.is_empty() {
                        return Err(wrong);
                    }
                    if seen.delivered.len() as u64 >= u64::from(start.of) {
                        let Seen {
                            start, delivered, ..
                        } = seen;
                        return start.map(|start| (start, delivered)).ok_or_else(Vec::new);
                    }
                }
                if over {
                    return Err(seen.absent(store, shards, wait));
                }
                progress.moving(format!("{} shards have delivered", seen.delivered.len()));
            }
        }
        tokio::time::sleep(every(shards.unwrap_or(500))).await;
    }
}

/// What is there so far.
struct Seen {
    start: Option<Start>,
    ready: Vec<String>,
    delivered: Vec<String>,
}

async fn look(store: &Store) -> Result<Seen, StoreError> {
    let start: Option<Start> = store.read(START).await?;
    if let Some(start) = start.as_ref().filter(|start| start.schema != START_SCHEMA) {
        let what = format!(
            "format is `{}`, this version reads `{START_SCHEMA}`",
            start.schema
        );
        return Err(store.changed(START, what));
    }
    let ours = |mut names: Vec<String>| {
        names.retain(|name| parted(name).is_some());
        names
    };
    Ok(Seen {
        start,
        ready: ours(store.list(READY).await?),
        delivered: ours(store.list(MANIFESTS).await?),
    })
}

impl Seen {
    /// What waiting longer will not mend.
    fn wrong(&self, start: &Start, shards: Option<u32>) -> Vec<String> {
        let mut wrong = start.refused.clone();
        if let Some(shards) = shards.filter(|shards| *shards != start.of) {
            wrong.push(format!(
                "the run has {} shards, {shards} were asked for",
                start.of
            ));
        }
        let mut there: BTreeMap<u32, &str> = BTreeMap::new();
        for (index, run_id) in self.delivered.iter().filter_map(|name| parted(name)) {
            let of = start.of;
            if let Some(other) = there.insert(index, run_id) {
                wrong.push(format!(
                    "shard {index}/{of} was delivered twice: by {other} and by {run_id}"
                ));
            }
            let member = start
                .members
                .iter()
                .any(|m| m.shard.index() == index && m.run_id == run_id);
            if !member {
                wrong.push(format!(
                    "{run_id} (shard {index}/{of}) took no part in the start; its results are of another run"
                ));
            }
        }
        wrong
    }

    /// Who has not delivered, and how far each came.
    fn absent(&self, store: &Store, shards: Option<u32>, wait: Duration) -> Vec<String> {
        let of = self.start.as_ref().map(|start| start.of).or(shards);
        let Some(of) = of else {
            return vec![format!(
                "there is no start at {}, {} shards were ready: shard 0 never published one, or this is no place of results",
                store.name(),
                self.ready.len()
            )];
        };
        let index = |name: &String| parted(name).map(|(index, _)| index);
        let ready: Vec<u32> = self.ready.iter().filter_map(index).collect();
        let shard = |index: u32| format!("{index}/{of}").parse().ok();
        let there = self.delivered.iter().filter_map(index).filter_map(shard);
        let mut wrong = Vec::new();
        for name in missing(of, there) {
            let was_ready = ready.iter().any(|index| name == format!("{index}/{of}"));
            wrong.push(match (was_ready, &self.start) {
                (false, _) => format!("shard {name} is missing: it never became ready"),
                (true, None) => format!("shard {name} is missing: it was ready, and no start was published"),
                (true, Some(_)) => format!(
                    "shard {name} is missing: it took part in the start, and no results of it are there after {wait:?}; its part of the load is not known"
                ),
            });
        }
        wrong
    }
}
