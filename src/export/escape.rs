//! Texts of run files, which others wrote, as they may stand in Markdown.

use crate::text::line;

/// The text as Markdown that shows it: no table cell, tag, link, code or emphasis begins or ends in it.
pub(super) fn markdown(text: &str) -> String {
    let text = line(text);
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let special = match c {
            '\\' | '|' | '&' | '`' | '[' | ']' | '*' | '~' => true,
            // No tag begins with a digit: `<0.001`.
            '<' => !rest.peek().is_some_and(char::is_ascii_digit),
            // Within a word it is a letter: `gate_up`.
            '_' => !(before.is_alphanumeric() && rest.peek().is_some_and(|after| after.is_alphanumeric())),
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(c);
        before = c;
    }
    out
}

/// The same at the beginning of a line or of a list's item, where it would also begin a heading or a list.
pub(super) fn markdown_line(text: &str) -> String {
    let text = markdown(text.trim_start());
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    let apart = text.as_bytes().get(digits + 1).is_none_or(|after| *after == b' ');
    match text.as_bytes().get(digits) {
        Some(b'.' | b')') if digits > 0 && apart => format!("{}\\{}", &text[..digits], &text[digits..]),
        Some(b'#' | b'+' | b'-' | b'=' | b'>' | b':') if digits == 0 => format!("\\{text}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_shows_what_the_text_says() {
        for (text, wanted) in [
            ("gate_up 5%", "gate_up 5%"),
            ("a|b\n| c", "a\\|b \\| c"),
            ("<img src=x>", "\\<img src=x>"),
            ("![x](y) `z` _w_ **v**", "!\\[x\\](y) \\`z\\` \\_w\\_ \\*\\*v\\*\\*"),
            ("&lt;\\|\u{1b}[1m\u{202e}", "\\&lt;\\\\\\|\\\\u001b\\[1m\\\\u202e"),
        ] {
            assert_eq!(markdown(text), wanted);
        }
        for (text, wanted) in [("# a", "\\# a"), ("12. a", "12\\. a"), ("- a", "\\- a"), ("1.5 s", "1.5 s")] {
            assert_eq!(markdown_line(text), wanted);
        }
    }
}
