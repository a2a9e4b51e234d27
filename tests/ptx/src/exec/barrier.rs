//! Barriers of the block and of a warp.

use super::{State, Warp, Worker};
use crate::FaultKind;
use crate::trouble::{Checked, trouble};

/// Number of named barriers of a block.
const COUNT: usize = 16;

#[derive(Debug, Default, Clone)]
struct Barrier {
    /// Threads that must arrive, where the instruction says so.
    expected: Option<u32>,
    warps_arrived: u32,
    waiting: Vec<usize>,
    /// What those who wait will know, see [`crate::shared`].
    release: [u32; 32],
}

/// The barriers of a block.
#[derive(Debug, Default)]
pub struct Barriers([Barrier; COUNT]);

impl Worker<'_> {
    pub(super) fn arrive(
        &mut self,
        warp: &mut Warp,
        id: u32,
        count: Option<u32>,
        arrive: bool,
        mask: u32,
    ) -> Checked {
        let lane = mask.trailing_zeros() as usize;
        if mask != warp.alive {
            let missing = (warp.alive & !mask).trailing_zeros() as usize;
            let what = format!("lane {missing} of the warp is not at this barrier (here: {mask:#010x})");
            return trouble(FaultKind::Divergence, lane, what);
        }
        let id = warp.registers.words[id as usize][lane];
        let count = count.map(|slot| warp.registers.words[slot as usize][lane]);
        let Some(barrier) = self.barriers.0.get_mut(id as usize) else {
            return trouble(FaultKind::Unknown, lane, format!("barrier {id}"));
        };
        if count.is_some_and(|count| count == 0 || !count.is_multiple_of(32)) {
            return trouble(FaultKind::Divergence, lane, format!("barrier {id} for {count:?} threads"));
        }
        if barrier.warps_arrived > 0 && barrier.expected != count {
            let what = format!("barrier {id} for {count:?} threads, but for {:?} before", barrier.expected);
            return trouble(FaultKind::Divergence, lane, what);
        }
        barrier.expected = count;
        barrier.warps_arrived += 1;
        self.shared.release(warp.index, &mut barrier.release);
        if !arrive {
            barrier.waiting.push(warp.index);
        }
        Ok(())
    }

    /// Lets those go whose barrier is complete.
    pub(super) fn meet(&mut self, warps: &mut [Warp]) {
        let alive = warps.iter().filter(|warp| warp.state != State::Done).count();
        for barrier in &mut self.barriers.0 {
            let expected = barrier.expected.map_or(alive, |threads| threads as usize / 32);
            if barrier.warps_arrived == 0 || (barrier.warps_arrived as usize) < expected {
                continue;
            }
            if barrier.waiting.len() == alive {
                self.shared.settle();
            }
            for &index in &barrier.waiting {
                self.shared.acquire(index, &barrier.release);
                warps[index].state = State::Runs;
            }
            *barrier = Barrier::default();
        }
    }

    pub(super) fn warp_barrier(&mut self, warp: &mut Warp, members: u32, mask: u32) -> Checked {
        let members = Self::members(warp, members, mask)?;
        // Only where all lanes meet is everything that they did before known to all.
        if warp.alive & !members == 0 {
            self.shared.settle_warp(warp.index);
        }
        Ok(())
    }
}
