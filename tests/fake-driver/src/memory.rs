//! Device and host memory, copies.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{c_uchar, c_uint, c_void};

use cudarc::driver::sys::{CUdeviceptr, CUresult::*, CUstream};

use crate::codes::{Answer, Stop, refuse};
use crate::entry::{driver, give, offer};
use crate::room::Place;
use crate::state::Fake;
use crate::work::{Work, perform, submit};

/// A copy that the host waits for.
fn at_once(fake: &mut Fake, work: Work) -> Answer {
    let device = fake.current()?;
    fake.use_legacy(device)?;
    fake.may_disturb()?;
    fake.devices[device].settle()?;
    perform(fake, device, &work, Place::Direct)?;
    fake.devices[device].settle()?;
    fake.pace(device);
    Ok(())
}

/// Host memory that a copy uses is there; a copy of nothing needs none.
fn there(pointer: *const c_void, bytes: usize) -> Answer {
    if pointer.is_null() && bytes > 0 { refuse(CUDA_ERROR_INVALID_VALUE) } else { Ok(()) }
}

/// The device's part of a copy lies in one allocation of this context.
fn inside(fake: &Fake, address: u64, bytes: u64) -> Answer {
    let device = fake.current()?;
    match fake.devices[device].find(address, bytes) {
        Some(_) => Ok(()),
        None => refuse(CUDA_ERROR_INVALID_VALUE),
    }
}

fn host_memory(fake: &mut Fake, bytes: usize) -> Answer<*mut c_void> {
    fake.current()?;
    fake.may_disturb()?;
    let layout = Layout::from_size_align(bytes, 4096).ok().filter(|_| bytes > 0);
    let layout = layout.ok_or(Stop::Code(CUDA_ERROR_INVALID_VALUE))?;
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        return refuse(CUDA_ERROR_OUT_OF_MEMORY);
    }
    fake.host.insert(memory as usize, bytes);
    Ok(memory.cast())
}

driver! {
    fn cuMemGetInfo_v2(fake, free: *mut usize, total: *mut usize) {
        let device = fake.current()?;
        let (left, all) = fake.devices[device].memory(&fake.room.settings);
        give(free, left as usize)?;
        give(total, all as usize)
    }

    fn cuMemAlloc_v2(fake, address: *mut CUdeviceptr, bytes: usize) {
        let device = fake.current()?;
        if address.is_null() || bytes == 0 {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        fake.may_disturb()?;
        let room = std::sync::Arc::clone(&fake.room);
        let device = &mut fake.devices[device];
        let Some(made) = device.allocate(bytes as u64, &room.settings) else {
            return refuse(CUDA_ERROR_OUT_OF_MEMORY);
        };
        if let Some((_, mut meter)) = room.gpu(device.slot) {
            meter.allocated = device.allocated;
        }
        give(address, made)
    }

    fn cuMemFree_v2(fake, address: CUdeviceptr) {
        let device = fake.current()?;
        fake.may_disturb()?;
        if address == 0 {
            return Ok(());
        }
        let room = std::sync::Arc::clone(&fake.room);
        let device = &mut fake.devices[device];
        // It waits for what runs, which may have gone wrong.
        device.settle()?;
        if !device.free(address) {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        if let Some((_, mut meter)) = room.gpu(device.slot) {
            meter.allocated = device.allocated;
        }
        Ok(())
    }

    fn cuMemGetAddressRange_v2(fake, base: *mut CUdeviceptr, size: *mut usize, address: CUdeviceptr) {
        let device = fake.current()?;
        let found = fake.devices[device].find(address, 1);
        let (start, block) = found.ok_or(Stop::Code(CUDA_ERROR_NOT_FOUND))?;
        offer(base, start);
        offer(size, block.bytes as usize);
        Ok(())
    }

    fn cuMemAllocHost_v2(fake, memory: *mut *mut c_void, bytes: usize) {
        let made = host_memory(fake, bytes)?;
        give(memory, made)
    }

    fn cuMemHostAlloc(fake, memory: *mut *mut c_void, bytes: usize, _flags: c_uint) {
        let made = host_memory(fake, bytes)?;
        give(memory, made)
    }

    fn cuMemFreeHost(fake, memory: *mut c_void) {
        fake.current()?;
        fake.may_disturb()?;
        let bytes = fake.host.remove(&(memory as usize)).ok_or(Stop::Code(CUDA_ERROR_INVALID_VALUE))?;
        let layout = Layout::from_size_align(bytes, 4096).map_err(|_| Stop::Code(CUDA_ERROR_INVALID_VALUE))?;
        dealloc(memory.cast(), layout);
        Ok(())
    }

    fn cuMemcpyHtoD_v2(fake, to: CUdeviceptr, from: *const c_void, bytes: usize) {
        there(from, bytes)?;
        inside(fake, to, bytes as u64)?;
        at_once(fake, Work::ToDevice { to, from: from as usize, bytes })
    }

    fn cuMemcpyDtoH_v2(fake, to: *mut c_void, from: CUdeviceptr, bytes: usize) {
        there(to, bytes)?;
        inside(fake, from, bytes as u64)?;
        at_once(fake, Work::ToHost { to: to as usize, from, bytes })
    }

    fn cuMemcpyDtoD_v2(fake, to: CUdeviceptr, from: CUdeviceptr, bytes: usize) {
        inside(fake, to, bytes as u64)?;
        inside(fake, from, bytes as u64)?;
        at_once(fake, Work::Within { to, from, bytes: bytes as u64 })
    }

    fn cuMemcpyHtoDAsync_v2(fake, to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream) {
        there(from, bytes)?;
        inside(fake, to, bytes as u64)?;
        submit(fake, stream, Work::ToDevice { to, from: from as usize, bytes })
    }

    fn cuMemcpyDtoHAsync_v2(fake, to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream) {
        there(to, bytes)?;
        inside(fake, from, bytes as u64)?;
        submit(fake, stream, Work::ToHost { to: to as usize, from, bytes })
    }

    fn cuMemcpyDtoDAsync_v2(fake, to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream) {
        inside(fake, to, bytes as u64)?;
        inside(fake, from, bytes as u64)?;
        submit(fake, stream, Work::Within { to, from, bytes: bytes as u64 })
    }

    fn cuMemsetD8_v2(fake, to: CUdeviceptr, value: c_uchar, count: usize) {
        inside(fake, to, count as u64)?;
        at_once(fake, Work::Set { to, value: value.into(), width: 1, count: count as u64 })
    }

    fn cuMemsetD8Async(fake, to: CUdeviceptr, value: c_uchar, count: usize, stream: CUstream) {
        inside(fake, to, count as u64)?;
        submit(fake, stream, Work::Set { to, value: value.into(), width: 1, count: count as u64 })
    }

    fn cuMemsetD32_v2(fake, to: CUdeviceptr, value: c_uint, count: usize) {
        inside(fake, to, 4 * count as u64)?;
        at_once(fake, Work::Set { to, value, width: 4, count: count as u64 })
    }

    fn cuMemsetD32Async(fake, to: CUdeviceptr, value: c_uint, count: usize, stream: CUstream) {
        inside(fake, to, 4 * count as u64)?;
        submit(fake, stream, Work::Set { to, value, width: 4, count: count as u64 })
    }
}
