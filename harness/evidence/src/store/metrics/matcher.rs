//! Label matchers with Prometheus 3's rules: anchored at both ends, `.` matches a newline too.

use crate::go_regex;
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
            MatchOp::Regex | MatchOp::NotRegex => Some(go_regex::whole(value)?),
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
