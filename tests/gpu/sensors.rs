//! The sensors of fake GPUs, in processes that find the fake's libraries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use llmroof::backend::Backend;
use llmroof::backend::cuda::CudaBackend;
use llmroof::telemetry::{Facts, Sensors, Watch, gpu_sensors};

use crate::fake::FakeDriver;

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
    let output = command
        .args(["--exact", &format!("sensors::{test}"), "--ignored"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// The sensors of the first GPU.
fn sensors() -> Arc<dyn Sensors> {
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
