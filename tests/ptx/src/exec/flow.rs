//! Branches of a warp whose lanes go different ways.

use super::{Frame, Next, Warp, Worker};
use crate::FaultKind;
use crate::trouble::{Checked, lanes, trouble};

impl Worker<'_> {
    pub(super) fn branch(&mut self, warp: &mut Warp, target: u32, at: u32, running: u32, taken: u32) -> Next {
        if taken == 0 {
            return Next::Step;
        }
        let rest = running & !taken;
        if rest == 0 {
            if let Some(frame) = warp.frames.last_mut() {
                frame.at = target;
            }
            return Next::Jump;
        }
        let quits = &self.shape.kernel.quits;
        // Who ends goes first: the others may wait for all that are left.
        let quits = |at: u32| quits.get(at as usize).is_none_or(|quits| *quits);
        let rest_first = quits(at + 1) && !quits(target);
        let ways = [(target, taken), (at + 1, rest)];
        self.diverge(warp, at, if rest_first { ways } else { [ways[1], ways[0]] });
        Next::Jump
    }

    /// Goes several ways, the last one first, until they meet.
    fn diverge(&mut self, warp: &mut Warp, at: u32, ways: impl IntoIterator<Item = (u32, u32)>) {
        let meet = self.shape.kernel.meets[at as usize];
        if let Some(frame) = warp.frames.last_mut() {
            frame.at = meet;
            // A loop that lanes leave one by one would pile up frames that have nothing left to do.
            if meet == frame.until {
                warp.frames.pop();
            }
        }
        for (target, mask) in ways {
            if target != meet {
                warp.frames.push(Frame { at: target, until: meet, mask });
            }
        }
    }

    pub(super) fn branch_indexed(
        &mut self,
        warp: &mut Warp,
        index: u32,
        targets: &[u32],
        at: u32,
        running: u32,
        mask: u32,
    ) -> Checked {
        let mut ways: Vec<(u32, u32)> = Vec::new();
        let mut add = |target: u32, lanes: u32| match ways.iter_mut().find(|way| way.0 == target) {
            Some(way) => way.1 |= lanes,
            None => ways.push((target, lanes)),
        };
        for lane in lanes(mask) {
            let index = warp.registers.words[index as usize][lane] as usize;
            let Some(&target) = targets.get(index) else {
                return trouble(
                    FaultKind::OutOfBounds,
                    lane,
                    format!("branch target {index} of {}", targets.len()),
                );
            };
            add(target, 1 << lane);
        }
        if running != mask {
            add(at + 1, running & !mask);
        }
        self.diverge(warp, at, ways);
        Ok(())
    }

    /// Every lane of the warp must be here.
    pub(super) fn all_lanes(warp: &Warp, mask: u32) -> Checked {
        if mask == !0 {
            return Ok(());
        }
        let missing = (!mask).trailing_zeros() as usize;
        let why = if warp.alive >> missing & 1 == 0 { "has exited" } else { "is not" };
        trouble(
            FaultKind::Divergence,
            missing,
            format!("all lanes must be here; this one {why} (here: {mask:#010x})"),
        )
    }
}
