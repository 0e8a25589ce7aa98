//! `report.json` and its published schema.

use std::io::{self, Write};

use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

use super::model::Report;
use super::text;

/// The report as indented JSON, keys in the order of the types, with a newline at the end. Two
/// reports that are equal give the same bytes. A number that is not finite becomes `null`.
///
/// Text is whole, and characters that act without being seen (escapes, direction controls) are
/// written as `\u….`, which a parser reads back as they were and a terminal shows as they are.
#[must_use]
pub fn json(report: &Report) -> String {
    inert(report)
}

/// Any value as indented JSON that can be shown on a terminal.
#[must_use]
pub fn inert<T: Serialize>(value: &T) -> String {
    let mut bytes = Vec::new();
    let formatter = Inert(PrettyFormatter::new());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Only a map with keys other than strings or a failing `Serialize` can make this fail, and the
    // model has neither; should it ever, the text says so and is no report that reads as a pass.
    let mut text = match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            format!("{{\n  \"error\": \"the report could not be written as JSON: {error:?}\"\n}}")
        }
    };
    text.push('\n');
    text
}

/// Indented JSON with unseen characters escaped.
struct Inert<'a>(PrettyFormatter<'a>);

impl Formatter for Inert<'_> {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        text: &str,
    ) -> io::Result<()> {
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            if c == '\x7f' || text::is_hidden(c) {
                to.write_all(&text.as_bytes()[plain..at])?;
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(to, "\\u{unit:04x}")?;
                }
                plain = at + c.len_utf8();
            }
        }
        to.write_all(&text.as_bytes()[plain..])
    }

    fn begin_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_array(to)
    }

    fn end_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_array(to)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(to, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_array_value(to)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object(to)
    }

    fn end_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object(to)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(to, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object_value(to)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object_value(to)
    }
}

/// The JSON Schema (2020-12) of `report.json`, as published in `schemas/report.schema.json`.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Report>();
    schema.insert("title".to_owned(), "Report of a harness run".into());
    schema.into()
}

#[cfg(test)]
mod tests {
    use super::super::{model::Report, samples};
    use super::*;

    #[test]
    fn the_published_schema_is_current() {
        let published = include_str!("../../schemas/report.schema.json");
        let current = format!("{:#}\n", schema());
        assert!(
            published == current,
            "schemas/report.schema.json is out of date; the example `sample_report` writes what it \
             should be. Now:\n{current}"
        );
    }

    #[test]
    fn every_sample_agrees_with_the_schema_and_reads_back() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        for report in [
            samples::pass(),
            samples::fail(),
            samples::inconclusive(),
            samples::invalid(),
            samples::hostile(),
        ] {
            let text = json(&report);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let wrong: Vec<String> = validator
                .iter_errors(&value)
                .map(|e| format!("{} at {}", e, e.instance_path()))
                .collect();
            assert_eq!(wrong, Vec::<String>::new());
            assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
            assert!(text.ends_with("}\n"));
        }
    }

    #[test]
    fn what_acts_unseen_is_escaped_and_read_back_as_it_was() {
        let text = json(&samples::hostile());
        assert!(
            text.chars()
                .all(|c| c == '\n' || !(c.is_control() || text::is_hidden(c)))
        );
        let escaped = inert(&"a\u{202e}\u{9b}\u{e0041}\u{7f}é日");
        assert_eq!(escaped, "\"a\\u202e\\u009b\\udb40\\udc41\\u007fé日\"\n");
        let read: String = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read, "a\u{202e}\u{9b}\u{e0041}\u{7f}é日");
    }

    #[test]
    fn the_schema_refuses_what_is_no_report() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let mut value = serde_json::to_value(samples::pass()).unwrap();
        value["verdict"] = "passed".into();
        assert!(!validator.is_valid(&value));
        value["verdict"] = "pass".into();
        assert!(validator.is_valid(&value));
        value.as_object_mut().unwrap().remove("coverage");
        assert!(!validator.is_valid(&value));
    }

    #[test]
    fn names_that_scripts_rely_on_are_there() {
        let value = serde_json::to_value(samples::fail()).unwrap();
        assert_eq!(value["verdict"], "fail");
        let objective = &value["objectives"][0];
        for key in [
            "name",
            "source",
            "signal",
            "value",
            "target",
            "threshold",
            "interval",
            "samples",
            "verdict",
            "reason",
        ] {
            assert!(objective.get(key).is_some(), "{key}");
        }
        assert!(value["coverage"]["sources"].is_array());
    }

    #[test]
    fn a_missing_value_is_null_and_never_a_number() {
        let text = json(&samples::inconclusive());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(value["objectives"][1]["value"].is_null());
        assert!(value["coverage"]["sources"][0]["found"].is_null());
    }
}
