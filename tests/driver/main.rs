//! The real program on the real driver's libraries, on a machine without a GPU: `fetch.py` unpacks them from Debian's
//! packages. Before the driver is started every function that the backend calls is looked for, so its own answer, that
//! there is no device, also says that none of them is missing in that version.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folders that `fetch.py` made, one for each version.
fn drivers() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/nvidia-driver");
    let entries = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}: run `python3 tests/driver/fetch.py`", folder.display()));
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    assert!(found.iter().all(|driver| driver.join("libcuda.so.1").exists()), "{found:?}");
    assert!(!found.is_empty());
    found
}

fn llmroof(driver: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
    command.args(args).env("LD_LIBRARY_PATH", driver).env_remove("LLMROOF_DEVICE");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
#[ignore = "needs the libraries that tests/driver/fetch.py unpacks, and a machine without a GPU"]
fn the_real_driver_says_that_there_is_no_device() {
    for driver in drivers() {
        let reports = tempfile::tempdir().unwrap();
        let folder = reports.path().join("runs");
        for command in [
            &["verify", "--device", "cuda:0"][..],
            &["measure", "--device", "cuda:0", "--reports", folder.to_str().unwrap()],
        ] {
            let out = llmroof(&driver, command);
            let stderr = text(&out.stderr);
            assert_eq!(out.status.code(), Some(4), "{}: {command:?}: {stderr}", driver.display());
            assert_eq!(stderr.lines().count(), 1, "{}: {stderr}", driver.display());
            assert!(stderr.starts_with("error: ") && stderr.contains("no device"), "{stderr}");
            assert!(stderr.contains(". hint: ") && out.stdout.is_empty(), "{stderr}");
        }
        assert!(std::fs::read_dir(&folder).is_ok_and(|files| files.count() == 0) || !folder.exists());
    }
}

#[test]
#[ignore = "needs the libraries that tests/driver/fetch.py unpacks, and a machine without a GPU"]
fn without_a_device_the_cpu_takes_over() {
    for driver in drivers() {
        let out = llmroof(&driver, &["verify", "--checkpoint", "tests/golden/tiny-tied-hd64"]);
        let stderr = text(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{stderr}");
        assert!(stderr.starts_with("no GPU: ") && stderr.contains("no device"), "{stderr}");
        assert!(stderr.contains("using the CPU") && stderr.lines().count() == 1, "{stderr}");
        let out = llmroof(&driver, &["devices"]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert!(text(&out.stdout).contains("no GPU: "), "{}", text(&out.stdout));
    }
}
