//! SIGINT and SIGTERM while loading, sampling and writing, once and twice.

use std::os::unix::process::ExitStatusExt;

use llmroof::run::RunStatus;

use super::{TRIALS, done, files, has_trials, measure, only_run, read, resume, text};

#[test]
fn a_signal_keeps_what_was_measured() {
    for (signal, code) in [("int", 130), ("term", 143)] {
        // The moment, and the passes that have points then.
        for (moment, passes) in [
            ("load", 0),
            ("load@1", 2),
            ("sample@4", 2),
            ("created", 1),
            ("half@1", 2),
            ("synced@2", 2),
            ("renamed", 1),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let at = format!("{signal}:{moment}");
            let out = measure(folder.path(), "1,2").env("FAULTY_AT", &at).output().unwrap();
            let stderr = text(&out.stderr);
            assert_eq!(out.status.code(), Some(code), "{at}: {stderr}");
            assert!(stderr.contains("error: interrupted. hint: "), "{at}: {stderr}");
            assert!(text(&out.stdout).starts_with("PARTIAL"), "{at}: {}", text(&out.stdout));
            let path = only_run(folder.path());
            let run = read(&path);
            assert_eq!((run.status, run.points.len()), (RunStatus::Partial, 8 * passes), "{at}");
            assert!(run.notes.iter().any(|note| note.contains("interrupted")), "{at}: {:?}", run.notes);

            done(resume(&path));
            let run = read(&only_run(folder.path()));
            assert_eq!(run.status, RunStatus::Complete, "{at}");
            assert!(run.points.len() == 2 * 8 && has_trials(&run, TRIALS), "{at}");
        }
    }
}

#[test]
fn the_second_signal_ends_it_at_once() {
    for (signal, number) in [("int", 2), ("term", 15)] {
        let folder = tempfile::tempdir().unwrap();
        // The second while the point of the first is written.
        let at = format!("{signal}:half@1,{signal}:synced@1");
        let out = measure(folder.path(), "1,2").env("FAULTY_AT", &at).output().unwrap();
        // A shell shows that as 128 more: 130, 143.
        assert_eq!(out.status.signal(), Some(number), "{at}: {}", text(&out.stderr));
        let runs: Vec<_> =
            files(folder.path()).into_iter().filter(|path| path.extension().unwrap() == "json").collect();
        let run = read(&runs[0]);
        assert_eq!((run.status, run.points.len()), (RunStatus::Partial, 8), "{at}");
        done(resume(&runs[0]));
        assert!(has_trials(&read(&only_run(folder.path())), TRIALS), "{at}");

        let folder = tempfile::tempdir().unwrap();
        let at = format!("{signal}:load,{signal}:load");
        let out = measure(folder.path(), "1,2").env("FAULTY_AT", &at).output().unwrap();
        assert_eq!(out.status.signal(), Some(number), "{at}: {}", text(&out.stderr));
        assert!(files(folder.path()).is_empty());
    }
}
