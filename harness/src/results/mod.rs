//! The place where the shards of one run meet and put their results: an S3 bucket, or a directory that
//! all of them see. Same code for both, over `object_store`.
//!
//! ```text
//! ready/00003.RUNID.json       shard 3 has everything it needs, and how its clock lies
//! start.json                   the one published instant, or why there is none; never replaced
//! shards/00003.RUNID/FILE      the shard's run directory, file by file
//! manifests/00003.RUNID.json   sizes and digests of those; put last, never replaced
//! gate/RUNID/FILE              what the gate asked and was answered, and its reports
//! gate.json                    sizes and digests of those; put last, never replaced
//! ```
//!
//! A run id is a process' own, so two processes that both take themselves for shard 3 leave two traces,
//! and neither overwrites the other's. Credentials are the environment's (`AWS_*`) and are never printed.

mod barrier;
mod dated;
mod deliver;
mod gate;
mod gather;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use harness_core::record::clock::ClockSeen;
use harness_core::record::together::Object;
use harness_core::schedule::Shard;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
};
use rand::RngExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::clock::wall_now;

pub use barrier::Meeting;
pub use deliver::deliver;
pub use gather::{Gathered, gather};

use dated::Dated;

/// Tries of one request beyond the first.
const RETRIES: usize = 4;
/// Longest that a request is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest that one request may take; a part of a large object is a request of its own.
const REQUEST: Duration = Duration::from_secs(60);
/// Size of such a part: ten thousand of them are the most that S3 takes.
const PART: usize = 16 << 20;
/// Objects under way at once.
const AT_ONCE: usize = 4;
/// Most bytes of one of our own JSON objects that are read.
const MOST_JSON: u64 = 64 << 20;
/// Readings of the place's clock that are made at most, each about half as uncertain as the last.
const READINGS: u32 = 8;
/// An object that is never there: asking for it is answered, and the answer is dated.
const NOTHING: &str = "clock";

/// Where results go.
#[derive(Debug)]
pub struct Store {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    /// As it was named; holds no credentials.
    name: String,
    dates: Dated,
    /// The directory, of a place that is one.
    dir: Option<PathBuf>,
}

/// Why something could not be put or fetched.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The place did not answer, or refused.
    #[error("{name}: {why}")]
    Refused {
        /// What was asked for.
        name: String,
        /// Its own words.
        why: String,
    },
    /// What is there is not what should be.
    #[error("{name}: {what}")]
    Changed {
        /// Which object.
        name: String,
        /// What is wrong.
        what: String,
    },
}

impl Store {
    /// The place of this name: `s3://BUCKET/PREFIX`, `file:///DIRECTORY` or a directory, which is made.
    ///
    /// # Errors
    /// When it is no such name, or the environment's settings for S3 are not of use.
    pub fn open(name: &str) -> Result<Self, String> {
        match name.split_once("://") {
            None => Self::of_directory(Path::new(name), name),
            Some(("file", _)) => {
                let url = url::Url::parse(name).map_err(|error| format!("{name}: {error}"))?;
                let dir = url
                    .to_file_path()
                    .map_err(|()| format!("{name}: is no file:///DIRECTORY"))?;
                Self::of_directory(&dir, name)
            }
            Some(("s3", rest)) => Self::of_bucket(rest, name),
            Some((scheme, _)) => Err(format!(
                "results go to s3://BUCKET/PREFIX or into a directory, not to {scheme}://"
            )),
        }
    }

    fn of_directory(dir: &Path, name: &str) -> Result<Self, String> {
        let wrong = |error: &dyn Display| format!("{name}: {error}");
        std::fs::create_dir_all(dir).map_err(|error| wrong(&error))?;
        let dir = dir.canonicalize().map_err(|error| wrong(&error))?;
        let store = LocalFileSystem::new_with_prefix(&dir).map_err(|error| wrong(&error))?;
        Ok(Self {
            store: Arc::new(store.with_fsync(true)),
            prefix: Key::default(),
            name: name.into(),
            dates: Dated::default(),
            dir: Some(dir),
        })
    }

    fn of_bucket(rest: &str, name: &str) -> Result<Self, String> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(plain) {
            // Not the text itself: what stands before an @ may be a secret.
            return Err("s3://BUCKET/PREFIX: the bucket's name is not one; credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into());
        }
        let prefix = Key::parse(prefix.trim_end_matches('/'))
            .map_err(|error| format!("s3://BUCKET/PREFIX: {error}"))?;
        if prefix.as_ref().is_empty() {
            return Err(format!(
                "{name}: needs a prefix of the run's own, such as s3://{bucket}/runs/42"
            ));
        }
        let dates = Dated::default();
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_http_connector(dates.clone())
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: RETRIES,
                retry_timeout: PATIENCE,
            })
            .with_client_options(
                object_store::ClientOptions::new()
                    .with_timeout(REQUEST)
                    .with_connect_timeout(Duration::from_secs(5)),
            );
        // An endpoint without TLS was named as such.
        let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
            .iter()
            .find_map(|key| builder.get_config_value(key));
        if endpoint.is_some_and(|url| url.starts_with("http://")) {
            builder = builder.with_allow_http(true);
        }
        Ok(Self {
            store: Arc::new(
                builder
                    .build()
                    .map_err(|error| format!("{name}: {error}"))?,
            ),
            prefix,
            name: format!("s3://{rest}"),
            dates,
            dir: None,
        })
    }

    /// As it was named.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn key(&self, name: &str) -> Key {
        name.split('/')
            .fold(self.prefix.clone(), |key, part| key.join(part))
    }

    fn refused(&self, name: &str, error: &dyn Display) -> StoreError {
        StoreError::Refused {
            name: format!("{}/{name}", self.name),
            why: error.to_string(),
        }
    }

    /// A small object, whole; `None` when there is none.
    ///
    /// # Errors
    /// When the place does not answer or refuses.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let got = match self.store.get(&self.key(name)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(|error| self.refused(name, &error))?,
        };
        if got.meta.size > MOST_JSON {
            return Err(self.changed(name, format!("has {} bytes", got.meta.size)));
        }
        let bytes = got.bytes().await;
        bytes.map(Some).map_err(|error| self.refused(name, &error))
    }

    fn changed(&self, name: &str, what: String) -> StoreError {
        StoreError::Changed {
            name: format!("{}/{name}", self.name),
            what,
        }
    }

    /// A JSON object; `None` when there is none.
    ///
    /// # Errors
    /// As [`Self::get`], and when it is not of this form.
    pub async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.get(name).await? else {
            return Ok(None);
        };
        let read = serde_json::from_slice(&bytes);
        read.map(Some)
            .map_err(|error| self.changed(name, format!("cannot be read: {error}")))
    }

    /// Puts a JSON object where there is none. What is there already is never replaced: `false` when it
    /// is another one. An upload that was cut off after it had arrived and is tried again finds itself.
    ///
    /// # Errors
    /// When the place does not take it.
    pub async fn create<T: Serialize>(&self, name: &str, value: &T) -> Result<bool, StoreError> {
        let text = serde_json::to_vec_pretty(value).map_err(|error| self.refused(name, &error))?;
        let key = self.key(name);
        let put = self
            .store
            .put_opts(&key, text.clone().into(), PutOptions::from(PutMode::Create));
        match put.await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(self
                .get(name)
                .await?
                .is_some_and(|there| *there == text[..])),
            Err(error) => Err(self.refused(name, &error)),
        }
    }

    /// Names of the objects directly below one, without it.
    ///
    /// # Errors
    /// When the place does not answer or refuses.
    pub async fn list(&self, below: &str) -> Result<Vec<String>, StoreError> {
        let key = self.key(below);
        let listed: Vec<_> = self
            .store
            .list(Some(&key))
            .try_collect()
            .await
            .map_err(|error| self.refused(below, &error))?;
        let names = listed.iter().filter_map(|meta| {
            let mut parts = meta.location.prefix_match(&key)?;
            let name = parts.next()?.as_ref().to_owned();
            parts.next().is_none().then_some(name)
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        Ok(names)
    }

    /// Puts a file, in parts where it is large.
    ///
    /// # Errors
    /// When it cannot be read, or the place does not take it; then nothing of it is there.
    pub async fn upload(&self, name: &str, file: &Path) -> Result<Object, StoreError> {
        let wrong = |error: &dyn Display| self.refused(name, error);
        let mut from = tokio::fs::File::open(file)
            .await
            .map_err(|error| wrong(&format!("{}: {error}", file.display())))?;
        let mut to = object_store::buffered::BufWriter::with_capacity(
            Arc::clone(&self.store),
            self.key(name),
            PART,
        );
        let mut hash = Sha256::new();
        let mut bytes = 0;
        let mut chunk = vec![0; 256 << 10];
        let copied = async {
            loop {
                let read = from.read(&mut chunk).await?;
                if read == 0 {
                    return Ok::<_, std::io::Error>(());
                }
                hash.update(&chunk[..read]);
                bytes += read as u64;
                to.write_all(&chunk[..read]).await?;
            }
        };
        if let Err(error) = copied.await {
            let _ = to.abort().await;
            return Err(wrong(&error));
        }
        // It cannot be aborted any more; what did not arrive whole is in no manifest.
        to.shutdown().await.map_err(|error| wrong(&error))?;
        Ok(Object {
            bytes,
            sha256: crate::run_dir::hex(&hash.finalize()),
        })
    }

    /// Fetches an object into a file and holds it against what it should be.
    ///
    /// # Errors
    /// When it is not there, or is another one, or the disk does not take it.
    pub async fn download(&self, name: &str, want: &Object, file: &Path) -> Result<(), StoreError> {
        let wrong = |error: &dyn Display| self.refused(name, error);
        let on_disk = |error: std::io::Error| wrong(&format!("{}: {error}", file.display()));
        let got = match self.store.get(&self.key(name)).await {
            Err(Error::NotFound { .. }) => {
                return Err(self.changed(name, "the manifest names it, and it is not there".into()));
            }
            got => got.map_err(|error| wrong(&error))?,
        };
        if got.meta.size != want.bytes {
            let what = format!(
                "has {} bytes, the manifest says {}",
                got.meta.size, want.bytes
            );
            return Err(self.changed(name, what));
        }
        if let Some(dir) = file.parent() {
            tokio::fs::create_dir_all(dir).await.map_err(on_disk)?;
        }
        let mut to = tokio::fs::File::create(file).await.map_err(on_disk)?;
        let mut hash = Sha256::new();
        let mut stream = got.into_stream();
        while let Some(chunk) = stream.try_next().await.map_err(|error| wrong(&error))? {
            hash.update(&chunk);
            to.write_all(&chunk).await.map_err(on_disk)?;
        }
        to.flush().await.map_err(on_disk)?;
        let found = crate::run_dir::hex(&hash.finalize());
        if found != want.sha256 {
            let what = format!("SHA-256 is {found}, the manifest says {}", want.sha256);
            return Err(self.changed(name, what));
        }
        Ok(())
    }

    /// The place's clock against ours. A `Date` holds whole seconds, so each further question is sent
    /// where its answer halves what is not known: about when the second there changes.
    ///
    /// # Errors
    /// When the place does not answer, or does not say what time it is there.
    pub async fn clock(&self) -> Result<ClockSeen, StoreError> {
        let (mut seen, mut trip) = self.reading().await?;
        for _ in 1..READINGS {
            let width = seen.most_ms - seen.least_ms;
            // What the way there and back takes is not to be had better, and several clocks neither.
            if width <= 2 * trip.as_millis() as i64 + 10 {
                break;
            }
            let there = (wall_now().0 / 1_000_000) as i64
                + seen.least_ms.midpoint(seen.most_ms)
                + trip.as_millis() as i64 / 2;
            let to_the_second = (1000 - there.rem_euclid(1000)) as u64;
            tokio::time::sleep(Duration::from_millis(to_the_second)).await;
            let (next, its_trip) = self.reading().await?;
            seen = seen.and(next);
            trip = trip.min(its_trip);
        }
        Ok(seen)
    }

    /// One reading, and how long it took.
    async fn reading(&self) -> Result<(ClockSeen, Duration), StoreError> {
        let name = match &self.dir {
            Some(dir) => return dated::of_directory(dir).map_err(|e| self.refused(NOTHING, &e)),
            None => format!("{NOTHING}-{:016x}", rand::rng().random::<u64>()),
        };
        let key = self.key(&name);
        match self.store.head(&key).await {
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(self.refused(&name, &error)),
        }
        let none = || {
            self.refused(
                &name,
                &"the answer says not what time it is there (no Date)",
            )
        };
        self.dates.of(key.as_ref()).ok_or_else(none)
    }
}

/// How a shard's objects are named: `00003.RUNID`.
fn named(shard: Shard, run_id: &str) -> String {
    format!("{:05}.{run_id}", shard.index())
}

/// The index and run id in such a name, with or without `.json`.
fn parted(name: &str) -> Option<(u32, &str)> {
    let (index, run_id) = name.split_once('.')?;
    Some((
        index.parse().ok()?,
        run_id.strip_suffix(".json").unwrap_or(run_id),
    ))
}

/// How often the place is asked while a run's `of` shards wait: 1,000 of them must not be a load of
/// their own.
fn every(of: u32) -> Duration {
    Duration::from_millis(u64::from(of).saturating_mul(2).clamp(250, 5_000))
}

/// Whether this names a place of results, and not a run directory.
#[must_use]
pub fn is_place(name: &str) -> bool {
    let holds = |file| Path::new(name).join(file).exists();
    name.contains("://") || !(holds("scenario.yaml") || holds("attempt-1"))
}

#[cfg(test)]
mod tests;
