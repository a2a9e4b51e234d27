//! Memory that threads share: mapped, aligned to pages, in huge pages where the system has them.

use std::ops::Range;

use memmap2::MmapRaw;

use crate::error::{Failure, Result};
use crate::units::Bytes;

/// Zeroed memory that is only backed by pages once it is touched, by the thread that touches it first.
///
/// Access is through raw pointers: which thread may write what, and when, is settled by the stages and the
/// barriers between them.
#[derive(Debug)]
pub struct Buffer {
    map: MmapRaw,
    bytes: usize,
}

impl Buffer {
    /// Maps at least `bytes` bytes.
    ///
    /// # Errors
    /// The system does not give that much.
    pub fn new(bytes: usize) -> Result<Buffer> {
        let fail = |why: &dyn std::fmt::Display| {
            Failure::device(format!("cannot map {} of memory: {why}", Bytes(bytes as f64).human()))
                .hint("measure fewer layers, a smaller batch or a shorter context")
        };
        // A little more, so that loads of whole vectors at the end stay inside.
        let length = bytes.checked_add(4096).ok_or_else(|| fail(&"the size overflows"))?;
        let map = memmap2::MmapOptions::new().len(length).map_anon().map_err(|e| fail(&e))?;
        #[cfg(target_os = "linux")]
        {
            // Advice only: without huge pages everything works, 9-14% slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Buffer { map: MmapRaw::from(map), bytes })
    }

    /// As [`Buffer::new`] for `count` elements.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    pub fn of<T>(count: usize) -> Result<Buffer> {
        Buffer::new(count.saturating_mul(size_of::<T>()))
    }

    /// Start, as elements of `T`.
    pub fn ptr<T>(&self) -> *mut T {
        self.map.as_mut_ptr().cast()
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Addresses it occupies.
    pub fn addresses(&self) -> Range<usize> {
        let start = self.map.as_mut_ptr() as usize;
        start..start + self.map.len()
    }
}

/// Share of these buffers' resident memory that lies in huge pages; `None` where the system does not say.
pub fn huge_page_share(buffers: &[Buffer]) -> Option<f64> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let (mut resident, mut huge) = (0.0, 0.0);
    let mut ours = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if let Some((start, end)) = first.split_once('-')
            && let (Ok(start), Ok(end)) = (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
        {
            // Neighbouring mappings are merged into one entry.
            ours = buffers.iter().any(|b| {
                let range = b.addresses();
                range.start < end && start < range.end
            });
        } else if ours && let Some(kib) = words.next().and_then(|w| w.parse::<f64>().ok()) {
            match first {
                "Rss:" => resident += kib,
                "AnonHugePages:" => huge += kib,
                _ => {}
            }
        }
    }
    (resident > 0.0).then(|| huge / resident)
}
