//! Strings in the picture: what may stand in XML, how wide it is at most, and how it is cut and wrapped.

use crate::text::unseen;

/// The text without what XML forbids or what would reorder the rest: control characters, non-characters,
/// and the marks that override the writing direction. Tabs and line ends become spaces.
pub fn clean(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\t' | '\n' | '\r' => Some(' '),
            c if c.is_control() || (c as u32) & 0xfffe == 0xfffe => Some('\u{fffd}'),
            c if unseen(c) => None,
            c => Some(c),
        })
        .collect()
}

/// The text as it stands in XML, in content and in attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Width of the text at this font size. The table is that of DejaVu Sans, the widest of the common
/// sans-serif fonts, so whatever font is there needs no more.
pub fn width(text: &str, size: f64, bold: bool) -> f64 {
    let ems: f64 = text.chars().map(advance).sum();
    ems * size * if bold { 1.12 } else { 1.0 }
}

fn advance(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | 'I' | '\'' | '|' | ' ' | '.' | ',' | ':' | ';' | '/' | '\\' | '·' => 0.35,
        'f' | 't' | '-' | '(' | ')' | '[' | ']' | '!' => 0.41,
        'r' | '"' => 0.46,
        '_' | '–' | '*' | '°' => 0.52,
        'm' | 'M' | 'W' | '%' | '@' | '—' | '…' | '→' | '←' => 1.0,
        'w' | '+' | '=' | '<' | '>' | '~' | '#' | '×' | '&' => 0.84,
        'c' | 'k' | 's' | 'v' | 'x' | 'y' | 'z' => 0.6,
        'a'..='z' | '0'..='9' | '?' | '$' => 0.64,
        'A'..='Z' => 0.79,
        // Combining marks stand over the letter before.
        '\u{300}'..='\u{36f}' => 0.0,
        c if c < '\u{250}' => 0.84,
        _ => 1.1,
    }
}

/// The text, cut with an ellipsis where it is wider than `most`.
pub fn fit(text: &str, size: f64, bold: bool, most: f64) -> String {
    let text = clean(text);
    if width(&text, size, bold) <= most {
        return text;
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if width(&kept, size, bold) + width("…", size, bold) > most {
            kept.pop();
            break;
        }
    }
    kept.trim_end().to_string() + "…"
}

/// The text in lines no wider than `most`, at most `lines` of them; the last is cut where more would follow.
pub fn wrap(text: &str, size: f64, most: f64, lines: usize) -> Vec<String> {
    let text = clean(text);
    let mut out: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match out.last_mut() {
            Some(line)
                if width(line, size, false) + width(" ", size, false) + width(word, size, false) <= most =>
            {
                line.push(' ');
                line.push_str(word);
            }
            _ => out.push(word.to_string()),
        }
    }
    if out.len() > lines && lines > 0 {
        let rest = out.split_off(lines - 1).join(" ");
        out.push(rest);
    }
    out.iter().map(|line| fit(line, size, false, most)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_xml_forbids_gets_through() {
        assert_eq!(escape("a<b>&\"'\u{0}\u{1b}\n\u{202e}x"), "a&lt;b&gt;&amp;&quot;&#39;\u{fffd}\u{fffd} x");
    }

    #[test]
    fn cut_text_fits() {
        for text in ["short", "a rather long device name (TM)", "東京都千代田区の長い名前の装置"]
        {
            assert!(width(&fit(text, 12.0, true, 90.0), 12.0, true) <= 90.0, "{text}");
        }
        assert_eq!(fit("short", 12.0, false, 90.0), "short");
    }

    #[test]
    fn wrapped_text_keeps_its_words_and_its_limit() {
        assert_eq!(wrap("one two three", 10.0, 50.0, 9), ["one two", "three"]);
        let lines = wrap(&"word ".repeat(100), 10.0, 100.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('…') && lines.iter().all(|l| width(l, 10.0, false) <= 100.0));
    }
}
