//! Patterns: `<ip> - <_> "<method> <_>"`.

/// Literal texts and what stands between them.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Literal(String),
    /// `<name>`, or `<_>` when `None`.
    Capture(Option<String>),
}

impl Pattern {
    /// The pattern of a `pattern` stage: it must capture something.
    pub(super) fn parser(text: &str) -> Result<Self, String> {
        let pattern = Self::new(text)?;
        let mut names: Vec<&String> = pattern.names().collect();
        if names.is_empty() {
            return Err("at least one capture is required".to_owned());
        }
        names.sort();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(format!("duplicate capture name ({})", twice[0]));
        }
        Ok(pattern)
    }

    /// The pattern of a line filter: it only matches, so a named capture is a mistake.
    pub(super) fn filter(text: &str) -> Result<Self, String> {
        let pattern = Self::new(text)?;
        if let Some(name) = pattern.names().next() {
            return Err(format!(
                "a line filter captures nothing: write <_> instead of <{name}>"
            ));
        }
        Ok(pattern)
    }

    fn new(text: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some((name, tail)) = capture(rest) {
                if let Some(Part::Capture(before)) = parts.last() {
                    let before = before.as_deref().unwrap_or("_");
                    return Err(format!(
                        "found consecutive capture '<{before}><{name}>': invalid expression"
                    ));
                }
                parts.push(Part::Capture((name != "_").then(|| name.to_owned())));
                rest = tail;
                continue;
            }
            let mut chars = rest.chars();
            let first = chars.next().unwrap_or_default();
            match parts.last_mut() {
                Some(Part::Literal(literal)) => literal.push(first),
                _ => parts.push(Part::Literal(first.to_string())),
            }
            rest = chars.as_str();
        }
        Ok(Self(parts))
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter_map(|part| match part {
            Part::Capture(name) => name.as_ref(),
            Part::Literal(_) => None,
        })
    }

    /// The named captures. The pattern begins at the start of the line; where a literal is missing
    /// the reading ends with what was captured before.
    pub(super) fn captures<'p, 'l>(&'p self, line: &'l str) -> Vec<(&'p str, &'l str)> {
        let mut out = Vec::new();
        let mut rest = line;
        let mut parts = self.0.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Literal(literal) => match rest.strip_prefix(literal.as_str()) {
                    Some(tail) => rest = tail,
                    None => return out,
                },
                Part::Capture(name) => {
                    let end = match parts.peek() {
                        Some(Part::Literal(next)) => match rest.find(next.as_str()) {
                            Some(end) => end,
                            None => return out,
                        },
                        _ => rest.len(),
                    };
                    if let Some(name) = name {
                        out.push((name.as_str(), &rest[..end]));
                    }
                    rest = &rest[end..];
                }
            }
        }
        out
    }

    /// Whether the whole line has this shape; `<_>` stands for any text of at least a character.
    pub(super) fn fits(&self, line: &str) -> bool {
        let mut rest = line;
        let mut open = false;
        let last = self.0.len().saturating_sub(1);
        for (at, part) in self.0.iter().enumerate() {
            let Part::Literal(literal) = part else {
                open = true;
                continue;
            };
            if open && at == last {
                // The last literal must end the line, wherever else it may stand before.
                return rest.len() > literal.len() && rest.ends_with(literal.as_str());
            }
            let found = if open {
                let skipped = rest.chars().next().map_or(0, char::len_utf8);
                rest[skipped..]
                    .find(literal.as_str())
                    .filter(|_| skipped > 0)
                    .map(|start| start + skipped)
            } else {
                rest.starts_with(literal.as_str()).then_some(0)
            };
            let Some(start) = found else {
                return false;
            };
            rest = &rest[start + literal.len()..];
            open = false;
        }
        open != rest.is_empty()
    }
}

/// `<name>` at the start of the text, and what follows it.
fn capture(text: &str) -> Option<(&str, &str)> {
    let (name, tail) = text.strip_prefix('<')?.split_once('>')?;
    let legal = name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
        && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    legal.then_some((name, tail))
}
