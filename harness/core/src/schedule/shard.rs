//! One schedule in parts.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{LOAD_SHIFT, STEP_SHIFT};
use crate::scenario::Scenario;
use crate::units::RequestId;

/// Part `index` of `of`: it takes the arrivals of open loads whose id leaves `index` when divided by
/// `of`, and of closed loads the users whose number does. The union of all shards is exactly the
/// whole schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u32,
    of: u32,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Which part, from 0.
    #[must_use]
    pub fn index(self) -> u32 {
        self.index
    }

    /// Of how many.
    #[must_use]
    pub fn of(self) -> u32 {
        self.of
    }

    /// Whether it takes the arrival of this id, or the user of this number.
    #[must_use]
    pub fn takes(self, number: u64) -> bool {
        number % u64::from(self.of) == u64::from(self.index)
    }

    /// Whether it is a part only.
    #[must_use]
    pub fn is_part(self) -> bool {
        self.of > 1
    }

    /// Which of `of` shards sent the request of this id.
    #[must_use]
    pub fn of_request(scenario: &Scenario, id: RequestId, of: u32) -> Self {
        // All steps of a flow belong to the shard of the first.
        let id = id.0 & ((1 << STEP_SHIFT) - 1);
        let n = id & ((1 << LOAD_SHIFT) - 1);
        let load = usize::try_from(id >> LOAD_SHIFT).unwrap_or(usize::MAX);
        let number = match scenario.spec.loads.get(load) {
            Some(load) if load.executor.shares_iterations() => n,
            Some(load) if !load.executor.is_open() => n % u64::from(load.users().max(1)),
            _ => id,
        };
        let index = number % u64::from(of.max(1));
        Self {
            index: u32::try_from(index).unwrap_or(0),
            of: of.max(1),
        }
    }

    /// The number in the whole of what is this shard's n-th.
    pub(super) fn nth(self, n: u64) -> u64 {
        n * u64::from(self.of) + u64::from(self.index)
    }

    /// How many of so many it takes.
    pub(super) fn share_of(self, all: u64) -> u64 {
        let (of, index) = (u64::from(self.of), u64::from(self.index));
        all / of + u64::from(all % of > index)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl JsonSchema for Shard {
    fn schema_name() -> Cow<'static, str> {
        "Shard".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+/[0-9]+$",
            "description": "Part i of N of a schedule, i from 0.",
        })
    }
}

impl FromStr for Shard {
    type Err = String;

    /// `i/N`, `i` from 0 to `N - 1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('/')
            .and_then(|(index, of)| Some((index.parse::<u32>().ok()?, of.parse::<u32>().ok()?)));
        match parts {
            Some((index, of)) if index < of => Ok(Self { index, of }),
            _ => Err(format!(
                "`{text}` is not a shard: write i/N with i from 0 to N-1, for instance 0/4"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_read_or_refused() {
        let shard: Shard = "1/3".parse().unwrap();
        assert_eq!(
            (shard.index(), shard.of(), shard.to_string()),
            (1, 3, "1/3".into())
        );
        for wrong in ["3/3", "1", "/", "0/0", "-1/2", "a/b", "1/2/3"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
        let parts = |all| {
            (0..3)
                .map(|index| Shard { index, of: 3 }.share_of(all))
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(10), [4, 3, 3]);
        assert_eq!(parts(2), [1, 1, 0]);
    }
}
