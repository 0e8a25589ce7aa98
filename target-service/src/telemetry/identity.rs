//! Who this process says it is: its resource attributes, in spans, log records and `target_info`.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;

use super::names::{SERVICE_NAME, resource};

/// Resource attributes, in a fixed order, one value a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    attributes: Vec<(String, String)>,
}

/// Why `OTEL_RESOURCE_ATTRIBUTES` cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("OTEL_RESOURCE_ATTRIBUTES: {entry:?} is not key=value with value percent-encoded")]
pub struct BadAttribute {
    entry: String,
}

impl Identity {
    /// Defaults of the build, overridden by `OTEL_RESOURCE_ATTRIBUTES` (`key=value,...`), and its
    /// `service.name` by `OTEL_SERVICE_NAME`; `TARGET_SERVICE_REVISION` gives the default
    /// revision. `env` looks a variable up.
    ///
    /// # Errors
    /// An entry that is not `key=value`: a typo here would judge the wrong build.
    pub fn resolve(
        env: &dyn Fn(&str) -> Option<String>,
        instance_id: &str,
    ) -> Result<Identity, BadAttribute> {
        let revision = env("TARGET_SERVICE_REVISION")
            .or_else(|| option_env!("TARGET_SERVICE_REVISION").map(str::to_owned))
            .unwrap_or_else(|| "unknown".to_owned());
        let mut identity = Identity {
            attributes: Vec::new(),
        };
        identity.set(resource::SERVICE_NAME, SERVICE_NAME);
        identity.set(resource::SERVICE_VERSION, env!("CARGO_PKG_VERSION"));
        identity.set(resource::SERVICE_REVISION, &revision);
        identity.set(resource::SERVICE_INSTANCE_ID, instance_id);
        let given = env("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        for entry in given.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let (key, value) = parse(entry)?;
            identity.set(&key, &value);
        }
        if let Some(name) = env("OTEL_SERVICE_NAME") {
            identity.set(resource::SERVICE_NAME, &name);
        }
        Ok(identity)
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Identity {
        Identity::resolve(&|_| None, "test").unwrap()
    }

    fn set(&mut self, key: &str, value: &str) {
        match self.attributes.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.attributes.push((key.to_owned(), value.to_owned())),
        }
    }

    /// All attributes.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// One attribute; empty when there is none of this key.
    pub fn get(&self, key: &str) -> &str {
        self.attributes()
            .find(|(k, _)| *k == key)
            .map_or("", |(_, v)| v)
    }

    /// The same for the OpenTelemetry SDK, with `telemetry.sdk.*` added.
    pub fn resource(&self) -> Resource {
        let own = self
            .attributes()
            .map(|(k, v)| KeyValue::new(k.to_owned(), v.to_owned()));
        Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes(own.collect::<Vec<_>>())
            .build()
    }
}

fn parse(entry: &str) -> Result<(String, String), BadAttribute> {
    let bad = || BadAttribute {
        entry: entry.to_owned(),
    };
    let (key, value) = entry.split_once('=').ok_or_else(bad)?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() {
        return Err(bad());
    }
    Ok((key.to_owned(), percent_decode(value).ok_or_else(bad)?))
}

/// RFC 3986 percent-encoding, which the specification prescribes for values.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(vars: &[(&str, &str)]) -> Result<Identity, BadAttribute> {
        let find = |key: &str| {
            vars.iter()
                .find(|(k, _)| *k == key)
                .map(|(_, v)| (*v).to_owned())
        };
        Identity::resolve(&find, "i-1")
    }

    #[test]
    fn the_environment_overrides_the_build() {
        let plain = resolve(&[]).unwrap();
        assert_eq!(plain.get("service.name"), "target-service");
        assert_eq!(plain.get("service.version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(plain.get("service.instance.id"), "i-1");
        let given = resolve(&[
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.version=9.9, service.name=a,team=x%2Cy%20z",
            ),
            ("OTEL_SERVICE_NAME", "b"),
            ("TARGET_SERVICE_REVISION", "abc123"),
        ])
        .unwrap();
        assert_eq!(given.get("service.name"), "b");
        assert_eq!(given.get("service.version"), "9.9");
        assert_eq!(given.get("service.revision"), "abc123");
        assert_eq!(given.get("team"), "x,y z");
        assert_eq!(given.attributes().count(), 5, "one value a key");
    }

    #[test]
    fn a_malformed_entry_is_named() {
        for bad in ["novalue", "=x", "a=%zz", "a=%4"] {
            let error = resolve(&[("OTEL_RESOURCE_ATTRIBUTES", bad)]).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }
}
