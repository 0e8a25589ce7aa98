//! What stands beside the targets.

use super::super::beside::sections;
use super::super::model::Report;
use super::{escape, sign};

pub(super) fn write(out: &mut String, report: &Report) {
    for section in sections(report) {
        out.push_str(&format!(
            "**{}**: {}\n\n",
            section.title,
            escape(&section.lead)
        ));
        for line in &section.lines {
            let mark = line
                .verdict
                .map_or_else(String::new, |v| format!("{} ", sign(v)));
            out.push_str(&format!("- {mark}{}\n", escape(&line.text)));
        }
        if !section.lines.is_empty() {
            out.push('\n');
        }
    }
}
