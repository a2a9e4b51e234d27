//! The steps of writing a file, and a place for tests to look in after each.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

/// What has just been done on the way from nothing to a file in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The temporary file is there, empty and locked.
    Created,
    /// Half of the bytes are in it.
    Half,
    /// All of them are.
    Written,
    /// It has the permissions of the file that it replaces.
    Permissions,
    /// Its bytes are on the disk.
    Synced,
    /// It is in its place.
    Renamed,
    /// So it is on the disk.
    FolderSynced,
}

/// Told of the step, the file that is written and all of its bytes. Its error is taken for the system's.
type Watcher = Box<dyn Fn(Step, &Path, &[u8]) -> io::Result<()> + Send + Sync>;

/// Nobody in the program itself; `tests/faulty` lets files go wrong here.
static WATCHER: OnceLock<Watcher> = OnceLock::new();

/// Has every step of this process watched; the first watcher stays.
pub fn watch(watcher: Watcher) {
    let _ = WATCHER.set(watcher);
}

pub(super) fn done(step: Step, target: &Path, bytes: &[u8]) -> io::Result<()> {
    WATCHER.get().map_or(Ok(()), |watcher| watcher(step, target, bytes))
}
