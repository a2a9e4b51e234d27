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

/// The recording before it is instantiated.
struct Recording(sys::CUgraph);

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it is this one's own, and instantiated graphs do not need it.
            unsafe { sys::cuGraphDestroy(self.0) };
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
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive.
        let result = unsafe { sys::cuStreamBeginCapture_v2(stream.raw(), mode) };
        check(result, format_args!("recording the graph of {what}"))?;
        let worked = work();
        let mut recording = Recording(ptr::null_mut());
        // SAFETY: the stream is recording, and the pointer is to a local. The recording ends even if the work failed.
        let ended = unsafe { sys::cuStreamEndCapture(stream.raw(), &mut recording.0) };
        worked?;
        check(ended, format_args!("recording the graph of {what}"))?;
        let mut raw = ptr::null_mut();
        // SAFETY: the recording is whole, and the pointer is to a local.
        let result = unsafe { sys::cuGraphInstantiateWithFlags(&mut raw, recording.0, 0) };
        check(result, format_args!("instantiating the graph of {what}"))?;
        let graph = Graph { context: Rc::clone(context), raw };
        // SAFETY: both are alive. Otherwise the first launch would do it.
        let result = unsafe { sys::cuGraphUpload(graph.raw, stream.raw()) };
        check(result, format_args!("uploading the graph of {what}"))?;
        Ok(graph)
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
