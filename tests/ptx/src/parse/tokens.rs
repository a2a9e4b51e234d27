//! Words and punctuation of a PTX text, with their lines.

use crate::{Fault, FaultKind};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Identifier, opcode with its modifiers, directive or number.
    Word,
    /// One character.
    Mark,
    /// A quoted text, without its quotes.
    Text,
}

/// A token and its line, counted from 1.
#[derive(Debug, Clone, Copy)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub line: usize,
}

impl Token<'_> {
    pub fn is(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

/// Splits a text; comments are dropped.
pub fn tokens(text: &str) -> Result<Vec<Token<'_>>, Fault> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'\n' => {
                line += 1;
                at += 1;
            }
            byte if byte.is_ascii_whitespace() || byte == 0 => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let Some(length) = text[at..].find("*/") else {
                    return Err(unknown(line, "comment without an end"));
                };
                line += text[at..at + length].matches('\n').count();
                at += length + 2;
            }
            b'"' => {
                let Some(length) = text[at + 1..].find('"') else {
                    return Err(unknown(line, "text without an end"));
                };
                found.push(Token { kind: Kind::Text, text: &text[at + 1..at + 1 + length], line });
                at += length + 2;
            }
            byte if in_word(byte) => {
                loop {
                    while at < bytes.len() && in_word(bytes[at]) {
                        at += 1;
                    }
                    if text[at..].starts_with("::") {
                        at += 2;
                    } else {
                        break;
                    }
                }
                found.push(Token { kind: Kind::Word, text: &text[start..at], line });
            }
            byte if byte.is_ascii() => {
                at += 1;
                found.push(Token { kind: Kind::Mark, text: &text[start..at], line });
            }
            _ => return Err(unknown(line, "a character that is not ASCII")),
        }
    }
    Ok(found)
}

/// A fault of the text.
pub fn unknown(line: usize, what: &str) -> Fault {
    Fault { kind: FaultKind::Unknown, line, message: format!("PTX line {line}: unknown: {what}") }
}
