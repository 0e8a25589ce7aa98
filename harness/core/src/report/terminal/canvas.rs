//! Lines of bounded width with optional colour.

use super::super::model::Verdict;
use super::super::text;

/// How a piece of text is set off.
#[derive(Clone, Copy)]
pub(in crate::report) enum Tone {
    Plain,
    Dim,
    Bold,
    /// In the verdict's colour.
    Verdict(Verdict),
    /// On the verdict's colour.
    Banner(Verdict),
}

/// The tone of a verdict's mark.
pub(in crate::report) fn tone(verdict: Verdict) -> Tone {
    Tone::Verdict(verdict)
}

impl Tone {
    /// Parameters of the SGR escape sequence; the sixteen basic colours, which themes define readably.
    fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "2",
            Self::Bold => "1",
            Self::Verdict(Verdict::Pass) => "32",
            Self::Verdict(Verdict::Fail) => "1;31",
            Self::Verdict(Verdict::Inconclusive) => "33",
            Self::Verdict(Verdict::Invalid) => "1;35",
            Self::Banner(Verdict::Pass) => "1;30;42",
            Self::Banner(Verdict::Fail) => "1;37;41",
            Self::Banner(Verdict::Inconclusive) => "1;30;43",
            Self::Banner(Verdict::Invalid) => "1;37;45",
        }
    }
}

/// What has been drawn so far.
pub(in crate::report) struct Canvas {
    width: usize,
    color: bool,
    out: String,
}

impl Canvas {
    pub(in crate::report) fn new(width: usize, color: bool) -> Self {
        Self {
            width,
            color,
            out: String::new(),
        }
    }

    pub(in crate::report) fn width(&self) -> usize {
        self.width
    }

    pub(in crate::report) fn finish(self) -> String {
        self.out
    }

    pub(in crate::report) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// One line of pieces, cut at the width, without spaces at its end.
    pub(in crate::report) fn line(&mut self, pieces: &[(Tone, &str)]) {
        let mut room = self.width;
        let last = pieces
            .iter()
            .rposition(|(_, piece)| !piece.trim_end().is_empty());
        for (place, (tone, piece)) in pieces.iter().enumerate() {
            if last.is_none_or(|last| place > last) {
                break;
            }
            let piece = if last == Some(place) {
                piece.trim_end()
            } else {
                piece
            };
            let shown = text::fit(piece, room);
            room -= text::width(&shown);
            self.paint(*tone, &shown);
        }
        self.out.push('\n');
    }

    /// A line that is not cut, whatever the width.
    pub(in crate::report) fn whole(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn paint(&mut self, tone: Tone, piece: &str) {
        let sgr = tone.sgr();
        if self.color && !sgr.is_empty() && !piece.is_empty() {
            self.out.push_str(&format!("\x1b[{sgr}m{piece}\x1b[0m"));
        } else {
            self.out.push_str(piece);
        }
    }

    /// A section's name and, behind it, its gist, wrapped.
    pub(in crate::report) fn heading(&mut self, title: &str, gist: &str) {
        let indent = text::width(title) + 2;
        if gist.is_empty() {
            return self.line(&[(Tone::Bold, title)]);
        }
        for (place, piece) in text::wrap(gist, self.width - indent).iter().enumerate() {
            if place == 0 {
                self.line(&[
                    (Tone::Bold, title),
                    (Tone::Plain, "  "),
                    (Tone::Plain, piece),
                ]);
            } else {
                self.line(&[(Tone::Plain, &" ".repeat(indent)), (Tone::Plain, piece)]);
            }
        }
    }

    /// Wrapped text, indented.
    pub(in crate::report) fn text(&mut self, indent: usize, tone: Tone, what: &str) {
        for piece in text::wrap(what, self.width - indent) {
            self.line(&[(Tone::Plain, &" ".repeat(indent)), (tone, &piece)]);
        }
    }

    /// Wrapped text behind a verdict's sign.
    pub(in crate::report) fn marked(&mut self, indent: usize, verdict: Verdict, what: &str) {
        self.hanging(indent, tone(verdict), &format!("{} ", verdict.sign()), what);
    }

    /// Wrapped text behind a label, its further lines under its first.
    pub(in crate::report) fn hanging(
        &mut self,
        indent: usize,
        tone: Tone,
        label: &str,
        what: &str,
    ) {
        let hang = indent + text::width(label);
        for (place, piece) in text::wrap(what, self.width - hang).iter().enumerate() {
            if place == 0 {
                self.line(&[
                    (Tone::Plain, &" ".repeat(indent)),
                    (tone, label),
                    (Tone::Plain, piece),
                ]);
            } else {
                self.line(&[(Tone::Plain, &" ".repeat(hang)), (Tone::Plain, piece)]);
            }
        }
    }
}
