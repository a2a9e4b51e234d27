//! The file beside a file that is being written, and what killed processes left of such.
//!
//! It is locked from its first moment until it is in its place. One that is not locked is nobody's any more.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

const PREFIX: &str = ".llmroof-";
const SUFFIX: &str = ".part";
/// Random characters between the two.
const RANDOM: usize = 6;

/// Makes one in this folder. It goes away if it is dropped before it is in its place.
///
/// # Errors
/// The folder cannot be written to.
pub(super) fn create(folder: &Path) -> io::Result<NamedTempFile> {
    loop {
        let temporary =
            tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).rand_bytes(RANDOM).tempfile_in(folder)?;
        match temporary.as_file().try_lock() {
            // Between its creation and its lock another process took it for a forgotten one.
            Err(TryLockError::WouldBlock) => {}
            Ok(()) if !is_at(temporary.as_file(), temporary.path()) => {}
            // Not every file system has locks; where there are none, nobody takes anything for forgotten.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(temporary),
        }
    }
}

/// Removes those that nobody is writing any more, as far as that is permitted.
pub(super) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(is_name);
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        if File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_name(name: &str) -> bool {
    let random = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Whether an opened file is still what its path names.
#[cfg(unix)]
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(opened), Ok(there)) => (opened.dev(), opened.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Elsewhere an opened file keeps its name.
#[cfg(not(unix))]
pub(super) fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_is_writing_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let kept = ["run.json", ".llmroof-notes", ".llmroof-a_c123.part", "llmroof-abc123.part"];
        for name in kept {
            fs::write(at(name), "mine").unwrap();
        }
        fs::create_dir(at(".llmroof-folder.part")).unwrap();
        fs::write(at(".llmroof-Abc123.part"), "left behind").unwrap();
        let writing = create(folder.path()).unwrap();
        sweep(folder.path());
        assert!(!at(".llmroof-Abc123.part").exists());
        assert!(kept.iter().all(|name| at(name).exists()) && at(".llmroof-folder.part").exists());
        assert!(is_at(writing.as_file(), writing.path()));
        let path = writing.path().to_path_buf();
        drop(writing);
        assert!(!path.exists());
    }
}
