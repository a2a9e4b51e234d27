//! The crates that llmroof uses live on the libraries: cudarc's safe part and nvml-wrapper, in a process of their own
//! that finds them as any program does.

mod common;

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use cudarc::driver::sys::{CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::gpm::gpm_metrics_get;
use nvml_wrapper::structs::device::FieldId;

/// Runs one of the ignored tests below where the fake's libraries are the first that are found.
fn run(test: &str) {
    let own = env::current_exe().unwrap();
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("libfake_driver.so"));
    let library: PathBuf = found.into_iter().find(|path| path.exists()).unwrap();
    let folder = env::temp_dir().join(format!("fake-driver-{test}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for name in ["libcuda.so", "libcuda.so.1", "libnvidia-ml.so.1"] {
        symlink(&library, folder.join(name)).unwrap();
    }
    let output = Command::new(own)
        .args(["--ignored", "--exact", test, "--nocapture"])
        .env("LD_LIBRARY_PATH", &folder)
        .env("FAKE_DRIVER_VERBOSE", "1")
        .env("FAKE_DRIVER_GPUS", "h100")
        .output()
        .unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
fn cudarc_and_nvml_wrapper() {
    run("both");
}

/// What `embed` takes, for cudarc.
#[derive(Clone, Copy)]
#[repr(C)]
struct Embed([u64; 4]);

// SAFETY: plain numbers.
unsafe impl cudarc::driver::DeviceRepr for Embed {}

#[test]
#[ignore = "run by cudarc_and_nvml_wrapper, in a process of its own"]
fn both() {
    use cudarc::driver::DevicePtr;
    let nvml = Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init().unwrap();
    let gpu = nvml.device_by_index(0).unwrap();
    assert_eq!((gpu.name().unwrap(), nvml.device_count().unwrap()), ("NVIDIA H100 80GB HBM3".into(), 1));
    assert_eq!(gpu.pci_info().unwrap().bus_id, "00000000:1B:00.0");
    assert_eq!(gpu.current_throttle_reasons().unwrap(), ThrottleReasons::GPU_IDLE);
    assert_eq!(gpu.memory_bus_width().unwrap(), 5120);
    assert_eq!(gpu.max_clock_info(Clock::Memory).unwrap(), 2619);
    assert!(gpu.is_ecc_enabled().unwrap().currently_enabled);
    assert_eq!(gpu.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).unwrap(), 0);
    assert!((30..40).contains(&gpu.temperature(TemperatureSensor::Gpu).unwrap()));
    assert_eq!(gpu.enforced_power_limit().unwrap(), 700_000);
    let power = gpu.field_values_for(&[FieldId(186), FieldId(1)]).unwrap();
    let values: Vec<bool> =
        power.into_iter().map(|sample| sample.is_ok_and(|sample| sample.value.is_ok())).collect();
    assert_eq!(values, [true, false]);
    assert!(gpu.running_compute_processes().unwrap().is_empty());
    assert!(gpu.gpm_support().unwrap());
    let before = (gpu.memory_info().unwrap().used, gpu.gpm_sample().unwrap());

    let context = CudaContext::new(0).unwrap();
    // SAFETY: one stream alone is used.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    let table: Vec<u8> = (0..10).flat_map(|row| common::row(row, 64)).collect();
    let table = stream.clone_htod(&table).unwrap();
    let tokens = stream.clone_htod(&[7u32, 0, 3]).unwrap();
    let residual = stream.alloc_zeros::<u8>(3 * 128).unwrap();
    let module = context.load_module(Ptx::from_src(common::ptx("elementwise.sm_90.ptx"))).unwrap();
    let function = module.load_function("embed").unwrap();
    let [at, ids, to] =
        [table.device_ptr(&stream).0, tokens.device_ptr(&stream).0, residual.device_ptr(&stream).0];
    let embed = Embed([at, ids, to, 64]);
    let config = LaunchConfig { grid_dim: (3, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    // SAFETY: the kernel's only parameter is such a struct, and its buffers are as large as it demands.
    unsafe { stream.launch_builder(&function).arg(&embed).launch(config) }.unwrap();
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).unwrap().unwrap();
    let timed = Some(CUevent_flags::CU_EVENT_DEFAULT);
    let start = stream.record_event(timed).unwrap();
    for _ in 0..10 {
        graph.launch().unwrap();
    }
    let end = stream.record_event(timed).unwrap();
    stream.synchronize().unwrap();
    assert!((0.005..0.1).contains(&start.elapsed_ms(&end).unwrap()));
    let expected: Vec<u8> = [7, 0, 3].into_iter().flat_map(|row| common::row(row, 64)).collect();
    assert_eq!(stream.clone_dtoh(&residual).unwrap(), expected);

    let after = (gpu.memory_info().unwrap().used, gpu.gpm_sample().unwrap());
    assert!(after.0 > before.0);
    let metrics = gpm_metrics_get(&nvml, &before.1, &after.1, &[GpmMetricId::DramBwUtil]).unwrap();
    assert!(metrics[0].as_ref().is_ok_and(|metric| metric.value > 0.0));
    assert_eq!(gpu.running_compute_processes().unwrap()[0].pid, std::process::id());
    assert_eq!(gpu.current_throttle_reasons().unwrap(), ThrottleReasons::empty());
    drop((graph, residual, tokens, table, function, module, stream));
    context.check_err().unwrap();
}
