//! Runs a check on many damaged inputs, and holds every case against the same bounds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use llmroof::error::{Code, Result as Answer};

use super::allocations;
use super::random::Random;

/// Damaged inputs of each parser.
pub const CASES: u64 = 20_000;

/// Inputs have some kilobytes, rarely some hundreds: whoever takes this much believed what a damaged file said.
pub const LARGEST: usize = 8 << 20;
/// And all of it together.
const MOST: isize = 32 << 20;
/// Most characters of a message.
const LONGEST: usize = 2_000;
/// A case takes far less than a millisecond; whoever takes so long never ends.
const STUCK: Duration = Duration::from_secs(60);

/// Whether the input was accepted, or what is wrong with the answer.
pub type Verdict = Result<bool, String>;

/// The answer's value, or `None` where it is one line of bad input.
pub fn answered<T>(answer: Answer<T>) -> Result<Option<T>, String> {
    let failure = match answer {
        Ok(value) => return Ok(Some(value)),
        Err(failure) => failure,
    };
    let message = failure.to_string();
    let wrong = if failure.code != Code::BadInput {
        "not bad input"
    } else if message.lines().count() != 1 || message.chars().any(char::is_control) {
        "not one line"
    } else if message.chars().count() > LONGEST {
        "too long"
    } else if failure.hint.is_none() {
        "no hint"
    } else {
        return Ok(None);
    };
    Err(format!("{wrong}: {message:?}"))
}

/// Checks [`CASES`] inputs that `make` damages. Some must be accepted and some refused, or the test shows nothing.
pub fn each<Input: AsRef<[u8]>>(
    test: &str,
    make: impl Fn(&mut Random) -> Input,
    check: impl Fn(&Input) -> Verdict,
) {
    let now = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let accepted = thread::scope(|scope| {
        scope.spawn(|| watch(test, &now, &done));
        let all = catch_unwind(AssertUnwindSafe(|| {
            let mut accepted = 0;
            for case in 0..CASES {
                now.store(case, Ordering::Relaxed);
                let input = make(&mut Random::of(test, case));
                match one(&input, &check) {
                    Ok(value) => accepted += u64::from(value),
                    Err(what) => panic!("{test}, case {case}: {what}\ninput: {}", shown(input.as_ref())),
                }
            }
            accepted
        }));
        done.store(true, Ordering::Relaxed);
        all.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    println!("{test}: {accepted} of {CASES} accepted");
    assert!(accepted > CASES / 100 && accepted < CASES * 99 / 100, "{test}: {accepted} of {CASES} accepted");
}

fn one<Input>(input: &Input, check: &impl Fn(&Input) -> Verdict) -> Verdict {
    allocations::begin();
    let verdict =
        catch_unwind(AssertUnwindSafe(|| check(input))).unwrap_or_else(|_| Err("panicked".into()))?;
    let taken = allocations::taken();
    if taken.largest > LARGEST || taken.most > MOST {
        return Err(format!("{} bytes at one time, {} of them at once", taken.most, taken.largest));
    }
    Ok(verdict)
}

/// Ends the tests if a case does not end: a test that hangs would not say which.
fn watch(test: &str, now: &AtomicU64, done: &AtomicBool) {
    const STEP: Duration = Duration::from_millis(50);
    let (mut case, mut waited) = (u64::MAX, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        thread::sleep(STEP);
        let at = now.load(Ordering::Relaxed);
        waited = if at == case { waited + STEP } else { Duration::ZERO };
        case = at;
        if waited > STUCK {
            eprintln!("{test}, case {case}: does not end");
            std::process::abort();
        }
    }
}

/// The input as it can be pasted into a test.
fn shown(input: &[u8]) -> String {
    let text: String = input.iter().take(4_000).map(|&byte| byte.escape_ascii().to_string()).collect();
    let rest = input.len().saturating_sub(4_000);
    if rest == 0 { text } else { format!("{text}... and {rest} bytes") }
}
