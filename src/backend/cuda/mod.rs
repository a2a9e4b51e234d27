//! NVIDIA GPUs. This version finds them; the suite does not run on them yet.
//!
//! cudarc panics where the driver's library or a symbol is missing, so both are looked for first.

pub mod args;
pub mod attention;
pub mod ceilings;
pub mod cublaslt;
pub mod driver;
pub mod elementwise;
pub mod fill;
pub mod gemm;
pub mod gemv;
pub mod image;
pub mod launch;
pub mod memory;
pub mod reference;
pub mod skinny;
pub mod step;
pub mod suite;
pub mod workspace;

use std::ffi::CStr;

use cudarc::driver::sys;

use super::DeviceInfo;
use crate::error::{Failure, Result};
use crate::units::Bytes;

/// The GPUs that the driver shows.
///
/// # Errors
/// In one line why there is none: the library was not found, the driver does not answer, or it has no device.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    // SAFETY: only looks the library up; none of its code beyond its initialisers runs.
    if !unsafe { sys::is_culib_present() } {
        return Err(Failure::device("the NVIDIA driver's library libcuda.so.1 was not found"));
    }
    for symbol in [
        "cuInit",
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDeviceGetName",
        "cuDeviceTotalMem_v2",
        "cuDeviceGetUuid",
    ] {
        // SAFETY: the symbol is looked up, not called.
        if unsafe { sys::culib().get::<unsafe extern "C" fn()>(symbol.as_bytes()) }.is_err() {
            return Err(Failure::device(format!(
                "libcuda.so.1 has no {symbol}: the NVIDIA driver is too old"
            )));
        }
    }
    // SAFETY: the symbols are there, and every pointer handed over is to a local of the type that is asked for.
    unsafe {
        check(sys::cuInit(0), "cuInit")?;
        let mut count = 0;
        check(sys::cuDeviceGetCount(&mut count), "cuDeviceGetCount")?;
        if count == 0 {
            return Err(Failure::device("the NVIDIA driver shows no device"));
        }
        (0..count).map(|ordinal| describe(ordinal)).collect()
    }
}

/// # Safety
/// The driver is initialised and has a device of this number.
unsafe fn describe(ordinal: i32) -> Result<DeviceInfo> {
    let (mut device, mut bytes, mut name) = (0, 0, [0; 128]);
    let mut uuid = sys::CUuuid { bytes: [0; 16] };
    // SAFETY: every pointer is to a local; the name's length is given.
    unsafe {
        check(sys::cuDeviceGet(&mut device, ordinal), "cuDeviceGet")?;
        check(sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as i32 - 1, device), "cuDeviceGetName")?;
        check(sys::cuDeviceTotalMem_v2(&mut bytes, device), "cuDeviceTotalMem")?;
        check(sys::cuDeviceGetUuid(&mut uuid, device), "cuDeviceGetUuid")?;
    }
    // SAFETY: the buffer was zeroed and its last byte is beyond what the driver may write.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    Ok(DeviceInfo {
        kind: "cuda",
        name,
        id: Some(hyphenated(uuid.bytes.map(|byte| byte as u8))),
        memory: Bytes(bytes as f64),
        cache: None,
        gpu: None,
        detail: format!("cuda:{ordinal}; found, but not measured by this version"),
    })
}

/// `GPU-` and the UUID in the usual groups, as nvidia-smi prints it.
fn hyphenated(bytes: [u8; 16]) -> String {
    let mut text = String::from("GPU");
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn check(result: sys::CUresult, call: &str) -> Result<()> {
    match result {
        sys::CUresult::CUDA_SUCCESS => Ok(()),
        sys::CUresult::CUDA_ERROR_NO_DEVICE => Err(Failure::device("the NVIDIA driver shows no device")),
        other => Err(Failure::device(format!("the NVIDIA driver refused {call}: {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uuid_reads_as_nvidia_smi_prints_it() {
        let bytes = std::array::from_fn(|i| i as u8 * 17);
        assert_eq!(super::hyphenated(bytes), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }
}
