//! The files that users name: the only place that opens them. Only ordinary files are read, and no more of one than a
//! file of its kind can have: a pipe would block, a device fill the memory, a damaged disk do either.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Failure, Result};

/// What a file is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Most bytes it may have.
    pub most: u64,
    /// What to do about one that cannot be read.
    pub remedy: &'static str,
}

/// A run file. One of 10,000 points with 100 samples each, or of 100 trials, has tens of MB.
pub const RUN: Kind =
    Kind { most: 128 << 20, remedy: "give a run file that `llmroof measure` or `predict` wrote" };

/// A device or model profile: under 2 KB each.
pub const PROFILE: Kind =
    Kind { most: 1 << 20, remedy: "--profiles takes a folder with devices/*.toml or models/*.toml" };

/// A `config.json` named as a model: under 2 KB.
pub const CONFIG: Kind =
    Kind { most: 1 << 20, remedy: "give the path of a Llama's config.json, or a name of `llmroof models`" };

/// A file of a checkpoint: `config.json`, the index of the shards, expected logits, and the header of a safetensors
/// file. That of a 405B model has under 1 MB, the logits of a step under 3 MB.
pub const CHECKPOINT: Kind =
    Kind { most: 64 << 20, remedy: "give the folder of a Hugging Face Llama checkpoint, downloaded in full" };

/// Whether something may have this name, be it a link that leads nowhere: what is there is read or refused, never
/// passed over.
pub fn present(path: &Path) -> bool {
    let absent = |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    !fs::symlink_metadata(path).is_err_and(|e| absent(&e))
}

/// The text of a file, without a byte order mark, which editors on Windows write.
///
/// # Errors
/// What [`open`] refuses, more bytes than its kind may have, or text that is not UTF-8.
pub fn text(path: &Path, kind: Kind) -> Result<String> {
    let fail = |what: String| Failure::input(what).hint(kind.remedy).at(path.display());
    let too_large = || fail(format!("larger than {} MiB, the most such a file may have", kind.most >> 20));
    let (file, length) = open(path, kind)?;
    if length > kind.most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // A file may grow while it is read, and those of /proc have no length at all.
    file.take(kind.most + 1).read_to_end(&mut bytes).map_err(|e| fail(format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > kind.most {
        return Err(too_large());
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Failure::input("is UTF-16, not UTF-8 text").hint("save it as UTF-8").at(path.display()));
    }
    let text = String::from_utf8(bytes)
        .map_err(|e| fail(format!("not UTF-8 text at byte {}", e.utf8_error().valid_up_to())))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Opens an ordinary file: itself, and how many bytes it has.
///
/// # Errors
/// There is none, it may not be read, or it is a folder, pipe, socket or device.
pub fn open(path: &Path, kind: Kind) -> Result<(File, u64)> {
    let unreadable =
        |e: io::Error| Failure::input(format!("cannot be read: {e}")).hint(kind.remedy).at(path.display());
    let refused = |failure: Failure| failure.at(path.display());
    if path.as_os_str() == "-" {
        return Err(Failure::input("- is no file: stdin is not read")
            .hint("give the path of a file, or ./- for one of that name"));
    }
    // Asked before it is opened, since opening some devices has effects.
    ordinary(&fs::metadata(path).map_err(unreadable)?, kind).map_err(refused)?;
    let file = without_waiting().open(path).map_err(unreadable)?;
    // And after: the name may have come to mean something else.
    let about = file.metadata().map_err(unreadable)?;
    ordinary(&about, kind).map_err(refused)?;
    Ok((file, about.len()))
}

/// Opening, or reading, a pipe with nobody at its other end would wait for somebody.
#[cfg(unix)]
fn without_waiting() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

#[cfg(not(unix))]
fn without_waiting() -> OpenOptions {
    let mut options = File::options();
    options.read(true);
    options
}

fn ordinary(about: &Metadata, kind: Kind) -> Result<()> {
    if about.is_file() {
        return Ok(());
    }
    let (what, hint) = match special(about) {
        _ if about.is_dir() => ("a folder", kind.remedy),
        // Process substitution, `<(...)`, is one of these.
        "a pipe" => ("a pipe", "write what comes out of it to a file, and give that"),
        other => (other, kind.remedy),
    };
    Err(Failure::input(format!("is {what}, not a file")).hint(hint))
}

#[cfg(unix)]
fn special(about: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let is = about.file_type();
    if is.is_fifo() {
        "a pipe"
    } else if is.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn special(_about: &Metadata) -> &'static str {
    "something special"
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Kind = Kind { most: 4, remedy: "give a small one" };

    fn read(bytes: &[u8], kind: Kind) -> std::result::Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        text(file.path(), kind).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_file_may_have_as_much_as_its_kind_and_no_more() {
        assert_eq!(read(b"1234", SMALL), Ok("1234".into()));
        let said = read(b"12345", SMALL).unwrap_err();
        assert!(said.contains("larger than") && said.ends_with("hint: give a small one"), "{said}");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(read("\u{feff}{}".as_bytes(), PROFILE), Ok("{}".into()));
        assert_eq!(read(b"", PROFILE), Ok(String::new()));
        assert!(read(b"\xff\xfe{\0}\0", PROFILE).unwrap_err().contains("UTF-16"));
        assert!(read(b"ab\xff", PROFILE).unwrap_err().contains("not UTF-8 text at byte 2"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_without_length_is_read_as_far_as_it_goes() {
        let path = Path::new("/proc/self/maps");
        assert_eq!(fs::metadata(path).unwrap().len(), 0);
        assert!(text(path, PROFILE).unwrap().contains("[stack]"));
        assert!(text(path, SMALL).unwrap_err().what.contains("larger than"));
    }

    #[test]
    fn stdin_is_not_read() {
        let said = text(Path::new("-"), RUN).unwrap_err().to_string();
        assert!(said.contains("stdin is not read") && said.contains("./-"), "{said}");
    }
}
