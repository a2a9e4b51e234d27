//! Memory, its errors, and who uses it.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlProcessInfo_t};

use super::codes::*;
use super::system::OTHERS;
use super::{Handle, any, board, give, nvml};
use crate::identity::Identity;
use crate::room::{Meter, Room};

/// Bytes that a process's context takes besides what it allocates.
const CONTEXT: u64 = 500 << 20;
/// Bytes of each other process.
const OTHER: u64 = 1 << 30;

/// Total, kept back by the driver, used.
fn memory(room: &Room, handle: Handle, gpu: &Identity, meter: &Meter) -> (u64, u64, u64) {
    let total = if handle.slice { gpu.memory } else { gpu.board_memory };
    let reserved = if gpu.mig { 0 } else { gpu.board_memory - gpu.memory };
    let own = if meter.context { CONTEXT + meter.allocated } else { 0 };
    (total, reserved, own + u64::from(room.settings.others) * OTHER)
}

/// Process ids and their bytes.
fn processes(room: &Room, meter: &Meter) -> Vec<(u32, u64)> {
    let own = meter.context.then(|| (std::process::id(), CONTEXT + meter.allocated));
    own.into_iter().chain((0..room.settings.others).map(|i| (OTHERS + i, OTHER))).collect()
}

unsafe fn give_processes(
    room: &Room,
    device: nvmlDevice_t,
    count: *mut c_uint,
    infos: *mut nvmlProcessInfo_t,
) -> super::Answer {
    let (_, _, meter) = any(room, device)?;
    if count.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    let all = processes(room, &meter);
    // SAFETY: it is not null; the caller says in `count` how many there is room for.
    unsafe {
        let fits = *count as usize >= all.len();
        *count = all.len() as c_uint;
        if !fits {
            return Err(INSUFFICIENT_SIZE);
        }
        if infos.is_null() && !all.is_empty() {
            return Err(INVALID_ARGUMENT);
        }
        for (i, (pid, bytes)) in all.into_iter().enumerate() {
            infos.add(i).write(nvmlProcessInfo_t {
                pid,
                usedGpuMemory: bytes,
                gpuInstanceId: u32::MAX,
                computeInstanceId: u32::MAX,
            });
        }
    }
    Ok(())
}

nvml! {
    fn nvmlDeviceGetMemoryInfo(room, device: nvmlDevice_t, info: *mut nvmlMemory_t) {
        let (handle, gpu, meter) = any(room, device)?;
        let (total, reserved, used) = memory(room, handle, gpu, &meter);
        let used = used + reserved;
        give(info, nvmlMemory_t { total, free: total.saturating_sub(used), used })
    }

    fn nvmlDeviceGetMemoryInfo_v2(room, device: nvmlDevice_t, info: *mut nvmlMemory_v2_t) {
        let (handle, gpu, meter) = any(room, device)?;
        if info.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        let version = (*info).version;
        if version != (size_of::<nvmlMemory_v2_t>() | 2 << 24) as c_uint {
            return Err(VERSION_MISMATCH);
        }
        let (total, reserved, used) = memory(room, handle, gpu, &meter);
        let free = total.saturating_sub(used + reserved);
        give(info, nvmlMemory_v2_t { version, total, reserved, free, used })
    }

    fn nvmlDeviceGetMemoryBusWidth(room, device: nvmlDevice_t, bits: *mut c_uint) {
        let gpu = board(room, device)?;
        give(bits, gpu.bus)
    }

    fn nvmlDeviceGetComputeRunningProcesses_v3(
        room,
        device: nvmlDevice_t,
        count: *mut c_uint,
        infos: *mut nvmlProcessInfo_t,
    ) {
        give_processes(room, device, count, infos)
    }

    fn nvmlDeviceGetEccMode(room, device: nvmlDevice_t, current: *mut c_uint, pending: *mut c_uint) {
        let gpu = board(room, device)?;
        if !gpu.ecc {
            return Err(NOT_SUPPORTED);
        }
        give(current, 1)?;
        give(pending, 1)
    }

    fn nvmlDeviceGetTotalEccErrors(
        room,
        device: nvmlDevice_t,
        kind: c_uint,
        counter: c_uint,
        count: *mut c_ulonglong,
    ) {
        let gpu = board(room, device)?;
        match (gpu.ecc, kind, counter) {
            (false, ..) => Err(NOT_SUPPORTED),
            (_, 1, 0 | 1) => give(count, room.settings.ecc_errors),
            (_, 0, 0 | 1) => give(count, 0),
            _ => Err(INVALID_ARGUMENT),
        }
    }
}
