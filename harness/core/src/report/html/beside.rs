//! What stands beside the targets, a card each.

use maud::{Markup, html};

use super::super::beside::sections;
use super::super::model::Report;
use super::{badge, class};

pub(super) fn section(report: &Report) -> Markup {
    html! {
        @for section in sections(report) {
            section id=(section.id) class="card" {
                h2 { (section.title) }
                p.hint { (section.lead) }
                ul {
                    @for line in &section.lines {
                        @if let Some(verdict) = line.verdict {
                            li class=(class(verdict)) { (badge(verdict)) " " (line.text) }
                        } @else {
                            li { (line.text) }
                        }
                    }
                }
            }
        }
    }
}
