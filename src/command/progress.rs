//! What a measurement shows while it runs, keeps as it goes, and how signals end it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::again::Again;
use super::output::say;
use super::signals::Signals;
use crate::error::{Code, Failure, Result};
use crate::export::file;
use crate::measure::Observer;
use crate::run::Run;
use crate::text::line;

/// What is said of the first point that could not be kept.
const GOES_ON: &str = "measuring goes on, and every point tries again";

/// A bar on stderr and a run file that grows with every point.
pub struct Progress {
    bar: ProgressBar,
    budget: Duration,
    folder: PathBuf,
    path: Option<PathBuf>,
    /// The lock on the run file: nobody else goes on with it meanwhile.
    lock: Option<File>,
    /// The user has been told that a point could not be kept.
    warned: bool,
    signals: Signals,
}

impl Progress {
    /// Run files go to `folder`; `shown` draws a bar where stderr is a terminal.
    ///
    /// # Errors
    /// The folder cannot be made or written to, or signals cannot be caught.
    pub fn new(folder: &Path, shown: bool) -> Result<Progress> {
        std::fs::create_dir_all(folder).map_err(|e| {
            Failure::input(format!("{}: {e}", folder.display()))
                .hint("give --reports a folder you may write to")
        })?;
        // From here on there may be something in the folder: a signal does not end the process halfway.
        let signals = Signals::catch()?;
        file::check_writable(&folder.join("run.json"))?;
        Ok(Progress {
            bar: bar(shown),
            budget: Duration::ZERO,
            folder: folder.to_path_buf(),
            path: None,
            lock: None,
            warned: false,
            signals,
        })
    }

    /// Begins with a device that may take so long, and with a run file of its own.
    pub fn begin(&mut self, budget: Duration) {
        (self.budget, self.path, self.lock, self.warned) = (budget, None, None, false);
        self.bar.reset();
        self.bar.set_length(budget.as_millis() as u64);
    }

    /// Goes on with a run file that is there.
    ///
    /// # Errors
    /// The lock on it cannot be shared.
    pub fn go_on(&mut self, again: &Again) -> Result<()> {
        let lock = again.lock.try_clone();
        let lock = lock.map_err(|e| Failure::input(format!("{}: {e}", again.path.display())))?;
        (self.path, self.lock) = (Some(again.path.clone()), Some(lock));
        Ok(())
    }

    /// Writes the run to its file. Once this has returned, the run survives whatever happens to the process.
    ///
    /// # Errors
    /// The file cannot be written; what it held before is still there.
    fn keep(&mut self, run: &Run) -> Result<&Path> {
        let path = self.path.get_or_insert_with(|| file::free(&self.folder, &file::run_file_name(run)));
        match file::write_locked(path, run.to_json()?.as_bytes()) {
            Ok(lock) => self.lock = Some(lock),
            Err(failure) => {
                // What fails at the very end has put a new file in the place of the locked one.
                self.lock = file::lock(path).ok().or(self.lock.take());
                return Err(failure);
            }
        }
        Ok(path)
    }

    /// Writes the whole run, and says where it is.
    ///
    /// # Errors
    /// The file cannot be written: it has what could be kept until then, if anything.
    pub fn finish(&mut self, run: &Run) -> Result<()> {
        match self.keep(run) {
            Ok(path) => say(format_args!("run file: {}", path.display())),
            Err(failure) => {
                return Err(match (&self.lock, &self.path) {
                    (Some(_), Some(path)) => failure.hint(format!(
                        "it has what was measured before; once it can be written, `llmroof measure --resume {}` \
                         measures the rest",
                        path.display()
                    )),
                    _ => failure,
                });
            }
        }
        Ok(())
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Progress {
    fn doing(&mut self, what: &str, left: Duration) {
        self.bar.set_position(self.budget.saturating_sub(left).as_millis() as u64);
        self.bar.set_message(format!("{:>3.0} s left  {}", left.as_secs_f64(), line(what)));
    }

    /// A file that cannot be written does not end the measurement: there may be room again before it is over, and the
    /// result goes to stdout in any case.
    fn measured(&mut self, run: &Run) -> Result<()> {
        let kept = self.keep(run).map(|_| ());
        if let Err(failure) = kept.map_err(|failure| failure.hint(GOES_ON))
            && !std::mem::replace(&mut self.warned, true)
        {
            self.bar.suspend(|| say(failure));
        }
        Ok(())
    }

    fn interrupted(&self) -> Option<Code> {
        self.signals.caught()
    }
}

/// A bar on stderr; invisible where that is no terminal, or if it is not to be shown.
pub fn bar(shown: bool) -> ProgressBar {
    // No ticking thread: it would take time from the threads that are measured.
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(1), target);
    if let Ok(style) = ProgressStyle::with_template("[{bar:24}] {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
