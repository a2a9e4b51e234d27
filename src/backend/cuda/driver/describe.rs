//! What the driver says of a GPU.

use std::ffi::CStr;

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};

use super::Gpu;
use super::library::Library;
use super::status::check;
use crate::backend::{DeviceInfo, GpuInfo};
use crate::error::Result;
use crate::units::Bytes;

/// A GPU as users see it, and what launches depend on.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::backend::cuda) struct Described {
    pub handle: sys::CUdevice,
    pub info: DeviceInfo,
    pub gpu: Gpu,
}

/// Asks the driver about the GPU of this number.
///
/// # Errors
/// There is none of this number, or the driver failed.
pub(in crate::backend::cuda) fn describe(library: Library, ordinal: u32) -> Result<Described> {
    const DOING: &str = "asking for the GPU's properties";
    let (mut handle, mut bytes) = (0, 0);
    let (mut name, mut pci) = ([0; 128], [0; 32]);
    let mut uuids = [sys::CUuuid { bytes: [0; 16] }; 2];
    // SAFETY: the library is open; every pointer is to a local, and lengths are given where they matter.
    unsafe {
        check(sys::cuDeviceGet(&mut handle, ordinal as i32), format_args!("looking for GPU {ordinal}"))?;
        check(sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as i32 - 1, handle), DOING)?;
        check(sys::cuDeviceTotalMem_v2(&mut bytes, handle), DOING)?;
        check(sys::cuDeviceGetUuid(&mut uuids[0], handle), DOING)?;
        check(sys::cuDeviceGetUuid_v2(&mut uuids[1], handle), DOING)?;
        check(sys::cuDeviceGetPCIBusId(pci.as_mut_ptr(), pci.len() as i32 - 1, handle), DOING)?;
    }
    let attribute = |which: Attribute| -> Result<u32> {
        let mut value = 0;
        // SAFETY: the pointer is to a local.
        check(unsafe { sys::cuDeviceGetAttribute(&mut value, which, handle) }, DOING)?;
        Ok(value.max(0) as u32)
    };
    // What newer drivers stopped saying is 0 or an error.
    let perhaps = |which: Attribute| attribute(which).ok().filter(|&value| value > 0);
    let capability = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let l2 = attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?;
    let gpu = Gpu {
        name: text(&name),
        capability,
        multiprocessors,
        shared_per_block: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        shared_per_multiprocessor: attribute(
            Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR,
        )?,
        l2: u64::from(l2),
        memory: bytes as u64,
    };
    let info = DeviceInfo {
        kind: "cuda",
        name: gpu.name.clone(),
        id: Some(uuid(uuids.map(|uuid| uuid.bytes.map(|byte| byte as u8)))),
        memory: Bytes(bytes as f64),
        cache: (l2 > 0).then(|| Bytes(f64::from(l2))),
        detail: format!(
            "compute capability {}.{}, {multiprocessors} multiprocessors",
            capability.0, capability.1
        ),
        gpu: Some(GpuInfo {
            ordinal,
            pci: pci_address(&text(&pci)),
            capability,
            multiprocessors,
            cuda: library.cuda(),
            memory_clock: perhaps(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)
                .map(|kilohertz| f64::from(kilohertz) * 1e3),
            bus_width: perhaps(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH),
        }),
    };
    Ok(Described { handle, info, gpu })
}

/// The text in a zeroed buffer whose last byte the driver may not write.
fn text(buffer: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|&byte| byte as u8).collect();
    CStr::from_bytes_until_nul(&bytes).unwrap_or_default().to_string_lossy().trim().to_owned()
}

/// The UUID as nvidia-smi prints it. `[0]` is the whole GPU's; on a MIG slice `[1]` is the slice's own.
fn uuid([whole, own]: [[u8; 16]; 2]) -> String {
    let mut text = String::from(if whole == own { "GPU" } else { "MIG" });
    for (i, byte) in own.iter().enumerate() {
        if matches!(i, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The address with a domain of eight digits and in lower case, as NVML has it: CUDA writes four.
fn pci_address(address: &str) -> String {
    match address.split_once(':') {
        Some((domain, rest)) => format!("{domain:0>8}:{rest}").to_lowercase(),
        None => address.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_as_nvidia_smi_prints_it() {
        let bytes = std::array::from_fn(|i| i as u8 * 17);
        assert_eq!(uuid([bytes; 2]), "GPU-00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(uuid([[0; 16], bytes]), "MIG-00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn a_pci_address_reads_as_nvml_prints_it() {
        assert_eq!(pci_address("0000:3B:00.0"), "00000000:3b:00.0");
        assert_eq!(pci_address("00000001:0A:00.0"), "00000001:0a:00.0");
    }
}
