//! The GPU of this machine as the suite's driver, for the tests that need one.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::ptr;

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUresult};
use llmroof::backend::cuda::driver::{Address, Driver, Gpu};
use llmroof::backend::cuda::image::image;
use llmroof::backend::cuda::launch::Launch;
use llmroof::error::{Failure, Result};
use llmroof::units::Bytes;

/// Shared memory that a kernel has without asking.
const SHARED_UNASKED: u32 = 48 * 1024;

/// The first GPU, on a stream of its own.
pub struct DeviceGpu {
    gpu: Gpu,
    stream: sys::CUstream,
    modules: HashMap<&'static str, sys::CUmodule>,
    functions: HashMap<&'static str, sys::CUfunction>,
}

fn check(result: CUresult, call: &str) -> Result<()> {
    match result {
        CUresult::CUDA_SUCCESS => Ok(()),
        other => Err(Failure::device(format!("{call}: {other:?}"))),
    }
}

impl DeviceGpu {
    /// Opens the first GPU; says why there is none.
    pub fn open() -> Result<Self> {
        // SAFETY: the library is there before it is used, and every pointer is to a local of the type asked for.
        unsafe {
            if !sys::is_culib_present() {
                return Err(Failure::device("libcuda.so.1 was not found"));
            }
            check(sys::cuInit(0), "cuInit")?;
            let (mut device, mut context, mut stream) = (0, ptr::null_mut(), ptr::null_mut());
            check(sys::cuDeviceGet(&mut device, 0), "cuDeviceGet")?;
            check(sys::cuDevicePrimaryCtxRetain(&mut context, device), "cuDevicePrimaryCtxRetain")?;
            check(sys::cuCtxSetCurrent(context), "cuCtxSetCurrent")?;
            check(sys::cuStreamCreate(&mut stream, 0), "cuStreamCreate")?;
            let attribute = |which: Attribute| -> Result<u32> {
                let mut value: c_int = 0;
                check(sys::cuDeviceGetAttribute(&mut value, which, device), "cuDeviceGetAttribute")?;
                Ok(value as u32)
            };
            let mut memory = 0;
            check(sys::cuDeviceTotalMem_v2(&mut memory, device), "cuDeviceTotalMem")?;
            let gpu = Gpu {
                name: "cuda:0".into(),
                capability: (
                    attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                    attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
                ),
                multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
                shared_per_block: attribute(
                    Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
                )?,
                shared_per_multiprocessor: attribute(
                    Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR,
                )?,
                l2: u64::from(attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?),
                memory: memory as u64,
            };
            Ok(DeviceGpu { gpu, stream, modules: HashMap::new(), functions: HashMap::new() })
        }
    }

    fn module(&mut self, source: &'static str) -> Result<sys::CUmodule> {
        if let Some(&module) = self.modules.get(source) {
            return Ok(module);
        }
        let image = image(source, self.gpu.capability)
            .ok_or_else(|| Failure::device(format!("no image of {source} for {:?}", self.gpu.capability)))?;
        let text = CString::new(image.ptx()?).expect("PTX has no zero byte");
        let mut module = ptr::null_mut();
        // SAFETY: the text ends with a zero byte and outlives the call; there are no options.
        let loaded = unsafe {
            sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 0, ptr::null_mut(), ptr::null_mut())
        };
        check(loaded, &format!("cuModuleLoadDataEx of {source}.{}", image.target))?;
        self.modules.insert(source, module);
        Ok(module)
    }

    fn function(&mut self, launch: &Launch) -> Result<sys::CUfunction> {
        if let Some(&function) = self.functions.get(launch.kernel) {
            return Ok(function);
        }
        let module = self.module(launch.source)?;
        let name = CString::new(launch.kernel).expect("a kernel's name has no zero byte");
        let mut function = ptr::null_mut();
        // SAFETY: the module is loaded, the name ends with a zero byte.
        check(unsafe { sys::cuModuleGetFunction(&mut function, module, name.as_ptr()) }, launch.kernel)?;
        self.functions.insert(launch.kernel, function);
        Ok(function)
    }
}

impl Driver for DeviceGpu {
    fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    fn available(&self) -> Bytes {
        let (mut free, mut total) = (0, 0);
        // SAFETY: both pointers are to locals.
        unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) };
        Bytes(free as f64)
    }

    fn allocate(&mut self, bytes: u64, what: &str) -> Result<Address> {
        let mut address = 0;
        // SAFETY: the pointer is to a local.
        check(unsafe { sys::cuMemAlloc_v2(&mut address, bytes as usize) }, what)?;
        Ok(address)
    }

    fn free(&mut self, address: Address) -> Result<()> {
        // SAFETY: whoever calls got the address from `allocate`.
        check(unsafe { sys::cuMemFree_v2(address) }, "cuMemFree")
    }

    fn write(&mut self, to: Address, data: &[u8]) -> Result<()> {
        // SAFETY: the data is as long as said; the address lies in an allocation, as the trait demands.
        check(unsafe { sys::cuMemcpyHtoD_v2(to, data.as_ptr().cast(), data.len()) }, "cuMemcpyHtoD")?;
        // SAFETY: no arguments. Kernels read weights without waiting for what came before.
        check(unsafe { sys::cuCtxSynchronize() }, "cuCtxSynchronize")
    }

    fn read(&mut self, from: Address, into: &mut [u8]) -> Result<()> {
        // SAFETY: the stream is this GPU's own.
        check(unsafe { sys::cuStreamSynchronize(self.stream) }, "cuStreamSynchronize")?;
        // SAFETY: as in `write`.
        check(unsafe { sys::cuMemcpyDtoH_v2(into.as_mut_ptr().cast(), from, into.len()) }, "cuMemcpyDtoH")
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        let function = self.function(launch)?;
        if launch.shared > SHARED_UNASKED {
            let which = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is of a loaded module.
            let set = unsafe { sys::cuFuncSetAttribute(function, which, launch.shared as c_int) };
            check(set, launch.kernel)?;
        }
        let early = launch.early && self.gpu.capability >= (9, 0);
        let mut overlapping = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let [x, y, z] = launch.grid;
        let config = sys::CUlaunchConfig {
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: launch.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared,
            hStream: self.stream,
            attrs: &mut overlapping,
            numAttrs: u32::from(early),
        };
        // As 8-byte words: the kernel's struct has pointers.
        let mut parameter: Vec<u64> = launch
            .parameter
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
            .collect();
        let mut parameters = [parameter.as_mut_ptr().cast::<c_void>()];
        // SAFETY: the kernel's only parameter is a struct of just these bytes, which are copied by the call.
        let launched =
            unsafe { sys::cuLaunchKernelEx(&config, function, parameters.as_mut_ptr(), ptr::null_mut()) };
        check(launched, launch.kernel)
    }
}
