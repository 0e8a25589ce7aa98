//! Text that came from outside (span names, log lines, names in files, answers of backends), made
//! safe to show: nothing in it can move a cursor, turn the reading direction, hide or pile up.
//!
//! Every form of the report shows *all* of its strings through [`safe`] or [`line`], also those that
//! are trustworthy today: which string came from where is not a thing to get wrong.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Longest piece of outside text that is shown, in bytes.
pub(super) const MOST_BYTES: usize = 2_000;

/// Longest name (of an objective, a span, a service) that is shown, in bytes.
pub(super) const MOST_NAME_BYTES: usize = 200;

/// Zero-width characters in a row that are still shown as they are. Real scripts stack two or three
/// marks on a letter; text that stacks more is drawing over its neighbours.
const MOST_MARKS: usize = 4;

/// `text` with everything visible, at most [`MOST_BYTES`] of it.
pub(super) fn line(text: &str) -> String {
    safe(text, MOST_BYTES)
}

/// A name with everything visible, at most [`MOST_NAME_BYTES`] of it.
pub(super) fn name(text: &str) -> String {
    safe(text, MOST_NAME_BYTES)
}

/// The first `most` bytes of `text` (less, to end between characters) with control, direction and
/// invisible characters made visible, and a note of how much was cut.
pub(super) fn safe(text: &str, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    let mut out = visible(&text[..end]);
    let cut = text.len() - end;
    if cut > 0 {
        out.push_str(&format!("… ({cut} bytes cut)"));
    }
    out
}

fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut marks = 0;
    for c in text.chars() {
        let stacked = c.width() == Some(0);
        marks = if stacked { marks + 1 } else { 0 };
        match c {
            // The pictures of the control characters stand in their order from U+2400.
            '\0'..='\x1f' => out.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}')),
            '\x7f' => out.push('\u{2421}'),
            _ if is_hidden(c) || marks > MOST_MARKS => {
                out.push_str(&format!("⟨U+{:04X}⟩", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out
}

/// Characters that are not seen but act: C1 controls, bidirectional controls, zero-width and other
/// format characters, separators, tags, noncharacters. Joiners are among them: that costs compound
/// emoji their shape and gains that no two names look alike and differ.
pub(crate) fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{fdd0}'..='\u{fdef}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{10ffff}')
        || u32::from(c) & 0xfffe == 0xfffe
}

/// Columns that `text` takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// `text` in at most `columns` columns, an ellipsis standing for what was left out.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let next = c.width().unwrap_or(0);
        if used + next + 1 > columns {
            break;
        }
        used += next;
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// `text` in lines of at most `columns` columns, broken at spaces where there are any.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let mut lines = Vec::new();
    let mut current = String::new();
    for word in text.split(' ') {
        let room = columns.saturating_sub(width(&current));
        if !current.is_empty() && width(word) < room {
            current.push(' ');
            current.push_str(word);
            continue;
        }
        if !current.is_empty() {
            lines.push(std::mem::take(&mut current));
        }
        for c in word.chars() {
            if width(&current) + c.width().unwrap_or(0) > columns {
                lines.push(std::mem::take(&mut current));
            }
            current.push(c);
        }
    }
    if !current.is_empty() || lines.is_empty() {
        lines.push(current);
    }
    lines
}

/// `1 request`, `2 requests`.
pub(super) fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The same with thousands set apart.
pub(super) fn plural_count(count: u64, one: &str, many: &str) -> String {
    let shown = super::figures::count(count);
    format!("{shown} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_made_visible() {
        assert_eq!(line("a\x1b[31mred\x07\r\n"), "a␛[31mred␇␍␊");
        assert_eq!(line("x\u{9b}31m"), "x⟨U+009B⟩31m");
        assert_eq!(line("user\u{202e}txt.exe"), "user⟨U+202E⟩txt.exe");
        assert_eq!(
            line("a\u{200b}b\u{feff}\u{e0041}"),
            "a⟨U+200B⟩b⟨U+FEFF⟩⟨U+E0041⟩"
        );
        assert_eq!(line("\u{ffff}\u{1fffe}"), "⟨U+FFFF⟩⟨U+1FFFE⟩");
        assert_eq!(
            line("naïve 日本語 café e\u{301}"),
            "naïve 日本語 café e\u{301}"
        );
    }

    #[test]
    fn marks_do_not_pile_up() {
        let zalgo = format!("z{}", "\u{301}".repeat(7));
        assert_eq!(line(&zalgo).matches("⟨U+0301⟩").count(), 3);
    }

    #[test]
    fn what_is_cut_is_said_and_characters_stay_whole() {
        let long = "é".repeat(1_500);
        let shown = line(&long);
        assert!(shown.ends_with("… (1000 bytes cut)"), "{shown}");
        assert_eq!(safe("aé", 2), "a… (2 bytes cut)");
    }

    #[test]
    fn fitting_counts_columns_not_characters() {
        assert_eq!(fit("日本語", 6), "日本語");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn wrapping_breaks_at_spaces_and_within_endless_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 10), [""]);
        for line in wrap("日本語 and 0123456789012345 words", 9) {
            assert!(width(&line) <= 9, "{line}");
        }
    }
}
