//! What is wrong with a command line, in one line like every other error.

use std::env;
use std::ffi::OsStr;

use clap::error::ErrorKind;

use crate::error::Failure;

/// clap's paragraphs in one line: the first is what is wrong, and its `tip:` the hint. Which arguments and variables
/// are not UTF-8 clap does not say.
pub fn wrong(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::InvalidUtf8
        && let Some(failure) = not_utf8()
    {
        return failure;
    }
    let rendered = error.render().to_string();
    let mut paragraphs = rendered.split("\n\n").map(str::trim);
    let what = paragraphs.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let tip = paragraphs.find_map(|text| text.strip_prefix("tip: ")).map(str::to_owned);
    Failure::input(what).hint(tip.unwrap_or_else(|| "`llmroof help COMMAND` shows the options".into()))
}

/// The first argument, or else variable of this program, that is not UTF-8.
fn not_utf8() -> Option<Failure> {
    let broken = |text: &OsStr| text.to_str().is_none();
    if let Some(argument) = env::args_os().skip(1).find(|argument| broken(argument)) {
        return Some(
            Failure::input(format!("the argument \"{}\" is not UTF-8 text", argument.display()))
                .hint("only the names of files may be something else"),
        );
    }
    let ours = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("LLMROOF_"));
    let (name, _) = env::vars_os().find(|(name, value)| ours(name) && broken(value))?;
    Some(
        Failure::input(format!("the variable {} is not UTF-8 text", name.display()))
            .hint("set it anew, or unset it"),
    )
}
