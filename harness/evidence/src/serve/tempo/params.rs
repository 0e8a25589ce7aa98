//! Query parameters.

use std::collections::HashMap;

use super::ApiError;

/// The parameters of a request; of a repeated one the first counts, an empty one is absent.
pub(super) struct Params(HashMap<String, String>);

impl Params {
    pub(super) fn new(raw: Option<String>) -> Self {
        let mut all = HashMap::new();
        for (key, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            if !value.is_empty() {
                all.entry(key.into_owned()).or_insert(value.into_owned());
            }
        }
        Self(all)
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// An integer, worded on failure as the Go function of that name words it.
    pub(super) fn integer<T: std::str::FromStr>(
        &self,
        key: &str,
        go_function: &str,
    ) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                ApiError::bad(format!(
                    "invalid {key}: strconv.{go_function}: parsing {text:?}: invalid syntax"
                ))
            })
        };
        self.get(key).map(parse).transpose()
    }

    /// `start` and `end` in whole seconds since the Unix epoch.
    pub(super) fn seconds(&self, key: &str) -> Result<Option<i64>, ApiError> {
        self.integer(key, "ParseInt")
    }
}
