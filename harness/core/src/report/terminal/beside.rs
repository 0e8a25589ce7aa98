//! What stands beside the targets.

use super::super::beside::sections;
use super::super::model::Report;
use super::canvas::{Canvas, Tone};

pub(super) fn draw(canvas: &mut Canvas, report: &Report) {
    for section in sections(report) {
        canvas.heading(section.title, &section.lead);
        for line in &section.lines {
            match line.verdict {
                Some(verdict) => canvas.marked(2, verdict, &line.text),
                None => canvas.hanging(2, Tone::Dim, "- ", &line.text),
            }
        }
        canvas.blank();
    }
}
