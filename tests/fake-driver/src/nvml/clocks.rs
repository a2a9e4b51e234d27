//! Clocks, what holds them back, and how busy the GPU is.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlUtilization_t};

use super::codes::*;
use super::{Answer, board, give, nvml, whole};
use crate::identity::Identity;
use crate::room::{Meter, Room};

const IDLE: u64 = 1;
const POWER_CAP: u64 = 4;
const HARDWARE: u64 = 8;
const HARDWARE_THERMAL: u64 = 64;

/// MHz at this moment.
fn clock(room: &Room, gpu: &Identity, meter: &Meter, which: u32) -> Answer<u32> {
    let multiprocessors = match meter.busy() {
        None => gpu.clock / 6,
        Some(_) if room.throttled(meter) => gpu.clock * 7 / 10,
        Some(_) => gpu.clock,
    };
    match which {
        0 | 1 => Ok(multiprocessors),
        2 => Ok(gpu.memory_clock),
        3 => Ok(multiprocessors * 9 / 10),
        _ => Err(INVALID_ARGUMENT),
    }
}

fn most(gpu: &Identity, which: u32) -> Answer<u32> {
    match which {
        0 | 1 => Ok(gpu.clock),
        2 => Ok(gpu.memory_clock),
        3 => Ok(gpu.clock * 9 / 10),
        _ => Err(INVALID_ARGUMENT),
    }
}

fn reasons(room: &Room, meter: &Meter) -> u64 {
    match (room.throttled(meter), room.settings.thermal) {
        (true, false) => POWER_CAP,
        (true, true) => HARDWARE | HARDWARE_THERMAL,
        _ if meter.busy().is_none() => IDLE,
        _ => 0,
    }
}

nvml! {
    fn nvmlDeviceGetClockInfo(room, device: nvmlDevice_t, which: c_uint, mhz: *mut c_uint) {
        let (gpu, meter) = whole(room, device)?;
        give(mhz, clock(room, gpu, &meter, which)?)
    }

    fn nvmlDeviceGetMaxClockInfo(room, device: nvmlDevice_t, which: c_uint, mhz: *mut c_uint) {
        let gpu = board(room, device)?;
        give(mhz, most(gpu, which)?)
    }

    fn nvmlDeviceGetClock(room, device: nvmlDevice_t, which: c_uint, id: c_uint, mhz: *mut c_uint) {
        let (gpu, meter) = whole(room, device)?;
        give(mhz, match id {
            0 => clock(room, gpu, &meter, which)?,
            1..=3 => most(gpu, which)?,
            _ => return Err(INVALID_ARGUMENT),
        })
    }

    fn nvmlDeviceGetApplicationsClock(room, device: nvmlDevice_t, which: c_uint, mhz: *mut c_uint) {
        let gpu = board(room, device)?;
        give(mhz, most(gpu, which)?)
    }

    fn nvmlDeviceGetCurrentClocksThrottleReasons(room, device: nvmlDevice_t, mask: *mut c_ulonglong) {
        let (_, meter) = whole(room, device)?;
        give(mask, reasons(room, &meter))
    }

    fn nvmlDeviceGetCurrentClocksEventReasons(room, device: nvmlDevice_t, mask: *mut c_ulonglong) {
        let (_, meter) = whole(room, device)?;
        give(mask, reasons(room, &meter))
    }

    fn nvmlDeviceGetSupportedClocksThrottleReasons(room, device: nvmlDevice_t, mask: *mut c_ulonglong) {
        board(room, device)?;
        give(mask, 0x1ff)
    }

    fn nvmlDeviceGetUtilizationRates(room, device: nvmlDevice_t, rates: *mut nvmlUtilization_t) {
        let (gpu, meter) = whole(room, device)?;
        if gpu.mig {
            return Err(NOT_SUPPORTED);
        }
        let busy = meter.busy().is_some();
        give(rates, nvmlUtilization_t { gpu: if busy { 100 } else { 0 }, memory: if busy { 70 } else { 0 } })
    }

    fn nvmlDeviceGetPerformanceState(room, device: nvmlDevice_t, state: *mut c_uint) {
        board(room, device)?;
        give(state, 0)
    }
}
