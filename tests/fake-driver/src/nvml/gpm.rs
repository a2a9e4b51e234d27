//! GPM: counters of what memory and matrix units did between two samples. In the fake a second is one of the virtual
//! clock, on which the GPU is always busy.

use std::collections::HashMap;
use std::sync::Mutex;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlGpmSupport_t};

use super::codes::*;
use super::{Answer, Handle, board, give, nvml, whole};
use crate::room::lock;

/// What a sample holds.
#[derive(Debug, Clone, Copy)]
struct Sample {
    slot: usize,
    now: f64,
    bytes: f64,
    matrix: f64,
}

#[derive(Debug, Default)]
struct Samples {
    next: u64,
    made: HashMap<u64, Option<Sample>>,
}

static SAMPLES: Mutex<Option<Samples>> = Mutex::new(None);

fn with<T>(run: impl FnOnce(&mut Samples) -> T) -> T {
    run(lock(&SAMPLES).get_or_insert_default())
}

fn taken(handle: nvmlGpmSample_t) -> Answer<Sample> {
    with(|samples| samples.made.get(&(handle as u64)).copied().flatten()).ok_or(INVALID_ARGUMENT)
}

nvml! {
    fn nvmlGpmQueryDeviceSupport(room, device: nvmlDevice_t, support: *mut nvmlGpmSupport_t) {
        let gpu = board(room, device)?;
        if support.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        if (*support).version != 1 {
            return Err(VERSION_MISMATCH);
        }
        (*support).isSupportedDevice = gpu.gpm().into();
        Ok(())
    }

    fn nvmlGpmSampleAlloc(_room, sample: *mut nvmlGpmSample_t) {
        let handle = with(|samples| {
            samples.next += 0x10;
            let handle = 0x6700_0000 + samples.next;
            samples.made.insert(handle, None);
            handle
        });
        give(sample, handle as nvmlGpmSample_t)
    }

    fn nvmlGpmSampleFree(_room, sample: nvmlGpmSample_t) {
        with(|samples| samples.made.remove(&(sample as u64))).map(drop).ok_or(INVALID_ARGUMENT)
    }

    fn nvmlGpmSampleGet(room, device: nvmlDevice_t, sample: nvmlGpmSample_t) {
        let slot = Handle::read(room, device)?.slot;
        let (gpu, meter) = whole(room, device)?;
        if !gpu.gpm() {
            return Err(NOT_SUPPORTED);
        }
        let held = Sample { slot, now: meter.now, bytes: meter.bytes, matrix: meter.matrix };
        with(|samples| match samples.made.get_mut(&(sample as u64)) {
            Some(place) => {
                *place = Some(held);
                Ok(())
            }
            None => Err(INVALID_ARGUMENT),
        })
    }

    fn nvmlGpmMetricsGet(room, request: *mut nvmlGpmMetricsGet_t) {
        if request.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        let request = &mut *request;
        if request.version != 1 {
            return Err(VERSION_MISMATCH);
        }
        let (first, second) = (taken(request.sample1)?, taken(request.sample2)?);
        let gpu = room.settings.gpus.get(first.slot).ok_or(INVALID_ARGUMENT)?;
        let elapsed = second.now - first.now;
        if first.slot != second.slot || elapsed < 0.0 {
            return Err(INVALID_ARGUMENT);
        }
        let percent = |part: f64| if elapsed > 0.0 { 100.0 * part / elapsed } else { 0.0 };
        let busy = if elapsed > 0.0 { 100.0 } else { 0.0 };
        for metric in request.metrics.iter_mut().take(request.numMetrics as usize) {
            let value = match metric.metricId {
                1 | 2 => Ok(busy),
                3 => Ok(busy / 4.0),
                5 | 7 => Ok(percent(second.matrix - first.matrix)),
                6 | 9 | 11..=13 => Ok(0.0),
                10 => Ok(percent((second.bytes - first.bytes) / gpu.bandwidth * 1e9)),
                _ => Err(NOT_SUPPORTED),
            };
            metric.nvmlReturn = value.err().unwrap_or(0);
            metric.value = value.unwrap_or(0.0);
        }
        Ok(())
    }
}
