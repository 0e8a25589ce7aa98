//! The run directory: everything a run leaves, and nothing half-written. One file because writing, sealing
//! and reading back must agree on every name and checksum.
//!
//! ```text
//! scenario.yaml        the scenario as used
//! slo/NN-NAME.yaml     the objectives as used
//! requests.jsonl       one observation a line, appended while the run goes on
//! requests.parquet     the same in columns, written when the load is over
//! latency.hlog         HDR histograms by phase, request and outcome
//! answers.jsonl        every question to a backend with its raw answer
//! baseline.json        what was taken of earlier runs to compare with; only with --baseline
//! run.json             the facts of the run
//! evidence/*.seg       what the embedded backends took, appended while the run goes on
//! manifest.json        SHA-256 of all of the above; written last, so its presence means "whole"
//! report.json, report.html, report.md, junit.xml      derived; not in the manifest
//! target.stdout.log, target.stderr.log                what a started target printed; not in the manifest
//! ```
//!
//! A line of the two append logs is `{"crc":"8 hex digits","row":{…}}`: CRC-32 (IEEE) of the bytes
//! of the row as written. A torn or changed line is noticed, and the file still opens in anything
//! that reads JSON lines. All other files are written beside their place and renamed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Component, Path, PathBuf};

use harness_core::observation::Observation;
use harness_core::query::Answer;
use harness_core::record::baseline::{BASELINE_SCHEMA, Baselines};
use harness_core::record::sampled::{Sampled, keeps};
use harness_core::record::{AnswerBook, RUN_SCHEMA, RunFacts};
use harness_evidence::store::segment::Signal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::embedded::EVIDENCE_DIR;

/// The log of observations.
const REQUESTS: &str = "requests.jsonl";
/// Least bytes that a row in the log is taken to have: an impossibly short first one must not make a reader
/// reserve what it will not fill.
const LEAST_A_ROW: usize = 160;

/// Version of `manifest.json`.
pub const MANIFEST_SCHEMA: &str = "harness.manifest/v1";

/// What is wrong with a run directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Its word.
        source: io::Error,
    },
    /// The place for a new run is taken.
    #[error(
        "{0}: exists and is not empty; a run never writes over another one. Name a new directory with --out"
    )]
    Taken(PathBuf),
    /// The run did not end by itself.
    #[error(
        "{dir}: this run was never finished ({what}); it was killed or is still going on. {rows} requests are recorded, but without {what} nothing can be judged"
    )]
    Unfinished {
        /// The directory.
        dir: PathBuf,
        /// The file that is not there.
        what: &'static str,
        /// Whole rows in `requests.jsonl`.
        rows: usize,
    },
    /// Something changed since the run.
    #[error("{path}: {what}. The run directory is not as the run left it; it is not judged")]
    Changed {
        /// File.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RunDirError + '_ {
    move |source| RunDirError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Writes a file beside its place and renames it there.
///
/// # Errors
/// When the file cannot be written, synced or renamed; the place then holds what it held before.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RunDirError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // The name is on disk only when its directory is; that of a bare name is the current one.
        let dir = path.parent().map(|dir| match dir.as_os_str().is_empty() {
            true => Path::new("."),
            false => dir,
        });
        dir.map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(io_error(path))
}

/// What a log is written to: a file, or in tests something that refuses.
pub trait LogFile: Write + Send {
    /// Puts everything written on the disk itself.
    ///
    /// # Errors
    /// When the disk does not take it.
    fn sync(&mut self) -> io::Result<()>;
}

impl LogFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// An append log of checksummed JSON lines. What the disk does not take stays in memory and is
/// offered to it again by the next [`Log::flush`], from the very byte at which it stopped: a disk
/// that was full for a while leaves neither a gap nor a torn line.
pub struct Log {
    path: PathBuf,
    file: Box<dyn LogFile>,
    pending: Vec<u8>,
}

/// Bytes that are collected before they are handed to the operating system.
const COLLECT: usize = 64 << 10;

impl Log {
    fn create(path: PathBuf) -> Result<Self, RunDirError> {
        let file = File::options()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(io_error(&path))?;
        Ok(Self::over(path, Box::new(file)))
    }

    /// A log over anything; `path` is for what errors say.
    #[must_use]
    pub fn over(path: PathBuf, file: Box<dyn LogFile>) -> Self {
        Self {
            path,
            file,
            pending: Vec::with_capacity(2 * COLLECT),
        }
    }

    /// Appends one row; it is in the file after the next [`Log::flush`]. The row is kept whatever
    /// this returns, unless it cannot be written as JSON.
    ///
    /// # Errors
    /// When enough was collected to be handed on, and the disk does not take it.
    pub fn append<T: Serialize>(&mut self, row: &T) -> Result<(), RunDirError> {
        self.append_with(|out| serde_json::to_writer(out, row))
    }

    /// The same for an observation, of which a run has millions.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_row(&mut self, row: &Observation) -> Result<(), RunDirError> {
        self.append_with(|out| row.write_json(out))
    }

    fn append_with(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
    ) -> Result<(), RunDirError> {
        const BEFORE: &[u8] = b"{\"crc\":\"";
        const BETWEEN: &[u8] = b"\",\"row\":";
        let start = self.pending.len();
        let crc_at = start + BEFORE.len();
        let row_at = crc_at + 8 + BETWEEN.len();
        self.pending.extend_from_slice(BEFORE);
        self.pending.extend_from_slice(b"00000000");
        self.pending.extend_from_slice(BETWEEN);
        if let Err(error) = write(&mut self.pending) {
            self.pending.truncate(start);
            return Err(io_error(&self.path)(error.into()));
        }
        let crc = crc32fast::hash(&self.pending[row_at..]);
        for (place, digit) in self.pending[crc_at..crc_at + 8].iter_mut().zip(0_u32..) {
            *place = b"0123456789abcdef"[(crc >> (28 - 4 * digit) & 15) as usize];
        }
        self.pending.extend_from_slice(b"}\n");
        if self.pending.len() >= COLLECT {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands everything appended so far to the operating system.
    ///
    /// # Errors
    /// When the disk does not take it; what it did not take is kept.
    pub fn flush(&mut self) -> Result<(), RunDirError> {
        let mut written = 0;
        let result = loop {
            if written == self.pending.len() {
                break Ok(());
            }
            match self.file.write(&self.pending[written..]) {
                Ok(0) => break Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.pending.drain(..written);
        result.map_err(io_error(&self.path))
    }

    /// What the disk has not taken yet.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Flushes and syncs.
    ///
    /// # Errors
    /// When the disk does not take it; the log is as it was, and this may be tried again.
    pub fn close(&mut self) -> Result<(), RunDirError> {
        self.flush()?;
        self.file.sync().map_err(io_error(&self.path))
    }
}

/// The row of one line of an append log, if its checksum holds.
fn checked(line: &[u8]) -> Result<&[u8], String> {
    let body = line
        .strip_prefix(b"{\"crc\":\"")
        .and_then(|rest| rest.split_at_checked(8))
        .and_then(|(crc, rest)| {
            let row = rest.strip_prefix(b"\",\"row\":")?.strip_suffix(b"}")?;
            Some((std::str::from_utf8(crc).ok()?, row))
        });
    let Some((crc, row)) = body else {
        return Err("is torn or not of this format".into());
    };
    if u32::from_str_radix(crc, 16) != Ok(crc32fast::hash(row)) {
        return Err("does not match its checksum".into());
    }
    Ok(row)
}

fn read_log<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, RunDirError> {
    let mut rows = Vec::new();
    each_line(
        path,
        |text| serde_json::from_slice(text),
        |row, _| {
            rows.push(row);
            Ok(())
        },
    )?;
    Ok(rows)
}

/// Observations as read from a log, with the SHA-256 of the very bytes they were read from.
fn read_requests(path: &Path) -> Result<Requests, RunDirError> {
    let mut rows: Vec<Observation> = Vec::new();
    let mut hash = Sha256::new();
    each_line(path, Observation::read_json, |row, line| {
        hash.update(line);
        if rows.is_empty() {
            // Rows are of much the same length: a vector that doubles holds up to twice as many.
            let bytes = fs::metadata(path).map_or(0, |file| file.len());
            rows.reserve_exact(bytes as usize / line.len().max(LEAST_A_ROW) + 1);
        }
        rows.push(row);
        Ok(())
    })?;
    let sha256 = hex(&hash.finalize());
    Ok(Requests { rows, sha256 })
}

/// Reads an append log line by line, in one buffer. The lines handed on end as they do in the file.
fn each_line<T>(
    path: &Path,
    parse: impl Fn(&[u8]) -> serde_json::Result<T>,
    mut with: impl FnMut(T, &[u8]) -> Result<(), RunDirError>,
) -> Result<(), RunDirError> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(io_error(path))?);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(io_error(path))? == 0 {
            return Ok(());
        }
        number += 1;
        let row = checked(line.strip_suffix(b"\n").unwrap_or(&line))
            .and_then(|row| parse(row).map_err(|error| format!("holds no row: {error}")));
        let row = row.map_err(|what| RunDirError::Changed {
            path: path.to_owned(),
            what: format!("line {number} {what}"),
        })?;
        with(row, &line)?;
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    schema: String,
    /// Relative path with `/` → SHA-256 in hex.
    files: BTreeMap<String, String>,
}

/// The observations of a run, as they are on disk.
#[derive(Debug)]
pub struct Requests {
    /// In the order in which they were recorded.
    pub rows: Vec<Observation>,
    /// SHA-256 of the bytes that they were read from.
    sha256: String,
}

/// A run directory being written.
#[derive(Debug)]
pub struct RunDir {
    dir: PathBuf,
    inputs: Vec<String>,
}

impl RunDir {
    /// Makes the directory and puts the inputs in it.
    ///
    /// # Errors
    /// When it exists and is not empty, or cannot be written.
    pub fn create(
        dir: &Path,
        scenario: &str,
        slos: &[(String, String)],
    ) -> Result<Self, RunDirError> {
        if dir.exists() && fs::read_dir(dir).map_err(io_error(dir))?.next().is_some() {
            return Err(RunDirError::Taken(dir.to_owned()));
        }
        let slo_dir = dir.join("slo");
        fs::create_dir_all(&slo_dir).map_err(io_error(&slo_dir))?;
        let mut inputs = vec!["scenario.yaml".to_owned()];
        write_whole(&dir.join("scenario.yaml"), scenario.as_bytes())?;
        for (number, (name, text)) in slos.iter().enumerate() {
            let file = slo_file(number, name);
            write_whole(&dir.join(&file), text.as_bytes())?;
            inputs.push(file);
        }
        Ok(Self {
            dir: dir.to_owned(),
            inputs,
        })
    }

    /// Keeps what was taken of earlier runs, to be sealed with the rest.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn keep_baselines(&mut self, baselines: &Baselines) -> Result<(), RunDirError> {
        write_baselines(&self.dir, baselines)?;
        self.inputs.push(BASELINE_FILE.to_owned());
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The log of observations.
    ///
    /// # Errors
    /// When the file cannot be made or is there already.
    pub fn requests_log(&self) -> Result<Log, RunDirError> {
        Log::create(self.dir.join(REQUESTS))
    }

    /// Leaves the rows of a sample in the log of observations, which is closed; those are fewer than it may
    /// hold while the run goes on.
    ///
    /// # Errors
    /// When the log is not as it was written, or the disk does not take it; it is then as it was.
    pub fn thin(&self, sampled: &Sampled) -> Result<(), RunDirError> {
        let path = self.dir.join(REQUESTS);
        let beside = self.dir.join("requests.jsonl.part");
        let mut file = io::BufWriter::new(File::create(&beside).map_err(io_error(&beside))?);
        each_line(&path, Observation::read_json, |row, line| {
            match keeps(row.id, sampled.one_in) {
                true => file.write_all(line).map_err(io_error(&beside)),
                false => Ok(()),
            }
        })?;
        let file = file.into_inner().map_err(|error| error.into_error());
        file.and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&beside, &path))
            .and_then(|()| File::open(&self.dir)?.sync_all())
            .map_err(io_error(&path))
    }

    /// Reads the observations back that were recorded.
    ///
    /// # Errors
    /// When the file cannot be read or is not as it was written.
    pub fn requests(&self) -> Result<Requests, RunDirError> {
        read_requests(&self.dir.join(REQUESTS))
    }

    /// Writes the answers and the facts and seals the directory with its manifest.
    /// `requests` were read from it when `requests.jsonl` was closed, and are what is sealed.
    ///
    /// # Errors
    /// When the disk does not take it; the directory is then refused as unfinished.
    pub fn seal(
        &self,
        facts: &RunFacts,
        answers: &AnswerBook,
        requests: &Requests,
    ) -> Result<(), RunDirError> {
        let mut log = Log::create(self.dir.join("answers.jsonl"))?;
        answers.iter().try_for_each(|answer| log.append(answer))?;
        log.close()?;
        let path = self.dir.join("run.json");
        write_whole(&path, pretty(facts, &path)?.as_bytes())?;
        let mut files = BTreeMap::new();
        let fixed = [REQUESTS, "answers.jsonl", "run.json"].map(str::to_owned);
        // Left out of a run that ended before its load.
        let derived = ["requests.parquet", "latency.hlog"].map(str::to_owned);
        let evidence = Signal::ALL.map(|signal| format!("{EVIDENCE_DIR}/{}", signal.file_name()));
        let there = evidence
            .into_iter()
            .chain(derived)
            .filter(|file| self.dir.join(file).exists());
        for file in self.inputs.iter().cloned().chain(fixed).chain(there) {
            let digest = match file.as_str() {
                REQUESTS => requests.sha256.clone(),
                _ => sha256_file(&self.dir.join(&file))?,
            };
            files.insert(file, digest);
        }
        let path = self.dir.join("manifest.json");
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA.into(),
            files,
        };
        write_whole(&path, pretty(&manifest, &path)?.as_bytes())
    }
}

/// Name of the file with what was taken of earlier runs.
const BASELINE_FILE: &str = "baseline.json";

/// Writes what was taken of earlier runs into a directory.
///
/// # Errors
/// When the disk does not take it.
pub fn write_baselines(dir: &Path, baselines: &Baselines) -> Result<(), RunDirError> {
    let path = dir.join(BASELINE_FILE);
    let text = serde_json::to_string(baselines).map_err(|error| RunDirError::Io {
        path: path.clone(),
        source: error.into(),
    })?;
    write_whole(&path, (text + "\n").as_bytes())
}

/// SHA-256 of a run's manifest, which holds the digests of all its files.
///
/// # Errors
/// When there is no manifest or it cannot be read.
pub fn manifest_sha256(dir: &Path) -> Result<String, RunDirError> {
    sha256_file(&judged(dir).join("manifest.json"))
}

/// Every file of a finished run that its manifest names, and the manifest itself.
///
/// # Errors
/// When there is no manifest or it cannot be read.
pub fn files(dir: &Path) -> Result<Vec<String>, RunDirError> {
    let manifest: Manifest = read_json(&dir.join(MANIFEST))?;
    let names = manifest.files.into_keys();
    Ok(names.chain([MANIFEST.to_owned()]).collect())
}

/// Name of the file that is written last.
const MANIFEST: &str = "manifest.json";

/// The directory that a verdict stands on: of a run with `--retries` its last whole attempt, else the
/// directory itself.
fn judged(dir: &Path) -> PathBuf {
    if dir.join("manifest.json").exists() {
        return dir.to_owned();
    }
    let attempt = |number| dir.join(crate::retry::name(number));
    let whole = |dir: &PathBuf| dir.join("manifest.json").exists();
    (1..)
        .map(attempt)
        .take_while(whole)
        .last()
        .unwrap_or_else(|| dir.to_owned())
}

/// Where the `number`-th SLO file is kept in a run directory.
fn slo_file(number: usize, name: &str) -> String {
    let stem = Path::new(name)
        .file_stem()
        .map_or_else(|| "slo".into(), |stem| stem.to_string_lossy());
    format!("slo/{number:02}-{stem}.yaml")
}

/// SLO files as they are kept → as people know them: without `..`, and relative to the directory that
/// the run is started in where they lie below it, since that is where annotations on a change look.
#[must_use]
pub fn slo_files(slos: &[(String, String)]) -> BTreeMap<String, String> {
    let here = std::env::current_dir().unwrap_or_default();
    let named = |name: &str| {
        let mut whole = PathBuf::new();
        for part in here.join(name).components() {
            match part {
                Component::ParentDir => drop(whole.pop()),
                Component::CurDir => {}
                other => whole.push(other),
            }
        }
        whole.strip_prefix(&here).map_or_else(
            |_| name.to_owned(),
            |file| file.to_string_lossy().into_owned(),
        )
    };
    slos.iter()
        .enumerate()
        .map(|(number, (name, _))| (slo_file(number, name), named(name)))
        .collect()
}

fn pretty<T: Serialize>(value: &T, path: &Path) -> Result<String, RunDirError> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| RunDirError::Io {
            path: path.to_owned(),
            source: error.into(),
        })
}

pub(crate) fn sha256_file(path: &Path) -> Result<String, RunDirError> {
    let mut hash = Sha256::new();
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(io_error(path))?);
    loop {
        let chunk = reader.fill_buf().map_err(io_error(path))?;
        if chunk.is_empty() {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(chunk);
        let read = chunk.len();
        reader.consume(read);
    }
}

/// SHA-256 of a text, in hex.
#[must_use]
pub fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A finished run of which every byte was checked; its rows and answers are still on disk.
#[derive(Debug)]
pub struct Sealed {
    /// The directory with its manifest: of a run with `--retries` its last attempt.
    pub dir: PathBuf,
    /// Text of the scenario.
    pub scenario: String,
    /// Names and texts of the SLO files.
    pub slos: Vec<(String, String)>,
    /// The facts.
    pub facts: RunFacts,
    /// What was taken of earlier runs.
    pub baselines: Option<Baselines>,
}

impl Sealed {
    /// Hands over the observations one by one, in the order they were recorded.
    ///
    /// # Errors
    /// When the file cannot be read or is not as it was written, and what `with` refuses.
    pub fn each_row(
        &self,
        mut with: impl FnMut(Observation) -> Result<(), RunDirError>,
    ) -> Result<(), RunDirError> {
        let path = self.dir.join(REQUESTS);
        each_line(&path, Observation::read_json, |row, _| with(row))
    }
}

/// A finished run, as read back.
#[derive(Debug)]
pub struct FinishedRun {
    /// Text of the scenario.
    pub scenario: String,
    /// Names and texts of the SLO files.
    pub slos: Vec<(String, String)>,
    /// The facts.
    pub facts: RunFacts,
    /// The observations, in the order they were recorded.
    pub rows: Vec<Observation>,
    /// The answers.
    pub answers: AnswerBook,
    /// What was taken of earlier runs.
    pub baselines: Option<Baselines>,
}

/// Reads a finished run and checks every byte of it against the manifest. Of a run with `--retries` that
/// is its last attempt.
///
/// # Errors
/// When the run was never finished, a file is missing or changed, or the format is another one.
pub fn read(dir: &Path) -> Result<FinishedRun, RunDirError> {
    let requests = read_requests(&judged(dir).join(REQUESTS)).ok();
    finish(open_with(dir, requests.as_ref())?, requests)
}

/// The same of the directory just sealed, whose observations are in memory as they were read from it.
/// They are held against the manifest as if they had been read now.
///
/// # Errors
/// As [`read`].
pub fn read_with(dir: &Path, requests: Requests) -> Result<FinishedRun, RunDirError> {
    finish(open_with(dir, Some(&requests))?, Some(requests))
}

fn finish(run: Sealed, requests: Option<Requests>) -> Result<FinishedRun, RunDirError> {
    let requests = match requests {
        Some(requests) => requests,
        None => read_requests(&run.dir.join(REQUESTS))?,
    };
    Ok(FinishedRun {
        rows: requests.rows,
        answers: read_log::<Answer>(&run.dir.join("answers.jsonl"))?
            .into_iter()
            .collect(),
        baselines: run.baselines,
        scenario: run.scenario,
        slos: run.slos,
        facts: run.facts,
    })
}

/// The same without reading rows and answers.
///
/// # Errors
/// As [`read`].
pub fn open(dir: &Path) -> Result<Sealed, RunDirError> {
    open_with(dir, None)
}

fn open_with(dir: &Path, requests: Option<&Requests>) -> Result<Sealed, RunDirError> {
    if !dir.is_dir() {
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no such directory");
        return Err(RunDirError::Io {
            path: dir.to_owned(),
            source,
        });
    }
    let dir = &judged(dir);
    let manifest_path = dir.join("manifest.json");
    if !manifest_path.exists() {
        let rows = count_whole_rows(&dir.join(REQUESTS));
        return Err(RunDirError::Unfinished {
            dir: dir.clone(),
            what: "manifest.json",
            rows,
        });
    }
    let manifest: Manifest = read_json(&manifest_path)?;
    if manifest.schema != MANIFEST_SCHEMA {
        let what = format!(
            "format is `{}`, this version reads `{MANIFEST_SCHEMA}`",
            manifest.schema
        );
        return Err(RunDirError::Changed {
            path: manifest_path,
            what,
        });
    }
    for needed in ["scenario.yaml", REQUESTS, "answers.jsonl", "run.json"] {
        if !manifest.files.contains_key(needed) {
            let what = format!("does not list {needed}");
            return Err(RunDirError::Changed {
                path: manifest_path,
                what,
            });
        }
    }
    let mut slos = Vec::new();
    for (file, digest) in &manifest.files {
        let path = dir.join(file);
        if !is_plain(file) {
            return Err(RunDirError::Changed {
                path,
                what: "lies outside the run directory".into(),
            });
        }
        let found = match requests.filter(|_| file == REQUESTS) {
            Some(requests) => requests.sha256.clone(),
            None => sha256_file(&path)?,
        };
        if found != *digest {
            let what = format!("SHA-256 is {found}, the manifest says {digest}");
            return Err(RunDirError::Changed { path, what });
        }
        if file.starts_with("slo/") {
            slos.push((
                file.clone(),
                fs::read_to_string(&path).map_err(io_error(&path))?,
            ));
        }
    }
    let facts: RunFacts = read_json(&dir.join("run.json"))?;
    if facts.schema != RUN_SCHEMA {
        let what = format!(
            "format is `{}`, this version reads `{RUN_SCHEMA}`",
            facts.schema
        );
        return Err(RunDirError::Changed {
            path: dir.join("run.json"),
            what,
        });
    }
    let baselines = match manifest.files.contains_key(BASELINE_FILE) {
        true => Some(read_baselines(&dir.join(BASELINE_FILE))?),
        false => None,
    };
    let scenario = dir.join("scenario.yaml");
    Ok(Sealed {
        baselines,
        scenario: fs::read_to_string(&scenario).map_err(io_error(&scenario))?,
        slos,
        facts,
        dir: dir.clone(),
    })
}

fn read_baselines(path: &Path) -> Result<Baselines, RunDirError> {
    let baselines: Baselines = read_json(path)?;
    if baselines.schema == BASELINE_SCHEMA {
        return Ok(baselines);
    }
    let what = format!(
        "format is `{}`, this version reads `{BASELINE_SCHEMA}`",
        baselines.schema
    );
    Err(RunDirError::Changed {
        path: path.to_owned(),
        what,
    })
}

/// A relative path without `..`: a manifest from elsewhere must not make us read what it likes.
pub(crate) fn is_plain(file: &str) -> bool {
    Path::new(file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunDirError> {
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    serde_json::from_str(&text).map_err(|error| RunDirError::Changed {
        path: path.to_owned(),
        what: format!("cannot be read: {error}"),
    })
}

fn count_whole_rows(path: &Path) -> usize {
    let Ok(file) = File::open(path) else { return 0 };
    BufReader::new(file)
        .split(b'\n')
        .map_while(Result::ok)
        .filter(|line| checked(line).is_ok_and(|row| Observation::read_json(row).is_ok()))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_and_a_changed_line_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut log = Log::create(path.clone()).unwrap();
        log.append(&vec![1, 2, 3]).unwrap();
        log.append(&vec![4]).unwrap();
        log.close().unwrap();
        assert_eq!(
            read_log::<Vec<u32>>(&path).unwrap(),
            vec![vec![1, 2, 3], vec![4]]
        );

        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("[4]", "[5]")).unwrap();
        let error = read_log::<Vec<u32>>(&path).unwrap_err().to_string();
        assert!(
            error.contains("line 2 does not match its checksum"),
            "{error}"
        );

        fs::write(&path, &text[..text.len() - 4]).unwrap();
        let error = read_log::<Vec<u32>>(&path).unwrap_err().to_string();
        assert!(error.contains("line 2 is torn"), "{error}");
    }

    /// Takes `room` bytes and no more, until somebody makes room.
    struct Disk {
        room: std::sync::Arc<std::sync::atomic::AtomicUsize>,
        file: File,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            use std::sync::atomic::Ordering::Relaxed;
            let room = self.room.load(Relaxed).min(bytes.len());
            if room == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            self.room.fetch_sub(room, Relaxed);
            self.file.write(&bytes[..room])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl LogFile for Disk {
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_was_full_for_a_while_leaves_no_gap_and_no_torn_line() {
        use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        // Room for a line and a half.
        let room = std::sync::Arc::new(AtomicUsize::new(60));
        let disk = Disk {
            room: std::sync::Arc::clone(&room),
            file: File::create(&path).unwrap(),
        };
        let mut log = Log::over(path.clone(), Box::new(disk));
        log.append(&vec![1, 2, 3]).unwrap();
        log.append(&vec![4, 5, 6]).unwrap();
        let error = log.flush().unwrap_err().to_string();
        assert!(error.contains("log.jsonl"), "{error}");
        log.append(&vec![7]).unwrap();
        assert!(log.flush().is_err());
        assert!(
            read_log::<Vec<u32>>(&path).is_err(),
            "the trap: half a line"
        );
        room.store(1 << 20, Relaxed);
        log.close().unwrap();
        assert_eq!(
            read_log::<Vec<u32>>(&path).unwrap(),
            vec![vec![1, 2, 3], vec![4, 5, 6], vec![7]]
        );
    }

    #[test]
    fn a_run_never_writes_over_another() {
        let dir = tempfile::tempdir().unwrap();
        RunDir::create(dir.path(), "a: 1", &[]).unwrap();
        let error = RunDir::create(dir.path(), "a: 1", &[]).unwrap_err();
        assert!(matches!(error, RunDirError::Taken(_)), "{error}");
    }

    #[test]
    fn a_killed_run_is_refused_with_what_it_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), "a: 1", &[]).unwrap();
        run.requests_log().unwrap().close().unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("never finished") && error.contains("0 requests"),
            "{error}"
        );
    }

    #[test]
    fn a_run_with_attempts_is_its_last_whole_one() {
        let keep = tempfile::tempdir().unwrap();
        let dir = keep.path();
        assert_eq!(judged(dir), dir);
        for number in [1, 2, 3] {
            fs::create_dir(dir.join(crate::retry::name(number))).unwrap();
        }
        // The third was killed: what it would have said is not known.
        for number in [1, 2] {
            fs::write(
                dir.join(crate::retry::name(number)).join("manifest.json"),
                "",
            )
            .unwrap();
        }
        assert_eq!(judged(dir), dir.join("attempt-2"));
    }

    #[test]
    fn a_manifest_cannot_point_outside() {
        assert!(is_plain("slo/00-a.yaml"));
        assert!(!is_plain("../secret"));
        assert!(!is_plain("/etc/passwd"));
    }
}
