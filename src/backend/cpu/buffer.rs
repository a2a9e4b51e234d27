//! Memory that threads share: mapped, aligned to pages, in huge pages where the system has them.

use std::ops::Range;

use memmap2::MmapRaw;

use crate::error::{Failure, Result};
use crate::units::Bytes;

/// What the system has huge pages in, on x86-64 and on AArch64 with pages of 4 kB.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed memory that is only backed by pages once it is touched, by the thread that touches it first.
///
/// What is as large as a huge page begins and ends with one: a mapping begins anywhere, and up to its first boundary a stream
/// comes over small pages, at two thirds of the rate that follows.
///
/// Access is through raw pointers: which thread may write what, and when, is settled by the stages and the
/// barriers between them.
#[derive(Debug)]
pub struct Buffer {
    map: MmapRaw,
    /// Where it begins in the mapping.
    start: usize,
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
        let padded = bytes.checked_add(4096);
        let length = match padded {
            Some(padded) if bytes >= HUGE_PAGE => {
                padded.checked_next_multiple_of(HUGE_PAGE).and_then(|whole| whole.checked_add(HUGE_PAGE))
            }
            padded => padded,
        };
        let length = length.ok_or_else(|| fail(&"the size overflows"))?;
        let map = memmap2::MmapOptions::new().len(length).map_anon().map_err(|e| fail(&e))?;
        #[cfg(target_os = "linux")]
        {
            // Advice only: without huge pages everything works, 9-14% slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let map = MmapRaw::from(map);
        let start = if bytes >= HUGE_PAGE { map.as_ptr().align_offset(HUGE_PAGE) } else { 0 };
        Ok(Buffer { map, start, bytes })
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
        self.map.as_mut_ptr().wrapping_add(self.start).cast()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_begins_with_a_huge_page_and_has_room_for_the_loads_at_its_end() {
        for bytes in [1, 4096, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 3 * HUGE_PAGE - 4096, 5 * HUGE_PAGE] {
            let buffer = Buffer::new(bytes).unwrap();
            let (start, all) = (buffer.ptr::<u8>() as usize, buffer.addresses());
            assert!(bytes < HUGE_PAGE || start.is_multiple_of(HUGE_PAGE), "{bytes}");
            assert!(all.contains(&start) && start + bytes + 4096 <= all.end, "{bytes}");
        }
        assert!(Buffer::new(usize::MAX).is_err());
    }
}
