//! Taking a batch out again that could not be recorded.

use std::collections::HashSet;

use super::journal::Lengths;
use super::strings::allocation;
use super::{NO_SPAN, Tables, TraceRow};

impl Tables {
    /// Forgets the spans, traces and extras added since the tables had these lengths. Texts, attribute
    /// sets, resources and scopes stay: nothing points to them, and nothing is answered from them alone.
    ///
    /// To be called before the lock is let go under which they were added, or a query could hold the
    /// index of a row that is gone.
    pub(super) fn forget_since(&mut self, was: Lengths) {
        let grown: HashSet<u32> = self
            .spans
            .from(was.spans)
            .map(|span| span.trace)
            .filter(|trace| (*trace as usize) < was.traces)
            .collect();
        self.spans.truncate(was.spans);
        for extra in self.extras.drain(was.extras..) {
            self.extras_bytes -= allocation(size_of_val(&*extra.events));
            self.extras_bytes -= allocation(size_of_val(&*extra.links));
        }
        for at in was.traces..self.traces.len() {
            self.forget_ids(at);
            let hash = self.hash_of(self.traces[at].id);
            if let Ok(entry) = self.by_id.find_entry(hash, |known| *known as usize == at) {
                entry.remove();
            }
        }
        self.traces.truncate(was.traces);
        for trace in grown {
            self.link_again(trace);
        }
    }

    /// Makes a trace's row from those of its spans that are left.
    fn link_again(&mut self, trace: u32) {
        self.forget_ids(trace as usize);
        let row = &mut self.traces[trace as usize];
        let first = row.first;
        *row = TraceRow::empty(row.id);
        let mut next = first;
        while next != NO_SPAN && (next as usize) < self.spans.len() {
            let at = next;
            next = std::mem::replace(&mut self.spans[at as usize].next, NO_SPAN);
            self.link_into(trace, at);
        }
    }

    fn forget_ids(&mut self, trace: usize) {
        if let Some(ids) = self.traces[trace].ids.take() {
            self.long_traces -= 1;
            self.long_ids -= ids.len();
        }
    }
}
