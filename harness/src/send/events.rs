//! Where events end in a streamed answer.

/// How a streamed answer is divided into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events: a blank line ends an event. One without `data` (a comment that keeps the
    /// connection alive) is none, and neither is `data: [DONE]`, the end mark that token streams
    /// carry (HTML Standard, section 9.2.6; the mark is a convention of inference services).
    Sse,
    /// Every piece of the body: a chunk of HTTP/1.1, a DATA frame of HTTP/2. A body of HTTP/1.1 that
    /// states its length is one event, one that ends with the connection has one for each read.
    Chunks,
}

/// Counts events in a body that arrives in pieces. Constant memory.
#[derive(Debug)]
pub(crate) struct Events {
    framing: Framing,
    /// The line so far, as much of it as matters.
    line: [u8; LINE],
    length: usize,
    /// Whether the event so far has data that is not the end mark.
    data: bool,
    /// The last byte was `\r`: a `\n` belongs to it.
    carriage: bool,
}

/// `data: [DONE]` and one byte more, to see that a line is longer.
const LINE: usize = 13;

impl Events {
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            framing,
            line: [0; LINE],
            length: 0,
            data: false,
            carriage: false,
        }
    }

    /// Takes in a piece and says how many events it completed. `ends`: a chunk ends with it.
    pub(crate) fn feed(&mut self, piece: &[u8], ends: bool) -> u32 {
        match self.framing {
            Framing::Chunks => u32::from(ends),
            Framing::Sse => piece.iter().map(|byte| u32::from(self.byte(*byte))).sum(),
        }
    }

    fn byte(&mut self, byte: u8) -> bool {
        let after_carriage = std::mem::replace(&mut self.carriage, byte == b'\r');
        match byte {
            b'\n' if after_carriage => false,
            b'\n' | b'\r' => self.end_of_line(),
            _ => {
                if let Some(place) = self.line.get_mut(self.length) {
                    *place = byte;
                    self.length += 1;
                }
                false
            }
        }
    }

    fn end_of_line(&mut self) -> bool {
        let line = &self.line[..std::mem::take(&mut self.length)];
        if line.is_empty() {
            return std::mem::take(&mut self.data);
        }
        let value = line
            .strip_prefix(b"data")
            .and_then(|rest| rest.strip_prefix(b":").or(rest.is_empty().then_some(rest)));
        if let Some(value) = value {
            self.data |= value.strip_prefix(b" ").unwrap_or(value) != b"[DONE]";
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> u32 {
        let whole = Events::new(Framing::Sse).feed(text.as_bytes(), true);
        // However the network cuts it, it is the same.
        let mut bytes = Events::new(Framing::Sse);
        let single: u32 = text.bytes().map(|byte| bytes.feed(&[byte], false)).sum();
        assert_eq!(whole, single);
        whole
    }

    #[test]
    fn a_blank_line_ends_an_event_in_all_three_line_endings() {
        assert_eq!(count("data: a\n\ndata: b\n\n"), 2);
        assert_eq!(count("data: a\r\n\r\ndata: b\r\n\r\n"), 2);
        assert_eq!(count("data: a\r\rdata:b\r\r"), 2);
        assert_eq!(count("event: token\nid: 3\ndata: a\ndata: b\n\n\n\n"), 1);
        assert_eq!(count("data\n\n"), 1);
    }

    #[test]
    fn comments_end_marks_and_torn_events_are_none() {
        assert_eq!(count(": ping\n\n"), 0);
        assert_eq!(count("data: [DONE]\n\n"), 0);
        assert_eq!(count("data: [DONE]!\n\n"), 1);
        assert_eq!(count("data: half"), 0);
        assert_eq!(count("database: a\n\n"), 0);
    }

    #[test]
    fn each_piece_is_an_event_of_a_chunked_stream() {
        let mut events = Events::new(Framing::Chunks);
        assert_eq!(
            events.feed(b"{}\n", false) + events.feed(b"{}", true) + events.feed(b"x", true),
            2
        );
    }
}
