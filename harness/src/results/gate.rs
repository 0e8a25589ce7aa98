//! What the gate leaves beside the shards' results, so that its verdict can be made again from the place
//! alone: what the backends answered, and the facts. Rows are not put twice; they are merged anew, and
//! have to come out byte for byte as they did.

use std::collections::BTreeMap;
use std::path::Path;

use futures::{StreamExt as _, TryStreamExt as _};
use harness_core::record::RunFacts;
use harness_core::record::together::{GATE_SCHEMA, Judged};

use super::{AT_ONCE, Store};
use crate::run_dir;

/// Name of the gate's manifest, and of the folder with its files.
pub(super) const GATE: &str = "gate.json";
const FILES: &str = "gate";
/// What is made from the shards' rows again.
const MADE_AGAIN: [&str; 3] = ["requests.jsonl", "requests.parquet", "latency.hlog"];
/// For people; not part of the record.
const REPORTS: [&str; 4] = ["report.json", "report.html", "report.md", "junit.xml"];

impl Store {
    /// Puts what a merged run was answered, and its reports.
    ///
    /// # Errors
    /// A sentence when the place did not take it.
    pub async fn keep(&self, dir: &Path, facts: &RunFacts) -> Result<(), String> {
        let mut files = run_dir::files(dir).map_err(|error| error.to_string())?;
        files.retain(|file| !MADE_AGAIN.contains(&file.as_str()));
        let below = format!("{FILES}/{}", facts.run_id);
        for report in REPORTS {
            let (name, file) = (format!("{below}/{report}"), dir.join(report));
            let put = self.upload(&name, &file).await;
            put.map_err(|error| error.to_string())?;
        }
        let objects: BTreeMap<_, _> = futures::stream::iter(files)
            .map(|file| {
                let object = format!("{below}/{file}");
                async move {
                    let put = self.upload(&object, &dir.join(&file)).await;
                    put.map(|object| (file, object))
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
            .map_err(|error| error.to_string())?;
        let shards = facts.context.shards.iter();
        let judged = Judged {
            schema: GATE_SCHEMA.into(),
            run_id: facts.run_id.clone(),
            merged: shards
                .map(|run| (run.run_id.clone(), run.manifest_sha256.clone()))
                .collect(),
            objects,
        };
        match self.create(GATE, &judged).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!(
                "another gate has judged this run; its record at {} stays",
                self.name()
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Fetches what [`Self::keep`] put, into a directory that holds the merged rows.
    ///
    /// # Errors
    /// A sentence when it is not there any more as it was.
    pub async fn fetch_kept(&self, judged: &Judged, dir: &Path) -> Result<(), String> {
        for (file, object) in &judged.objects {
            if !run_dir::is_plain(file) {
                return Err(format!("{GATE} names {file}, which lies outside"));
            }
            let name = format!("{FILES}/{}/{file}", judged.run_id);
            let fetched = self.download(&name, object, &dir.join(file)).await;
            fetched.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
