//! Where a command's result goes: stdout in one format, and the files of `--export`.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use crate::cli::OutputArgs;
use crate::error::{Failure, Result};
use crate::export::{Format, file};

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

    /// Writes the files, then stdout. Nothing is written if one format fails.
    ///
    /// # Errors
    /// From `render`, or of a file that cannot be written after all.
    pub fn write(&self, render: impl Fn(Format) -> Result<String>) -> Result<()> {
        let printed = render(self.format)?;
        self.write_with(&printed, render)
    }

    /// Writes the files, then something else on stdout. Nothing is written if one format fails.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_with(&self, printed: &str, render: impl Fn(Format) -> Result<String>) -> Result<()> {
        let files: Vec<_> =
            self.files.iter().map(|(path, format)| Ok((path, render(*format)?))).collect::<Result<_>>()?;
        for (path, text) in files {
            file::write_atomic(path, text.as_bytes())?;
        }
        print(printed)
    }
}

/// Prints data on stdout. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// Stdout cannot be written to, for instance because its disk is full.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::input(format!("stdout: {e}")).hint("send stdout somewhere that can be written"))
        }
        _ => Ok(()),
    }
}
