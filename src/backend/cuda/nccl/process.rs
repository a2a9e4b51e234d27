//! The process that joins GPUs: what it is asked, what it answers, and how long it is waited for.
//!
//! It is this program again, with a subcommand that is not shown. It says on stdout what it is about to do, a JSON object a line,
//! and at last the answer. A process that says nothing for as long as one piece of a GPU's work may take is killed.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::library::Nccl;
use super::ranks::{Ranks, Trouble};
use crate::backend::{OpenOptions, Reduce};
use crate::error::{Failure, Result};

/// The subcommand.
const SUBCOMMAND: &str = "all-reduces";
/// A wait for a GPU ends by itself, with a better word, before the one for the process does.
const GRACE: Duration = Duration::from_secs(1);
/// How often an ending process is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What the process is asked to time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// The GPUs by their numbers in the driver's order.
    pub ordinals: Vec<u32>,
    /// Longest wait for one piece of work.
    pub patience: Duration,
    /// All-reduces of which sizes.
    pub reduces: Vec<Reduce>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// Times, and what they are of.
    Timed {
        /// `NCCL 2.27.3`
        library: String,
        /// Seconds of one, of each that was asked for: a sample for each round.
        seconds: Vec<Vec<f64>>,
    },
    /// There are no times, for this reason.
    NotTimed(String),
    /// A GPU or NCCL does not answer any more.
    Hung(String),
}

/// One line of what the process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum News {
    Doing(String),
    Ended(Answer),
}

/// Starts the process and waits for its answer and its end.
pub(super) fn ask(request: &Request) -> Answer {
    let mut child = match start(request) {
        Ok(child) => child,
        Err(e) => return Answer::NotTimed(format!("no process could be started for it: {e}")),
    };
    let Some(stdout) = child.stdout.take() else {
        return Answer::NotTimed("its process has no output".into());
    };
    let answer = listen(&hear(stdout), request.patience);
    if matches!(answer, Answer::Hung(_)) || !ends(&mut child, request.patience) {
        // One that waits inside the driver may outlive even this: it is not waited for.
        drop(child.kill());
    }
    answer
}

fn start(request: &Request) -> std::io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(SUBCOMMAND).arg(serde_json::to_string(request)?).stdin(Stdio::null()).stdout(Stdio::piped());
    if env::var_os("NCCL_DEBUG").is_none() {
        command.stderr(Stdio::null());
    } else if env::var_os("NCCL_DEBUG_FILE").is_none() {
        // NCCL would say it on stdout.
        command.env("NCCL_DEBUG_FILE", "/dev/stderr");
    }
    #[cfg(target_os = "linux")]
    die_with_parent(&mut command);
    command.spawn()
}

/// Has the process killed when this one is.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only this system call is made, which allocates nothing.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// Reads what the process says as it comes. Lines that are no news, as libraries print them, are passed over.
fn hear(stdout: ChildStdout) -> Receiver<News> {
    let (tell, heard) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
            let Ok(news) = serde_json::from_str(&line) else { continue };
            if tell.send(news).is_err() {
                return;
            }
        }
    });
    heard
}

/// Waits for the answer, as long as there is news.
fn listen(heard: &Receiver<News>, patience: Duration) -> Answer {
    let mut doing = String::from("starting");
    loop {
        match heard.recv_timeout(patience + GRACE) {
            Ok(News::Doing(what)) => doing = what,
            Ok(News::Ended(answer)) => return answer,
            Err(RecvTimeoutError::Timeout) => {
                return Answer::Hung(format!(
                    "all-reduces among GPUs, {doing}: not finished within {} s",
                    patience.as_secs_f64()
                ));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Answer::NotTimed(format!("its process ended while {doing}"));
            }
        }
    }
}

/// Whether the process ends by itself.
fn ends(child: &mut Child, patience: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < patience {
        match child.try_wait() {
            Ok(None) => thread::sleep(LOOK),
            Ok(Some(_)) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// What the process does: answers a request, which is JSON, in lines for `tell`.
///
/// # Errors
/// It is no request, or nobody listens.
pub fn serve(request: &str, tell: &dyn Fn(&str) -> Result<()>) -> Result<()> {
    let request: Request = serde_json::from_str(request).map_err(|e| {
        Failure::input(format!("no request for all-reduces: {e}"))
            .hint("llmroof measure --tp makes them itself; this is no command for people")
    })?;
    let say = |news: News| {
        let line = serde_json::to_string(&news).map_err(|e| Failure::invalid(format!("the answer: {e}")))?;
        tell(&(line + "\n"))
    };
    // Where nobody listens, the answer at the end finds out.
    let answer = carry_out(&request, &|what| drop(say(News::Doing(what.into()))));
    say(News::Ended(answer))
}

/// Opens, checks, times and gives back.
fn carry_out(request: &Request, tell: &dyn Fn(&'static str)) -> Answer {
    tell("looking for NCCL");
    let nccl = match Nccl::open() {
        Ok(nccl) => nccl,
        Err(why) => return Answer::NotTimed(why),
    };
    let options = OpenOptions { patience: Some(request.patience), ..OpenOptions::default() };
    let mut ranks = match Ranks::open(&nccl, &request.ordinals, &options, &request.reduces, tell) {
        Ok(ranks) => ranks,
        Err(Trouble(why)) => return Answer::NotTimed(why),
    };
    let timed = ranks.check(tell).and_then(|()| {
        request.reduces.iter().map(|&reduce| ranks.time(reduce, tell)).collect::<std::result::Result<_, _>>()
    });
    let answer = match timed {
        Ok(seconds) => Answer::Timed { library: nccl.name(), seconds },
        Err(Trouble(why)) if ranks.hung() => Answer::Hung(why),
        Err(Trouble(why)) => Answer::NotTimed(why),
    };
    if matches!(answer, Answer::Hung(_)) {
        // Giving anything back would wait for the GPU.
        std::mem::forget(ranks);
    } else {
        tell("giving the GPUs back");
        drop(ranks);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Reduction;

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let request = Request {
            ordinals: vec![2, 0],
            patience: Duration::from_millis(1500),
            reduces: vec![Reduce { reduction: Reduction::Largest, bytes: 8 }],
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }

    #[test]
    fn silence_and_an_early_end_are_told_apart() {
        let (tell, heard) = mpsc::channel();
        tell.send(News::Doing("joining the GPUs".into())).unwrap();
        let Answer::Hung(what) = listen(&heard, Duration::ZERO) else { panic!() };
        assert!(what.contains("joining the GPUs: not finished within 0 s"), "{what}");
        drop(tell);
        let Answer::NotTimed(why) = listen(&heard, Duration::ZERO) else { panic!() };
        assert!(why.contains("ended while starting"), "{why}");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in ["", "{}", "[1]", r#"{"ordinals":[0],"patience":1,"reduces":[]}"#] {
            let failure = serve(text, &|_| panic!("nothing is said")).unwrap_err();
            assert!(failure.hint.is_some(), "{text}");
        }
    }
}
