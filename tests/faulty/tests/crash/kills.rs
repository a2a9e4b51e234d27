//! kill -9 at random moments.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use llmroof::run::{Run, RunStatus};

use super::{TRIALS, acknowledged, done, files, has_trials, measure, only_run, read, resume, samples};

const KILLS: u64 = 200;
/// Eight decode steps: with their trials 24 points to be kept.
const BATCHES: &str = "1-8";
/// How many of those that left a temporary file are gone on with, besides every twentieth kill.
const GONE_ON_WITH: usize = 12;

/// What the 200 kills left.
#[derive(Debug, Default)]
struct Left {
    /// No run file yet.
    nothing: usize,
    /// A temporary file.
    temporary: usize,
    /// Runs that were completed.
    completed: usize,
}

#[test]
fn no_kill_leaves_half_a_file_or_takes_a_point_back() {
    // How long a run takes, to spread the moments over it.
    let folder = tempfile::tempdir().unwrap();
    let (reports, acknowledged) = (folder.path().join("runs"), folder.path().join("acknowledged"));
    let began = Instant::now();
    let mut child = start(&mut measure(&reports, BATCHES), &acknowledged);
    let first = first_point(&mut child, &acknowledged);
    assert!(child.wait().unwrap().success());
    let (all, first) = (began.elapsed(), first - began);
    let whole = read(&only_run(&reports));
    assert_eq!(whole.status, RunStatus::Complete);
    assert_eq!((whole.points.len(), samples(&whole)), (8 * 8, 8 * 8 * TRIALS));

    let (next, left) = (AtomicU64::new(0), Mutex::new(Left::default()));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= KILLS {
                        break;
                    }
                    one_kill(number, all, all - first, &left);
                }
            });
        }
    });
    let left = left.into_inner().unwrap();
    eprintln!("{KILLS} kills: {left:?}");
    assert!(left.completed >= GONE_ON_WITH.min(left.temporary), "{left:?}");
    assert!(left.nothing < KILLS as usize, "no kill came after the first point: {left:?}");
}

/// Kills a run, every tenth at any moment, the others after the first point; then checks what is there.
fn one_kill(number: u64, all: Duration, writing: Duration, left: &Mutex<Left>) {
    let folder = tempfile::tempdir().unwrap();
    let (reports, noted) = (folder.path().join("runs"), folder.path().join("acknowledged"));
    let anywhere = number.is_multiple_of(10);
    let mut delay = if anywhere { all } else { writing }.mul_f64(random(number));
    // One that was through before is no kill: earlier.
    loop {
        let mut child = start(&mut measure(&reports, BATCHES), &noted);
        if !anywhere {
            first_point(&mut child, &noted);
        }
        thread::sleep(delay);
        child.kill().unwrap();
        if !child.wait().unwrap().success() {
            break;
        }
        delay /= 2;
        fs::remove_dir_all(&reports).unwrap();
        let _ = fs::remove_file(&noted);
    }

    let runs: Vec<_> =
        files(&reports).into_iter().filter(|path| path.extension().unwrap() == "json").collect();
    assert!(runs.len() <= 1, "{runs:?}");
    let run = runs.first().map(|path| read(path));
    let has = run.as_ref().map_or((0, 0), |run| (run.points.len(), samples(run)));
    let said = acknowledged(&noted);
    assert!(
        has.0 >= said.0 && has.1 >= said.1,
        "kill {number}: {said:?} were acknowledged, {has:?} are there"
    );

    let temporary = files(&reports).len() > runs.len();
    let goes_on = {
        let mut left = left.lock().unwrap();
        left.nothing += usize::from(run.is_none());
        left.temporary += usize::from(temporary);
        let goes_on = number.is_multiple_of(20) || (temporary && left.temporary <= GONE_ON_WITH);
        left.completed += usize::from(goes_on);
        goes_on
    };
    if goes_on {
        completed(&reports, runs.first().map(|path| path.as_path()), run.as_ref());
    }
}

/// Has the run completed, or measured anew where there was none: all of it is there then, and nothing else.
fn completed(reports: &Path, path: Option<&Path>, before: Option<&Run>) {
    done(path.map_or_else(|| measure(reports, BATCHES), resume));
    let run = read(&only_run(reports));
    assert_eq!(run.status, RunStatus::Complete, "{:?}", run.notes);
    assert_eq!(run.points.len(), 8 * 8);
    assert!(has_trials(&run, TRIALS));
    for old in before.iter().flat_map(|before| &before.points) {
        let new = run.points.iter().find(|new| new.key() == old.key()).unwrap();
        assert!(new.seconds.samples.starts_with(&old.seconds.samples), "what was there stays there");
    }
}

/// Starts it; what it keeps is noted.
fn start(command: &mut Command, noted: &Path) -> Child {
    command.env("FAULTY_ACKNOWLEDGED", noted).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// When the first point was kept, or the process ended.
fn first_point(child: &mut Child, noted: &Path) -> Instant {
    while !noted.exists() && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    Instant::now()
}

/// From 0 to 1, the same for the same number: the finaliser of SplitMix64.
fn random(number: u64) -> f64 {
    let x = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) as f64 / u64::MAX as f64
}
