//! Which GPUs there are and what they are.

use std::ffi::{CStr, c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlPciInfo_t};

use super::codes::*;
use super::{Handle, board, give, give_text, nvml, which};
use crate::identity::{bus, slice_uuid, uuid, uuid_text};

fn chars<const N: usize>(text: &str) -> [c_char; N] {
    let mut chars = [0; N];
    for (to, byte) in chars.iter_mut().take(N - 1).zip(text.bytes()) {
        *to = byte as c_char;
    }
    chars
}

/// Bus of an address like `0000:1B:00.0`, its domain in four or eight digits.
fn bus_of(address: &str) -> Option<u32> {
    let mut parts = address.split(':');
    let domain = u32::from_str_radix(parts.next()?, 16).ok()?;
    let bus = u32::from_str_radix(parts.next()?, 16).ok()?;
    (domain == 0 && parts.next()?.starts_with("00") && parts.next().is_none()).then_some(bus)
}

nvml! {
    fn nvmlDeviceGetCount_v2(room, count: *mut c_uint) {
        give(count, room.settings.gpus.len() as c_uint)
    }

    fn nvmlDeviceGetHandleByIndex_v2(room, index: c_uint, device: *mut nvmlDevice_t) {
        let handle = Handle { slot: index as usize, slice: false };
        if handle.slot >= room.settings.gpus.len() {
            return Err(INVALID_ARGUMENT);
        }
        give(device, handle.pointer())
    }

    fn nvmlDeviceGetHandleByUUID(room, text: *const c_char, device: *mut nvmlDevice_t) {
        if text.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        let text = CStr::from_ptr(text).to_string_lossy();
        let slots = || 0..room.settings.gpus.len();
        if let Some(slot) = slots().find(|&slot| uuid_text("GPU", uuid(slot)) == text) {
            return give(device, Handle { slot, slice: false }.pointer());
        }
        let mut slices = slots().filter(|&slot| room.settings.gpus[slot].mig);
        match slices.find(|&slot| uuid_text("MIG", slice_uuid(slot)) == text) {
            Some(slot) => give(device, Handle { slot, slice: true }.pointer()),
            None => Err(NOT_FOUND),
        }
    }

    fn nvmlDeviceGetHandleByPciBusId_v2(room, address: *const c_char, device: *mut nvmlDevice_t) {
        if address.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        let wanted = bus_of(&CStr::from_ptr(address).to_string_lossy()).ok_or(INVALID_ARGUMENT)?;
        let slot = (0..room.settings.gpus.len()).find(|&slot| bus(slot) == wanted).ok_or(NOT_FOUND)?;
        give(device, Handle { slot, slice: false }.pointer())
    }

    fn nvmlDeviceGetMigDeviceHandleByIndex(room, device: nvmlDevice_t, index: c_uint, slice: *mut nvmlDevice_t) {
        let (handle, gpu) = which(room, device)?;
        match (handle.slice, gpu.mig_able, gpu.mig) {
            (true, ..) | (_, false, _) => Err(NOT_SUPPORTED),
            (_, _, true) if index == 0 => give(slice, Handle { slice: true, ..handle }.pointer()),
            _ => Err(NOT_FOUND),
        }
    }

    fn nvmlDeviceIsMigDeviceHandle(room, device: nvmlDevice_t, is: *mut c_uint) {
        give(is, which(room, device)?.0.slice.into())
    }

    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(room, slice: nvmlDevice_t, device: *mut nvmlDevice_t) {
        let handle = which(room, slice)?.0;
        if !handle.slice {
            return Err(INVALID_ARGUMENT);
        }
        give(device, Handle { slice: false, ..handle }.pointer())
    }

    fn nvmlDeviceGetMigMode(room, device: nvmlDevice_t, current: *mut c_uint, pending: *mut c_uint) {
        let gpu = board(room, device)?;
        if !gpu.mig_able {
            return Err(NOT_SUPPORTED);
        }
        give(current, gpu.mig.into())?;
        give(pending, gpu.mig.into())
    }

    fn nvmlDeviceGetMaxMigDeviceCount(room, device: nvmlDevice_t, count: *mut c_uint) {
        let gpu = board(room, device)?;
        give(count, if gpu.mig_able { 7 } else { 0 })
    }

    fn nvmlDeviceGetName(room, device: nvmlDevice_t, name: *mut c_char, length: c_uint) {
        let (handle, gpu) = which(room, device)?;
        give_text(name, length, if handle.slice { gpu.name } else { gpu.board })
    }

    fn nvmlDeviceGetUUID(room, device: nvmlDevice_t, text: *mut c_char, length: c_uint) {
        let (handle, _) = which(room, device)?;
        let own = match handle.slice {
            true => uuid_text("MIG", slice_uuid(handle.slot)),
            false => uuid_text("GPU", uuid(handle.slot)),
        };
        give_text(text, length, &own)
    }

    fn nvmlDeviceGetSerial(room, device: nvmlDevice_t, text: *mut c_char, length: c_uint) {
        let slot = which(room, device)?.0.slot;
        give_text(text, length, &format!("16{:011}", 50_123_456 + slot))
    }

    fn nvmlDeviceGetIndex(room, device: nvmlDevice_t, index: *mut c_uint) {
        let handle = which(room, device)?.0;
        give(index, if handle.slice { 0 } else { handle.slot as c_uint })
    }

    fn nvmlDeviceGetPciInfo_v3(room, device: nvmlDevice_t, info: *mut nvmlPciInfo_t) {
        let bus = bus(which(room, device)?.0.slot);
        give(info, nvmlPciInfo_t {
            busIdLegacy: chars(&format!("0000:{bus:02X}:00.0")),
            domain: 0,
            bus,
            device: 0,
            pciDeviceId: 0x2330_10de,
            pciSubSystemId: 0x16c1_10de,
            busId: chars(&format!("00000000:{bus:02X}:00.0")),
        })
    }

    fn nvmlDeviceGetCudaComputeCapability(room, device: nvmlDevice_t, major: *mut c_int, minor: *mut c_int) {
        let capability = which(room, device)?.1.capability;
        give(major, capability.0)?;
        give(minor, capability.1)
    }

    fn nvmlDeviceGetArchitecture(room, device: nvmlDevice_t, architecture: *mut c_uint) {
        let capability = which(room, device)?.1.capability;
        // Volta, Ampere, Ada, Hopper.
        give(architecture, match capability {
            (7, _) => 5,
            (8, 9) => 8,
            (8, _) => 7,
            _ => 9,
        })
    }

    fn nvmlDeviceGetPersistenceMode(room, device: nvmlDevice_t, mode: *mut c_uint) {
        board(room, device)?;
        give(mode, 1)
    }

    fn nvmlDeviceGetComputeMode(room, device: nvmlDevice_t, mode: *mut c_uint) {
        which(room, device)?;
        give(mode, 0)
    }
}
