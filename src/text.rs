//! Texts out of files and from devices, where people read them: a name may hold what steers a terminal.

use std::borrow::Cow;

/// Whether a character is not seen: it controls the terminal, or is a mark that has no width or turns the direction of
/// what follows, which would show another text than the one that is there.
pub fn unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text with what is not seen spelled out, other than ends of lines and tabs. The spelling is that of JSON, where
/// such characters stand within strings alone: a JSON text stays the same one.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let steers = |c: char| unseen(c) && !matches!(c, '\n' | '\t');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut spelled = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match steers(c) {
            true => spelled.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => spelled.push(c),
        }
    }
    Cow::Owned(spelled)
}

/// The text as a part of one line: ends of lines and tabs become spaces, the rest is [`harmless`].
pub fn line(text: &str) -> String {
    harmless(&text.replace(|c: char| c.is_whitespace() && unseen(c), " ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_spelled_out_and_the_rest_stays() {
        let hostile = "\u{1b}[2Jred\u{7}\u{9b}31m\r\u{202e}x\u{7f}\n\té 東";
        assert_eq!(harmless(hostile), "\\u001b[2Jred\\u0007\\u009b31m\\u000d\\u202ex\\u007f\n\té 東");
        assert_eq!(line("  a\r\nb\tc\u{2028}d\0"), "  a  b c d\\u0000");
        assert!(matches!(harmless("plain × text\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_json_text_stays_the_same_one() {
        let value = serde_json::json!({ "na\u{9b}me": "\u{1b}\u{7f}\u{202e}\"\\\u{feff}\n" });
        let spelled = harmless(&value.to_string()).into_owned();
        assert!(!spelled.contains(unseen));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&spelled).unwrap(), value);
    }
}
