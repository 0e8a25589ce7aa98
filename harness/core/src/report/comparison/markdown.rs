//! A comparison as GitHub-flavoured Markdown.

use super::super::figures;
use super::super::markdown::escape;
use super::super::model::{Change, Comparison};
use super::super::text;
use super::{change, group, groups, headline, interval, run_line, value, word};

/// The comparison as GitHub-flavoured Markdown, ending with a newline.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = format!("## Comparison: {}\n\n", escape(&headline(comparison)));
    for why in &comparison.not_comparable {
        out.push_str(&format!("- ⚠️ {}\n", escape(&text::line(why))));
    }
    for run in &comparison.runs {
        out.push_str(&format!("- {}\n", escape(&run_line(run))));
    }
    for pair in &comparison.pairs {
        out.push_str(&format!(
            "\n**{} against {}** ({} confidence, both sides)\n\n",
            pair.other,
            pair.base,
            figures::percent(comparison.confidence, None)
        ));
        out.push_str(
            "| | | before | after | change | interval | |\n|---|---|---:|---:|---:|---:|---|\n",
        );
        for (of, deltas) in groups(&pair.deltas) {
            for delta in deltas {
                let mark = match delta.says {
                    Change::Worse if comparison.comparable => "❌ ",
                    Change::Better if comparison.comparable => "✅ ",
                    _ => "",
                };
                out.push_str(&format!(
                    "| {} | {} | {} | {} | {} | {} | {mark}{} |\n",
                    group(of),
                    escape(&text::name(&delta.name)),
                    escape(&value(delta.base, delta)),
                    escape(&value(delta.other, delta)),
                    escape(&change(delta.change, delta)),
                    escape(&interval(delta)),
                    word(comparison, delta),
                ));
            }
        }
    }
    out
}
