//! The PTX that ships in the binary, and which of it a GPU takes.

use std::io::Read;

use flate2::read::ZlibDecoder;

use crate::error::{Failure, Result};

// `PTX`: name and compressed text of each file below kernels/ptx/, listed by build.rs.
include!(concat!(env!("OUT_DIR"), "/embedded_ptx.rs"));

/// PTX of one source file for one target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Image {
    /// Source file without its ending: `gemv`.
    pub source: &'static str,
    /// `sm_80`, `sm_90` or `sm_90a`.
    pub target: &'static str,
    /// The text, compressed.
    pub compressed: &'static [u8],
}

impl Image {
    /// The text.
    ///
    /// # Errors
    /// The binary is damaged.
    pub fn ptx(&self) -> Result<String> {
        let mut text = String::new();
        match ZlibDecoder::new(self.compressed).read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(Failure::device(format!(
                "the kernels in this binary are damaged: {}: {error}",
                self.source
            ))
            .hint("install it again")),
        }
    }

    /// Whether a GPU of this compute capability runs it. PTX runs on its own architecture and every later one,
    /// `sm_90a` on 9.0 alone.
    pub fn runs_on(&self, capability: (u32, u32)) -> bool {
        let (major, minor) = capability;
        match self.target.strip_prefix("sm_") {
            Some(own) => match own.strip_suffix('a') {
                Some(own) => own.parse() == Ok(10 * major + minor),
                None => own.parse().is_ok_and(|own: u32| own <= 10 * major + minor),
            },
            None => false,
        }
    }
}

/// All images, ordered by source and target.
pub fn images() -> impl Iterator<Item = Image> {
    PTX.iter().filter_map(|(name, compressed)| {
        let (source, target) = name.strip_suffix(".ptx")?.split_once('.')?;
        Some(Image { source, target, compressed })
    })
}

/// The image of a source for a GPU: that of the newest target it runs.
pub fn image(source: &str, capability: (u32, u32)) -> Option<Image> {
    images()
        .filter(|image| image.source == source && image.runs_on(capability))
        .max_by_key(|image| image.target)
}

#[cfg(test)]
mod tests {
    use super::Image;

    #[test]
    fn ptx_runs_on_its_own_and_later_architectures() {
        let runs = |target, capability| Image { source: "gemv", target, compressed: &[] }.runs_on(capability);
        assert!(runs("sm_80", (8, 0)) && runs("sm_80", (8, 6)) && runs("sm_80", (12, 0)));
        assert!(!runs("sm_90", (8, 9)) && runs("sm_90", (9, 0)) && runs("sm_90", (10, 0)));
        assert!(runs("sm_90a", (9, 0)) && !runs("sm_90a", (10, 0)) && !runs("sm_90a", (8, 0)));
    }
}
