//! The driver's library, and everything about it that would make cudarc panic, found out before.

use cudarc::driver::sys;

use super::status::check;
use crate::error::{Failure, Result};

/// Every function of the driver that this backend calls. cudarc panics at the first call of one that is missing.
const SYMBOLS: &[&str] = &[
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetPCIBusId",
    "cuDeviceGetUuid",
    "cuDeviceGetUuid_v2",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventQuery",
    "cuEventRecord",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphUpload",
    "cuInit",
    "cuLaunchKernelEx",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadDataEx",
    "cuModuleUnload",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamQuery",
];

/// The CUDA version whose drivers take the kernels' PTX (ISA 8.0), as the driver counts: 12.0.
const LEAST_VERSION: i32 = 12_000;

/// The initialised driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::cuda) struct Library {
    /// Newest CUDA version that it runs, 1000 x major + 10 x minor.
    pub version: i32,
    /// Devices that it shows; at least one.
    pub devices: i32,
}

impl Library {
    /// Finds and initialises the driver.
    ///
    /// # Errors
    /// No library, one too old or without a function that is needed, one that does not start, or no device.
    pub fn open() -> Result<Library> {
        // SAFETY: only looks the library up; none of its code beyond its initialisers runs.
        if !unsafe { sys::is_culib_present() } {
            return Err(Failure::device("the NVIDIA driver's library libcuda.so.1 was not found")
                .hint("install the NVIDIA driver; in containers start with --gpus all"));
        }
        require("cuDriverGetVersion")?;
        let (mut version, mut devices) = (0, 0);
        // SAFETY: the symbol is there, and the pointer is to a local.
        check(unsafe { sys::cuDriverGetVersion(&mut version) }, "asking for the driver's version")?;
        if version < LEAST_VERSION {
            return Err(Failure::device(format!(
                "the NVIDIA driver is too old: it supports CUDA {}, 12.0 is needed",
                dotted(version)
            ))
            .hint("install driver 525 or newer"));
        }
        SYMBOLS.iter().try_for_each(|symbol| require(symbol))?;
        // SAFETY: the symbols are there, and the pointer is to a local.
        unsafe {
            check(sys::cuInit(0), "starting the NVIDIA driver")?;
            check(sys::cuDeviceGetCount(&mut devices), "counting the GPUs")?;
        }
        if devices < 1 {
            return Err(super::status::failure(100, "counting the GPUs"));
        }
        Ok(Library { version, devices })
    }

    /// The version as people write it: `12.8`.
    pub fn cuda(self) -> String {
        dotted(self.version)
    }
}

fn dotted(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn require(symbol: &str) -> Result<()> {
    // SAFETY: the library is there, and the symbol is looked up, not called.
    match unsafe { sys::culib().get::<unsafe extern "C" fn()>(symbol.as_bytes()) } {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::device(format!("libcuda.so.1 has no {symbol}: the NVIDIA driver is too old"))
            .hint("install driver 525 or newer")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_function_that_is_called_is_looked_up_first() {
        let cuda = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/cuda");
        let mut called: Vec<String> = Vec::new();
        // cublaslt/ calls nothing of the driver.
        let folders = ["", "driver", "launch"].map(|folder| std::fs::read_dir(cuda.join(folder)).unwrap());
        let files = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
        for file in files.filter(|path| path.is_file()) {
            let text = std::fs::read_to_string(file).unwrap();
            for (_, after) in text.match_indices("sys::cu").map(|(at, found)| (at, &text[at + found.len()..]))
            {
                let name: String =
                    after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if after[name.len()..].starts_with('(') && name.starts_with(|c: char| c.is_ascii_uppercase())
                {
                    called.push(format!("cu{name}"));
                }
            }
        }
        called.sort();
        called.dedup();
        assert_eq!(called, SYMBOLS);
    }

    #[test]
    fn versions_read_as_people_write_them() {
        assert_eq!([12_000, 12_080, 11_040].map(dotted), ["12.0", "12.8", "11.4"]);
    }
}
