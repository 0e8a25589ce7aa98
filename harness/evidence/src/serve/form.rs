//! Parameters as they come in an address or a posted form.

/// Names and values. What is not UTF-8 is an error that gives the parameter's name: read as other text it
/// would find nothing, and nothing must not look like an answer.
pub(super) fn pairs(encoded: &[u8]) -> Result<Vec<(String, String)>, String> {
    let all: Vec<(String, String)> = url::form_urlencoded::parse(encoded).into_owned().collect();
    // What does not decode was replaced by this; what was sent as this is not to be told from it otherwise.
    let mark = char::REPLACEMENT_CHARACTER;
    let marked = |(name, value): &&(String, String)| name.contains(mark) || value.contains(mark);
    match all.iter().find(marked) {
        Some((name, _)) if std::str::from_utf8(&decoded(encoded)).is_err() => Err(name.clone()),
        _ => Ok(all),
    }
}

/// All of it without percent signs.
fn decoded(encoded: &[u8]) -> Vec<u8> {
    let hex = |at: usize| char::from(*encoded.get(at)?).to_digit(16);
    let mut out = Vec::with_capacity(encoded.len());
    let mut at = 0;
    while let Some(byte) = encoded.get(at) {
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf8_is_told_from_what_is() {
        for (encoded, wanted) in [
            ("a=1&b=%C3%A9", Ok(vec![("a", "1"), ("b", "é")])),
            ("a=%EF%BF%BD", Ok(vec![("a", "\u{fffd}")])),
            ("a=100%25&b=%zz", Ok(vec![("a", "100%"), ("b", "%zz")])),
            ("a=1&query=%22%ff%22", Err("query")),
            ("query=%C3&b=%A9", Err("query")),
        ] {
            let wanted = wanted.map(|all| {
                let owned = |(n, v): (&str, &str)| (n.to_owned(), v.to_owned());
                all.into_iter().map(owned).collect::<Vec<_>>()
            });
            assert_eq!(
                pairs(encoded.as_bytes()),
                wanted.map_err(str::to_owned),
                "{encoded}"
            );
        }
        assert!(pairs(b"query=\xff").is_err());
    }
}
