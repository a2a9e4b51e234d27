//! GPUs behind the fake driver: what `devices` lists of them, which one `--device` takes, and their sensors.
#![allow(clippy::unwrap_used)]

mod support {
    pub mod fake;
}

use std::time::{Duration, Instant};

use llmroof::backend::Backend;
use llmroof::backend::cuda::CudaBackend;
use llmroof::telemetry::{Facts, Sensors, Watch, gpu_sensors};
use serde_json::Value;
use support::fake::FakeDriver;

/// Exit code, stdout, stderr.
fn llmroof(fake: &FakeDriver, arguments: &[&str]) -> (i32, String, String) {
    let output = fake.llmroof(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The devices of this machine, as JSON.
fn devices(fake: &FakeDriver) -> Vec<Value> {
    let (code, out, err) = llmroof(fake, &["devices", "-o", "json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let all: Vec<Value> = serde_json::from_str(&out).unwrap();
    all.into_iter().filter(|device| device["here"] == true).collect()
}

#[test]
fn each_gpu_is_matched_with_its_own_profile() {
    let fake = FakeDriver::new().gpus("a100,a100-40gb,h100,h200,unknown,old,mig");
    let found = devices(&fake);
    let profiles: Vec<Option<&str>> = found.iter().map(|device| device["gpu"]["profile"].as_str()).collect();
    let a100s = [Some("a100-sxm4-80gb"), Some("a100-sxm4-40gb")];
    assert_eq!(profiles[..2], a100s);
    // Three without a profile, then the CPU.
    assert_eq!(profiles[2..], [Some("h100-sxm5"), Some("h200-sxm"), None, None, None, None]);
    let why = |at: usize| found[at]["gpu"]["unavailable"]["profile"].as_str().unwrap();
    assert!(why(4).contains("NVIDIA Graphics Device") && why(5).contains("Tesla V100"));
    assert!(why(6).contains("slice"));
    assert_eq!(found[3]["memory_bandwidth"], 4800e9);
    assert_eq!(found[4]["memory_bandwidth"], Value::Null);
    assert_eq!(found[7]["name"], "cpu");
    let (_, table, _) = llmroof(&fake, &["devices"]);
    for line in [
        "cuda:0: driver 570.86.15, CUDA 12.8, compute capability 8.0, 108 multiprocessors",
        "cuda:1: profile a100-sxm4-40gb",
        "cuda:4: no datasheet percentages: no profile has the driver name",
        "cuda:6: MIG-",
    ] {
        assert!(table.lines().any(|shown| shown.starts_with(line)), "{line}\n{table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 110), "{table}");
}

#[test]
fn what_is_refused_is_null_with_its_reason() {
    let refused = "nvmlDeviceGetEccMode=3;nvmlDeviceGetEnforcedPowerLimit=4";
    let fake = FakeDriver::new().fault(refused).set("FAKE_DRIVER_OTHERS", 2);
    let gpu = &devices(&fake)[0]["gpu"];
    assert_eq!((&gpu["ecc"], &gpu["power_limit_watts"]), (&Value::Null, &Value::Null));
    assert_eq!(gpu["unavailable"]["ecc"], "not supported by this GPU or driver");
    assert_eq!(gpu["unavailable"]["power_limit_watts"], "no permission");
    assert_eq!((&gpu["mig"], &gpu["max_sm_clock_hz"]), (&false.into(), &1980e6.into()));
    assert_eq!((&gpu["driver"], &gpu["other_processes"]), (&"570.86.15".into(), &2.into()));
    assert_eq!(gpu["unavailable"].as_object().unwrap().len(), 2);
}

#[test]
fn without_nvml_the_list_has_what_cuda_says() {
    let broken = [
        (FakeDriver::new().without("nvml"), "libnvidia-ml.so.1 was not found"),
        (FakeDriver::new().fault("nvmlInit_v2=9"), "driver is not loaded"),
        (FakeDriver::new().fault("nvmlInit_v2=18"), "different versions"),
        (FakeDriver::new().fault("nvmlInit_v2=4"), "no permission"),
        (FakeDriver::new().fault("nvmlDeviceGetHandleByUUID=15"), "lost"),
        (FakeDriver::new().without_symbol("nvmlInit_v2"), "nvmlInit_v2"),
    ];
    for (fake, word) in broken {
        let gpu = &devices(&fake)[0]["gpu"];
        assert_eq!((&gpu["profile"], &gpu["bus_width"]), (&"h100-sxm5".into(), &5120.into()), "{word}");
        for field in Facts::FIELDS.iter().filter(|&&field| field != "bus_width") {
            let reason = gpu["unavailable"][field].as_str().unwrap();
            assert!(gpu[field].is_null() && reason.contains(word), "{field}: {reason}");
        }
    }
}

#[test]
fn no_gpu_is_a_note_of_the_list() {
    for (fake, word) in [
        (FakeDriver::new().without("cuda"), "libcuda.so.1 was not found"),
        (FakeDriver::new().gpus(""), "no GPU: "),
        (FakeDriver::new().fault("cuInit=803"), "803"),
    ] {
        let (code, table, err) = llmroof(&fake, &["devices"]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(table.contains("no GPU: ") && table.contains(word), "{table}");
    }
}

/// Without a checkpoint on disk nothing runs long: these end before a kernel does.
#[test]
fn a_device_that_cannot_be_taken_is_one_line() {
    let one = || FakeDriver::new().gpus("h100");
    for (fake, arguments, code, words) in [
        (one(), &["--device", "cuda:1"][..], 4, "there is no GPU cuda:1"),
        (one(), &["--device", "abcd"], 4, "UUID begins with abcd"),
        (one(), &["--device", "ff:00.0"], 4, "PCI address 00000000:ff:00.0"),
        (one(), &["--device", "gpu"], 2, "no device \"gpu\""),
        (one(), &["--threads", "2"], 2, "--threads is for the CPU"),
        (one(), &["--isa", "avx2", "--device", "cuda"], 2, "--isa is for the CPU"),
        (one(), &["--activations", "f32"], 2, "no f32 activations"),
        (one().without("cuda"), &["--device", "cuda:0"], 4, "libcuda.so.1 was not found"),
        (one().without("cuda"), &["--gemm", "cublaslt"], 2, "needs a GPU"),
        (FakeDriver::new().gpus("old"), &["--device", "cuda:0"], 4, "7.0"),
        (FakeDriver::new().gpus("old,old"), &["--device", "cuda:all"], 4, "7.0"),
    ] {
        let (ended, out, err) = llmroof(&fake, &[&["verify"], arguments].concat());
        assert_eq!((ended, out.as_str()), (code, ""), "{arguments:?}: {err}");
        assert!(err.starts_with("error: ") && err.lines().count() == 1 && err.contains(words), "{err}");
    }
}

#[test]
fn all_gpus_are_verified_one_after_the_other() {
    let checkpoint = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny-tied-hd64");
    let arguments = ["verify", "--device", "cuda:all", "--checkpoint", checkpoint, "-o", "json"];
    // The second cannot be opened: the first is verified all the same.
    let fake = FakeDriver::new().gpus("h100,a100,old").fault("cuDevicePrimaryCtxRetain=46@2");
    let (code, out, err) = llmroof(&fake, &arguments);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["passed"]), (4, &true.into()), "{err}");
    assert_eq!(report["device"], "NVIDIA H100 80GB HBM3");
    assert!(report["left_out"][0].as_str().unwrap().contains("f32"));
    assert!(err.lines().next().unwrap().contains("left out: Tesla V100"), "{err}");
    let last = err.lines().last().unwrap();
    assert!(last.starts_with("error: cuda:1 NVIDIA A100-SXM4-80GB GPU-"), "{err}");
}

/// Set where an ignored test runs in a process that finds the fake driver.
const INSIDE: &str = "TEST_INSIDE_FAKE_DRIVER";

/// Whether an ignored test was started by hand, without the fake driver.
fn outside() -> bool {
    std::env::var_os(INSIDE).is_none()
}

/// Runs an ignored test of this file in a process that finds the fake driver.
fn inside(fake: &FakeDriver, test: &str) {
    let program = std::env::current_exe().unwrap();
    let mut command = fake.command(program);
    let output = command.args(["--exact", test, "--ignored"]).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// The sensors of the first GPU.
fn sensors() -> std::sync::Arc<dyn Sensors> {
    let gpu = CudaBackend.devices().unwrap().remove(0);
    gpu_sensors(&gpu.id.unwrap()).unwrap()
}

#[test]
fn sensors_read_a_whole_gpu() {
    inside(&FakeDriver::new().gpus("h100"), "inside_h100");
}

#[test]
#[ignore = "run by sensors_read_a_whole_gpu"]
fn inside_h100() {
    if outside() {
        return;
    }
    let sensors = sensors();
    let reading = sensors.reading();
    assert!(reading.unavailable.is_empty(), "{reading:?}");
    assert!((50.0..900.0).contains(&reading.power_watts.unwrap()), "{reading:?}");
    assert!((20.0..100.0).contains(&reading.temperature_celsius.unwrap()), "{reading:?}");
    assert!((100e6..2.1e9).contains(&reading.sm_clock_hz.unwrap()), "{reading:?}");
    assert_eq!((reading.memory_clock_hz, reading.throttle_reasons), (Some(2619e6), Some(vec![])));
    // The counter only grows, at no less than an idle GPU's watts.
    let (first, start) = (sensors.joules().unwrap(), Instant::now());
    let counting = sensors.count().unwrap();
    while sensors.joules().unwrap() == first && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(sensors.joules().unwrap() > first);
    // Nothing ran: the counters saw no traffic, or say that they saw nothing.
    if let Ok(activity) = counting.end() {
        assert!(activity.memory < 0.01 && activity.tensor.is_none_or(|share| share < 0.01), "{activity:?}");
    }
    let gpu = CudaBackend.devices().unwrap().remove(0).id.unwrap();
    let other = gpu.replace("GPU-", "MIG-");
    assert!(gpu_sensors(&other).is_ok(), "both spellings of a UUID are found");
    assert!(gpu_sensors("GPU-00000000-0000-0000-0000-000000000000").is_err());
}

#[test]
fn sensors_of_older_gpus_have_no_counters() {
    inside(&FakeDriver::new().gpus("a100").set("FAKE_DRIVER_THROTTLE", "start"), "inside_a100");
}

#[test]
#[ignore = "run by sensors_of_older_gpus_have_no_counters"]
fn inside_a100() {
    if outside() {
        return;
    }
    let sensors = sensors();
    let reason = sensors.count().err().unwrap();
    assert!(reason.contains("Hopper") || reason.contains("not supported"), "{reason}");
    assert_eq!(sensors.reading().throttle_reasons.unwrap(), ["sw_power_cap"]);
}

#[test]
fn a_slice_has_no_power_of_its_own() {
    inside(&FakeDriver::new().gpus("mig"), "inside_slice");
}

#[test]
#[ignore = "run by a_slice_has_no_power_of_its_own"]
fn inside_slice() {
    if outside() {
        return;
    }
    let sensors = sensors();
    let reading = sensors.reading();
    assert_eq!(reading.power_watts, None);
    assert!(reading.unavailable["power_watts"].contains("slice"));
    assert!(reading.temperature_celsius.is_some() && reading.sm_clock_hz.is_some());
    assert!(sensors.joules().unwrap_err().contains("slice"));
    assert!(sensors.count().is_err());
    let facts = sensors.facts();
    assert_eq!((facts.mig, facts.bus_width), (Some(true), None));
    assert!(facts.memory_total_bytes.unwrap() < 11e9);
}

#[test]
fn sensors_that_die_midway_say_so() {
    inside(&FakeDriver::new().fault("nvml*=15@30+"), "inside_dying");
}

#[test]
#[ignore = "run by sensors_that_die_midway_say_so"]
fn inside_dying() {
    if outside() {
        return;
    }
    let sensors = sensors();
    let watch = Watch::start(sensors.clone(), Duration::from_millis(1));
    let start = Instant::now();
    while watch.readings().len() < 40 && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let readings = watch.readings();
    let (first, last) = (readings.first().unwrap(), readings.last().unwrap());
    assert!(first.power_watts.is_some() && first.unavailable.is_empty(), "{first:?}");
    assert_eq!((last.power_watts, &last.throttle_reasons), (None, &None));
    assert_eq!(last.unavailable.len(), 5);
    assert!(last.unavailable.values().all(|reason| reason.contains("lost")), "{last:?}");
    assert!(sensors.joules().unwrap_err().contains("lost"));
    assert_eq!(sensors.facts().unavailable.len(), Facts::FIELDS.len());
}
