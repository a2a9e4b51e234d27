//! A small program on the driver, for the tests.
#![allow(dead_code, missing_docs)]

use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{self, CUresult};
use fake_driver::context::*;
use fake_driver::event::*;
use fake_driver::launch::*;
use fake_driver::memory::*;
use fake_driver::module::*;
use fake_driver::stream::*;

/// There is one driver for the process, so tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A fresh driver with these variables.
pub fn begin(variables: &[(&str, &str)]) -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let look_up =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
    fake_driver::begin(look_up).unwrap();
    turn
}

/// The number of a result.
pub fn number(result: CUresult) -> u32 {
    result as u32
}

/// The call succeeded.
#[track_caller]
pub fn ok(result: CUresult) {
    assert_eq!(result, CUresult::CUDA_SUCCESS);
}

/// Parameters of `embed`.
#[repr(C)]
pub struct Embed {
    pub table: u64,
    pub tokens: u64,
    pub residual: u64,
    pub k: u32,
    pub reserved: u32,
}

/// Parameters of `read_memory`.
#[repr(C)]
pub struct Stream {
    pub from: u64,
    pub to: u64,
    pub sum: u64,
    pub lines: u64,
    pub tiles: u64,
}

/// A context on the first device with a stream.
pub struct Program {
    pub context: sys::CUcontext,
    pub stream: sys::CUstream,
}

impl Program {
    pub fn on(device: i32) -> Program {
        let (mut context, mut stream) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: pointers to locals.
        unsafe {
            ok(cuInit(0));
            ok(cuDevicePrimaryCtxRetain(&mut context, device));
            ok(cuCtxSetCurrent(context));
            ok(cuStreamCreate(&mut stream, 1));
        }
        Program { context, stream }
    }

    pub fn new() -> Program {
        Program::on(0)
    }

    pub fn allocate(&self, bytes: usize) -> u64 {
        let mut address = 0;
        // SAFETY: a pointer to a local.
        ok(unsafe { cuMemAlloc_v2(&mut address, bytes) });
        address
    }

    pub fn write(&self, to: u64, data: &[u8]) -> CUresult {
        // SAFETY: the data is as long as said.
        unsafe { cuMemcpyHtoD_v2(to, data.as_ptr().cast(), data.len()) }
    }

    pub fn upload(&self, data: &[u8]) -> u64 {
        let address = self.allocate(data.len());
        ok(self.write(address, data));
        address
    }

    pub fn read(&self, from: u64, bytes: usize) -> Result<Vec<u8>, CUresult> {
        let mut data = vec![0xee; bytes];
        // SAFETY: there is room for as much.
        match unsafe { cuMemcpyDtoH_v2(data.as_mut_ptr().cast(), from, bytes) } {
            CUresult::CUDA_SUCCESS => Ok(data),
            code => Err(code),
        }
    }

    /// A function of one of the shipped PTX files.
    pub fn function(&self, file: &str, name: &str) -> sys::CUfunction {
        let text = CString::new(ptx(file)).unwrap();
        let (mut module, mut function) = (ptr::null_mut(), ptr::null_mut());
        let name = CString::new(name).unwrap();
        // SAFETY: texts with a zero at the end, pointers to locals.
        unsafe {
            ok(cuModuleLoadData(&mut module, text.as_ptr().cast()));
            ok(cuModuleGetFunction(&mut function, module, name.as_ptr()));
        }
        function
    }

    /// One block of 256 threads; the parameter is a struct by value.
    pub fn launch<P>(
        &self,
        function: sys::CUfunction,
        grid: [u32; 3],
        shared: u32,
        parameter: &P,
    ) -> CUresult {
        let mut pointers = [ptr::from_ref(parameter).cast_mut().cast::<c_void>()];
        let ([x, y, z], parameters) = (grid, pointers.as_mut_ptr());
        // SAFETY: the parameter is what the kernel takes; the call copies it.
        unsafe {
            cuLaunchKernel(function, x, y, z, 256, 1, 1, shared, self.stream, parameters, ptr::null_mut())
        }
    }

    pub fn event(&self, flags: u32) -> sys::CUevent {
        let mut event = ptr::null_mut();
        // SAFETY: a pointer to a local.
        ok(unsafe { cuEventCreate(&mut event, flags) });
        event
    }

    pub fn record(&self, event: sys::CUevent) -> CUresult {
        // SAFETY: no pointers.
        unsafe { cuEventRecord(event, self.stream) }
    }

    pub fn elapsed(&self, start: sys::CUevent, end: sys::CUevent) -> Result<f32, CUresult> {
        let mut milliseconds = f32::NAN;
        // SAFETY: a pointer to a local.
        match unsafe { cuEventElapsedTime(&mut milliseconds, start, end) } {
            CUresult::CUDA_SUCCESS => Ok(milliseconds),
            code => Err(code),
        }
    }

    pub fn synchronize(&self) -> CUresult {
        // SAFETY: no pointers.
        unsafe { cuStreamSynchronize(self.stream) }
    }
}

/// A PTX file that ships.
pub fn ptx(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels/ptx");
    std::fs::read_to_string(folder.join(file)).unwrap()
}

/// Row `row` of a table of `k` bf16 numbers.
pub fn row(row: u16, k: u16) -> impl Iterator<Item = u8> {
    (0..k).flat_map(move |i| (row * 1000 + i).to_le_bytes())
}

/// An `embed` of three rows of 64 with its function, and what it should give.
pub fn embedding(program: &Program) -> (sys::CUfunction, Embed, Vec<u8>) {
    let table: Vec<u8> = (0..10).flat_map(|r| row(r, 64)).collect();
    let tokens: Vec<u8> = [7u32, 0, 3].iter().flat_map(|token| token.to_le_bytes()).collect();
    let embed = Embed {
        table: program.upload(&table),
        tokens: program.upload(&tokens),
        residual: program.allocate(3 * 128),
        k: 64,
        reserved: 0,
    };
    let expected = [7, 0, 3].into_iter().flat_map(|r| row(r, 64)).collect();
    (program.function("elementwise.sm_80.ptx", "embed"), embed, expected)
}
