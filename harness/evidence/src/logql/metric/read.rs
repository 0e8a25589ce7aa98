//! The lines of a range aggregation, read once: on all cores when there are many.

use super::super::ast::{Grouping, RangeAgg};
use super::super::error::QueryError;
use super::super::pipeline::{CompiledFilter, LabelView, Pipeline};
use super::super::query::QueryLimits;
use super::{Read, counts_lines, series_labels, value_of};
use crate::store::logs::{Entries, Entry, Labels, Selected};
use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZero;
use std::ops::Range;

/// Lines that are worth a thread of their own: about ten milliseconds.
const WORTH_A_THREAD: usize = 1 << 15;

/// What the lines say of every series, in the order of streams and lines.
pub(super) fn all(
    agg: &RangeAgg,
    keep: Option<&Grouping>,
    selected: &[Selected],
    limits: &QueryLimits,
) -> Result<Vec<Read>, QueryError> {
    let lines = selected.iter().map(|s| s.entries.len()).sum::<usize>();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    in_parts(
        agg,
        keep,
        selected,
        limits,
        cores.min(lines / WORTH_A_THREAD),
    )
}

fn in_parts(
    agg: &RangeAgg,
    keep: Option<&Grouping>,
    selected: &[Selected],
    limits: &QueryLimits,
    threads: usize,
) -> Result<Vec<Read>, QueryError> {
    let read = |part: Vec<(&Labels, Entries)>| -> Result<Vec<Read>, QueryError> {
        let mut reader = Reader::new(agg, keep, limits)?;
        for (labels, entries) in &part {
            reader.read(labels, entries)?;
        }
        Ok(reader.series)
    };
    if threads <= 1 {
        return read(part_of(selected, 0..usize::MAX));
    }
    let lines = selected.iter().map(|s| s.entries.len()).sum::<usize>();
    let each = lines.div_ceil(threads);
    let read = &read;
    let parts: Vec<Result<Vec<Read>, QueryError>> = std::thread::scope(|scope| {
        let begun: Vec<_> = (0..threads)
            .map(|n| part_of(selected, n * each..(n + 1) * each))
            .map(|part| scope.spawn(move || read(part)))
            .collect();
        let ended = begun.into_iter().map(|thread| thread.join());
        ended
            .map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    // In order: of several failures the first line's is told, as without threads.
    let mut all = Reader::new(agg, keep, limits)?;
    for part in parts {
        for read in part? {
            let slot = all.slot(read.labels)?;
            all.series[slot].samples.extend(read.samples);
            all.series[slot].lines.extend(read.lines);
        }
    }
    Ok(all.series)
}

/// The lines at these places of all streams one after another.
fn part_of(selected: &[Selected], places: Range<usize>) -> Vec<(&Labels, Entries)> {
    let mut before = 0;
    let mut out = Vec::new();
    for stream in selected {
        let from = places.start.saturating_sub(before);
        let to = places.end.saturating_sub(before);
        let part = stream.entries.part(from..to);
        if !part.is_empty() {
            out.push((&stream.labels, part));
        }
        before += stream.entries.len();
    }
    out
}

/// Takes lines through a pipeline of its own: one that threads share would make them wait for each other
/// inside its regular expressions.
struct Reader<'q> {
    agg: &'q RangeAgg,
    keep: Option<&'q Grouping>,
    limits: &'q QueryLimits,
    pipeline: Pipeline,
    filters: Vec<CompiledFilter>,
    index: HashMap<Labels, usize>,
    series: Vec<Read>,
}

impl<'q> Reader<'q> {
    fn new(
        agg: &'q RangeAgg,
        keep: Option<&'q Grouping>,
        limits: &'q QueryLimits,
    ) -> Result<Self, QueryError> {
        let filters = agg.unwrap.iter().flat_map(|unwrap| &unwrap.filters);
        Ok(Self {
            agg,
            keep,
            limits,
            pipeline: Pipeline::new(&agg.log)?,
            filters: filters
                .map(CompiledFilter::new)
                .collect::<Result<_, _>>()
                .map_err(QueryError::invalid)?,
            index: HashMap::new(),
            series: Vec::new(),
        })
    }

    /// The place of a series.
    fn slot(&mut self, labels: Labels) -> Result<usize, QueryError> {
        if let Some(known) = self.index.get(&labels) {
            return Ok(*known);
        }
        if self.series.len() >= self.limits.inner_series {
            return Err(QueryError::Limit(format!(
                "more than {} series on the way to the answer",
                self.limits.inner_series
            )));
        }
        let slot = self.series.len();
        self.index.insert(labels.clone(), slot);
        self.series.push(Read {
            labels,
            samples: Vec::new(),
            lines: Vec::new(),
        });
        Ok(slot)
    }

    fn read(&mut self, stream: &Labels, entries: &Entries) -> Result<(), QueryError> {
        // Metadata and series of the last line that the pipeline left as it was.
        let mut last: Option<(&Labels, usize)> = None;
        for some in entries.slices().flat_map(|run| run.chunks(1024)) {
            self.limits.check_time()?;
            for place in self.pipeline.passing(some) {
                self.line(stream, &some[place], &mut last)?;
            }
        }
        Ok(())
    }

    /// A line that passed the line filters at the front.
    fn line<'e>(
        &mut self,
        stream: &'e Labels,
        entry: &'e Entry,
        last: &mut Option<(&'e Labels, usize)>,
    ) -> Result<(), QueryError> {
        let mut view = LabelView::new(stream, &entry.metadata);
        let mut line = Cow::Borrowed(&*entry.line);
        if !self
            .pipeline
            .process_passing(entry.ts, &mut line, &mut view)
        {
            return Ok(());
        }
        if counts_lines(self.agg) && view.error().is_none() {
            let slot = self.slot(series_labels(self.agg, self.keep, &view))?;
            self.series[slot].lines.push(entry.ts);
        }
        let Some(value) = value_of(self.agg, &line, &mut view) else {
            return Ok(());
        };
        if !self.filters.iter().all(|filter| filter.passes(&mut view)) {
            return Ok(());
        }
        if let Some(kind) = view.error() {
            return Err(QueryError::Pipeline {
                kind: kind.to_owned(),
                series: view.labels().to_string(),
            });
        }
        let slot = match (*last, view.untouched()) {
            (Some((metadata, slot)), Some((_, now))) if metadata.shares(now) => slot,
            (_, untouched) => {
                let slot = self.slot(series_labels(self.agg, self.keep, &view))?;
                *last = untouched.map(|(_, metadata)| (metadata, slot));
                slot
            }
        };
        self.series[slot].samples.push((entry.ts, value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ast::{Expr, SampleExpr};
    use super::super::super::parser::parse;
    use super::*;
    use crate::store::logs::{LogStore, PushStream};

    fn store() -> LogStore {
        let store = LogStore::default();
        let streams = (0..3).map(|pod| PushStream {
            labels: vec![("app".into(), "x".into()), ("pod".into(), format!("{pod}"))],
            entries: (0..50 * (pod + 1))
                .map(|n| {
                    let line = if n == 40 {
                        "{nope".to_owned()
                    } else {
                        format!("{{\"v\":{n},\"k\":\"{}\"}}", n % 3)
                    };
                    (n * 7 % 50, line, vec![("m".into(), format!("{}", n / 9))])
                })
                .collect(),
        });
        assert_eq!(store.ingest_push(streams.collect()).rejected, 0);
        store
    }

    /// However many threads read, every series has the same samples in the same order, and of several
    /// lines that cannot be processed the same one is told.
    #[test]
    fn threads_change_nothing() {
        let store = store();
        let selected = store.select(0, 100, |_| true);
        for query in [
            "count_over_time({app=\"x\"}[1m])",
            "bytes_over_time({app=\"x\"} |~ \"[12]\" [1m])",
            "bytes_over_time({app=\"x\"} |~ \"[0-4]:?\" != \"3\" !~ \"[^:][7-9]\" [1m])",
            "max_over_time({app=\"x\"} | json | __error__=\"\" | unwrap v [1m]) by (k)",
            "avg_over_time({app=\"x\"} | json | __error__=\"\" | unwrap v | v > 3 [1m]) by (pod)",
            "sum_over_time({app=\"x\"} | json | unwrap v [1m])",
        ] {
            let Ok(Expr::Sample(SampleExpr::Range(agg))) = parse(query) else {
                panic!("{query}");
            };
            let shown = |threads, series| {
                let limits = QueryLimits {
                    inner_series: series,
                    ..QueryLimits::default()
                };
                let keep = agg.grouping.as_ref();
                in_parts(&agg, keep, &selected, &limits, threads).map(|all| {
                    let series = all.into_iter();
                    series
                        .map(|s| format!("{} {:?} {:?}", s.labels, s.samples, s.lines))
                        .collect::<Vec<_>>()
                })
            };
            let alone = shown(1, 100);
            assert_eq!(alone.is_err(), query.contains("json | unwrap"), "{alone:?}");
            for threads in [2, 3, 7, 500] {
                assert_eq!(shown(threads, 100), alone, "{query} by {threads}");
                assert_eq!(shown(threads, 1).is_err(), shown(1, 1).is_err(), "{query}");
            }
        }
    }
}
