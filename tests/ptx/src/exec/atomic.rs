//! Atomics on global and shared memory.

use super::memory::by_space;
use super::{Warp, Worker};
use crate::FaultKind;
use crate::op::{Atomic, AtomicOp};
use crate::parse::ast::Space;
use crate::shared::Who;
use crate::trouble::{Checked, lanes, trouble};

/// The new value; `swap` is that of a compare-and-swap.
fn apply(op: AtomicOp, bytes: u32, old: u64, value: u64, swap: u64) -> u64 {
    let signed = |x: u64| if bytes == 4 { i64::from(x as u32 as i32) } else { x as i64 };
    match op {
        AtomicOp::Add => old.wrapping_add(value),
        AtomicOp::AddF32 => u64::from((f32::from_bits(old as u32) + f32::from_bits(value as u32)).to_bits()),
        AtomicOp::AddF64 => (f64::from_bits(old) + f64::from_bits(value)).to_bits(),
        AtomicOp::And => old & value,
        AtomicOp::Or => old | value,
        AtomicOp::Xor => old ^ value,
        AtomicOp::MinU => old.min(value),
        AtomicOp::MaxU => old.max(value),
        AtomicOp::MinS => signed(old).min(signed(value)) as u64,
        AtomicOp::MaxS => signed(old).max(signed(value)) as u64,
        AtomicOp::Inc => {
            if old >= value {
                0
            } else {
                old + 1
            }
        }
        AtomicOp::Dec => {
            if old == 0 || old > value {
                value
            } else {
                old - 1
            }
        }
        AtomicOp::Exchange => value,
        AtomicOp::CompareSwap => {
            if old == value {
                swap
            } else {
                old
            }
        }
    }
}

impl Worker<'_> {
    pub(super) fn atomic(&mut self, warp: &mut Warp, atomic: &Atomic, mask: u32) -> Checked {
        let (addresses, spaces) = by_space(atomic.space, warp.address(&atomic.address, mask), mask);
        let bytes = atomic.bytes;
        for (space, mask) in spaces {
            if mask == 0 {
                continue;
            }
            let found = match space {
                Space::Global => {
                    self.touch_global(warp, &addresses, mask, &[bytes; 32], bytes, true, true)?
                }
                Space::Shared => [0; 32],
                _ => {
                    return trouble(
                        FaultKind::OutOfBounds,
                        mask.trailing_zeros() as usize,
                        "an atomic on this memory",
                    );
                }
            };
            for lane in lanes(mask) {
                let value = warp.registers.get(atomic.value.class, atomic.value.slot, lane);
                let swap = atomic.swap.map_or(0, |slot| warp.registers.get(slot.class, slot.slot, lane));
                let old = if space == Space::Global {
                    let allocation = &self.shape.memory.allocations[found[lane] as usize];
                    let offset = addresses[lane] - allocation.base;
                    allocation.wrote(offset, u64::from(bytes));
                    allocation.update(offset, bytes, |old| apply(atomic.op, bytes, old, value, swap))
                } else {
                    let who = Who { thread: (warp.index * 32 + lane) as u16, together: false, atomic: true };
                    self.shared.read(who, addresses[lane], bytes)?;
                    let at = self.shared.write(who, addresses[lane], bytes)?;
                    let old = self.shared.load(at, bytes);
                    self.shared.store(at, bytes, apply(atomic.op, bytes, old, value, swap));
                    old
                };
                if let Some(to) = atomic.to {
                    warp.registers.set(to.class, to.slot, lane, old);
                }
            }
            if space == Space::Shared {
                self.count_shared(&addresses, mask, bytes);
            }
        }
        Ok(())
    }
}
