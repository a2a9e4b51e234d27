//! Graphs: what a stream's capture collected, run again and again.

use std::ffi::{c_uint, c_ulonglong};
use std::sync::Arc;

use cudarc::driver::sys::{CUgraph, CUgraphExec, CUgraphNode, CUresult::*, CUstream};

use crate::codes::{Stop, refuse};
use crate::entry::{driver, give};
use crate::room::Place;
use crate::state::Graph;
use crate::work::{launched, perform};

driver! {
    fn cuGraphCreate(fake, to: *mut CUgraph, flags: c_uint) {
        let device = fake.current()?;
        if flags != 0 {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        let handle = fake.handle();
        fake.graphs.insert(handle, Graph { device, nodes: Arc::default() });
        give(to, handle as CUgraph)
    }

    fn cuGraphGetNodes(fake, graph: CUgraph, nodes: *mut CUgraphNode, count: *mut usize) {
        fake.ready()?;
        let found = fake.graphs.get(&(graph as u64)).ok_or(Stop::Code(CUDA_ERROR_INVALID_VALUE))?;
        if count.is_null() {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        let all = found.nodes.len();
        if !nodes.is_null() {
            for i in 0..*count {
                let node = if i < all { graph as u64 + 1 + i as u64 } else { 0 };
                *nodes.add(i) = node as CUgraphNode;
            }
        }
        *count = if nodes.is_null() { all } else { all.min(*count) };
        Ok(())
    }

    fn cuGraphInstantiateWithFlags(fake, to: *mut CUgraphExec, graph: CUgraph, _flags: c_ulonglong) {
        fake.current()?;
        fake.may_disturb()?;
        let found = fake.graphs.get(&(graph as u64)).ok_or(Stop::Code(CUDA_ERROR_INVALID_VALUE))?.clone();
        let handle = fake.handle();
        fake.executables.insert(handle, found);
        give(to, handle as CUgraphExec)
    }

    fn cuGraphUpload(fake, graph: CUgraphExec, _stream: CUstream) {
        fake.current()?;
        match fake.executables.get(&(graph as u64)) {
            Some(_) => Ok(()),
            None => refuse(CUDA_ERROR_INVALID_VALUE),
        }
    }

    fn cuGraphLaunch(fake, graph: CUgraphExec, stream: CUstream) {
        let device = fake.current()?;
        let found = fake.executables.get(&(graph as u64)).filter(|graph| graph.device == device);
        let nodes = Arc::clone(&found.ok_or(Stop::Code(CUDA_ERROR_INVALID_VALUE))?.nodes);
        if stream as u64 <= 2 {
            fake.use_legacy(device)?;
        } else {
            let found = fake.streams.get_mut(&(stream as u64)).filter(|stream| stream.device == device);
            let found = found.ok_or(Stop::Code(CUDA_ERROR_INVALID_HANDLE))?;
            if let Some(capture) = &mut found.capture {
                // As a graph within the graph.
                capture.nodes.extend(nodes.iter().cloned());
                return Ok(());
            }
        }
        launched(fake, device);
        if fake.room.strike("hang", None).is_some() {
            fake.devices[device].hung = true;
        }
        for node in nodes.iter() {
            perform(fake, device, node, Place::Graph)?;
        }
        Ok(())
    }

    fn cuGraphDestroy(fake, graph: CUgraph) {
        fake.ready()?;
        match fake.graphs.remove(&(graph as u64)) {
            Some(_) => Ok(()),
            None => refuse(CUDA_ERROR_INVALID_VALUE),
        }
    }

    fn cuGraphExecDestroy(fake, graph: CUgraphExec) {
        fake.ready()?;
        match fake.executables.remove(&(graph as u64)) {
            Some(_) => Ok(()),
            None => refuse(CUDA_ERROR_INVALID_VALUE),
        }
    }
}
