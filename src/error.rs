//! What can go wrong, with the exit code it ends in and what the user can do about it.

use std::fmt;

use crate::text::harmless;

/// Exit codes scripts can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// A check failed, or a comparison's verdict is "slower".
    CheckFailed = 1,
    /// Wrong usage, bad input, or a place that cannot be written to.
    BadInput = 2,
    /// The statistics allow no verdict.
    Inconclusive = 3,
    /// The device cannot run it: no driver, out of memory, lost.
    Device = 4,
    /// A result is not to be believed: failed verification, or a point above its measured roof.
    Invalid = 5,
    /// Ctrl-C (SIGINT); what was measured is kept.
    Interrupted = 130,
    /// SIGTERM; what was measured is kept.
    Terminated = 143,
}

/// An error with its exit code. Printed as `error: what. hint: what to do`.
#[derive(Debug, Clone)]
pub struct Failure {
    /// How the process ends.
    pub code: Code,
    /// What went wrong and where.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Result of everything that can fail with a [`Failure`].
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure of the given code.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Failure { code, what: what.into(), hint: None }
    }

    /// Wrong usage or bad input (exit 2).
    pub fn input(what: impl Into<String>) -> Self {
        Self::new(Code::BadInput, what)
    }

    /// The device cannot do it (exit 4).
    pub fn device(what: impl Into<String>) -> Self {
        Self::new(Code::Device, what)
    }

    /// The result is not to be believed (exit 5).
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::new(Code::Invalid, what)
    }

    /// A TOML text that does not parse: the message with the line it is on.
    pub fn toml(text: &str, error: &toml::de::Error) -> Self {
        let line =
            error.span().and_then(|span| text.get(..span.start)).map(|before| before.split('\n').count());
        Self::input(match line {
            Some(line) => format!("line {line}: {}", error.message()),
            None => error.message().to_string(),
        })
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts the place (usually a file's path) in front of what went wrong.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", one_line(&self.what).trim_end_matches('.'))?;
        if let Some(hint) = &self.hint {
            write!(f, ". hint: {}", one_line(hint))?;
        }
        Ok(())
    }
}

/// Most characters of what went wrong, and of a hint.
const MOST: usize = 800;

/// One line for a terminal, whatever a file or a parser put into the message: whitespace becomes single spaces,
/// characters that control the terminal are spelled out, and what is too long loses its middle.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = harmless(&words);
    let length = line.chars().count();
    if length <= MOST {
        return line.into_owned();
    }
    let (head, tail) = (MOST * 3 / 4, MOST / 4);
    line.chars().take(head).chain(" ... ".chars()).chain(line.chars().skip(length - tail)).collect()
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_bounded_length_whatever_it_quotes() {
        let failure = Failure::input("a\u{1b}[31m\r\n b\u{2028}c\u{202e}d.").hint("x\ny\0");
        assert_eq!(failure.to_string(), "a\\u001b[31m b c\\u202ed. hint: x y\\u0000");
        let long = Failure::input(format!("begin {} end", "é".repeat(1 << 20))).to_string();
        assert!(long.starts_with("begin é") && long.ends_with("é end") && long.chars().count() < 900);
    }
}
