//! Where a command's result goes: stdout in one format, and the files of `--export`.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use crate::cli::OutputArgs;
use crate::error::{Failure, Result};
use crate::export::{Format, file};
use crate::text::harmless;

/// The places a result is written to, checked before the work begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// Format on stdout.
    pub format: Format,
    files: Vec<(PathBuf, Format)>,
}

impl Destination {
    /// The places that these arguments name.
    ///
    /// # Errors
    /// A file whose ending names no format, or that cannot be written.
    pub fn of(args: &OutputArgs) -> Result<Destination> {
        let mut files = Vec::new();
        // `-` is stdout, which gets the result anyway.
        for path in args.export.iter().filter(|path| path.as_os_str() != "-") {
            let format = file::format_of(path)?;
            file::check_writable(path)?;
            files.push((path.clone(), format));
        }
        Ok(Destination { format: args.output, files })
    }

    /// Writes the files and stdout. Nothing is written if one format fails; a place that cannot be written to keeps
    /// the result from none of the others.
    ///
    /// # Errors
    /// From `render`, or of the first place that cannot be written to after all.
    pub fn write(&self, render: impl Fn(Format) -> Result<String>) -> Result<()> {
        let printed = render(self.format)?;
        self.write_with(&printed, render)
    }

    /// The same with something else on stdout.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_with(&self, printed: &str, render: impl Fn(Format) -> Result<String>) -> Result<()> {
        let files: Vec<_> =
            self.files.iter().map(|(path, format)| Ok((path, render(*format)?))).collect::<Result<_>>()?;
        let mut places: Vec<Result<()>> =
            files.into_iter().map(|(path, text)| file::write_atomic(path, text.as_bytes())).collect();
        places.push(print(printed));
        places.into_iter().collect()
    }
}

/// Prints data on stdout. What steers a terminal is spelled out, here and in [`say`], for whatever the data are.
///
/// # Errors
/// As [`printed`].
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    printed(stdout.write_all(harmless(text).as_bytes()).and_then(|()| stdout.flush()))
}

/// What became of printing on stdout. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// Stdout cannot be written to, for instance because its disk is full.
pub fn printed(ended: io::Result<()>) -> Result<()> {
    match ended {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::input(format!("stdout: {e}")).hint("send stdout somewhere that can be written"))
        }
        _ => Ok(()),
    }
}

/// Says something on stderr. Where that cannot be written to, nobody listens: the work goes on.
pub fn say(what: impl Display) {
    let _ = writeln!(io::stderr(), "{}", harmless(&what.to_string()));
}
