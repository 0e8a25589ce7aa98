//! `harness init`: a first scenario and its objectives for a URL, to be read and changed.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use url::Url;

use crate::run::Failure;

/// What `harness init` was asked.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// What to send requests to: http://host:port/path.
    pub url: String,
    /// Where `scenario.yaml` and `slo.yaml` are written; nothing that is there is overwritten.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// Writes both files, or none.
///
/// # Errors
/// A URL that is none; a file that is there already; a disk that does not take them.
pub fn init(args: &InitArgs) -> Result<[PathBuf; 2], Failure> {
    let parts = Parts::of(&args.url).map_err(Failure::Config)?;
    let files = [
        (args.dir.join("scenario.yaml"), parts.scenario()),
        (args.dir.join("slo.yaml"), parts.slo()),
    ];
    for (path, _) in &files {
        if path.exists() {
            return Err(taken(path));
        }
    }
    std::fs::create_dir_all(&args.dir)
        .map_err(|error| Failure::Config(format!("{}: {error}", args.dir.display())))?;
    for (path, text) in &files {
        // Made anew or not at all: what somebody else made in the meantime stays.
        let write = || File::create_new(path)?.write_all(text.as_bytes());
        write().map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => taken(path),
            _ => Failure::Config(format!("{}: {error}", path.display())),
        })?;
    }
    Ok(files.map(|(path, _)| path))
}

fn taken(path: &Path) -> Failure {
    Failure::Config(format!(
        "{}: is there already, and nothing is overwritten; name another directory with --dir",
        path.display()
    ))
}

/// A URL in the parts that a scenario has.
struct Parts {
    base: String,
    path: String,
    name: String,
}

impl Parts {
    fn of(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| {
            format!("`{text}` is no URL: {error}; write for instance http://127.0.0.1:3010/")
        })?;
        let host = url
            .host_str()
            .filter(|_| matches!(url.scheme(), "http" | "https"));
        let host = host.ok_or_else(|| format!("`{text}` is no http URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("credentials in a URL are printed and stored: write a header with ${NAME} into the scenario".into());
        }
        let mut path = url.path().to_owned();
        if let Some(query) = url.query() {
            path.push('?');
            path.push_str(query);
        }
        // A DNS label: what is no letter or digit becomes a dash.
        let dashed = host.chars().map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        });
        let dashed: String = dashed.take(60).collect();
        let name = dashed.trim_matches('-').to_owned();
        let mut base = url.clone();
        base.set_path("");
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self {
            base: base.as_str().trim_end_matches('/').to_owned(),
            path,
            name: if name.is_empty() {
                "service".into()
            } else {
                name
            },
        })
    }

    fn scenario(&self) -> String {
        let Self { base, path, name } = self;
        // JSON's quoting is YAML's too.
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        format!(
            r#"# A first scenario, to be changed. `harness check` reads it, `harness schedule` shows what it sends.
# Arithmetic. 20/s for 60 s are 1,200 measured requests; at 95 % confidence 0.99 is shown by 299 requests
# without a miss, or 1,182 with six.
apiVersion: harness/v1
kind: Scenario
metadata:
  name: {name}
spec:
  seed: 42
  slo: [slo.yaml]
  target:
    url: {base}
    timeout: 5s
  # What operations look at. Without it only the client's own figures can be judged.
  # telemetry:
  #   service: {name}
  #   prometheus: {{url: "http://127.0.0.1:9090"}}
  #   loki: {{url: "http://127.0.0.1:3100"}}
  #   tempo: {{url: "http://127.0.0.1:3200"}}
  #   otlp: http://127.0.0.1:4317
  requests:
    - name: request
      method: GET
      path: {path}
      expect: {{status: 200}}
      # headers: {{authorization: "Bearer ${{TOKEN}}"}}   # from the environment; never printed or stored
      # body: {{dataset: data.jsonl, field: text}}       # then method: POST
  loads:
    - name: steady
      mix: {{request: 1}}
      executor: constant-arrival-rate
      spacing: poisson
      stages:
        - {{phase: warmup, rate: 20/s, for: 5s}}
        - {{phase: measure, rate: 20/s, for: 60s}}
  abort: [{{when: error_ratio > 0.5, over: 10s}}]
"#,
            base = quote(base),
            path = quote(path),
        )
    }

    fn slo(&self) -> String {
        let objective = |name: &str, what: &str, good: &str| {
            format!(
                r#"apiVersion: openslo/v1
kind: SLO
metadata:
  name: {name}
  annotations: {{harness/gate: required}}
spec:
  service: {service}
  indicator:
    metadata: {{name: {name}}}
    spec:
      ratioMetric:
        counter: true
        good: {{metricSource: {{type: LoadClient, spec: {{request: request, outcome: expected{good}}}}}}}
        total: {{metricSource: {{type: LoadClient, spec: {{request: request}}}}}}
  timeWindow: [{{duration: 28d, isRolling: true}}]
  budgetingMethod: Occurrences
  objectives: [{{displayName: "{what}", target: 0.99}}]
"#,
                service = self.name
            )
        };
        let latency = objective(
            "latency",
            "99 % answered rightly within 500 ms",
            ", latency: \"<= 500ms\"",
        );
        let answers = objective("answers", "99 % answered rightly", "");
        format!(
            "# First objectives, to be changed. Latency runs from when a request was due.\n{latency}---\n{answers}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::{self, Overrides};

    fn args(url: &str, dir: &Path) -> InitArgs {
        InitArgs {
            url: url.into(),
            dir: dir.to_owned(),
        }
    }

    #[test]
    fn what_is_written_can_be_run_as_it_is() {
        for url in [
            "http://127.0.0.1:3010",
            "http://example.com/a%20b?c=d&e=%22",
            "http://[::1]:8080/x: y",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join("new");
            let files = init(&args(url, &dir)).unwrap_or_else(|error| panic!("{url}: {error:?}"));
            let inputs = inputs::load(&files[0], &Overrides::default());
            let inputs = inputs.unwrap_or_else(|problems| panic!("{url}: {problems}"));
            assert_eq!(inputs.objectives.len(), 2);
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("slo.yaml");
        std::fs::write(&kept, "mine").unwrap();
        let error = init(&args("http://127.0.0.1:1/", dir.path())).unwrap_err();
        assert!(matches!(error, Failure::Config(why) if why.contains("is there already")));
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "mine");
        assert!(!dir.path().join("scenario.yaml").exists());
    }

    #[test]
    fn what_is_no_url_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for wrong in ["127.0.0.1:3010", "ftp://h/", "http://a:b@h/", "mailto:a@b"] {
            assert!(init(&args(wrong, dir.path())).is_err(), "{wrong}");
        }
    }
}
