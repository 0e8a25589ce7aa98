//! What a service says of its metrics beside their samples.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Type, help and unit of one metric family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `counter`, `gauge`, `histogram` …; `unknown` when the service did not say.
    pub kind: String,
    /// The help text, untrusted.
    pub help: String,
    /// The unit, empty when not said.
    pub unit: String,
}

/// Metadata by metric family.
///
/// Bounded by number and length: what is beyond is left out, which loses no sample.
#[derive(Debug, Default)]
pub struct MetadataBook(Mutex<BTreeMap<String, Metadata>>);

/// Most families kept.
const MOST: usize = 10_000;
/// Longest text kept, in bytes.
const LONGEST: usize = 4096;

impl MetadataBook {
    /// Keeps what is new and gives it back.
    pub(crate) fn learn(
        &self,
        told: impl IntoIterator<Item = (String, Metadata)>,
    ) -> Vec<(String, Metadata)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        for (name, metadata) in told {
            let long = [&name, &metadata.kind, &metadata.help, &metadata.unit]
                .iter()
                .any(|text| text.len() > LONGEST);
            let full = known.len() >= MOST && !known.contains_key(&name);
            if long || full || known.get(&name) == Some(&metadata) {
                continue;
            }
            known.insert(name.clone(), metadata.clone());
            new.push((name, metadata));
        }
        new
    }

    /// All families, by name.
    pub fn all(&self) -> BTreeMap<String, Metadata> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
