//! `--set path=value`: a scenario with some of its values replaced before anything else looks at it.
//!
//! The scenario is read as it stands first, so that what is wrong with the file is said with line and
//! column. Then the values go into its tree, and the whole is read and checked again. What is run,
//! kept in the run directory and judged is the text made here.

use harness_core::problem::{Problem, Problems};
use harness_core::scenario::Scenario;
use serde_json::Value;

/// One replacement, as written on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    path: Vec<Step>,
    value: String,
    written: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl std::str::FromStr for Set {
    type Err = String;

    /// `spec.loads[0].stages[1].rate=200/s`; `spec.` may be left out, and an element of a list that
    /// has a name may be called by it: `loads.steady.vus=10`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not path=value: write for instance spec.seed=7");
        let (path, value) = text.split_once('=').ok_or_else(wrong)?;
        let mut steps = Vec::new();
        for part in path.split('.') {
            let (name, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
            if name.is_empty() {
                return Err(wrong());
            }
            steps.push(Step::Key(name.to_owned()));
            while !rest.is_empty() {
                let inner = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                let (inner, after) = inner.ok_or_else(wrong)?;
                steps.push(match inner.parse() {
                    Ok(index) => Step::Index(index),
                    Err(_) if !inner.is_empty() => Step::Key(inner.to_owned()),
                    Err(_) => return Err(wrong()),
                });
                rest = after;
            }
        }
        let whole = ["apiVersion", "kind", "metadata", "spec"];
        if !matches!(&steps[0], Step::Key(first) if whole.contains(&first.as_str())) {
            steps.insert(0, Step::Key("spec".into()));
        }
        Ok(Self {
            path: steps,
            value: value.to_owned(),
            written: text.to_owned(),
        })
    }
}

/// The scenario's text with the replacements in it; as it was when there are none.
///
/// # Errors
/// What is wrong with the file itself; then the first replacement that names no place, or makes a
/// scenario that cannot be read; then everything that makes the whole impossible.
pub fn apply(text: &str, file: &str, sets: &[Set]) -> Result<String, Problems> {
    if sets.is_empty() {
        return Ok(text.to_owned());
    }
    let mut scenario = Scenario::parse(text, file)?;
    for set in sets {
        let problem = |message: String| {
            Problems(vec![Problem {
                file: file.to_owned(),
                at: None,
                key: format!("--set {}", set.written),
                message,
                hint: None,
            }])
        };
        let mut tree =
            serde_json::to_value(&scenario).map_err(|error| problem(error.to_string()))?;
        drop_nulls(&mut tree);
        let value: Value = serde_saphyr::from_str(&set.value)
            .map_err(|error| problem(format!("the value is not YAML: {error}")))?;
        // What reads as a number may be meant as a text, such as a version.
        let as_text = Value::String(set.value.clone());
        let plain = value.is_number() || value.is_boolean();
        *place(&mut tree, &set.path).map_err(problem)? = value;
        let mut read = serde_json::from_value(tree.clone());
        if read.is_err() && plain {
            *place(&mut tree, &set.path).map_err(problem)? = as_text;
            read = serde_json::from_value(tree);
        }
        scenario = read.map_err(|error| problem(error.to_string()))?;
    }
    let named = format!("{file} with --set");
    scenario.validate(&named)?;
    written(&scenario).map_err(|message| {
        Problems(vec![Problem {
            file: named,
            at: None,
            key: String::new(),
            message,
            hint: None,
        }])
    })
}

/// As YAML, or as JSON, which is YAML too, should that not read back as the same scenario.
fn written(scenario: &Scenario) -> Result<String, String> {
    let mut tree = serde_json::to_value(scenario).map_err(|error| error.to_string())?;
    drop_nulls(&mut tree);
    let note = "# Written by harness: the scenario with the values of --set in it.\n";
    let yaml = serde_saphyr::to_string(&tree).map_err(|error| error.to_string())?;
    let yaml = format!("{note}{yaml}");
    if Scenario::parse(&yaml, "").is_ok_and(|read| read == *scenario) {
        return Ok(yaml);
    }
    let json = serde_json::to_string_pretty(&tree).map_err(|error| error.to_string())?;
    Ok(format!("{note}{json}\n"))
}

/// Keys that are not given need not be written.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|_, value| !value.is_null());
            entries.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn place<'a>(tree: &'a mut Value, path: &[Step]) -> Result<&'a mut Value, String> {
    let mut now = tree;
    for step in path {
        now = match step {
            Step::Key(name) if now.is_array() => {
                let items = now.as_array_mut().into_iter().flatten();
                let mut named =
                    items.filter(|item| item.get("name") == Some(&name.as_str().into()));
                named.next().ok_or_else(|| {
                    let number = name.parse::<u32>();
                    let number = number.map(|n| format!("; by its number it is `[{n}]`"));
                    let number = number.unwrap_or_default();
                    format!("no element has the name `{name}`{number}")
                })?
            }
            Step::Key(name) => {
                if now.is_null() {
                    *now = Value::Object(serde_json::Map::new());
                }
                let entries = now.as_object_mut();
                let entries =
                    entries.ok_or_else(|| format!("`{name}` stands below a plain value"))?;
                entries.entry(name.clone()).or_insert(Value::Null)
            }
            Step::Index(index) => {
                let there = now.as_array().map_or(0, Vec::len);
                now.get_mut(*index).ok_or_else(|| {
                    format!("there are {there} elements, so none of number {index}")
                })?
            }
        };
    }
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"apiVersion: harness/v1
kind: Scenario
metadata: {name: a}
spec:
  seed: 1
  target: {url: "http://127.0.0.1:1", expectVersion: "1.10"}
  requests:
    - {name: a, method: GET, path: /}
  loads:
    - {name: steady, mix: {a: 1}, executor: constant-arrival-rate, stages: [{phase: measure, rate: 20/s, for: 10s}]}
"#;

    fn with(sets: &[&str]) -> Result<Scenario, String> {
        let sets: Vec<Set> = sets.iter().map(|set| set.parse().unwrap()).collect();
        let text = apply(TEXT, "a.yaml", &sets).map_err(|wrong| wrong.to_string())?;
        Scenario::parse(&text, "a.yaml").map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn values_are_replaced_by_place_and_by_name() {
        let scenario = with(&[
            "spec.loads[0].stages[0].rate=200/s",
            "loads.steady.maxInFlight=7",
            "seed=9",
            "requests[a].headers={x-a: b=c}",
            "spec.target.timeout=5s",
            "metadata.labels={team: a}",
            "metadata.labels.version=2",
        ])
        .unwrap();
        let load = &scenario.spec.loads[0];
        assert_eq!(load.stages[0].rate.unwrap().per_second(), 200.0);
        assert_eq!((load.max_in_flight, scenario.spec.seed), (Some(7), 9));
        assert_eq!(scenario.spec.requests[0].headers["x-a"], "b=c");
        // What is not touched stays as it was written, also what looks like a number.
        assert_eq!(scenario.spec.target.expect_version.as_deref(), Some("1.10"));
        assert_eq!(scenario.spec.target.timeout.nanos(), 5_000_000_000);
        assert_eq!(scenario.metadata.labels["version"], "2");
    }

    #[test]
    fn without_replacements_the_text_stays_byte_for_byte() {
        assert_eq!(apply(TEXT, "a.yaml", &[]).unwrap(), TEXT);
    }

    #[test]
    fn replacements_that_fit_nowhere_are_refused_by_name() {
        for (set, why) in [
            ("spec.sparkle=1", "unknown field `sparkle`"),
            ("loads[3].vus=1", "there are 1 elements"),
            ("loads.fast.vus=1", "no element has the name `fast`"),
            ("loads.0.vus=1", "by its number it is `[0]`"),
            ("seed.x=1", "stands below a plain value"),
            ("loads[0].stages[0].rate=200", "is not a rate"),
            ("loads[0].vus=5", "an open load has no users"),
            ("seed=[", "the value is not YAML"),
        ] {
            let error = with(&[set]).unwrap_err();
            assert!(
                error.contains(why) && error.contains("a.yaml"),
                "{set}: {error}"
            );
        }
        for wrong in ["seed", "=1", ".seed=1", "a[=1", "a[]=1"] {
            assert!(wrong.parse::<Set>().is_err(), "{wrong}");
        }
    }
}
