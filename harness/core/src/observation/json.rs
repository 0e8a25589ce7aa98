//! The JSON of a usual row, written and read without a general library: millions of rows are written
//! while a load goes on and read back when it is over, and nearly all of them have the same fields in
//! the same order. What is out of the ordinary is left to serde, whose text this is byte for byte.

use super::{At, Observation, Outcome};
use crate::units::{Nanos, Phase, RequestId, SpanId, TraceId};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl Observation {
    /// Appends the row as JSON: what serde would write.
    ///
    /// # Errors
    /// None that is known of; serde's own for a row that is out of the ordinary.
    pub fn write_json(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        if self.more.is_some() {
            return serde_json::to_writer(out, self);
        }
        field(out, b"{\"id\":", self.id.0);
        field(out, b",\"request\":", self.request.into());
        field(out, b",\"load\":", self.load.into());
        out.extend_from_slice(b",\"phase\":\"");
        out.extend_from_slice(name_of(self.phase));
        field(out, b"\",\"due\":", self.due.0);
        if let Some(at) = self.sent() {
            field(out, b",\"sent\":", at.0);
        }
        if let Some(at) = self.first_byte() {
            field(out, b",\"first_byte\":", at.0);
        }
        field(out, b",\"done\":", self.done.0);
        out.extend_from_slice(b",\"outcome\":\"");
        out.extend_from_slice(self.outcome.name().as_bytes());
        out.push(b'"');
        if let Some(status) = self.status {
            field(out, b",\"status\":", status.into());
        }
        field(out, b",\"bytes\":", self.bytes.into());
        out.extend_from_slice(b",\"trace\":\"");
        hex(out, &self.trace.0);
        out.extend_from_slice(b"\",\"span\":\"");
        hex(out, &self.span.0);
        out.extend_from_slice(b"\",\"sampled\":");
        boolean(out, self.sampled);
        if let Some(correct) = self.correct {
            out.extend_from_slice(b",\"correct\":");
            boolean(out, correct);
        }
        out.push(b'}');
        Ok(())
    }

    /// Reads a row of JSON.
    ///
    /// # Errors
    /// When it is no row.
    pub fn read_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        usual(text).map_or_else(|| serde_json::from_slice(text), Ok)
    }
}

/// A row as [`Observation::write_json`] writes the usual ones; `None` for everything else, right or wrong.
fn usual(text: &[u8]) -> Option<Observation> {
    let mut rest = Rest(text);
    let id = RequestId(rest.field("{\"id\":")?);
    let request = u16::try_from(rest.field(",\"request\":")?).ok()?;
    let load = u16::try_from(rest.field(",\"load\":")?).ok()?;
    rest.skip(",\"phase\":\"")?;
    let phases = [Phase::Measure, Phase::Warmup, Phase::Cooldown];
    let phase = phases.into_iter().find(|phase| rest.is(name_of(*phase)))?;
    let due = Nanos(rest.field("\",\"due\":")?);
    let sent = rest.optional(",\"sent\":")?;
    let first_byte = rest.optional(",\"first_byte\":")?;
    let done = Nanos(rest.field(",\"done\":")?);
    rest.skip(",\"outcome\":\"")?;
    let outcome = rest.outcome()?;
    let status = match rest.optional(",\"status\":")? {
        Some(status) => Some(u16::try_from(status).ok()?),
        None => None,
    };
    let bytes = rest.field(",\"bytes\":")?;
    rest.skip(",\"trace\":\"")?;
    let trace = TraceId(rest.hex()?);
    rest.skip("\",\"span\":\"")?;
    let span = SpanId(rest.hex()?);
    rest.skip("\",\"sampled\":")?;
    let sampled = rest.boolean()?;
    let correct = match rest.skip(",\"correct\":") {
        Some(()) => Some(rest.boolean()?),
        None => None,
    };
    (rest.0 == b"}").then(|| Observation {
        id,
        due,
        done,
        sent: At::from(sent.map(Nanos)),
        first_byte: At::from(first_byte.map(Nanos)),
        trace,
        span,
        more: None,
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        request,
        load,
        status,
        phase,
        outcome,
        sampled,
        correct,
    })
}

fn name_of(phase: Phase) -> &'static [u8] {
    match phase {
        Phase::Warmup => b"warmup",
        Phase::Measure => b"measure",
        Phase::Cooldown => b"cooldown",
    }
}

fn field(out: &mut Vec<u8>, key: &[u8], mut number: u64) {
    out.extend_from_slice(key);
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break out.extend_from_slice(&digits[at..]);
        }
    }
}

fn hex<const N: usize>(out: &mut Vec<u8>, bytes: &[u8; N]) {
    for byte in bytes {
        let pair = [byte >> 4, byte & 15].map(|half| DIGITS[usize::from(half)]);
        out.extend_from_slice(&pair);
    }
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Goes past `text` if it comes next.
    fn is(&mut self, text: &[u8]) -> bool {
        let after = self.0.strip_prefix(text);
        after.inspect(|after| self.0 = after).is_some()
    }

    fn skip(&mut self, text: &str) -> Option<()> {
        self.is(text.as_bytes()).then_some(())
    }

    fn field(&mut self, key: &str) -> Option<u64> {
        self.skip(key)?;
        self.number()
    }

    /// A field that may be left out; `None` outside: it is there and holds no number.
    fn optional(&mut self, key: &str) -> Option<Option<u64>> {
        match self.skip(key) {
            Some(()) => self.number().map(Some),
            None => Some(None),
        }
    }

    /// A number as it is written here: digits without a zero before them.
    fn number(&mut self) -> Option<u64> {
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit());
        let (digits, after) = self.0.split_at(length.count());
        if digits.is_empty() || (digits[0] == b'0' && digits.len() > 1) {
            return None;
        }
        self.0 = after;
        digits.iter().try_fold(0_u64, |number, digit| {
            number.checked_mul(10)?.checked_add((digit - b'0').into())
        })
    }

    fn hex<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (digits, after) = self.0.split_at_checked(2 * N)?;
        let mut id = [0; N];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = half(pair[0])? << 4 | half(pair[1])?;
        }
        self.0 = after;
        Some(id)
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.is(b"true") {
            true => Some(true),
            false => self.is(b"false").then_some(false),
        }
    }

    fn outcome(&mut self) -> Option<Outcome> {
        if self.is(b"expected\"") {
            return Some(Outcome::Expected);
        }
        let end = self.0.iter().position(|byte| *byte == b'"')?;
        let name = std::str::from_utf8(&self.0[..end]).ok()?;
        let name = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name);
        self.0 = &self.0[end + 1..];
        serde::Deserialize::deserialize(name).ok()
    }
}

fn half(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Line;
    use super::*;

    fn instant() -> impl Strategy<Value = Option<Nanos>> {
        prop::option::of(prop_oneof![0..u64::MAX, Just(0)].prop_map(Nanos))
    }

    prop_compose! {
        fn any_row()(
            (id, due, done, trace, span) in any::<(u64, u64, u64, [u8; 16], [u8; 8])>(),
            (request, load, status, bytes) in any::<(u16, u16, Option<u16>, u64)>(),
            (sent, first_byte, connected, first_event) in (instant(), instant(), instant(), instant()),
            phase in prop::sample::select(vec![Phase::Warmup, Phase::Measure, Phase::Cooldown]),
            outcome in prop::sample::select(vec![Outcome::Expected, Outcome::Timeout, Outcome::GoAway, Outcome::WrongAnswer]),
            (sampled, correct, detail) in any::<(bool, Option<bool>, Option<String>)>(),
            unusual in any::<bool>(),
        ) -> Observation {
            Line {
                id: RequestId(id), request, load, phase, due: Nanos(due), sent, first_byte, done: Nanos(done), outcome,
                status, bytes, trace: TraceId(trace), span: SpanId(span), sampled, correct,
                connected: connected.filter(|_| unusual),
                first_event: first_event.filter(|_| unusual),
                gaps: if unusual { vec![Nanos(1); usize::from(load % 3)] } else { Vec::new() },
                detail: detail.filter(|_| unusual),
            }.into()
        }
    }

    proptest! {
        #[test]
        fn it_is_what_serde_writes_and_reads(row in any_row()) {
            let mut text = Vec::new();
            row.write_json(&mut text).unwrap();
            prop_assert_eq!(&text, &serde_json::to_vec(&row).unwrap());
            prop_assert_eq!(usual(&text).is_some(), row.more.is_none());
            prop_assert_eq!(Observation::read_json(&text).unwrap(), row);
        }

        #[test]
        fn a_changed_text_is_read_as_serde_reads_it(row in any_row(), place in any::<prop::sample::Index>(), byte: u8) {
            let mut text = serde_json::to_vec(&row).unwrap();
            let place = place.index(text.len());
            text[place] = byte;
            let serde = serde_json::from_slice::<Observation>(&text).ok();
            prop_assert_eq!(Observation::read_json(&text).ok(), serde);
        }
    }
}
