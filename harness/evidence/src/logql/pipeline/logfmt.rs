//! `logfmt`: `key=value key="quoted value" bare`.

use super::LabelView;

/// The stage and its options.
pub(super) struct Logfmt {
    pub(super) strict: bool,
    pub(super) keep_empty: bool,
    /// Key in the line and label to set; empty for all keys.
    pub(super) wanted: Vec<(String, String)>,
}

impl Logfmt {
    /// Sets labels. A fault ends the reading of the line: in strict mode it is marked, else what
    /// stands before it is kept and the fault passes in silence.
    pub(super) fn parse(&self, line: &str, view: &mut LabelView) {
        let mut reader = Reader { line, at: 0 };
        loop {
            match reader.next() {
                Ok(None) => return,
                Ok(Some((key, value))) => self.take(key, &value, view),
                Err(fault) if self.strict => {
                    let details = format!(
                        "logfmt syntax error at pos {} : {}",
                        fault.at + 1,
                        fault.what
                    );
                    return view.fail("LogfmtParserErr", &details);
                }
                Err(_) => reader.skip_word(),
            }
        }
    }

    fn take(&self, key: &str, value: &str, view: &mut LabelView) {
        if value.is_empty() && !self.keep_empty {
            return;
        }
        if self.wanted.is_empty() {
            view.extract_raw(key, value);
            return;
        }
        for (_, label) in self.wanted.iter().filter(|(wanted, _)| wanted == key) {
            view.extract(label, value);
        }
    }
}

struct Reader<'a> {
    line: &'a str,
    at: usize,
}

struct Fault {
    at: usize,
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// The next pair; a bare key has an empty value.
    fn next(&mut self) -> Result<Option<(&'a str, String)>, Fault> {
        let rest = &self.line[self.at..];
        let blank = rest.len() - rest.trim_start_matches(|c: char| c <= ' ').len();
        self.at += blank;
        let rest = &self.line[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let key_end = rest
            .find(|c: char| c <= ' ' || c == '=' || c == '"')
            .unwrap_or(rest.len());
        let key = &rest[..key_end];
        self.at += key_end;
        match rest.as_bytes().get(key_end) {
            Some(b'"') => Err(self.fault("unexpected '\"'")),
            Some(b'=') if key.is_empty() => Err(self.fault("unexpected '='")),
            Some(b'=') => {
                self.at += 1;
                self.value().map(|value| Some((key, value)))
            }
            _ => Ok(Some((key, String::new()))),
        }
    }

    fn value(&mut self) -> Result<String, Fault> {
        let rest = &self.line[self.at..];
        if let Some(quoted) = rest.strip_prefix('"') {
            let Some(end) = quoted_end(quoted) else {
                self.at = self.line.len();
                return Err(self.fault("unterminated quoted value"));
            };
            self.at += end + 2;
            return Ok(unescape(&quoted[..end]));
        }
        let end = rest.find(|c: char| c <= ' ').unwrap_or(rest.len());
        if let Some(bad) = rest[..end].find(['"', '=']) {
            self.at += bad;
            let what = if rest[bad..].starts_with('"') {
                "unexpected '\"'"
            } else {
                "unexpected '='"
            };
            return Err(self.fault(what));
        }
        self.at += end;
        Ok(rest[..end].to_owned())
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault { at: self.at, what }
    }

    /// To the next blank, behind what could not be read.
    fn skip_word(&mut self) {
        let rest = &self.line[self.at..];
        self.at += rest.find(|c: char| c <= ' ').unwrap_or(rest.len());
    }
}

fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    })
}

/// The escapes are those of JSON; a text with others is taken as it stands.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.to_owned())
}
