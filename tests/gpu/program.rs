//! Runs the program, and looks at what it leaves.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use llmroof::run::{Point, Run};
use llmroof::workload::Phase;

use crate::fake::FakeDriver;

/// Longer than this nothing here takes: it hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// The golden checkpoints.
pub const GOLDEN: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny-tied-hd64"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny-gqa-hd128"),
];

/// How a program ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// The one line that says why it failed. Beside it there is nothing on stderr but where the run file is.
    pub fn error(&self) -> &str {
        let lines: Vec<&str> = self.err.lines().filter(|line| !line.starts_with("run file: ")).collect();
        assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{}", self.err);
        lines[0].trim_start_matches("error: ")
    }

    /// Asserts that it did what it was asked.
    #[track_caller]
    pub fn well(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self
    }
}

/// A program that runs.
pub struct Running {
    pub child: Child,
    out: std::fs::File,
    err: std::fs::File,
    began: Instant,
}

/// Starts a program. What it prints goes to files: a pipe that nobody reads would stop it.
pub fn start(command: &mut Command) -> Running {
    let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    Running { child: command.spawn().unwrap(), out, err, began: Instant::now() }
}

impl Running {
    /// Waits for its end; one that hangs is killed and fails the test.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if self.began.elapsed() > PATIENCE => {
                    self.child.kill().unwrap();
                    self.child.wait().unwrap();
                    panic!("it hangs: {}", text(self.err));
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let ended = Ended { code: status.code(), out: text(self.out), err: text(self.err) };
        assert!(!ended.err.contains("panicked") && !ended.out.contains("panicked"), "{}", ended.err);
        ended
    }
}

fn text(mut file: std::fs::File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Runs the program to its end.
#[track_caller]
pub fn llmroof(fake: &FakeDriver, arguments: &[&str]) -> Ended {
    start(&mut fake.llmroof(arguments)).end()
}

/// `measure` of a small model: two batches, few tokens. The budget is not used up: samples are soon enough.
pub fn measuring(fake: &FakeDriver, reports: &Path, more: &[&str]) -> Command {
    let mut all = vec!["measure", "--reports", reports.to_str().unwrap(), "--checkpoint", GOLDEN[0]];
    for (option, value) in [
        ("--device", "cuda:0"),
        ("--prompt", "20"),
        ("--generate", "10"),
        ("--batch", "1,2"),
        ("--budget", "12s"),
    ] {
        if !more.contains(&option) {
            all.extend([option, value]);
        }
    }
    fake.llmroof(&[&all, more].concat())
}

/// [`measuring`], to its end.
#[track_caller]
pub fn measure(fake: &FakeDriver, reports: &Path, more: &[&str]) -> Ended {
    start(&mut measuring(fake, reports, more)).end()
}

/// A fake that computes every graph once and takes long for it by its own clock, so that samples are few. On a whole
/// card the ceilings' buffers go beyond the memory that is more than reserved, so that after the verification nothing
/// computes at all; on the slice `mig` they do not.
pub fn quick(gpus: &str) -> FakeDriver {
    FakeDriver::new().gpus(gpus).set("FAKE_DRIVER_EXECUTE", 1).set("FAKE_DRIVER_SLOWDOWN", 50)
}

/// The files of a folder, the oldest first.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The run files of a folder. Each keeps to the published schema.
pub fn runs(folder: &Path) -> Vec<Run> {
    let schema = include_str!("../../schema/run.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        jsonschema::validate(&schema, &serde_json::from_str(&text).unwrap()).unwrap();
        Run::from_json(&text).unwrap()
    };
    files(folder).into_iter().map(read).collect()
}

/// The one run of a folder.
#[track_caller]
pub fn run(folder: &Path) -> Run {
    let mut all = runs(folder);
    assert_eq!(all.len(), 1, "run files");
    all.remove(0)
}

/// Whole steps.
pub fn steps(run: &Run) -> impl Iterator<Item = &Point> {
    run.points.iter().filter(|point| point.stage.is_none())
}

/// One of them.
#[track_caller]
pub fn step(run: &Run, phase: Phase, batch: u32) -> &Point {
    steps(run).find(|point| point.phase == phase && point.batch == batch).expect("it was measured")
}

/// Whether one of the notes has all these words.
pub fn noted(notes: &[String], words: &[&str]) -> bool {
    notes.iter().any(|note| words.iter().all(|word| note.contains(word)))
}

/// Does something with each case, a few at a time: most of them wait.
pub fn each<T: Send>(cases: Vec<T>, work: impl Fn(T) + Sync) {
    let waiting = Mutex::new(cases.into_iter());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().next();
                    match next {
                        Some(case) => work(case),
                        None => return,
                    }
                }
            });
        }
    });
}
