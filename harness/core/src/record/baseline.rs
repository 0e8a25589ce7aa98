//! What is kept of earlier runs that a run is compared with: `baseline.json`, sealed with the run, so
//! that the comparison can be made again without their directories.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::model::Verdict;

/// Version of `baseline.json`.
pub const BASELINE_SCHEMA: &str = "harness.baseline/v1";

/// The earlier runs that were named, usable or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baselines {
    /// [`BASELINE_SCHEMA`].
    pub schema: String,
    /// One entry a directory named, in that order.
    pub runs: Vec<BaselineRun>,
}

/// One earlier run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineRun {
    /// Directory, as it was named.
    pub dir: String,
    /// Its run id; `None` when it could not be read.
    pub run_id: Option<String>,
    /// When it started, RFC 3339 UTC.
    pub started_at: Option<String>,
    /// SHA-256 of its manifest, which holds the digests of all its files.
    pub manifest_sha256: Option<String>,
    /// Versions of the service seen in its telemetry.
    pub versions: Vec<String>,
    /// Its own verdict, judged again when it was taken.
    pub verdict: Option<Verdict>,
    /// Why nothing of it may be compared with: missing, changed, invalid, another scenario.
    pub unusable: Option<String>,
    /// What its evidence said of each objective, by the objective's name.
    pub figures: BTreeMap<String, Kept>,
}

/// A figure, and what it is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// What was measured, in words that differ when it does. A run can be judged by other objectives than
    /// its own, and one of them may carry the same name.
    pub measured: String,
    /// The figure.
    pub figure: Figure,
}

/// What the evidence of a run says of one objective, as a comparison needs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Figure {
    /// Nothing that could be compared.
    Missing {
        /// Why, a clause.
        why: String,
    },
    /// Bad events among all.
    Share {
        /// Bad ones.
        bad: u64,
        /// All.
        total: u64,
        /// Events that the evidence lacks and that may have been bad or good.
        unseen: u64,
        /// As how large a share of their number they count, since neighbours depend on each other.
        effective: f64,
    },
    /// A value of the run's own requests, with what else it might have been.
    Sampled {
        /// The value; infinite (written as `null`) when it falls among requests without an answer.
        #[serde(with = "infinite")]
        #[schemars(with = "Option<f64>")]
        value: f64,
        /// Replicates of a block bootstrap; `null` for infinite ones.
        #[serde(with = "infinites")]
        #[schemars(with = "Vec<Option<f64>>")]
        replicates: Vec<f64>,
        /// Requests a block.
        block: usize,
    },
    /// One value whose noise within the run is not known.
    Value {
        /// The value.
        value: f64,
        /// Why its noise is not known, a clause.
        why: String,
    },
}

/// JSON has no infinity.
mod infinite {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::INFINITY))
    }
}

mod infinites {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|v| v.is_finite().then_some(*v)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let values = Vec::<Option<f64>>::deserialize(from)?;
        Ok(values
            .into_iter()
            .map(|v| v.unwrap_or(f64::INFINITY))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_back_as_they_were() {
        let figure = Figure::Sampled {
            value: f64::INFINITY,
            replicates: vec![0.1, f64::INFINITY, 1.0 / 3.0],
            block: 4,
        };
        let text = serde_json::to_string(&figure).unwrap();
        assert_eq!(serde_json::from_str::<Figure>(&text).unwrap(), figure);
        assert!(text.contains("null"), "{text}");
    }
}
