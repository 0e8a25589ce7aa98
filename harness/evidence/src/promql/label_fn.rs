//! `label_replace` and `label_join`.

use super::error::QueryError;
use super::eval::{Eval, Evaluated, Frame, Sample, text};
use super::plan::Node;
use crate::store::metrics::METRIC_NAME;

impl Eval<'_> {
    /// `label_replace(v, dst, replacement, src, pattern)`
    pub(super) fn label_replace(
        &self,
        args: &[Node],
        frame: &Frame,
        t: i64,
    ) -> Evaluated<Vec<Sample>> {
        let [dst, replacement, src, pattern] = [1, 2, 3, 4].map(|i| text(&args[i]));
        let re = crate::go_regex::whole(pattern).map_err(|_| {
            QueryError::Execution(format!(
                "invalid regular expression in label_replace(): {pattern}"
            ))
        })?;
        valid_destination(dst, "label_replace")?;
        let mut v = self.vector(&args[0], frame, t)?;
        for s in &mut v {
            let value = s.labels.get(src).unwrap_or("");
            if let Some(found) = re.captures(value) {
                let mut new = String::new();
                found.expand(replacement, &mut new);
                set(s, dst, &new);
            }
        }
        self.unique(v)
    }

    /// `label_join(v, dst, separator, src, …)`
    pub(super) fn label_join(
        &self,
        args: &[Node],
        frame: &Frame,
        t: i64,
    ) -> Evaluated<Vec<Sample>> {
        let (dst, separator) = (text(&args[1]), text(&args[2]));
        valid_destination(dst, "label_join")?;
        let mut v = self.vector(&args[0], frame, t)?;
        for s in &mut v {
            let parts: Vec<&str> = args[3..]
                .iter()
                .map(|a| s.labels.get(text(a)).unwrap_or(""))
                .collect();
            let new = parts.join(separator);
            set(s, dst, &new);
        }
        self.unique(v)
    }
}

fn set(s: &mut Sample, name: &str, value: &str) {
    if s.labels.get(name).unwrap_or("") != value {
        s.labels = s.labels.with(name, value);
    }
    if name == METRIC_NAME {
        // A name that was set on purpose stays.
        s.drop_name = false;
    }
}

fn valid_destination(name: &str, function: &str) -> Evaluated<()> {
    if name.is_empty() {
        return Err(QueryError::Execution(format!(
            "invalid destination label name in {function}(): {name}"
        )));
    }
    Ok(())
}
