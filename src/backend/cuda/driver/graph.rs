//! Launches recorded once and started together: CUDA graphs.

use std::ptr;
use std::rc::Rc;

use cudarc::driver::sys;

use super::status::check;
use super::stream::{Context, Stream};
use crate::error::Result;

/// An instantiated graph.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Graph {
    context: Rc<Context>,
    raw: sys::CUgraphExec,
}

/// A stream that collects what is queued on it. Dropped, what it has is thrown away.
pub(in crate::backend::cuda) struct Recording<'a> {
    context: Rc<Context>,
    stream: &'a Stream,
    what: &'a str,
    ended: bool,
}

/// A recording that is through.
pub(in crate::backend::cuda) struct Recorded<'a> {
    context: Rc<Context>,
    stream: &'a Stream,
    what: &'a str,
    collected: Collected,
}

/// What was collected, before it is instantiated.
struct Collected(sys::CUgraph);

impl Drop for Collected {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it is this one's own, and instantiated graphs do not need it.
            unsafe { sys::cuGraphDestroy(self.0) };
        }
    }
}

impl<'a> Recording<'a> {
    /// Begins on the stream, of the context that is this thread's. `what` names it in messages.
    ///
    /// # Errors
    /// The driver cannot record.
    pub fn begin(context: &Rc<Context>, stream: &'a Stream, what: &'a str) -> Result<Recording<'a>> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive.
        let result = unsafe { sys::cuStreamBeginCapture_v2(stream.raw(), mode) };
        check(result, format_args!("recording the graph of {what}"))?;
        Ok(Recording { context: Rc::clone(context), stream, what, ended: false })
    }

    /// Ends it in the context that is this thread's. Nothing of it runs.
    ///
    /// # Errors
    /// The driver cannot record what was queued.
    pub fn end(mut self) -> Result<Recorded<'a>> {
        let Recording { stream, what, .. } = self;
        let mut collected = Collected(ptr::null_mut());
        self.ended = true;
        // SAFETY: the stream is recording, and the pointer is to a local.
        let ended = unsafe { sys::cuStreamEndCapture(stream.raw(), &mut collected.0) };
        check(ended, format_args!("recording the graph of {what}"))?;
        Ok(Recorded { context: Rc::clone(&self.context), stream, what, collected })
    }
}

impl Recorded<'_> {
    /// Makes it ready to run, in the context that is this thread's. The driver does not allow it while this thread records
    /// another stream.
    ///
    /// # Errors
    /// The driver cannot.
    pub fn instantiate(self) -> Result<Graph> {
        let Recorded { context, stream, what, collected } = self;
        let mut raw = ptr::null_mut();
        // SAFETY: the recording is whole, and the pointer is to a local.
        let result = unsafe { sys::cuGraphInstantiateWithFlags(&mut raw, collected.0, 0) };
        check(result, format_args!("instantiating the graph of {what}"))?;
        let graph = Graph { context, raw };
        // SAFETY: both are alive. Otherwise the first launch would do it.
        let result = unsafe { sys::cuGraphUpload(graph.raw, stream.raw()) };
        check(result, format_args!("uploading the graph of {what}"))?;
        Ok(graph)
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if !self.ended && self.context.answers() && self.context.bind().is_ok() {
            let mut collected = Collected(ptr::null_mut());
            // SAFETY: the stream is recording, and the pointer is to a local. Why it came to this is said elsewhere.
            unsafe { sys::cuStreamEndCapture(self.stream.raw(), &mut collected.0) };
        }
    }
}

impl Graph {
    /// Records what `work` queues on the stream. `what` names it in messages. Nothing runs.
    ///
    /// # Errors
    /// The work does, or the driver cannot record it.
    pub fn record(
        context: &Rc<Context>,
        stream: &Stream,
        what: &str,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<Graph> {
        let recording = Recording::begin(context, stream, what)?;
        work()?;
        recording.end()?.instantiate()
    }

    /// Queues one run of it.
    ///
    /// # Errors
    /// The device failed.
    pub fn launch(&self, stream: &Stream, what: &str) -> Result<()> {
        // SAFETY: both are alive.
        let result = unsafe { sys::cuGraphLaunch(self.raw, stream.raw()) };
        check(result, format_args!("launching the graph of {what}"))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.answers() {
            // SAFETY: it is not launched any more; what still runs of it ends first.
            unsafe { sys::cuGraphExecDestroy(self.raw) };
        }
    }
}
