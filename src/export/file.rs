//! Result files: never half-written, and refused before the work that they are to hold.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::steps::{self, Step};
use super::{Format, REGISTRY, temporary};
use crate::error::{Failure, Result};
use crate::input;
use crate::run::{Run, RunStatus};

/// The format of a file by the ending of its name.
///
/// # Errors
/// An ending that no format has.
pub fn format_of(path: &Path) -> Result<Format> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let known = REGISTRY.iter().find(|entry| name.ends_with(&format!(".{}", entry.ending)));
    known.map(|entry| entry.format).ok_or_else(|| {
        let endings: Vec<String> = REGISTRY.iter().map(|entry| format!(".{}", entry.ending)).collect();
        Failure::input(format!("{}: the ending names no format", path.display()))
            .hint(format!("use {}", endings.join(", ")))
    })
}

/// Removes what killed processes left half written beside this file.
pub fn sweep(path: &Path) {
    if let Ok((_, folder)) = place(path) {
        temporary::sweep(&folder);
    }
}

/// Checks that a file can be written here, without touching what is there; and removes what a killed process left half
/// written in the folder.
///
/// # Errors
/// No such folder, not permitted, no ordinary file, or no space.
pub fn check_writable(path: &Path) -> Result<()> {
    let (target, folder) = place(path)?;
    temporary::sweep(&folder);
    // A block that is dropped again: the only check that also covers full and read-only file systems.
    let check = || -> io::Result<()> {
        let mut file = temporary::create(&folder)?;
        file.write_all(&[0; 4096])?;
        file.as_file().sync_data()?;
        file.close()
    };
    check().map_err(|e| refused(&target, &e))
}

/// Writes a file in one go: whoever looks sees the old content or all of the new, also after a crash.
///
/// # Errors
/// No such folder, not permitted, no ordinary file, or no space.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_locked(path, bytes).map(|_| ())
}

/// The same, and the file is locked for as long as the handle is kept: whoever goes on with a run file holds this.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_locked(path: &Path, bytes: &[u8]) -> Result<File> {
    let (target, folder) = place(path)?;
    let done = |step| steps::done(step, &target, bytes);
    let write = || -> io::Result<File> {
        // It is locked before anyone can see it: the file that it takes the place of is locked until then.
        let mut temporary = temporary::create(&folder)?;
        done(Step::Created)?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        temporary.write_all(first)?;
        done(Step::Half)?;
        temporary.write_all(second)?;
        done(Step::Written)?;
        readable_by_others(temporary.as_file(), &target)?;
        done(Step::Permissions)?;
        temporary.as_file().sync_all()?;
        done(Step::Synced)?;
        let file = temporary.persist(&target)?;
        done(Step::Renamed)?;
        sync_folder(&folder)?;
        done(Step::FolderSynced)?;
        Ok(file)
    };
    write().map_err(|e| refused(&target, &e))
}

/// Locks a run file that is there, to go on with it.
///
/// # Errors
/// It cannot be opened, or another process holds it.
pub fn lock(path: &Path) -> Result<File> {
    loop {
        let (file, _) = input::open(path, input::RUN)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::input(format!(
                    "{}: another llmroof is measuring into it",
                    path.display()
                ))
                .hint("wait for it to end, or give another run file"));
            }
            // Written anew since it was opened: what is locked is not what is there.
            Ok(()) if !temporary::is_at(&file, path) => {}
            // Not every file system has locks; without one two processes at once are the user's to avoid.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(file),
        }
    }
}

/// Name of a run's file: when, which model, which device, of GPUs the first digits of the UUID: equal ones are
/// measured side by side. Ordered by name is ordered by time.
pub fn run_file_name(run: &Run) -> String {
    let when: String =
        run.created.chars().take_while(|&c| c != '.' && c != 'Z').filter(|c| c.is_alphanumeric()).collect();
    let device = run.device.profile.as_deref().unwrap_or(&run.device.name);
    let id: String = match (run.device.kind.as_str(), &run.device.id) {
        ("cuda", Some(id)) => {
            let digits =
                id.rsplit_once("GPU-").or_else(|| id.rsplit_once("MIG-")).map_or(id.as_str(), |(_, d)| d);
            format!("-{}", digits.chars().filter(char::is_ascii_alphanumeric).take(8).collect::<String>())
        }
        _ => String::new(),
    };
    let predicted = if run.status == RunStatus::Predicted { "-predicted" } else { "" };
    format!("{when}Z-{}-{}{id}{predicted}.json", plain(&run.model.name), plain(device))
}

/// Where a file of this name takes no other's place: `run.json`, or `run-2.json` where that is there, and so on. Two runs
/// can begin within a second.
pub fn free(folder: &Path, name: &str) -> PathBuf {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let mut path = folder.join(name);
    let mut number = 2;
    while path.exists() {
        path = folder.join(format!("{stem}-{number}.{ending}"));
        number += 1;
    }
    path
}

/// Letters, digits and dots in lower case, everything else as single hyphens.
fn plain(text: &str) -> String {
    let hyphens = text.to_lowercase().replace(|c: char| !(c.is_ascii_alphanumeric() || c == '.'), "-");
    hyphens.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// The file that is to be written, links followed, and its folder.
fn place(path: &Path) -> Result<(PathBuf, PathBuf)> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    match fs::metadata(&target) {
        Ok(there) if there.is_dir() => {
            return Err(Failure::input(format!("{}: is a folder", path.display()))
                .hint("give the path of a file in it"));
        }
        // Renaming over a device or pipe would replace it by a file.
        Ok(there) if !there.is_file() => {
            return Err(Failure::input(format!("{}: is no ordinary file", path.display()))
                .hint("print with -o FORMAT and redirect stdout"));
        }
        _ => {}
    }
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    if !folder.is_dir() {
        return Err(Failure::input(format!("{}: there is no folder {}", path.display(), folder.display()))
            .hint("create the folder, or give another path"));
    }
    Ok((target, folder))
}

fn refused(path: &Path, e: &io::Error) -> Failure {
    let hint = match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "give a path that you may write to"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, or give another path",
        _ => "give another path",
    };
    Failure::input(format!("{}: cannot be written: {e}", path.display())).hint(hint)
}

/// Temporary files are private; a result gets the permissions of the file it replaces, or the usual ones.
#[cfg(unix)]
fn readable_by_others(file: &File, target: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(target).map_or(0o644, |there| there.permissions().mode());
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn readable_by_others(_file: &File, _target: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes the rename itself durable.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}
