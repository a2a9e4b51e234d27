//! `check` on fake GPUs: healthy ones, sick ones, and what keeps it from being told. The rates are the fake's virtual
//! clock's, somewhat below the datasheet.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fake::FakeDriver;
use crate::program::{Ended, each, files, llmroof, measure, start};

const H100: &str = "NVIDIA H100 80GB HBM3 (GPU-";

/// GPUs that compute every graph once, and whose virtual clock goes as fast as the cards would.
fn cards(gpus: &str) -> FakeDriver {
    FakeDriver::new().gpus(gpus).set("FAKE_DRIVER_EXECUTE", 1)
}

/// `check` of the first GPU, or of the one in `more`.
#[track_caller]
fn check(fake: &FakeDriver, more: &[&str]) -> Ended {
    let device: &[&str] = if more.contains(&"--device") { &[] } else { &["--device", "cuda:0"] };
    llmroof(fake, &[&["check"], device, more].concat())
}

/// Asserts the exit code, and one line on stdout with all of these words; on stderr one as well unless all is well.
#[track_caller]
fn said(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!((ended.code, ended.out.lines().count()), (Some(code), 1), "{ended:?}");
    for word in words {
        assert!(ended.out.contains(word), "{:?} lacks {word:?}", ended.out);
    }
    match code {
        0 => assert_eq!(ended.err, ""),
        _ => assert!(ended.error().contains(". hint: "), "{}", ended.err),
    }
}

#[test]
fn healthy_gpus_pass_in_one_line_each_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let fake = cards("h100,a100");
    let mut command = fake.llmroof(&["check", "--device", "cuda:all"]);
    let ended = start(command.current_dir(folder.path())).end().well();
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!((lines.len(), ended.err.as_str()), (2, ""), "{ended:?}");
    assert!(lines[0].starts_with(&format!("ok: {H100}")), "{}", lines[0]);
    assert!(lines[1].starts_with("ok: NVIDIA A100-SXM4-80GB (GPU-"), "{}", lines[1]);
    for (line, floors) in lines.iter().zip([["82.0%", "68.0%", "57.0%"], ["72.0%", "70.0%", "67.0%"]]) {
        for floor in floors {
            assert!(line.contains(&format!("floor {floor})")), "{line}");
        }
        assert!(line.contains("% of datasheet, ") && line.contains("% of read ("), "{line}");
    }
    assert!(files(folder.path()).is_empty());
}

#[test]
fn sick_gpus_fail_with_their_reason() {
    let throttled = |reason: &str| {
        cards("h100").set("FAKE_DRIVER_THROTTLE", "start").set("FAKE_DRIVER_THROTTLE_REASON", reason)
    };
    let cases: Vec<(FakeDriver, i32, &[&str])> = vec![
        (throttled("thermal"), 1, &["failed: ", "throttled: hw_thermal_slowdown in ", " readings, up to "]),
        // The power limit is no fault in itself; what it leaves here is too little.
        (
            throttled("power"),
            1,
            &["failed: ", "read 2.", "is 7", "of datasheet, floor 82.0%", "; sw_power_cap in "],
        ),
        (cards("h100").set("FAKE_DRIVER_SLOWDOWN", 2), 1, &["read 1.", "; bf16 ", "floor 68.0%"]),
        (cards("h100").fault("corrupt@30"), 5, &["failed: ", "verification failed"]),
        (cards("h100").fault("cuMemAlloc_v2=2@5"), 4, &["failed: ", "out of memory"]),
        (cards("h100").fault("async=214@1500"), 4, &["failed: ", "ECC"]),
        (cards("h100").fault("cuDevicePrimaryCtxRetain=46"), 4, &["failed: ", "busy"]),
    ];
    each(cases, |(fake, code, words)| {
        let ended = check(&fake, &[]);
        said(&ended, code, words);
        assert!(ended.out.contains(H100), "{}", ended.out);
    });
}

#[test]
fn heat_fails_a_gpu_that_is_fast_enough() {
    // Against a run of itself while it was held back already, no floor is missed.
    let hot = || {
        let fake = cards("h100").set("FAKE_DRIVER_THROTTLE", "start");
        fake.set("FAKE_DRIVER_THROTTLE_REASON", "thermal")
    };
    let folder = tempfile::tempdir().unwrap();
    measure(&hot(), folder.path(), &["--phase", "decode", "--batch", "1"]).well();
    let run = files(folder.path()).remove(0);
    let ended = check(&hot(), &["--against", run.to_str().unwrap()]);
    said(&ended, 1, &["failed: ", "throttled: hw_thermal_slowdown"]);
    assert!(!ended.out.contains("floor"), "{}", ended.out);
}

#[test]
fn a_gpu_that_others_use_is_left_alone() {
    // Opening it would fail: it is not even tried.
    let fake = cards("h100").set("FAKE_DRIVER_OTHERS", 2).fault("cuDevicePrimaryCtxRetain=46");
    said(&check(&fake, &[]), 3, &["inconclusive: ", H100, "2 other processes on it: not measured"]);
}

#[test]
fn without_a_gpu_or_driver_the_device_is_what_fails() {
    let run_of_a_gpu = {
        let folder = tempfile::tempdir().unwrap();
        measure(&cards("h100"), folder.path(), &["--phase", "decode", "--batch", "1"]).well();
        let path = files(folder.path()).remove(0);
        (folder, path.to_str().unwrap().to_owned())
    };
    let against = run_of_a_gpu.1.as_str();
    let auto = ["--device", "auto", "--against", against];
    let cases: Vec<(FakeDriver, &[&str], &str)> = vec![
        (FakeDriver::new().without("cuda"), &[], "libcuda.so.1 was not found"),
        (FakeDriver::new().without("cuda"), &["--device", "cuda:all"], "libcuda.so.1 was not found"),
        // The run says that there should be one: no fall back to the CPU.
        (FakeDriver::new().without("cuda"), &auto, "libcuda.so.1 was not found"),
        (FakeDriver::new().gpus(""), &[], "shows no device"),
        (FakeDriver::new().fault("cuInit=999"), &[], "999"),
    ];
    for (fake, more, word) in cases {
        said(&check(&fake, more), 4, &["failed: ", word]);
    }
    let other = check(&cards("a100"), &["--against", against]);
    assert_eq!((other.code, other.out.as_str()), (Some(2), ""), "{other:?}");
    assert!(other.error().contains("of NVIDIA H100 80GB HBM3, the device is NVIDIA A100"), "{}", other.err);
    let unknown = check(&cards("h100,unknown"), &["--device", "cuda:all"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(2), ""), "nothing is measured: {unknown:?}");
    assert!(
        unknown.error().contains("nothing to hold the NVIDIA Graphics Device against"),
        "{}",
        unknown.err
    );
}

#[test]
fn a_gpu_is_held_against_a_run_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    measure(&cards("h100"), folder.path(), &["--phase", "decode", "--batch", "1"]).well();
    let run = files(folder.path()).remove(0);
    let against = ["--against", run.to_str().unwrap()];
    let same = check(&cards("h100").set("FAKE_DRIVER_SEED", 2), &against);
    said(&same, 0, &["ok: ", "read 3.", "of the run, floor 95.0%", ", decode "]);
    // A quarter more time for everything: no floor of the datasheet's need notice, these do.
    let slow = check(&cards("h100").set("FAKE_DRIVER_THROTTLE", "start"), &against);
    said(&slow, 1, &["read 2.", "is 80.", "of the run, floor 95.0%; bf16 ", "; sw_power_cap in "]);
    let lax = [&against[..], &["--tolerance", "30%"]].concat();
    said(&check(&cards("h100").set("FAKE_DRIVER_THROTTLE", "start"), &lax), 0, &["floor 70.0%"]);
}

#[test]
fn a_gpu_that_hangs_ends_within_the_budget() {
    let cases: Vec<(FakeDriver, &[&str], &str)> = vec![
        // A quarter of the budget is the longest wait for one piece of work, whatever --timeout allows.
        (cards("h100").fault("hang@1"), &["--budget", "20s"], "not finished within 5 s"),
        (cards("h100").fault("hang@1"), &["--timeout", "1s"], "not finished within 1 s"),
        (cards("h100").fault("hang@60"), &["--timeout", "1s"], "not finished within 1 s"),
        // Whatever it is doing when the budget ends.
        (cards("h100"), &["--budget", "0.3s"], "not done within 0.3 s, it was "),
        (cards("h100").fault("hang@1"), &["--budget", "0.3s"], "within 0."),
    ];
    each(cases, |(fake, more, words)| said(&check(&fake, more), 4, &["failed: ", words]));
}

#[test]
fn of_several_the_worst_decides() {
    let fake = cards("h100,a100").fault("cuDevicePrimaryCtxRetain=46@1");
    let ended = check(&fake, &["--device", "cuda:all", "-o", "json"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let all: Value = serde_json::from_str(&ended.out).unwrap();
    let codes: Vec<i64> =
        all.as_array().unwrap().iter().map(|one| one["exit_code"].as_i64().unwrap()).collect();
    let mut sorted = codes.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 4], "whichever was opened first: {all}");
    let failed = codes.iter().position(|&code| code == 4).unwrap();
    assert_eq!(
        (&all[failed]["verdict"], all[failed]["figures"].as_array().unwrap().len()),
        (&"failed".into(), 0)
    );
    assert!(all[failed]["reason"].as_str().unwrap().contains("busy"), "{all}");
}

#[test]
fn a_signal_ends_it_with_its_code() {
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        // The host's clock goes with the GPU's: it takes long.
        let fake = cards("h100").set("FAKE_DRIVER_PACE", 1).set("FAKE_DRIVER_SLOWDOWN", 100);
        let mut running = start(&mut fake.llmroof(&["check", "--device", "cuda:0", "--budget", "100s"]));
        let tasks = format!("/proc/{}/task", running.child.id());
        let began = Instant::now();
        // Signals are caught before the first thread is started.
        while fs::read_dir(&tasks).unwrap().count() < 2 && running.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(40), "no threads");
            thread::sleep(Duration::from_millis(2));
        }
        // SAFETY: a signal to a child that was not waited for.
        unsafe { libc::kill(running.child.id() as i32, signal) };
        let ended = running.end();
        assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{ended:?}");
        assert!(ended.error().contains("interrupted"), "{}", ended.err);
    }
}
