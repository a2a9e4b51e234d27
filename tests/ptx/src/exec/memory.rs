//! Loads and stores in every space.

use super::global::put;
use super::{Warp, Worker};
use crate::FaultKind;
use crate::layout::{PARAM_WINDOW, split};
use crate::op::Access;
use crate::parse::ast::Space;
use crate::shared::Who;
use crate::trouble::{Checked, lanes, trouble};

/// The spaces of generic addresses: lanes by space, and addresses in it.
pub fn by_space(space: Space, mut addresses: [u64; 32], mask: u32) -> ([u64; 32], [(Space, u32); 4]) {
    let mut masks = [(Space::Global, 0), (Space::Shared, 0), (Space::Local, 0), (Space::Param, 0)];
    if space != Space::Generic {
        masks[0] = (space, mask);
        return (addresses, masks);
    }
    for lane in lanes(mask) {
        let (space, address) = split(addresses[lane]);
        addresses[lane] = if space == Space::Param { address + PARAM_WINDOW } else { address };
        for (of, lanes) in &mut masks {
            *lanes |= u32::from(*of == space) << lane;
        }
    }
    (addresses, masks)
}

impl Worker<'_> {
    pub(super) fn load(&mut self, warp: &mut Warp, access: &Access, mask: u32) -> Checked {
        let (addresses, spaces) = by_space(access.space, warp.address(&access.address, mask), mask);
        for (space, mask) in spaces {
            match space {
                _ if mask == 0 => {}
                Space::Global | Space::Generic => self.load_global(warp, access, &addresses, mask)?,
                Space::Shared => self.load_shared(warp, access, &addresses, mask)?,
                Space::Local => self.local(warp, access, &addresses, mask, false)?,
                Space::Param => self.load_parameter(warp, access, &addresses, mask)?,
            }
        }
        Ok(())
    }

    pub(super) fn store(&mut self, warp: &mut Warp, access: &Access, mask: u32) -> Checked {
        let (addresses, spaces) = by_space(access.space, warp.address(&access.address, mask), mask);
        for (space, mask) in spaces {
            match space {
                _ if mask == 0 => {}
                Space::Global | Space::Generic => self.store_global(warp, access, &addresses, mask)?,
                Space::Shared => self.store_shared(warp, access, &addresses, mask)?,
                Space::Local => self.local(warp, access, &addresses, mask, true)?,
                Space::Param => {
                    let lane = mask.trailing_zeros() as usize;
                    return trouble(FaultKind::OutOfBounds, lane, "writes to the kernel's parameters");
                }
            }
        }
        Ok(())
    }

    fn load_shared(&mut self, warp: &mut Warp, access: &Access, addresses: &[u64; 32], mask: u32) -> Checked {
        let width = access.width();
        for lane in lanes(mask) {
            let who = Who { thread: (warp.index * 32 + lane) as u16, together: false, atomic: access.strong };
            let at = self.shared.read(who, addresses[lane], width)?;
            for (i, slot) in access.registers.iter().enumerate() {
                let raw = self.shared.load(at + i * access.bytes as usize, access.bytes);
                put(&mut warp.registers, *slot, lane, raw, access);
            }
        }
        self.count_shared(addresses, mask, width);
        Ok(())
    }

    fn store_shared(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        addresses: &[u64; 32],
        mask: u32,
    ) -> Checked {
        let width = access.width();
        for lane in lanes(mask) {
            let who = Who { thread: (warp.index * 32 + lane) as u16, together: false, atomic: access.strong };
            let at = self.shared.write(who, addresses[lane], width)?;
            for (i, slot) in access.registers.iter().enumerate() {
                let value = warp.registers.get(slot.class, slot.slot, lane);
                self.shared.store(at + i * access.bytes as usize, access.bytes, value);
            }
        }
        self.count_shared(addresses, mask, width);
        Ok(())
    }

    fn local(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        addresses: &[u64; 32],
        mask: u32,
        write: bool,
    ) -> Checked {
        let width = access.width();
        let size = self.shape.kernel.local_bytes;
        for lane in lanes(mask) {
            let address = addresses[lane];
            if address.saturating_add(u64::from(width)) > size {
                let what = format!("{width} bytes at local byte {address}; a thread has {size} bytes");
                return trouble(FaultKind::OutOfBounds, lane, what);
            }
            if !address.is_multiple_of(u64::from(width)) {
                return trouble(
                    FaultKind::Misaligned,
                    lane,
                    format!("{width} bytes at local byte {address}"),
                );
            }
            let start = lane * size as usize + address as usize;
            let range = start..start + width as usize;
            if write {
                warp.local_defined[range].fill(true);
            } else if let Some(byte) = warp.local_defined[range].iter().position(|defined| !defined) {
                let what = format!("reads local byte {}, which nothing wrote", address as usize + byte);
                return trouble(FaultKind::Uninitialised, lane, what);
            }
            for (i, slot) in access.registers.iter().enumerate() {
                let bytes = access.bytes as usize;
                let at = start + i * bytes;
                if write {
                    let value = warp.registers.get(slot.class, slot.slot, lane);
                    warp.local[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
                } else {
                    let mut raw = [0; 8];
                    raw[..bytes].copy_from_slice(&warp.local[at..at + bytes]);
                    put(&mut warp.registers, *slot, lane, u64::from_le_bytes(raw), access);
                }
            }
            self.counters.local_bytes += u64::from(width);
        }
        Ok(())
    }

    fn load_parameter(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        addresses: &[u64; 32],
        mask: u32,
    ) -> Checked {
        let width = access.width() as usize;
        let parameters = self.shape.parameters;
        for lane in lanes(mask) {
            let at = addresses[lane].wrapping_sub(PARAM_WINDOW) as usize;
            if at.saturating_add(width) > parameters.len() {
                let what = format!("{width} bytes at byte {at} of {} bytes of parameters", parameters.len());
                return trouble(FaultKind::OutOfBounds, lane, what);
            }
            if !at.is_multiple_of(width) {
                return trouble(
                    FaultKind::Misaligned,
                    lane,
                    format!("{width} bytes at byte {at} of the parameters"),
                );
            }
            for (i, slot) in access.registers.iter().enumerate() {
                let bytes = access.bytes as usize;
                let mut raw = [0; 8];
                raw[..bytes].copy_from_slice(&parameters[at + i * bytes..at + (i + 1) * bytes]);
                put(&mut warp.registers, *slot, lane, u64::from_le_bytes(raw), access);
            }
        }
        Ok(())
    }
}
