//! `cp.async`: copied at once, but not to be touched before its thread has waited for it.

use super::{Warp, Worker};
use crate::op::AsyncCopy;
use crate::shared::Who;
use crate::trouble::{Checked, lanes};
use crate::{FaultKind, banks};

/// One warp instruction's copies.
#[derive(Debug)]
struct Pending {
    mask: u32,
    bytes: u32,
    to: [u32; 32],
    /// Bytes that each lane reads.
    reads: [u32; 32],
    /// Group of each lane, counted from its first one.
    group: [u32; 32],
}

/// Copies of a warp that are not yet waited for.
#[derive(Debug, Default)]
pub struct Copies {
    pending: Vec<Pending>,
    committed: [u32; 32],
}

impl Copies {
    pub fn clear(&mut self) {
        self.pending.clear();
        self.committed = [0; 32];
    }

    /// Closes the group of these lanes.
    pub fn commit(&mut self, mask: u32) {
        lanes(mask).for_each(|lane| self.committed[lane] += 1);
    }
}

impl Worker<'_> {
    pub(super) fn async_copy(&mut self, warp: &mut Warp, copy: &AsyncCopy, mask: u32) -> Checked {
        let to = warp.address(&copy.to, mask);
        let from = warp.address(&copy.from, mask);
        let mut lengths = [copy.bytes; 32];
        if let Some(slot) = copy.source_bytes {
            lengths = warp.registers.words[slot as usize];
            if let Some(lane) = lanes(mask).find(|&lane| lengths[lane] > copy.bytes) {
                let what = format!("copies {} bytes of {}", lengths[lane], copy.bytes);
                return crate::trouble::trouble(FaultKind::OutOfBounds, lane, what);
            }
        }
        let reads = lanes(mask).filter(|&lane| lengths[lane] > 0).fold(0, |bits, lane| bits | 1 << lane);
        let found = self.touch_global(warp, &from, reads, &lengths, copy.bytes, true, false)?;
        let mut pending =
            Pending { mask, bytes: copy.bytes, to: [0; 32], reads: lengths, group: warp.copies.committed };
        let bytes = lanes(reads).map(|lane| u64::from(lengths[lane])).sum();
        self.counters.in_flight = self.counters.in_flight.max(warp.flight.copy(bytes));
        for lane in lanes(mask) {
            let who = Who { thread: (warp.index * 32 + lane) as u16, together: false, atomic: false };
            let at = self.shared.write_pending(who, to[lane], copy.bytes)?;
            pending.to[lane] = at as u32;
            let data = &mut self.shared.data[at..at + copy.bytes as usize];
            data.fill(0);
            if lengths[lane] > 0 {
                let allocation = &self.shape.memory.allocations[found[lane] as usize];
                let offset = from[lane] - allocation.base;
                for (i, byte) in data.chunks_mut(4).enumerate() {
                    let left = lengths[lane].saturating_sub(4 * i as u32).min(4) as usize;
                    let word = if left == 4 {
                        allocation.load(offset + 4 * i as u64, 4) as u32
                    } else {
                        (0..left).fold(0, |word, b| {
                            word | (allocation.load(offset + (4 * i + b) as u64, 1) as u32) << (8 * b)
                        })
                    };
                    byte.copy_from_slice(&word.to_le_bytes());
                }
            }
        }
        self.count_shared(&to, mask, copy.bytes);
        warp.copies.pending.push(pending);
        Ok(())
    }

    /// Waits until at most `groups` of a thread's committed groups are pending.
    pub(super) fn wait_copies(&mut self, warp: &mut Warp, groups: Option<u32>, mask: u32) -> Checked {
        let Copies { pending, committed } = &mut warp.copies;
        for copy in pending.iter_mut() {
            for lane in lanes(mask & copy.mask) {
                let done =
                    groups.is_none_or(|groups| copy.group[lane] < committed[lane].saturating_sub(groups));
                if done {
                    copy.mask &= !(1 << lane);
                    warp.flight.copied(u64::from(copy.reads[lane]));
                    let thread = (warp.index * 32 + lane) as u16;
                    self.shared.arrive(thread, copy.to[lane] as usize, copy.bytes)?;
                }
            }
        }
        pending.retain(|copy| copy.mask != 0);
        Ok(())
    }

    /// Counts a warp's access to shared memory.
    pub(super) fn count_shared(&mut self, addresses: &[u64; 32], mask: u32, width: u32) {
        let (passes, least) = banks::warp_passes(addresses, mask, width);
        self.counters.shared_instructions += 1;
        self.counters.shared_passes += passes;
        self.counters.shared_passes_least += least;
    }
}
