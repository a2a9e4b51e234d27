//! Checks and counts of global memory accesses.

use super::{Warp, Worker};
use crate::FaultKind;
use crate::memory::mark;
use crate::op::{Access, Slot};
use crate::registers::{Class, Registers};
use crate::trouble::{Checked, lanes, trouble};

/// Reads one element into a register, extended to its width.
pub fn put(registers: &mut Registers, slot: Slot, lane: usize, raw: u64, access: &Access) {
    let value = if access.signed {
        let unused = 64 - 8 * access.bytes;
        ((raw << unused) as i64 >> unused) as u64
    } else {
        raw
    };
    registers.set(slot.class, slot.slot, lane, value);
}

impl Worker<'_> {
    /// Checks the accesses of a warp, counts them and gives each lane's allocation. A lane accesses `lengths` bytes
    /// at a multiple of `align`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn touch_global(
        &mut self,
        warp: &Warp,
        addresses: &[u64; 32],
        mask: u32,
        lengths: &[u32; 32],
        align: u32,
        reads: bool,
        writes: bool,
    ) -> Checked<[u32; 32]> {
        let mut found = [0; 32];
        let unwaited = if self.shape.early { mask & !warp.waited } else { 0 };
        let mut recent = self.recent;
        for lane in lanes(mask) {
            let (address, bytes) = (addresses[lane], u64::from(lengths[lane]));
            let inside = self
                .shape
                .memory
                .allocations
                .get(recent)
                .is_some_and(|allocation| allocation.holds(address, bytes));
            if !inside {
                recent = self.shape.memory.find(address, bytes).map_err(|mut trouble| {
                    trouble.lane = Some(lane);
                    trouble
                })?;
            }
            let allocation = &self.shape.memory.allocations[recent];
            let offset = address - allocation.base;
            let touched = &self.shape.touched[recent];
            let at = || format!("{bytes} bytes at byte {offset} of `{}` ({address:#x})", allocation.name);
            if address & u64::from(align - 1) != 0 {
                return trouble(FaultKind::Misaligned, lane, at());
            }
            if unwaited >> lane & 1 != 0 && (writes || touched.hazard) {
                let what = if writes { "writes" } else { "reads" };
                let why = if writes { "" } else { ", which an earlier kernel wrote" };
                let what = format!("{what} {}{why}, before griddepcontrol.wait", at());
                return trouble(FaultKind::Race, lane, what);
            }
            if reads {
                if let Some(byte) = allocation.undefined(offset, bytes) {
                    let what = format!("reads {}; nothing wrote byte {byte}", at());
                    return trouble(FaultKind::Uninitialised, lane, what);
                }
                mark(touched.read(allocation), offset, bytes);
            }
            if writes {
                mark(touched.written(allocation), offset, bytes);
            }
            found[lane] = recent as u32;
            let moved = &mut self.counters.moved[recent];
            moved.widths[bytes as usize] += 1;
            moved.read += if reads { bytes } else { 0 };
            moved.written += if writes { bytes } else { 0 };
        }
        self.recent = recent;
        self.count_distinct(addresses, mask, lengths, reads, &found);
        Ok(found)
    }

    /// Counts what the lanes of a warp touch together. Aligned accesses are the same or apart.
    fn count_distinct(
        &mut self,
        addresses: &[u64; 32],
        mask: u32,
        lengths: &[u32; 32],
        reads: bool,
        found: &[u32; 32],
    ) {
        let mut sorted = [(0u64, 0u32, 0u32); 32];
        let mut count = 0;
        for lane in lanes(mask) {
            sorted[count] = (addresses[lane], lengths[lane], found[lane]);
            count += 1;
        }
        let sorted = &mut sorted[..count];
        if !sorted.is_sorted() {
            sorted.sort_unstable();
        }
        let mut sector = u64::MAX;
        for (index, &(address, bytes, allocation)) in sorted.iter().enumerate() {
            // Of equal addresses the last has the greatest length.
            if sorted.get(index + 1).is_some_and(|next| next.0 == address) {
                continue;
            }
            let moved = &mut self.counters.moved[allocation as usize];
            moved.read_by_warps += if reads { u64::from(bytes) } else { 0 };
            moved.sectors += u64::from(address / 32 != sector);
            sector = address / 32;
        }
    }

    pub(super) fn load_global(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        addresses: &[u64; 32],
        mask: u32,
    ) -> Checked {
        let width = access.width();
        let found = self.touch_global(warp, addresses, mask, &[width; 32], width, true, false)?;
        let in_flight = warp.flight.load(&access.registers, u64::from(width * mask.count_ones()));
        self.counters.in_flight = self.counters.in_flight.max(in_flight);
        let words = access.bytes == 4 && access.registers.iter().all(|slot| slot.class == Class::Word);
        for lane in lanes(mask) {
            let allocation = &self.shape.memory.allocations[found[lane] as usize];
            let offset = addresses[lane] - allocation.base;
            if access.read_only && self.shape.touched[found[lane] as usize].wrote(offset, u64::from(width)) {
                let name = &allocation.name;
                let what =
                    format!("reads byte {offset} of `{name}` as read-only (nc), which this launch wrote");
                return trouble(FaultKind::Race, lane, what);
            }
            if words {
                let lines = &mut warp.registers.words;
                allocation.load_words(offset, access.registers.len(), |i, word| {
                    lines[access.registers[i].slot as usize][lane] = word;
                });
                continue;
            }
            for (i, slot) in access.registers.iter().enumerate() {
                let raw = allocation.load(offset + u64::from(access.bytes) * i as u64, access.bytes);
                put(&mut warp.registers, *slot, lane, raw, access);
            }
        }
        Ok(())
    }

    pub(super) fn store_global(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        addresses: &[u64; 32],
        mask: u32,
    ) -> Checked {
        let width = access.width();
        let found = self.touch_global(warp, addresses, mask, &[width; 32], width, false, true)?;
        for lane in lanes(mask) {
            let allocation = &self.shape.memory.allocations[found[lane] as usize];
            let offset = addresses[lane] - allocation.base;
            for (i, slot) in access.registers.iter().enumerate() {
                let value = warp.registers.get(slot.class, slot.slot, lane);
                allocation.store(offset + u64::from(access.bytes) * i as u64, access.bytes, value);
            }
            allocation.wrote(offset, u64::from(width));
        }
        Ok(())
    }
}
