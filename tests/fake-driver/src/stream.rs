//! Streams and the capture of what is put on them.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use cudarc::driver::sys::{
    CUcontext, CUevent, CUgraph, CUresult::*, CUstream, CUstreamCaptureMode, CUstreamCaptureStatus,
};

use crate::codes::{Answer, Stop, refuse};
use crate::entry::{driver, give};
use crate::state::{CAPTURE_MODE, Capture, Fake, Graph, Recorded, Stream};

/// A made stream of this thread's device.
fn stream(fake: &mut Fake, handle: CUstream) -> Answer<&mut Stream> {
    let device = fake.current()?;
    let found = fake.streams.get_mut(&(handle as u64)).filter(|stream| stream.device == device);
    found.ok_or(Stop::Code(CUDA_ERROR_INVALID_HANDLE))
}

/// Somebody waits for a stream, or asks whether it has ended.
fn look(fake: &mut Fake, handle: CUstream) -> Answer<usize> {
    let device = fake.current()?;
    if handle as u64 > 2 {
        if let Some(capture) = &mut stream(fake, handle)?.capture {
            capture.broken = true;
            return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
    } else {
        fake.use_legacy(device)?;
    }
    Ok(device)
}

fn create(fake: &mut Fake, flags: c_uint, priority: c_int) -> Answer<CUstream> {
    let device = fake.current()?;
    if flags > 1 {
        return refuse(CUDA_ERROR_INVALID_VALUE);
    }
    let handle = fake.handle();
    let priority = priority.clamp(-5, 0);
    fake.streams.insert(handle, Stream { device, blocking: flags == 0, priority, capture: None });
    Ok(handle as CUstream)
}

driver! {
    fn cuCtxGetStreamPriorityRange(fake, least: *mut c_int, greatest: *mut c_int) {
        fake.current()?;
        crate::entry::offer(least, 0);
        crate::entry::offer(greatest, -5);
        Ok(())
    }

    fn cuStreamCreate(fake, to: *mut CUstream, flags: c_uint) {
        let made = create(fake, flags, 0)?;
        give(to, made)
    }

    fn cuStreamCreateWithPriority(fake, to: *mut CUstream, flags: c_uint, priority: c_int) {
        let made = create(fake, flags, priority)?;
        give(to, made)
    }

    fn cuStreamGetPriority(fake, handle: CUstream, priority: *mut c_int) {
        let of = stream(fake, handle)?.priority;
        give(priority, of)
    }

    fn cuStreamGetCtx(fake, handle: CUstream, context: *mut CUcontext) {
        let device = if handle as u64 > 2 { stream(fake, handle)?.device } else { fake.current()? };
        give(context, fake.devices[device].context as CUcontext)
    }

    fn cuStreamDestroy_v2(fake, handle: CUstream) {
        if stream(fake, handle)?.capture.is_some() {
            return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        fake.streams.remove(&(handle as u64));
        Ok(())
    }

    fn cuStreamSynchronize(fake, handle: CUstream) {
        let device = look(fake, handle)?;
        fake.devices[device].settle()?;
        fake.pace(device);
        Ok(())
    }

    fn cuStreamQuery(fake, handle: CUstream) {
        let device = look(fake, handle)?;
        if fake.stalls(device) {
            return refuse(CUDA_ERROR_NOT_READY);
        }
        fake.devices[device].settle()?;
        fake.pace(device);
        Ok(())
    }

    fn cuStreamWaitEvent(fake, handle: CUstream, event: CUevent, _flags: c_uint) {
        let device = fake.current()?;
        let recorded = fake.events.get(&(event as u64)).map(|event| event.recorded);
        let recorded = recorded.ok_or(Stop::Code(CUDA_ERROR_INVALID_HANDLE))?;
        if handle as u64 <= 2 {
            return fake.use_legacy(device);
        }
        let capturing = stream(fake, handle)?.capture.is_some();
        match recorded {
            Recorded::Captured(of) if of == handle as u64 => Ok(()),
            // Captures that fork into several streams are not faked.
            Recorded::Captured(_) => refuse(CUDA_ERROR_NOT_SUPPORTED),
            Recorded::Never => Ok(()),
            Recorded::At(_) if capturing => {
                if let Some(capture) = &mut stream(fake, handle)?.capture {
                    capture.broken = true;
                }
                refuse(CUDA_ERROR_STREAM_CAPTURE_ISOLATION)
            }
            // All that was recorded has run.
            Recorded::At(_) => Ok(()),
        }
    }

    fn cuStreamBeginCapture_v2(fake, handle: CUstream, mode: CUstreamCaptureMode) {
        fake.current()?;
        if handle as u64 <= 2 {
            return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        let stream = stream(fake, handle)?;
        if stream.capture.is_some() {
            return refuse(CUDA_ERROR_ILLEGAL_STATE);
        }
        let thread = std::thread::current().id();
        stream.capture = Some(Capture { nodes: Vec::new(), mode: mode as u32, thread, broken: false });
        Ok(())
    }

    fn cuStreamEndCapture(fake, handle: CUstream, graph: *mut CUgraph) {
        let stream = stream(fake, handle)?;
        let device = stream.device;
        let foreign = |capture: &Capture| capture.mode != 2 && capture.thread != std::thread::current().id();
        if stream.capture.as_ref().is_some_and(foreign) {
            return refuse(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
        }
        let capture = stream.capture.take().ok_or(Stop::Code(CUDA_ERROR_ILLEGAL_STATE))?;
        if capture.broken {
            crate::entry::offer(graph, std::ptr::null_mut());
            return refuse(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        }
        let made = fake.handle();
        fake.graphs.insert(made, Graph { device, nodes: Arc::new(capture.nodes), launches: 0 });
        give(graph, made as CUgraph)
    }

    fn cuStreamIsCapturing(fake, handle: CUstream, status: *mut CUstreamCaptureStatus) {
        fake.current()?;
        use CUstreamCaptureStatus::*;
        if handle as u64 <= 2 {
            return give(status, CU_STREAM_CAPTURE_STATUS_NONE);
        }
        let of = match &stream(fake, handle)?.capture {
            None => CU_STREAM_CAPTURE_STATUS_NONE,
            Some(capture) if capture.broken => CU_STREAM_CAPTURE_STATUS_INVALIDATED,
            Some(_) => CU_STREAM_CAPTURE_STATUS_ACTIVE,
        };
        give(status, of)
    }

    fn cuThreadExchangeStreamCaptureMode(fake, mode: *mut CUstreamCaptureMode) {
        fake.ready()?;
        if mode.is_null() {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        use CUstreamCaptureMode::*;
        let old = CAPTURE_MODE.replace(*mode as u32);
        *mode = match old {
            0 => CU_STREAM_CAPTURE_MODE_GLOBAL,
            1 => CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
            _ => CU_STREAM_CAPTURE_MODE_RELAXED,
        };
        Ok(())
    }
}
