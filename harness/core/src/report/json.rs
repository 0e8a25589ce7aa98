//! `report.json` and its published schema.

use schemars::generate::SchemaSettings;

use super::model::Report;

/// The report as indented JSON, keys in the order of the types, with a newline at the end. Two
/// reports that are equal give the same bytes. A number that is not finite becomes `null`.
#[must_use]
pub fn json(report: &Report) -> String {
    // Only a map with keys other than strings or a failing `Serialize` can make this fail, and the
    // model has neither; should it ever, the text says so and is no report that reads as a pass.
    let mut text = serde_json::to_string_pretty(report).unwrap_or_else(|error| {
        format!("{{\n  \"error\": \"the report could not be written as JSON: {error:?}\"\n}}")
    });
    text.push('\n');
    text
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
