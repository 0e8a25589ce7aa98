//! Label matchers with Prometheus 3's rules: anchored at both ends, `.` matches a newline too.

use regex::Regex;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

/// One condition on one label. An absent label has the empty value.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// How it is compared.
    pub op: MatchOp,
    /// The value or pattern as written.
    pub value: String,
    regex: Option<Regex>,
}

impl Matcher {
    /// Builds a matcher; a pattern is compiled anchored and with `.` matching newlines.
    ///
    /// # Errors
    /// A sentence naming the pattern that does not compile.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, String> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(anchored(value)?),
        };
        Ok(Matcher {
            name: name.to_string(),
            op,
            value: value.to_string(),
            regex,
        })
    }

    /// Whether a label value (empty when the label is absent) satisfies the matcher.
    pub fn matches(&self, value: &str) -> bool {
        let re = || self.regex.as_ref().is_some_and(|r| r.is_match(value));
        match self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex => re(),
            MatchOp::NotRegex => !re(),
        }
    }
}

/// Compiles a pattern the way Prometheus 3 does.
///
/// # Errors
/// A sentence naming the pattern.
pub(crate) fn anchored(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?s:{pattern})$"))
        .or_else(|first| {
            // RE2 takes a brace that starts no repetition literally; this crate refuses it.
            Regex::new(&format!("^(?s:{})$", escape_loose_braces(pattern))).map_err(|_| first)
        })
        .map_err(|e| {
            let last = e.to_string();
            let why = last
                .lines()
                .last()
                .unwrap_or("")
                .trim_start_matches("error: ");
            format!("error parsing regexp: {why}: `^(?s:{pattern})$`")
        })
}

fn escape_loose_braces(p: &str) -> String {
    let mut out = String::with_capacity(p.len() + 4);
    let mut rest = p;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        if c == '\\' {
            out.push(c);
            let Some(next) = tail.chars().next() else {
                break;
            };
            out.push(next);
            rest = &tail[next.len_utf8()..];
            // `\p{L}` and `\x{41}` own their braces.
            if matches!(next, 'p' | 'P' | 'x') && rest.starts_with('{') {
                let end = rest.find('}').map_or(rest.len(), |i| i + 1);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            continue;
        }
        if c == '{' && !is_repetition(rest) {
            out.push('\\');
        }
        out.push(c);
        rest = tail;
    }
    out
}

fn is_repetition(s: &str) -> bool {
    let Some(end) = s.find('}') else { return false };
    let body = &s[1..end];
    let mut parts = body.splitn(2, ',');
    let first = parts.next().unwrap_or("");
    let digits = |x: &str| x.bytes().all(|b| b.is_ascii_digit());
    !first.is_empty() && digits(first) && parts.next().is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regexes_are_anchored_and_dot_matches_newline() {
        let m = Matcher::new("a", MatchOp::Regex, "b.c").expect("compiles");
        assert!(m.matches("b\nc"));
        assert!(!m.matches("xb.c"));
        assert!(!m.matches("b.cx"));
        let m = Matcher::new("a", MatchOp::Regex, "x|y").expect("compiles");
        assert!(m.matches("y") && !m.matches("xy"));
    }

    #[test]
    fn loose_braces_are_literal_as_in_re2() {
        let m = Matcher::new("a", MatchOp::Regex, "/{id}/a{2}").expect("compiles");
        assert!(m.matches("/{id}/aa"));
        assert!(Matcher::new("a", MatchOp::Regex, "(").is_err());
    }
}
