//! Events, which take the virtual time.

use std::ffi::c_uint;

use cudarc::driver::sys::{CUevent, CUresult::*, CUstream};

use crate::codes::{Answer, Stop, refuse};
use crate::entry::{driver, give};
use crate::state::{Event, Fake, Recorded};
use crate::work::{Work, submit};

/// What an event's time is a multiple of, in nanoseconds.
const RESOLUTION: f64 = 500.0;

fn event(fake: &mut Fake, handle: CUevent) -> Answer<&mut Event> {
    let device = fake.current()?;
    let found = fake.events.get_mut(&(handle as u64)).filter(|event| event.device == device);
    found.ok_or(Stop::Code(CUDA_ERROR_INVALID_HANDLE))
}

fn record(fake: &mut Fake, handle: CUevent, stream: CUstream, external: bool) -> Answer {
    event(fake, handle)?;
    let capturing = fake.streams.get(&(stream as u64)).is_some_and(|stream| stream.capture.is_some());
    if capturing && !external {
        let device = fake.current()?;
        if fake.streams.get(&(stream as u64)).is_some_and(|stream| stream.device != device) {
            return refuse(CUDA_ERROR_INVALID_HANDLE);
        }
        event(fake, handle)?.recorded = Recorded::Captured(stream as u64);
        return Ok(());
    }
    submit(fake, stream, Work::Record(handle as u64))
}

driver! {
    fn cuEventCreate(fake, to: *mut CUevent, flags: c_uint) {
        let device = fake.current()?;
        if flags > 7 {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        let handle = fake.handle();
        fake.events.insert(handle, Event { device, timing: flags & 2 == 0, recorded: Recorded::Never });
        give(to, handle as CUevent)
    }

    fn cuEventDestroy_v2(fake, handle: CUevent) {
        event(fake, handle)?;
        fake.events.remove(&(handle as u64));
        Ok(())
    }

    fn cuEventRecord(fake, handle: CUevent, stream: CUstream) {
        record(fake, handle, stream, false)
    }

    fn cuEventRecordWithFlags(fake, handle: CUevent, stream: CUstream, flags: c_uint) {
        record(fake, handle, stream, flags & 1 != 0)
    }

    fn cuEventQuery(fake, handle: CUevent) {
        let device = fake.current()?;
        let recorded = event(fake, handle)?.recorded;
        fake.may_disturb()?;
        if let Recorded::Captured(_) = recorded {
            return refuse(CUDA_ERROR_CAPTURED_EVENT);
        }
        if fake.stalls(device) {
            return refuse(CUDA_ERROR_NOT_READY);
        }
        fake.devices[device].settle()?;
        fake.pace(device);
        Ok(())
    }

    fn cuEventSynchronize(fake, handle: CUevent) {
        let device = fake.current()?;
        let recorded = event(fake, handle)?.recorded;
        fake.may_disturb()?;
        if let Recorded::Captured(_) = recorded {
            return refuse(CUDA_ERROR_CAPTURED_EVENT);
        }
        fake.devices[device].settle()?;
        fake.pace(device);
        Ok(())
    }

    fn cuEventElapsedTime(fake, milliseconds: *mut f32, start: CUevent, end: CUevent) {
        let device = fake.current()?;
        let (start, end) = (*event(fake, start)?, *event(fake, end)?);
        let at = |event: Event| match event.recorded {
            Recorded::At(time) if event.timing => Ok((time / RESOLUTION).floor() * RESOLUTION),
            Recorded::Captured(_) => refuse(CUDA_ERROR_CAPTURED_EVENT),
            _ => refuse(CUDA_ERROR_INVALID_HANDLE),
        };
        let elapsed = at(end)? - at(start)?;
        if fake.devices[device].hung {
            return refuse(CUDA_ERROR_NOT_READY);
        }
        fake.devices[device].settle()?;
        give(milliseconds, (elapsed * 1e-6) as f32)
    }
}
