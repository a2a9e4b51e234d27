//! Launches of kernels.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use cudarc::driver::sys::{CUfunction, CUlaunchAttributeID, CUlaunchConfig, CUresult::*, CUstream};

use crate::codes::{Answer, Stop, refuse};
use crate::entry::{driver, fail};
use crate::state::Fake;
use crate::work::{Kernel, Work, submit};

/// What both ways of launching say.
struct Asked {
    function: CUfunction,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    stream: CUstream,
    early: bool,
}

/// The bytes of the parameters, laid out as the kernel's parameter list says.
unsafe fn parameters(
    layout: &[(usize, usize)],
    pointers: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Answer<Vec<u8>> {
    let total = layout.last().map_or(0, |(at, size)| at + size);
    let mut bytes = vec![0u8; total];
    if !extra.is_null() {
        // Pairs of what comes and where it is: 1 the buffer, 2 its size, 0 the end.
        let (mut buffer, mut size) = (std::ptr::null::<u8>(), 0usize);
        // SAFETY: the API demands a list with an end, of pointers that are good.
        unsafe {
            for pair in 0.. {
                match *extra.add(2 * pair) as usize {
                    0 => break,
                    1 => buffer = (*extra.add(2 * pair + 1)).cast(),
                    2 => size = *(*extra.add(2 * pair + 1)).cast::<usize>(),
                    _ => return refuse(CUDA_ERROR_INVALID_VALUE),
                }
            }
        }
        if !pointers.is_null() || buffer.is_null() || size < total {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: there are `size` bytes.
        unsafe { std::ptr::copy_nonoverlapping(buffer, bytes.as_mut_ptr(), total) };
        return Ok(bytes);
    }
    if pointers.is_null() {
        return if total == 0 { Ok(bytes) } else { refuse(CUDA_ERROR_INVALID_VALUE) };
    }
    for (i, (at, size)) in layout.iter().enumerate() {
        // SAFETY: the API demands one good pointer for each parameter.
        unsafe {
            let from: *const u8 = (*pointers.add(i)).cast();
            if from.is_null() {
                return refuse(CUDA_ERROR_INVALID_VALUE);
            }
            std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr().add(*at), *size);
        }
    }
    Ok(bytes)
}

/// Whether a GPU can start such a launch at all.
fn check(fake: &Fake, asked: &Asked) -> Answer {
    let device = fake.current()?;
    let gpu = fake.devices[device].identity;
    let function = fake.functions.get(&(asked.function as u64)).filter(|function| function.device == device);
    let function = function.ok_or(Stop::Code(CUDA_ERROR_INVALID_HANDLE))?;
    let resources = function.code.resources;
    let [x, y, z] = asked.grid;
    let threads: u64 = asked.block.iter().map(|&size| u64::from(size)).product();
    let grid_fits =
        (1..=i32::MAX as u32).contains(&x) && [y, z].iter().all(|size| (1..=65_535).contains(size));
    let block_fits = (1..=1024).contains(&threads) && asked.block[2] <= 64;
    if !grid_fits || !block_fits {
        return refuse(CUDA_ERROR_INVALID_VALUE);
    }
    let shared = i64::from(asked.shared);
    if shared > i64::from(function.most_shared) {
        fake.room.tell(|| {
            let (name, most) = (&function.code.name, function.most_shared);
            format!("{name}: {shared} bytes of dynamic shared memory; {most} are allowed")
        });
        return refuse(CUDA_ERROR_INVALID_VALUE);
    }
    if resources.resident(&gpu, threads as u32, shared.unsigned_abs()) == 0 {
        return refuse(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    }
    Ok(())
}

unsafe fn launch(
    fake: &mut Fake,
    name: &str,
    asked: &Asked,
    pointers: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Answer {
    check(fake, asked)?;
    let function = fake.functions.get(&(asked.function as u64));
    let code = Arc::clone(&function.ok_or(Stop::Code(CUDA_ERROR_INVALID_HANDLE))?.code);
    fail(fake, name, Some(&code.name))?;
    // SAFETY: as the caller's.
    let parameters = unsafe { parameters(&code.parameters, pointers, extra) }?;
    let kernel = Kernel {
        code,
        grid: asked.grid,
        block: asked.block,
        shared: asked.shared,
        early: asked.early,
        parameters,
    };
    submit(fake, asked.stream, Work::Kernel(Arc::new(kernel)))
}

driver! {
    fn cuLaunchKernel(
        fake,
        function: CUfunction,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: CUstream,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        let asked = Asked {
            function,
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared,
            stream,
            early: false,
        };
        launch(fake, "cuLaunchKernel", &asked, parameters, extra)
    }

    fn cuLaunchKernelEx(
        fake,
        config: *const CUlaunchConfig,
        function: CUfunction,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        let device = fake.current()?;
        if config.is_null() {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        let config = *config;
        if config.numAttrs > 0 && config.attrs.is_null() {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        let mut early = false;
        for i in 0..config.numAttrs as usize {
            let attribute = &*config.attrs.add(i);
            use CUlaunchAttributeID::*;
            match attribute.id {
                CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION => {
                    early = attribute.value.programmaticStreamSerializationAllowed != 0;
                }
                CU_LAUNCH_ATTRIBUTE_IGNORE
                | CU_LAUNCH_ATTRIBUTE_PRIORITY
                | CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW
                | CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT => {}
                // Clusters, cooperative launches and the rest are not faked.
                _ => return refuse(CUDA_ERROR_NOT_SUPPORTED),
            }
        }
        if early && fake.devices[device].identity.capability.0 < 9 {
            return refuse(CUDA_ERROR_NOT_SUPPORTED);
        }
        let asked = Asked {
            function,
            grid: [config.gridDimX, config.gridDimY, config.gridDimZ],
            block: [config.blockDimX, config.blockDimY, config.blockDimZ],
            shared: config.sharedMemBytes,
            stream: config.hStream,
            early,
        };
        launch(fake, "cuLaunchKernelEx", &asked, parameters, extra)
    }
}
