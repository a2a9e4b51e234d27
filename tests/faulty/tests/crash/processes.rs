//! Two processes at one run file, and in one folder.

use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use super::{TRIALS, done, files, has_trials, measure, read, refused, resume};

/// Ends with the test, however that ends.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_run_file_is_one_process_s_until_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    // Stops, with its second point half written.
    let mut command = measure(folder.path(), "1,2");
    command.env("FAULTY_AT", "stop:half@1").stdout(Stdio::null()).stderr(Stdio::null());
    let mut holder = Stopped(command.spawn().unwrap());
    // The temporary file beside the run file.
    while files(folder.path()).len() < 2 {
        assert!(holder.0.try_wait().unwrap().is_none(), "it ended");
        thread::sleep(Duration::from_millis(5));
    }
    let [temporary, run] = files(folder.path()).try_into().unwrap();

    let out = resume(&run).output().unwrap();
    refused(&out, &["another llmroof is measuring into it"]);
    // Another measurement into the folder takes nothing away from a process that lives.
    done(measure(folder.path(), "1"));
    assert!(temporary.exists());
    assert_eq!(files(folder.path()).len(), 3, "a run file of its own");

    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    done(resume(&run));
    assert!(has_trials(&read(&run), TRIALS));
    assert_eq!(files(folder.path()).len(), 2, "the temporary file is gone");
}
