//! What `llmroof devices` says of a GPU that is here, of made-up ones.
#![allow(clippy::unwrap_used)]

use llmroof::backend::{DeviceInfo, GpuInfo};
use llmroof::command::here::{Here, here};
use llmroof::telemetry::Facts;
use llmroof::units::Bytes;
use serde_json::Value;

/// An H100 whose sensors say this.
fn h100(sensors: Result<Facts, String>, profile: Result<String, String>) -> Here {
    let info = DeviceInfo {
        kind: "cuda",
        name: "NVIDIA H100 80GB HBM3".into(),
        id: Some("GPU-1b2c3d4e-5f60-4172-8394-a5b6c7d8e9f0".into()),
        memory: Bytes(85e9),
        cache: Some(Bytes(52e6)),
        detail: String::new(),
        gpu: Some(GpuInfo {
            ordinal: 1,
            pci: "00000000:3b:00.0".into(),
            capability: (9, 0),
            multiprocessors: 132,
            cuda: "12.8".into(),
            memory_clock: Some(2619e6),
            bus_width: Some(5120),
        }),
    };
    here(&info, |_| sensors, profile).unwrap()
}

fn facts() -> Facts {
    Facts {
        driver: Some("570.86.15".into()),
        ecc: Some(true),
        mig: Some(false),
        power_limit_watts: Some(500.0),
        power_limit_default_watts: Some(700.0),
        max_sm_clock_hz: Some(1980e6),
        max_memory_clock_hz: Some(2619e6),
        bus_width: Some(5120),
        memory_total_bytes: Some(85.52e9),
        memory_used_bytes: Some(3.2e9),
        other_processes: Some(1),
        unavailable: Default::default(),
    }
}

#[test]
fn a_gpu_with_all_of_its_sensors() {
    let here = h100(Ok(facts()), Ok("h100-sxm5".into()));
    insta::assert_snapshot!("here_full", here.lines().join("\n"));
    insta::assert_snapshot!("here_full_json", serde_json::to_string_pretty(&here.json()).unwrap());
}

#[test]
fn a_gpu_without_some_of_its_sensors_and_without_a_profile() {
    let mut facts = Facts { ecc: None, mig: None, other_processes: None, ..facts() };
    facts.power_limit_default_watts = None;
    for field in ["ecc", "mig", "power_limit_default_watts"] {
        facts.unavailable.insert(field, "not supported by this GPU or driver".into());
    }
    facts.unavailable.insert("other_processes", "no permission".into());
    let mut here = h100(Ok(facts), Err("no profile has the driver name \"NVIDIA H100\"".into()));
    here.gpu.bus_width = None;
    insta::assert_snapshot!("here_partial", here.lines().join("\n"));
    let json = here.json();
    assert_eq!(json["unavailable"]["ecc"], "not supported by this GPU or driver");
    assert_eq!(json["unavailable"]["bus_width"], "the driver does not say");
    every_null_has_a_reason(&json);
}

#[test]
fn a_gpu_without_nvml() {
    let here = h100(Err("libnvidia-ml.so.1 was not found".into()), Ok("h100-sxm5".into()));
    insta::assert_snapshot!("here_without_nvml", here.lines().join("\n"));
    every_null_has_a_reason(&here.json());
}

fn every_null_has_a_reason(json: &Value) {
    let mut nulls = 0;
    for (field, value) in json.as_object().unwrap() {
        if value.is_null() {
            nulls += 1;
            assert!(json["unavailable"][field].is_string(), "{field} is null without a reason");
        }
    }
    assert!(nulls > 0);
}
