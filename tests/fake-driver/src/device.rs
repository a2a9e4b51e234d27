//! What devices tell of themselves.

use std::ffi::{c_char, c_int};

use cudarc::driver::sys::{CUdevice, CUdevice_attribute, CUresult::*, CUuuid};

use crate::codes::{Stop, refuse};
use crate::entry::{driver, give, give_text};
use crate::identity::{Identity, bus, slice_uuid, uuid};

/// An attribute; `None` where this GPU has nothing to say.
fn attribute(gpu: &Identity, slot: usize, which: CUdevice_attribute) -> Option<i32> {
    use CUdevice_attribute::*;
    Some(match which {
        CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK => 1024,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X | CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y => 1024,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z => 64,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X => i32::MAX,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y | CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z => 65_535,
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK => 48 << 10,
        CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY => 64 << 10,
        CU_DEVICE_ATTRIBUTE_WARP_SIZE => 32,
        CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK => 65_536,
        CU_DEVICE_ATTRIBUTE_CLOCK_RATE => gpu.clock as i32 * 1000,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT => gpu.multiprocessors,
        CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT => 0,
        CU_DEVICE_ATTRIBUTE_INTEGRATED => 0,
        CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY => 1,
        CU_DEVICE_ATTRIBUTE_COMPUTE_MODE => 0,
        CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS => 1,
        CU_DEVICE_ATTRIBUTE_ECC_ENABLED => i32::from(gpu.ecc),
        CU_DEVICE_ATTRIBUTE_PCI_BUS_ID => bus(slot) as i32,
        CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID | CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID => 0,
        CU_DEVICE_ATTRIBUTE_TCC_DRIVER => 0,
        CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE => gpu.memory_clock as i32 * 1000,
        CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH => gpu.bus as i32,
        CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE => gpu.l2,
        CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR => gpu.threads_per_multiprocessor,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR => gpu.blocks_per_multiprocessor,
        CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT => 3,
        CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING => 1,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR => gpu.capability.0,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR => gpu.capability.1,
        CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED => 1,
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR => gpu.shared_per_multiprocessor,
        CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR => 65_536,
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN => gpu.shared_per_block,
        CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK => 1024,
        CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH => 1,
        CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE => gpu.l2 / 4 * 3,
        // Not faked: cudarc then allocates with cuMemAlloc.
        CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED => 0,
        CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY | CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS => 0,
        _ => return None,
    })
}

driver! {
    fn cuDeviceGetCount(fake, count: *mut c_int) {
        fake.ready()?;
        give(count, fake.devices.len() as c_int)
    }

    fn cuDeviceGet(fake, device: *mut CUdevice, number: c_int) {
        fake.device(number)?;
        give(device, number)
    }

    fn cuDeviceGetName(fake, name: *mut c_char, length: c_int, device: CUdevice) {
        let text = fake.device(device)?.identity.name;
        give_text(name, usize::try_from(length).unwrap_or(0), text)
    }

    fn cuDeviceTotalMem_v2(fake, bytes: *mut usize, device: CUdevice) {
        let total = fake.device(device)?.identity.memory;
        give(bytes, total as usize)
    }

    fn cuDeviceGetUuid(fake, to: *mut CUuuid, device: CUdevice) {
        let slot = fake.device(device)?.slot;
        give(to, CUuuid { bytes: uuid(slot).map(|byte| byte as c_char) })
    }

    fn cuDeviceGetUuid_v2(fake, to: *mut CUuuid, device: CUdevice) {
        let device = fake.device(device)?;
        // Of a slice its own, not the GPU's.
        let bytes = if device.identity.mig { slice_uuid(device.slot) } else { uuid(device.slot) };
        give(to, CUuuid { bytes: bytes.map(|byte| byte as c_char) })
    }

    fn cuDeviceGetPCIBusId(fake, text: *mut c_char, length: c_int, device: CUdevice) {
        let slot = fake.device(device)?.slot;
        if length < 13 {
            return refuse(CUDA_ERROR_INVALID_VALUE);
        }
        give_text(text, length as usize, &format!("0000:{:02X}:00.0", bus(slot)))
    }

    fn cuDeviceGetAttribute(fake, value: *mut c_int, which: CUdevice_attribute, device: CUdevice) {
        let device = fake.device(device)?;
        let found = attribute(&device.identity, device.slot, which);
        give(value, found.ok_or(Stop::Code(CUDA_ERROR_INVALID_VALUE))?)
    }
}
