//! Power, energy, temperature.

use std::ffi::{c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlFieldValue_t, nvmlValue_t};

use super::codes::*;
use super::{Answer, board, give, nvml, whole};
use crate::identity::Identity;
use crate::room::{Meter, Room};

/// Milliwatts at this moment.
fn power(room: &Room, gpu: &Identity, meter: &Meter) -> u32 {
    let watts = match meter.busy() {
        Some(_) if room.throttled(meter) && !room.settings.thermal => gpu.power,
        Some(watts) => watts,
        None => gpu.idle,
    };
    (watts * 1000.0) as u32
}

/// Degrees Celsius.
fn temperature(room: &Room, gpu: &Identity, meter: &Meter) -> u32 {
    match meter.busy() {
        Some(_) if room.throttled(meter) && room.settings.thermal => 90,
        busy => 31 + ((busy.unwrap_or(gpu.idle) - gpu.idle) / (gpu.power - gpu.idle) * 33.0) as u32,
    }
}

/// Type and value of a field; the types are 1: unsigned, 3: unsigned long long.
fn field(room: &Room, gpu: &Identity, meter: &mut Meter, id: u32) -> Answer<(u32, u64)> {
    let limit = (gpu.power * 1000.0) as u64;
    Ok(match id {
        82 if gpu.bus > 1024 => (1, u64::from(temperature(room, gpu, meter)) + 9),
        83 => (3, (meter.energy(room, gpu) * 1000.0) as u64),
        185 | 186 => (1, power(room, gpu, meter).into()),
        187 => (1, limit / 4),
        188..=190 | 192 => (1, limit),
        _ => return Err(NOT_SUPPORTED),
    })
}

nvml! {
    fn nvmlDeviceGetPowerUsage(room, device: nvmlDevice_t, milliwatts: *mut c_uint) {
        let (gpu, meter) = whole(room, device)?;
        give(milliwatts, power(room, gpu, &meter))
    }

    fn nvmlDeviceGetEnforcedPowerLimit(room, device: nvmlDevice_t, milliwatts: *mut c_uint) {
        let gpu = board(room, device)?;
        give(milliwatts, (gpu.power * 1000.0) as u32)
    }

    fn nvmlDeviceGetPowerManagementLimit(room, device: nvmlDevice_t, milliwatts: *mut c_uint) {
        let gpu = board(room, device)?;
        give(milliwatts, (gpu.power * 1000.0) as u32)
    }

    fn nvmlDeviceGetPowerManagementDefaultLimit(room, device: nvmlDevice_t, milliwatts: *mut c_uint) {
        let gpu = board(room, device)?;
        give(milliwatts, (gpu.power * 1000.0) as u32)
    }

    fn nvmlDeviceGetPowerManagementLimitConstraints(
        room,
        device: nvmlDevice_t,
        least: *mut c_uint,
        most: *mut c_uint,
    ) {
        let gpu = board(room, device)?;
        give(least, (gpu.power * 250.0) as u32)?;
        give(most, (gpu.power * 1000.0) as u32)
    }

    fn nvmlDeviceGetTotalEnergyConsumption(room, device: nvmlDevice_t, millijoules: *mut c_ulonglong) {
        let (gpu, mut meter) = whole(room, device)?;
        give(millijoules, (meter.energy(room, gpu) * 1000.0) as u64)
    }

    fn nvmlDeviceGetTemperature(room, device: nvmlDevice_t, sensor: c_uint, degrees: *mut c_uint) {
        let (gpu, meter) = whole(room, device)?;
        if sensor != 0 {
            return Err(INVALID_ARGUMENT);
        }
        give(degrees, temperature(room, gpu, &meter))
    }

    fn nvmlDeviceGetTemperatureThreshold(room, device: nvmlDevice_t, which: c_uint, degrees: *mut c_uint) {
        let gpu = board(room, device)?;
        give(degrees, match which {
            0 => 92,
            1 => 89,
            2 if gpu.bus > 1024 => 95,
            3 => 85,
            2 | 4..=6 => return Err(NOT_SUPPORTED),
            _ => return Err(INVALID_ARGUMENT),
        })
    }

    fn nvmlDeviceGetFieldValues(room, device: nvmlDevice_t, count: c_int, values: *mut nvmlFieldValue_t) {
        let (gpu, mut meter) = whole(room, device)?;
        if values.is_null() || count <= 0 {
            return Err(INVALID_ARGUMENT);
        }
        for i in 0..count as usize {
            let value = &mut *values.add(i);
            let found = field(room, gpu, &mut meter, value.fieldId);
            value.timestamp = room.started.elapsed().as_micros() as i64;
            value.latencyUsec = 0;
            value.nvmlReturn = found.err().unwrap_or(0);
            if let Ok((kind, number)) = found {
                value.valueType = kind;
                value.value = nvmlValue_t { ullVal: number };
            }
        }
        Ok(())
    }
}
