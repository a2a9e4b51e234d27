//! The GPU's context, a stream in it, and events: what owns the driver's handles, and how work is waited for.

use std::cell::Cell;
use std::ptr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{hint, thread};

use cudarc::driver::sys::{self, CUresult};

use super::status::{NOT_READY, check};
use crate::error::{Failure, Result};

/// How long a wait spins before it sleeps between looks.
const SPIN: Duration = Duration::from_millis(5);
const SLEEP: Duration = Duration::from_micros(20);

/// The GPU's primary context. Everything made in it holds on to it.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Context {
    device: sys::CUdevice,
    raw: sys::CUcontext,
    abandoned: Cell<bool>,
}

impl Context {
    /// Retains the context of a device and makes it this thread's.
    ///
    /// # Errors
    /// The device is busy, prohibited or lost.
    pub fn retain(device: sys::CUdevice, name: &str) -> Result<Rc<Context>> {
        let mut raw = ptr::null_mut();
        // SAFETY: the driver is initialised, the device is one of its own, and the pointer is to a local.
        let result = unsafe { sys::cuDevicePrimaryCtxRetain(&mut raw, device) };
        check(result, format_args!("opening the {name}"))?;
        let context = Rc::new(Context { device, raw, abandoned: Cell::new(false) });
        context.bind()?;
        Ok(context)
    }

    /// Makes it this thread's.
    ///
    /// # Errors
    /// The device failed.
    pub fn bind(&self) -> Result<()> {
        self.shared().bind()
    }

    /// The context for threads that help this one while it waits for them.
    pub fn shared(&self) -> Shared {
        Shared(self.raw)
    }

    /// Whether handles may be given back. They may not once the GPU has hung: the driver would wait for it.
    pub fn answers(&self) -> bool {
        !self.abandoned.get()
    }

    /// Has nothing given back any more.
    pub fn abandon(&self) {
        self.abandoned.set(true);
    }
}

/// A context, without a share in keeping it.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend::cuda) struct Shared(sys::CUcontext);

// SAFETY: the driver takes a context from every thread.
unsafe impl Send for Shared {}
// SAFETY: as above; nothing here changes.
unsafe impl Sync for Shared {}

impl Shared {
    /// Makes it this thread's.
    ///
    /// # Errors
    /// The device failed.
    pub fn bind(&self) -> Result<()> {
        // SAFETY: the driver refuses a context that is not retained any more.
        check(unsafe { sys::cuCtxSetCurrent(self.0) }, "taking the GPU's context")
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.answers() {
            // SAFETY: it was retained once, and nothing made in it is left. An error changes nothing any more.
            unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
        }
    }
}

/// A queue of work of its own.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Stream {
    context: Rc<Context>,
    raw: sys::CUstream,
    patience: Duration,
}

impl Stream {
    /// A stream whose waits end after `patience`.
    ///
    /// # Errors
    /// The device failed.
    pub fn new(context: &Rc<Context>, patience: Duration) -> Result<Stream> {
        let mut raw = ptr::null_mut();
        // Not ordered with the legacy default stream, which is not used.
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the pointer is to a local.
        check(unsafe { sys::cuStreamCreate(&mut raw, flags) }, "creating a stream")?;
        Ok(Stream { context: Rc::clone(context), raw, patience })
    }

    /// The driver's handle.
    pub fn raw(&self) -> sys::CUstream {
        self.raw
    }

    /// How long its waits last at most.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Notes in `event` when everything queued so far has ended.
    ///
    /// # Errors
    /// The device failed.
    pub fn record(&self, event: &Event) -> Result<()> {
        // SAFETY: both are this context's.
        check(unsafe { sys::cuEventRecord(event.raw, self.raw) }, "recording an event")
    }

    /// Waits until the work before an event has ended. `doing` names it.
    ///
    /// # Errors
    /// The device failed, or the work did not end within the stream's patience.
    pub fn wait(&self, event: &Event, doing: &str) -> Result<()> {
        // SAFETY: the event is alive.
        self.poll(doing, || unsafe { sys::cuEventQuery(event.raw) })
    }

    /// Waits until all work has ended.
    ///
    /// # Errors
    /// As [`Stream::wait`].
    pub fn synchronise(&self, doing: &str) -> Result<()> {
        // SAFETY: the stream is alive.
        self.poll(doing, || unsafe { sys::cuStreamQuery(self.raw) })
    }

    /// Asks until the answer is another than "not ready". The driver's own waits know no end.
    fn poll(&self, doing: &str, query: impl Fn() -> CUresult) -> Result<()> {
        let start = Instant::now();
        loop {
            let answer = query();
            if answer as u32 != NOT_READY {
                return check(answer, doing);
            }
            let waited = start.elapsed();
            if waited > self.patience {
                self.context.abandon();
                return Err(Failure::device(format!(
                    "{doing}: the GPU has not finished within {} s",
                    self.patience.as_secs_f64()
                ))
                .hint("it hangs or is held up by other work: look at nvidia-smi and dmesg; --timeout waits longer"));
            }
            if waited > SPIN { thread::sleep(SLEEP) } else { hint::spin_loop() }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.context.answers() {
            // SAFETY: it is not used any more.
            unsafe { sys::cuStreamDestroy_v2(self.raw) };
        }
    }
}

/// A moment in a stream.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Event {
    context: Rc<Context>,
    raw: sys::CUevent,
}

impl Event {
    /// An event that takes the time.
    ///
    /// # Errors
    /// The device failed.
    pub fn new(context: &Rc<Context>) -> Result<Event> {
        let mut raw = ptr::null_mut();
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT as u32;
        // SAFETY: the pointer is to a local.
        check(unsafe { sys::cuEventCreate(&mut raw, flags) }, "creating an event")?;
        Ok(Event { context: Rc::clone(context), raw })
    }

    /// Seconds from `earlier` to this one; both have passed.
    ///
    /// # Errors
    /// One of them was not recorded, or the device failed.
    pub fn seconds_since(&self, earlier: &Event) -> Result<f64> {
        let mut milliseconds = 0f32;
        // SAFETY: both are alive, and the pointer is to a local.
        let result = unsafe { sys::cuEventElapsedTime(&mut milliseconds, earlier.raw, self.raw) };
        check(result, "reading the GPU's clock")?;
        Ok(f64::from(milliseconds) * 1e-3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.answers() {
            // SAFETY: it is not used any more.
            unsafe { sys::cuEventDestroy_v2(self.raw) };
        }
    }
}
