//! Texts with `{{ name }}` in them.

/// A text in parts. Parsing checks its form; what names stand for is the reader's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(pub(crate) Vec<Part>);

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// As it is.
    Text(String),
    /// A field of the dataset's row, or a captured value.
    Name(String),
    /// Something that every request has.
    Own(Own),
}

/// What every request has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// The request's id.
    Id,
    /// Which arrival of its load and request it is.
    Nth,
    /// The user of a closed load.
    Vu,
    /// A UUID, version 4, from the seed.
    Uuid,
    /// A number below 2^32, from the seed.
    Random,
}

const OWN: [(&str, Own); 5] = [
    ("$id", Own::Id),
    ("$nth", Own::Nth),
    ("$vu", Own::Vu),
    ("$uuid", Own::Uuid),
    ("$random", Own::Random),
];

impl Template {
    /// Reads a text. One without `{{` is a template too, of one part.
    ///
    /// # Errors
    /// `{{` without `}}`, and what is no name between them.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            let (name, after) = rest[open + 2..]
                .split_once("}}")
                .ok_or_else(|| format!("`{text}` has `{{{{` without `}}}}`"))?;
            parts.push(part(name.trim(), text)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The names of fields and captured values in it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

fn part(name: &str, text: &str) -> Result<Part, String> {
    if name.starts_with('$') {
        let known = OWN.iter().find(|(own, _)| *own == name);
        return known.map(|(_, own)| Part::Own(*own)).ok_or_else(|| {
            let all: Vec<&str> = OWN.iter().map(|(name, _)| *name).collect();
            format!("`{name}` in `{text}` is unknown: one of {}", all.join(", "))
        });
    }
    let plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!("`{name}` in `{text}` is not the name of a field"));
    }
    Ok(Part::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_or_refused() {
        let parsed = Template::parse("a {{ b.c }}-{{$id}}").unwrap();
        assert_eq!(
            parsed.0,
            [
                Part::Text("a ".into()),
                Part::Name("b.c".into()),
                Part::Text("-".into()),
                Part::Own(Own::Id),
            ]
        );
        assert_eq!(parsed.names().collect::<Vec<_>>(), ["b.c"]);
        assert_eq!(Template::parse("plain }} {").unwrap().names().count(), 0);
        for (wrong, why) in [
            ("{{ a", "without `}}`"),
            ("{{ }}", "not the name of a field"),
            ("{{ a b }}", "not the name of a field"),
            ("{{ $ide }}", "one of $id, $nth"),
        ] {
            let error = Template::parse(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
