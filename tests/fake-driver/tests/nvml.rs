//! NVML: what it tells of the same GPUs.

mod common;

use std::ffi::{CStr, c_char};
use std::ptr;

use common::{Program, Stream, begin, ok};
use fake_driver::memory::cuMemAlloc_v2;
use fake_driver::nvml::{clocks::*, device::*, gpm::*, memory::*, power::*, system::*};
use nvml_wrapper_sys::bindings::*;

fn text(give: impl Fn(*mut c_char, u32) -> u32) -> String {
    let mut buffer = [0u8; 96];
    assert_eq!(give(buffer.as_mut_ptr().cast(), 96), 0);
    CStr::from_bytes_until_nul(&buffer).unwrap().to_string_lossy().into_owned()
}

fn value<T: Default>(give: impl FnOnce(*mut T) -> u32) -> Result<T, u32> {
    let mut value = T::default();
    match give(&mut value) {
        0 => Ok(value),
        code => Err(code),
    }
}

fn device(index: u32) -> nvmlDevice_t {
    let mut device = ptr::null_mut();
    // SAFETY: a pointer to a local.
    unsafe {
        assert_eq!(nvmlInit_v2(), 0);
        assert_eq!(nvmlDeviceGetHandleByIndex_v2(index, &mut device), 0);
    }
    device
}

/// Lets the virtual clock run by reading this much memory.
fn work(program: &Program, bytes: u64, times: u32) {
    let function = program.function("ceilings.sm_80.ptx", "read_memory");
    let from = program.allocate(bytes as usize);
    for _ in 0..times {
        let stream = Stream { from, to: 0, sum: 0, lines: bytes / 16, tiles: 0 };
        ok(program.launch(function, [528, 1, 1], 0, &stream));
    }
}

#[test]
fn nothing_works_before_it_is_initialised() {
    let _turn = begin(&[]);
    // SAFETY: pointers to locals. Other tests leave the library initialised.
    unsafe {
        while nvmlShutdown() == 0 {}
        assert_eq!(value(|count| nvmlDeviceGetCount_v2(count)), Err(1));
        assert_eq!(nvmlInit_v2(), 0);
        assert_eq!(value(|count| nvmlDeviceGetCount_v2(count)), Ok(1));
    }
}

#[test]
fn cuda_and_nvml_number_differently_and_agree_by_uuid() {
    let _turn = begin(&[("FAKE_DRIVER_GPUS", "h100,a100-40gb"), ("CUDA_VISIBLE_DEVICES", "1")]);
    let _program = Program::new();
    let second = device(1);
    let mut uuid = cudarc::driver::sys::CUuuid { bytes: [0; 16] };
    // SAFETY: pointers to locals.
    unsafe {
        ok(fake_driver::device::cuDeviceGetUuid_v2(&mut uuid, 0));
        let bytes: String = uuid.bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect();
        let own = text(|to, length| nvmlDeviceGetUUID(second, to, length));
        assert_eq!(own.replace('-', ""), format!("GPU{bytes}"));
        assert_eq!(text(|to, length| nvmlDeviceGetName(second, to, length)), "NVIDIA A100-SXM4-40GB");
        assert_eq!(value(|clock| nvmlDeviceGetMaxClockInfo(second, 2, clock)), Ok(1215));
        let mut found = ptr::null_mut();
        let address = std::ffi::CString::new("00000000:43:00.0").unwrap();
        assert_eq!(nvmlDeviceGetHandleByPciBusId_v2(address.as_ptr(), &mut found), 0);
        assert_eq!(found, second);
    }
}

#[test]
fn it_sees_what_cuda_allocates_and_does() {
    let _turn = begin(&[("FAKE_DRIVER_OTHERS", "2")]);
    let gpu = device(0);
    let used = || {
        let mut memory = nvmlMemory_t { total: 0, free: 0, used: 0 };
        // SAFETY: a pointer to a local.
        assert_eq!(unsafe { nvmlDeviceGetMemoryInfo(gpu, &mut memory) }, 0);
        memory.used
    };
    let idle = used();
    // SAFETY: pointers to locals.
    unsafe {
        assert_eq!(value(|mask| nvmlDeviceGetCurrentClocksThrottleReasons(gpu, mask)), Ok(1));
        let watts = value(|power| nvmlDeviceGetPowerUsage(gpu, power)).unwrap();
        let energy = value(|energy| nvmlDeviceGetTotalEnergyConsumption(gpu, energy)).unwrap();
        let program = Program::new();
        let mut address = 0;
        ok(cuMemAlloc_v2(&mut address, 1 << 30));
        assert!(used() - idle >= 1 << 30);
        work(&program, 1 << 30, 3000);
        assert!(value(|power| nvmlDeviceGetPowerUsage(gpu, power)).unwrap() > 3 * watts);
        assert_eq!(value(|mask| nvmlDeviceGetCurrentClocksThrottleReasons(gpu, mask)), Ok(0));
        // A second of reading: 390 W beyond idling, and 70 W for as long as the test takes.
        let more = value(|energy| nvmlDeviceGetTotalEnergyConsumption(gpu, energy)).unwrap() - energy;
        assert!((300_000..2_000_000).contains(&more), "{more} mJ");
        let mut count = 0;
        assert_eq!(nvmlDeviceGetComputeRunningProcesses_v3(gpu, &mut count, ptr::null_mut()), 7);
        let nothing = nvmlProcessInfo_t { pid: 0, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 };
        let mut infos = vec![nothing; count as usize];
        assert_eq!(nvmlDeviceGetComputeRunningProcesses_v3(gpu, &mut count, infos.as_mut_ptr()), 0);
        let others = infos.iter().filter(|info| info.pid != std::process::id()).count();
        assert_eq!((infos.len(), others), (3, 2));
    }
}

#[test]
fn gpm_witnesses_the_bytes_on_hopper_alone() {
    let _turn = begin(&[("FAKE_DRIVER_GPUS", "h100,a100")]);
    let (hopper, ampere) = (device(0), device(1));
    let (mut first, mut second) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: pointers to locals; all zeros is a request.
    unsafe {
        assert_eq!(nvmlGpmSampleAlloc(&mut first), 0);
        assert_eq!(nvmlGpmSampleAlloc(&mut second), 0);
        assert_eq!(nvmlGpmSampleGet(ampere, first), 3);
        assert_eq!(nvmlGpmSampleGet(hopper, first), 0);
        work(&Program::new(), 1 << 30, 10);
        assert_eq!(nvmlGpmSampleGet(hopper, second), 0);
        let mut request: Box<nvmlGpmMetricsGet_t> = Box::new(std::mem::zeroed());
        (request.version, request.numMetrics) = (1, 2);
        (request.sample1, request.sample2) = (first, second);
        (request.metrics[0].metricId, request.metrics[1].metricId) = (10, 210);
        assert_eq!(nvmlGpmMetricsGet(&mut *request), 0);
        let percent = request.metrics[0].value;
        assert!((91.0..93.5).contains(&percent), "{percent}");
        assert_eq!(request.metrics[1].nvmlReturn, 3);
        assert_eq!(nvmlGpmSampleFree(first), 0);
        assert_eq!(nvmlGpmSampleFree(first), 2);
    }
}

#[test]
fn throttling_shows_once_it_begins() {
    let _turn = begin(&[("FAKE_DRIVER_THROTTLE", "after:2"), ("FAKE_DRIVER_THROTTLE_REASON", "thermal")]);
    let gpu = device(0);
    let program = Program::new();
    // SAFETY: pointers to locals.
    unsafe {
        work(&program, 1 << 20, 1);
        assert_eq!(value(|mask| nvmlDeviceGetCurrentClocksThrottleReasons(gpu, mask)), Ok(0));
        work(&program, 1 << 20, 1);
        assert_eq!(value(|mask| nvmlDeviceGetCurrentClocksThrottleReasons(gpu, mask)), Ok(0x48));
        assert!(value(|clock| nvmlDeviceGetClockInfo(gpu, 1, clock)).unwrap() < 1980);
        assert!(value(|degrees| nvmlDeviceGetTemperature(gpu, 0, degrees)).unwrap() >= 85);
    }
}

#[test]
fn single_fields_and_all_of_it_fail_on_demand() {
    let fault = "nvmlDeviceGetPowerUsage=3;nvmlDeviceGetT*=15@2+";
    let _turn = begin(&[("FAKE_DRIVER_FAULT", fault)]);
    let gpu = device(0);
    // SAFETY: pointers to locals.
    unsafe {
        assert_eq!(value(|power| nvmlDeviceGetPowerUsage(gpu, power)), Err(3));
        assert!(value(|energy| nvmlDeviceGetTotalEnergyConsumption(gpu, energy)).is_ok());
        assert_eq!(value(|degrees| nvmlDeviceGetTemperature(gpu, 0, degrees)), Err(15));
        assert_eq!(CStr::from_ptr(nvmlErrorString(15)).to_str(), Ok("GPU is lost"));
    }
}

#[test]
fn a_slice_has_its_own_name_and_no_power() {
    let _turn = begin(&[("FAKE_DRIVER_GPUS", "mig")]);
    let gpu = device(0);
    // SAFETY: pointers to locals.
    unsafe {
        let mut slice = ptr::null_mut();
        assert_eq!(nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0, &mut slice), 0);
        let mut modes = [0, 0];
        assert_eq!(nvmlDeviceGetMigMode(gpu, &mut modes[0], &mut modes[1]), 0);
        assert_eq!(modes, [1, 1]);
        assert_eq!(text(|to, length| nvmlDeviceGetName(gpu, to, length)), "NVIDIA A100-SXM4-80GB");
        let name = text(|to, length| nvmlDeviceGetName(slice, to, length));
        assert_eq!(name, "NVIDIA A100-SXM4-80GB MIG 1g.10gb");
        assert!(value(|power| nvmlDeviceGetPowerUsage(gpu, power)).is_ok());
        assert_eq!(value(|power| nvmlDeviceGetPowerUsage(slice, power)), Err(3));
        assert!(text(|to, length| nvmlDeviceGetUUID(slice, to, length)).starts_with("MIG-"));
    }
}
