//! Disks that are full, folders that cannot be written to, limits on a file's size.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use llmroof::run::RunStatus;

use super::{
    TRIALS, acknowledged, done, faulty, files, has_trials, measure, only_run, read, refused, resume, samples,
    text,
};

/// Runs a command on a file system of its own, mounted at `disk` for it alone: `prepare` is a shell's part that makes
/// it what it is to be. Afterwards `left` has what is on it. `None` where mounting is not permitted.
fn on_a_disk(disk: &Path, left: &Path, size: &str, prepare: &str, command: &Command) -> Option<Output> {
    let mounted = format!("mount -t tmpfs -o size={size} tmpfs '{}'", disk.display());
    let may = Command::new("unshare").args(["--mount", "sh", "-c", &mounted]).output();
    if !may.as_ref().is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED, mounting a small disk is not permitted: {may:?}");
        return None;
    }
    fs::create_dir_all(left).unwrap();
    let script = format!(
        "{mounted} && cd '{}' && {prepare} || exit 99\n\"$@\"\ncode=$?\ncp -a . '{}'\nexit $code",
        disk.display(),
        left.display()
    );
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let out = shell.output().unwrap();
    assert_ne!(out.status.code(), Some(99), "{}", text(&out.stderr));
    Some(out)
}

/// Folders for such a disk, for what is left on it, and a file for what was acknowledged.
fn places(folder: &Path) -> [PathBuf; 3] {
    let [disk, left, noted] = ["disk", "left", "acknowledged"].map(|name| folder.join(name));
    fs::create_dir(&disk).unwrap();
    [disk, left, noted]
}

/// A run that ended with a file that could not be written to its end: what was acknowledged is in it, the whole is on
/// stdout, and it can be gone on with.
fn ended_early(out: &Output, reports: &Path, noted: &Path) {
    refused(out, &["cannot be written", "llmroof measure --resume "]);
    assert!(text(&out.stdout).starts_with("tiny-tied-hd64 on "), "{}", text(&out.stdout));
    let path = only_run(reports);
    let run = read(&path);
    assert_eq!(run.status, RunStatus::Partial);
    assert_eq!((run.points.len(), samples(&run)), acknowledged(noted));
    assert!(!run.points.is_empty() && !has_trials(&run, TRIALS));

    done(resume(&path));
    let run = read(&only_run(reports));
    assert_eq!((run.status, run.points.len()), (RunStatus::Complete, 16 * 8));
    assert!(has_trials(&run, TRIALS));
}

#[test]
fn a_disk_that_fills_up_keeps_what_was_measured_before() {
    let folder = tempfile::tempdir().unwrap();
    let [disk, left, noted] = places(folder.path());
    let mut command = measure(&disk, "1-16");
    command.env("FAULTY_ACKNOWLEDGED", &noted);
    // The old file and the new one do not both fit for long.
    let Some(out) = on_a_disk(&disk, &left, "160k", "true", &command) else { return };
    assert!(text(&out.stderr).contains("No space left on device"), "{}", text(&out.stderr));
    ended_early(&out, &left, &noted);
}

#[test]
fn a_full_disk_is_found_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let [disk, left, _] = places(folder.path());
    let fill = "(head -c 200000 /dev/zero > other 2>/dev/null; true)";
    for command in [
        measure(&disk, "1"),
        {
            let mut predict = faulty(&["predict", "--device", "a100-sxm4-80gb", "--export"]);
            predict.arg(disk.join("points.csv"));
            predict
        },
        {
            let mut predict = faulty(&["predict", "--device", "a100-sxm4-80gb", "--reports"]);
            predict.arg(&disk);
            predict
        },
    ] {
        let Some(out) = on_a_disk(&disk, &left, "64k", fill, &command) else { return };
        refused(&out, &["cannot be written: No space left on device", "free some space"]);
        assert_eq!(text(&out.stderr).lines().count(), 1, "{}", text(&out.stderr));
        assert!(out.stdout.is_empty());
        assert_eq!(files(&left), [left.join("other")]);
    }
}

#[test]
fn what_is_read_only_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let [disk, left, _] = places(folder.path());
    let run = folder.path().join("run.json");
    done(measure(&left, "1"));
    fs::rename(only_run(&left), &run).unwrap();
    let prepare =
        format!("cp '{}' run.json && mount -o remount,ro tmpfs '{}'", run.display(), disk.display());
    let (there, picture) = (disk.join("run.json"), disk.join("run.svg"));
    let there = there.to_str().unwrap();
    for command in [
        measure(&disk, "1"),
        super::append(Path::new(there)),
        faulty(&["plot", there]),
        faulty(&["predict", "--device", "a100-sxm4-80gb", "--export", there]),
        faulty(&["models", "--export", there]),
        faulty(&["plot", there, "-o", picture.to_str().unwrap()]),
    ] {
        let Some(out) = on_a_disk(&disk, &left, "1m", &prepare, &command) else { return };
        refused(&out, &["Read-only file system", "give "]);
        assert_eq!(text(&out.stderr).lines().count(), 1, "{}", text(&out.stderr));
        assert!(out.stdout.is_empty());
        assert_eq!(fs::read(only_run(&left)).unwrap(), fs::read(&run).unwrap());
    }
    // What needs no writing works.
    for command in [resume(Path::new(there)), faulty(&["plot", there, "-o", "-"])] {
        let Some(out) = on_a_disk(&disk, &left, "1m", &prepare, &command) else { return };
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    }
}

#[test]
fn a_limit_on_a_file_s_size_keeps_what_was_measured_before() {
    let folder = tempfile::tempdir().unwrap();
    let [disk, _, noted] = places(folder.path());
    let command = measure(&disk, "1-16");
    // 64 or 128 kB, as the shell's blocks are.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$@\"", "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.env("FAULTY_IDLE", "yes").env("FAULTY_ACKNOWLEDGED", &noted);
    let out = limited.output().unwrap();
    assert!(text(&out.stderr).contains("File too large"), "{}", text(&out.stderr));
    ended_early(&out, &disk, &noted);
}

#[test]
fn a_folder_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    for reports in [file.clone(), file.join("runs"), PathBuf::from("/proc/runs")] {
        let out = measure(&reports, "1").output().unwrap();
        refused(&out, &[reports.to_str().unwrap()]);
        assert!(out.stdout.is_empty());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}
