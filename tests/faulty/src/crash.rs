//! Moments at which the process ends, a signal comes or a file cannot be written.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use llmroof::export::steps::{self, Step};
use llmroof::run::Run;
use signal_hook::consts::{SIGINT, SIGKILL, SIGSTOP, SIGTERM};
use signal_hook::low_level::raise;

/// The variables that are read here.
pub(crate) const VARIABLES: [&str; 3] = ["FAULTY_AT", "FAULTY_ACKNOWLEDGED", "FAULTY_IDLE"];

/// What happens at which moments of this process.
#[derive(Debug, Default)]
pub struct Crash {
    at: Vec<At>,
    acknowledged: Option<String>,
}

static ARMED: OnceLock<Crash> = OnceLock::new();

/// Something happens after a moment.
#[derive(Debug)]
struct At {
    what: What,
    moment: Moment,
    /// How often the moment passes before.
    from: u64,
    /// Every time from then on.
    on: bool,
    passed: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Signal(i32),
    /// The operating system says this number.
    Error(i32),
}

/// A moment of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The weights are being put in place.
    Load,
    /// A pass is being sampled.
    Sample,
    /// A step of writing a file is done.
    Wrote(Step),
}

impl Crash {
    /// Those of this process.
    ///
    /// # Panics
    /// A value that is not known.
    pub fn of_environment() -> Crash {
        let at = env::var("FAULTY_AT").ok();
        let at = at.iter().flat_map(|all| all.split(','));
        Crash {
            at: at
                .map(|one| At::parse(one).unwrap_or_else(|| panic!("FAULTY_AT={one} is no fault")))
                .collect(),
            acknowledged: env::var("FAULTY_ACKNOWLEDGED").ok(),
        }
    }

    /// From now on it happens.
    pub fn arm(self) {
        let crash = ARMED.get_or_init(|| self);
        steps::watch(Box::new(|step, _, bytes| {
            passed(Moment::Wrote(step))?;
            match &crash.acknowledged {
                Some(path) if step == Step::FolderSynced => acknowledge(Path::new(path), bytes),
                _ => Ok(()),
            }
        }));
    }
}

/// A moment has come.
pub(crate) fn passed(moment: Moment) -> io::Result<()> {
    let Some(crash) = ARMED.get() else { return Ok(()) };
    crash.at.iter().filter(|at| at.moment == moment).try_for_each(At::happen)
}

impl At {
    fn happen(&self) -> io::Result<()> {
        let passed = self.passed.fetch_add(1, Ordering::Relaxed);
        if passed != self.from && !(self.on && passed > self.from) {
            return Ok(());
        }
        match self.what {
            What::Signal(signal) => raise(signal),
            What::Error(number) => Err(io::Error::from_raw_os_error(number)),
        }
    }

    /// `kill:half@3`, `enospc:written@0-`
    fn parse(text: &str) -> Option<At> {
        let (what, when) = text.split_once(':')?;
        let (moment, from) = when.split_once('@').unwrap_or((when, "0"));
        let (from, on) = from.strip_suffix('-').map_or((from, false), |from| (from, true));
        let what = match what {
            "kill" => What::Signal(SIGKILL),
            "stop" => What::Signal(SIGSTOP),
            "int" => What::Signal(SIGINT),
            "term" => What::Signal(SIGTERM),
            "eio" => What::Error(5),
            "enospc" => What::Error(28),
            _ => return None,
        };
        let moment = match moment {
            "load" => Moment::Load,
            "sample" => Moment::Sample,
            "created" => Moment::Wrote(Step::Created),
            "half" => Moment::Wrote(Step::Half),
            "written" => Moment::Wrote(Step::Written),
            "permissions" => Moment::Wrote(Step::Permissions),
            "synced" => Moment::Wrote(Step::Synced),
            "renamed" => Moment::Wrote(Step::Renamed),
            "folder-synced" => Moment::Wrote(Step::FolderSynced),
            _ => return None,
        };
        Some(At { what, moment, from: from.parse().ok()?, on, passed: AtomicU64::new(0) })
    }
}

/// Notes that a run file is written, and how much is in it: `points samples`.
fn acknowledge(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(run) = std::str::from_utf8(bytes).ok().and_then(|text| Run::from_json(text).ok()) else {
        return Ok(());
    };
    let samples: usize = run.points.iter().map(|point| point.seconds.samples.len()).sum();
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    // In one piece: a kill leaves the whole line or nothing.
    file.write_all(format!("{} {samples}\n", run.points.len()).as_bytes())
}
