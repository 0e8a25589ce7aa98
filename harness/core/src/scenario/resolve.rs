//! `${NAME}` in text values → the value of an environment variable.

use serde_json::Value;

use super::Scenario;
use crate::problem::{Problem, Problems};

impl Scenario {
    /// Replaces `${NAME}` in every text value by what `env` says and `$$` by `$`; a `$` before
    /// anything else stays. Returns the scenario with the values in place, checked again, and all
    /// values put in: those are secrets, never to be printed or stored. `file` names the scenario's
    /// file in problems.
    ///
    /// # Errors
    /// A variable that `env` does not know, `${` without `}`, and everything that
    /// [`Scenario::validate`] refuses once the values are known.
    pub fn resolve(
        &self,
        file: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<String>), Problems> {
        let fail = |key: &str, message: String, hint: Option<String>| Problem {
            file: file.to_owned(),
            at: None,
            key: key.to_owned(),
            message,
            hint,
        };
        let mut tree = serde_json::to_value(self)
            .map_err(|error| Problems(vec![fail("", error.to_string(), None)]))?;
        let mut walk = Walk {
            env,
            secrets: Vec::new(),
            wrong: Vec::new(),
        };
        walk.value("", &mut tree);
        if !walk.wrong.is_empty() {
            let problems = walk.wrong.into_iter();
            return Err(Problems(
                problems
                    .map(|(key, message, hint)| fail(&key, message, Some(hint)))
                    .collect(),
            ));
        }
        let resolved: Self = serde_json::from_value(tree)
            .map_err(|error| Problems(vec![fail("", error.to_string(), None)]))?;
        resolved.validate(file)?;
        Ok((resolved, walk.secrets))
    }
}

struct Walk<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    secrets: Vec<String>,
    wrong: Vec<(String, String, String)>,
}

impl Walk<'_> {
    fn value(&mut self, key: &str, value: &mut Value) {
        match value {
            Value::String(text) if text.contains('$') => match self.replace(text) {
                Ok(replaced) => *text = replaced,
                Err((message, hint)) => self.wrong.push((key.to_owned(), message, hint)),
            },
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.value(&format!("{key}[{index}]"), item);
                }
            }
            Value::Object(entries) => {
                for (name, item) in entries.iter_mut() {
                    let dot = if key.is_empty() { "" } else { "." };
                    self.value(&format!("{key}{dot}{name}"), item);
                }
            }
            _ => {}
        }
    }

    fn replace(&mut self, text: &str) -> Result<String, (String, String)> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            out.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or_else(|| {
                    (
                        "`${` without `}`".to_owned(),
                        "write ${NAME}, or $$ for a dollar sign".to_owned(),
                    )
                })?;
                let value = (self.env)(name).ok_or_else(|| {
                    (
                        format!("the environment variable `{name}` is not set"),
                        format!("set {name} before the run"),
                    )
                })?;
                out.push_str(&value);
                if !value.is_empty() && !self.secrets.contains(&value) {
                    self.secrets.push(value);
                }
                rest = after;
            } else {
                out.push('$');
            }
        }
        out.push_str(rest);
        Ok(out)
    }
}
