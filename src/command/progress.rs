//! What a measurement shows while it runs, keeps as it goes, and how signals end it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::again::Again;
use crate::error::{Code, Failure, Result};
use crate::export::file;
use crate::measure::Observer;
use crate::run::Run;

/// A bar on stderr and a run file that grows with every point.
pub struct Progress {
    bar: ProgressBar,
    budget: Duration,
    folder: PathBuf,
    path: Option<PathBuf>,
    /// The lock on the run file: nobody else goes on with it meanwhile.
    lock: Option<File>,
    signal: Arc<AtomicUsize>,
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
        file::check_writable(&folder.join("run.json"))?;
        // No ticking thread: it would take time from the threads that are measured.
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        if let Ok(style) = ProgressStyle::with_template("[{bar:24}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        let signal = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            let caught = |e| Failure::device(format!("signal {number} cannot be caught: {e}"));
            // A second signal ends the process at once, as if none were caught.
            flag::register_conditional_default(number, Arc::clone(&again))
                .and_then(|_| flag::register(number, Arc::clone(&again)))
                .and_then(|_| flag::register_usize(number, Arc::clone(&signal), number as usize))
                .map_err(caught)?;
        }
        Ok(Progress {
            bar,
            budget: Duration::ZERO,
            folder: folder.to_path_buf(),
            path: None,
            lock: None,
            signal,
        })
    }

    /// Begins with a device that may take so long, and with a run file of its own.
    pub fn begin(&mut self, budget: Duration) {
        (self.budget, self.path, self.lock) = (budget, None, None);
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

    /// Writes the run to its file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&mut self, run: &Run) -> Result<&Path> {
        let path = self.path.get_or_insert_with(|| self.folder.join(file::run_file_name(run)));
        self.lock = Some(file::write_locked(path, run.to_json()?.as_bytes())?);
        Ok(path)
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Progress {
    fn doing(&mut self, what: &str, left: Duration) {
        self.bar.set_position(self.budget.saturating_sub(left).as_millis() as u64);
        self.bar.set_message(format!("{:>3.0} s left  {what}", left.as_secs_f64()));
    }

    fn measured(&mut self, run: &Run) -> Result<()> {
        self.keep(run).map(|_| ())
    }

    fn interrupted(&self) -> Option<Code> {
        match self.signal.load(Ordering::Relaxed) as i32 {
            SIGINT => Some(Code::Interrupted),
            SIGTERM => Some(Code::Terminated),
            _ => None,
        }
    }
}
