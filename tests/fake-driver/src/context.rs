//! Initialisation, primary contexts, and which one a thread has.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::{Arc, Mutex};

use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdriverProcAddressQueryResult, CUresult, CUresult::*, cuuint64_t,
};

use crate::codes::{Stop, meaning, refuse};
use crate::entry::{driver, give, offer};
use crate::room::lock;
use crate::state::Fake;

/// Everything that was made in a device's context goes with it.
fn destroy(fake: &mut Fake, index: usize) {
    fake.streams.retain(|_, stream| stream.device != index);
    fake.events.retain(|_, event| event.device != index);
    fake.modules.retain(|_, module| module.device != index);
    fake.functions.retain(|_, function| function.device != index);
    fake.graphs.retain(|_, graph| graph.device != index);
    fake.executables.retain(|_, graph| graph.device != index);
    let device = &mut fake.devices[index];
    let live: Vec<u64> = device.blocks.keys().copied().collect();
    for address in live {
        device.free(address);
    }
    fake.destroyed.push(device.context);
    device.context = 0;
    device.flags = 0;
    if let Some((_, mut meter)) = fake.room.gpu(device.slot) {
        (meter.allocated, meter.context) = (0, false);
    }
}

/// Texts that were handed out, which stay as long as the process.
fn keep(text: &str) -> *const c_char {
    static KEPT: Mutex<Vec<CString>> = Mutex::new(Vec::new());
    let mut kept = lock(&KEPT);
    if let Some(known) = kept.iter().find(|known| known.to_bytes() == text.as_bytes()) {
        return known.as_ptr();
    }
    let made = CString::new(text).unwrap_or_default();
    let pointer = made.as_ptr();
    kept.push(made);
    pointer
}

/// The address of one of this library's functions: the newest variant of a name, as `cuGetProcAddress` wants it.
fn address(name: &str) -> Option<*mut c_void> {
    // SAFETY: zero is a value of all its fields.
    let mut own: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the address is one of this library; the file name that it gives lives as long as the library.
    let handle = unsafe {
        if libc::dladdr(address as *const c_void, &mut own) == 0 {
            return None;
        }
        libc::dlopen(own.dli_fname, libc::RTLD_NOLOAD | libc::RTLD_NOW)
    };
    if handle.is_null() {
        return None;
    }
    ["_v3", "_v2", ""].iter().find_map(|suffix| {
        let name = CString::new(format!("{name}{suffix}")).ok()?;
        // SAFETY: the handle is good, the name ends with a zero.
        let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    })
}

driver! {
    fn cuInit(fake, flags: c_uint) {
        if flags != 0 {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        if fake.devices.is_empty() {
            return refuse(CUDA_ERROR_NO_DEVICE);
        }
        fake.initialised = true;
        Ok(())
    }

    fn cuDriverGetVersion(fake, version: *mut c_int) {
        give(version, fake.room.settings.version)
    }

    fn cuGetErrorName(_fake, code: CUresult, name: *mut *const c_char) {
        give(name, keep(&format!("{code:?}")))
    }

    fn cuGetErrorString(_fake, code: CUresult, text: *mut *const c_char) {
        give(text, keep(meaning(code)))
    }

    fn cuGetProcAddress_v2(
        _fake,
        symbol: *const c_char,
        function: *mut *mut c_void,
        _version: c_int,
        _flags: cuuint64_t,
        status: *mut CUdriverProcAddressQueryResult,
    ) {
        if symbol.is_null() || function.is_null() {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        use CUdriverProcAddressQueryResult::*;
        let found = address(&CStr::from_ptr(symbol).to_string_lossy());
        let known = if found.is_some() { CU_GET_PROC_ADDRESS_SUCCESS } else { CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND };
        offer(status, known);
        *function = found.unwrap_or(std::ptr::null_mut());
        if found.is_none() { refuse(CUDA_ERROR_NOT_FOUND) } else { Ok(()) }
    }

    fn cuDevicePrimaryCtxRetain(fake, context: *mut CUcontext, device: CUdevice) {
        let fresh = fake.handle();
        let room = Arc::clone(&fake.room);
        let device = fake.device(device)?;
        if let Some(code) = device.lost {
            return refuse(code);
        }
        if context.is_null() {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        if device.retained == 0 {
            device.context = fresh;
            if let Some((_, mut meter)) = room.gpu(device.slot) {
                meter.context = true;
            }
        }
        device.retained += 1;
        give(context, device.context as CUcontext)
    }

    fn cuDevicePrimaryCtxRelease_v2(fake, number: CUdevice) {
        let device = fake.device(number)?;
        if device.retained == 0 {
            return refuse(CUDA_ERROR_INVALID_CONTEXT);
        }
        if device.hung && device.retained == 1 {
            // It waits for what runs.
            return Err(Stop::Hang);
        }
        device.retained -= 1;
        if device.retained == 0 {
            destroy(fake, number as usize);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxSetFlags_v2(fake, device: CUdevice, flags: c_uint) {
        let device = fake.device(device)?;
        // The scheduling policy alone, of which there are 0, 1, 2 and 4, and what has no effect any more.
        if flags & !0x1f != 0 || !matches!(flags & 7, 0 | 1 | 2 | 4) {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        device.flags = flags;
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(fake, device: CUdevice, flags: *mut c_uint, active: *mut c_int) {
        let device = fake.device(device)?;
        offer(flags, device.flags);
        offer(active, c_int::from(device.retained > 0));
        Ok(())
    }

    fn cuCtxSetCurrent(fake, context: CUcontext) {
        fake.set_current(context as u64)
    }

    fn cuCtxGetCurrent(fake, context: *mut CUcontext) {
        fake.ready()?;
        give(context, fake.current_context() as CUcontext)
    }

    fn cuCtxGetDevice(fake, device: *mut CUdevice) {
        let index = fake.current()?;
        give(device, index as CUdevice)
    }

    fn cuCtxGetApiVersion(fake, context: CUcontext, version: *mut c_uint) {
        fake.ready()?;
        let wanted = if context.is_null() { fake.current_context() } else { context as u64 };
        if !fake.devices.iter().any(|device| wanted != 0 && device.context == wanted) {
            return refuse(CUDA_ERROR_INVALID_CONTEXT);
        }
        give(version, 3020)
    }

    fn cuCtxSynchronize(fake) {
        let device = fake.current()?;
        let mut capturing = false;
        for stream in fake.streams.values_mut().filter(|stream| stream.device == device) {
            if let Some(capture) = &mut stream.capture {
                capture.broken = true;
                capturing = true;
            }
        }
        if capturing {
            return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        fake.devices[device].settle()?;
        fake.pace(device);
        Ok(())
    }
}
