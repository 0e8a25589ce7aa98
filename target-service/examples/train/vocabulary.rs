//! Which words a committed model may know.
//!
//! Vocabularies are committed while the corpus is not, so nothing may get into them that points to
//! a person who once wrote to a newsgroup. A word must stand in MiniLM's public vocabulary or in
//! `words.txt` (dictionary words and the jargon of the four groups, looked over by hand), which keeps
//! out user names, signatures and hosts. It must not be in `names.txt` (given and family names from
//! the US census lists of 1990, public domain, less those that are above all words or places), nor
//! be a part of a mail address.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use anyhow::{Context, Result};

const NAMES: &str = include_str!("names.txt");
const WORDS: &str = include_str!("words.txt");
const MAIL: &[&str] = &[
    "com", "edu", "org", "gov", "mil", "uucp", "email", "emails", "http", "www", "ftp",
];

/// The names and parts of addresses that no vocabulary may hold.
pub(crate) fn banned() -> HashSet<&'static str> {
    NAMES.lines().chain(MAIL.iter().copied()).collect()
}

/// Every whole word of at least two lowercase letters in MiniLM's vocabulary or in `words.txt` that
/// is not banned.
pub(crate) fn allowed(minilm: &Path) -> Result<BTreeSet<String>> {
    let path = minilm.join("vocab.txt");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let banned = banned();
    Ok(text
        .lines()
        .chain(WORDS.lines())
        .filter(|w| w.len() >= 2 && w.bytes().all(|b| b.is_ascii_lowercase()))
        .filter(|w| !banned.contains(w))
        .map(str::to_owned)
        .collect())
}
