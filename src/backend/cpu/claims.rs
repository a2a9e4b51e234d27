//! Who computes which panels: every thread its own, and what is left of the others' once it is through.
//!
//! A stage ends with its slowest thread. When other programs take a CPU away, or memory serves one core better than
//! another, the others take panels off the end of what the slow one owns.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Units of one thread's share of a matrix that nobody has taken yet: a range, its end in the upper half.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Claims(AtomicU64);

impl Claims {
    /// Opens `units` units to be taken.
    pub fn open(&self, units: usize) {
        self.0.store((units as u64) << 32, Ordering::Relaxed);
    }

    /// Takes up to `most` units from the front, where the owner's stream is, and more while there are many: a sixteenth of what
    /// is left. Every taking is a break in the stream, as the loads behind an atomic exchange wait for it; a decode in int4 that
    /// takes panels one by one loses a fiftieth.
    pub fn front(&self, most: usize) -> Option<Range<usize>> {
        self.take(|open| {
            let most = most.max(open.len() / 16);
            open.start..open.end.min(open.start.saturating_add(most))
        })
    }

    /// Takes up to `most` units from the end, farthest from the owner.
    pub fn back(&self, most: usize) -> Option<Range<usize>> {
        self.take(|open| open.start.max(open.end.saturating_sub(most))..open.end)
    }

    fn take(&self, part: impl Fn(&Range<usize>) -> Range<usize>) -> Option<Range<usize>> {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            let open = (now & 0xffff_ffff) as usize..(now >> 32) as usize;
            if open.is_empty() {
                return None;
            }
            let taken = part(&open);
            let left = if taken.start == open.start { taken.end..open.end } else { open.start..taken.start };
            let next = (left.end as u64) << 32 | left.start as u64;
            // The panels themselves are read-only: nothing but the range is handed over.
            match self.0.compare_exchange_weak(now, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(other) => now = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_taken_once_from_both_ends() {
        let claims = Claims::default();
        assert_eq!(claims.front(1), None);
        claims.open(10);
        assert_eq!(claims.front(4), Some(0..4));
        assert_eq!(claims.back(3), Some(7..10));
        assert_eq!(claims.back(1), Some(6..7));
        assert_eq!(claims.front(usize::MAX), Some(4..6));
        assert_eq!(claims.back(1), None);
    }

    #[test]
    fn an_owner_takes_less_at_once_as_the_end_comes_near() {
        let claims = Claims::default();
        claims.open(64);
        assert_eq!(claims.front(1), Some(0..4));
        assert_eq!(claims.front(1), Some(4..7));
        assert_eq!(claims.back(1), Some(63..64));
        assert_eq!(claims.front(10), Some(7..17));
        assert_eq!(claims.back(20), Some(43..63));
        assert_eq!(claims.front(1), Some(17..18));
    }
}
