//! What can be wrong with a machine and does not end the program: the run is whole, and says what it lacks.

use llmroof::run::{Gpu, Run, RunStatus};
use llmroof::workload::Phase;

use crate::fake::FakeDriver;
use crate::program::{each, measure, noted, quick, run, step, steps};

/// A run of one pass.
const SHORT: &[&str] = &["--phase", "decode", "--batch", "1", "--budget", "12s"];
/// One with time for a window of the energy counter.
const WINDOW: &[&str] = &["--phase", "decode", "--batch", "1", "--budget", "24s"];

fn measured(fake: &FakeDriver, options: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    measure(fake, folder.path(), options).well();
    let run = run(folder.path());
    assert_eq!(run.status, RunStatus::Complete, "{:?}", run.notes);
    run
}

fn gpu(run: &Run) -> &Gpu {
    run.conditions.as_ref().unwrap().gpu.as_ref().unwrap()
}

#[test]
fn what_nvml_does_not_support_is_null_with_its_reason_and_all_else_is_there() {
    let fields: Vec<(&str, &[&str])> = vec![
        ("nvmlSystemGetDriverVersion=3", &["driver"]),
        ("nvmlDeviceGetEccMode=3", &["ecc"]),
        ("nvmlDeviceGetMigMode=3", &["mig"]),
        ("nvmlDeviceGetEnforcedPowerLimit=3", &["power_limit_watts"]),
        ("nvmlDeviceGetPowerManagementDefaultLimit=3", &["power_limit_default_watts"]),
        ("nvmlDeviceGetMemoryInfo*=3", &["memory_used_bytes"]),
        ("nvmlDeviceGetComputeRunningProcesses*=3", &["other_processes"]),
        ("nvmlDeviceGetPowerUsage=3;nvmlDeviceGetFieldValues=3", &["idle_watts", "readings.power_watts"]),
        ("nvmlDeviceGetClockInfo=3", &["readings.memory_clock_hz", "readings.sm_clock_hz"]),
        ("nvmlDeviceGetTemperature*=3", &["readings.temperature_celsius"]),
        ("nvmlDeviceGetCurrentClocks*=3", &["readings.throttle_reasons"]),
    ];
    // Without a window of seconds these are not there in any case.
    let short = ["joules_per_token", "tensor_activity", "witnessed_bytes"];
    each(fields, |(rule, missing)| {
        let run = measured(&quick("h100").fault(rule), SHORT);
        let gpu = gpu(&run);
        let null: Vec<&str> =
            gpu.unavailable.keys().map(String::as_str).filter(|field| !short.contains(field)).collect();
        assert_eq!(null, missing, "{rule}: {:?}", gpu.unavailable);
        for field in missing {
            assert_eq!(gpu.unavailable[*field], "not supported by this GPU or driver", "{rule}");
        }
        let json = serde_json::to_value(gpu).unwrap();
        let is_null = |field: &str| match field.strip_prefix("readings.") {
            Some(field) => {
                json["readings"].as_array().unwrap().iter().all(|reading| reading[field].is_null())
            }
            None => json[field].is_null(),
        };
        assert!(missing.iter().all(|field| is_null(field)), "{rule}: {json}");
        for field in
            ["driver", "ecc", "mig", "power_limit_watts", "idle_watts", "bus_width", "readings.sm_clock_hz"]
        {
            assert_eq!(is_null(field), missing.contains(&field), "{rule}: {field}");
        }
    });
}

#[test]
fn without_nvml_a_run_has_its_times_and_says_why_it_has_no_more() {
    let cases = vec![
        (quick("h100").without("nvml"), "libnvidia-ml.so.1 was not found"),
        (quick("h100").fault("nvmlInit_v2=9"), "driver is not loaded"),
        (quick("h100").fault("nvmlInit_v2=18"), "different versions"),
        (quick("h100").fault("nvmlInit_v2=4"), "no permission"),
        (quick("h100").fault("nvmlDeviceGetHandleByUUID=15"), "lost"),
    ];
    each(cases, |(fake, why)| {
        let run = measured(&fake, SHORT);
        assert!(noted(&run.notes, &["no sensors: ", why]), "{why}: {:?}", run.notes);
        let said = run.notes.iter().filter(|note| note.contains(why)).count();
        assert_eq!(said, 1, "once: {:?}", run.notes);
        for field in ["driver", "ecc", "readings", "joules_per_token", "witnessed_bytes"] {
            assert!(gpu(&run).unavailable[field].contains(why), "{field}: {:?}", gpu(&run).unavailable);
        }
        assert!(run.points.iter().all(|point| point.throttled_samples.is_none()));
        assert!(steps(&run).all(|step| step.seconds.median > 0.0 && step.wall_seconds.is_some()));
    });
}

#[test]
fn energy_that_cannot_be_had_is_null_and_never_zero() {
    let counter = |does: &str| quick("h100").set("FAKE_DRIVER_ENERGY", does);
    let cases = vec![
        (quick("h100").fault("nvmlDeviceGetTotalEnergyConsumption=3"), "not supported", true),
        (counter("stuck"), "did not move", true),
        (counter("backwards"), "ran backwards", true),
        (quick("h100").fault("nvml*=15@60+"), "lost", false),
        (quick("mig"), "slice", false),
    ];
    each(cases, |(fake, why, counters)| {
        let run = measured(&fake, WINDOW);
        let step = step(&run, Phase::Decode, 1);
        assert_eq!(step.joules_per_token, None, "{why}");
        let reason = &gpu(&run).unavailable["joules_per_token"];
        assert!(reason.contains(why), "{reason}");
        let notes = [&run.notes[..], &step.notes[..]].concat();
        assert!(noted(&notes, &["no energy", why]), "{why}: {notes:?}");
        // The counters of memory traffic are others.
        assert_eq!(step.witnessed_bytes.is_some(), counters, "{why}: {:?}", gpu(&run).unavailable);
    });
}

#[test]
fn counters_of_traffic_that_cannot_be_had_are_null() {
    let cases = vec![
        ("nvmlGpmQueryDeviceSupport=3", "not supported"),
        ("nvmlGpmSampleGet=4", "no permission"),
        ("nvmlGpmMetricsGet=3", "not supported"),
    ];
    each(cases, |(rule, why)| {
        let run = measured(&quick("h100").fault(rule), WINDOW);
        let step = step(&run, Phase::Decode, 1);
        assert_eq!((step.witnessed_bytes, step.tensor_activity), (None, None), "{rule}");
        assert!(step.joules_per_token.unwrap() > 0.0, "{rule}: energy has a counter of its own");
        for field in ["witnessed_bytes", "tensor_activity"] {
            assert!(gpu(&run).unavailable[field].contains(why), "{rule}: {:?}", gpu(&run).unavailable);
        }
        assert!(noted(&run.notes, &["no witnessed bytes", why]), "{:?}", run.notes);
    });
}

#[test]
fn sensors_that_die_midway_are_told_with_the_moment() {
    let run = measured(&quick("h100").fault("nvml*=15@40+"), SHORT);
    assert!(noted(&run.notes, &["the sensors fell silent after", "power_watts", "lost"]), "{:?}", run.notes);
    let readings = &gpu(&run).readings;
    assert!(
        readings.first().unwrap().power_watts.is_some() && readings.last().unwrap().power_watts.is_none()
    );
    assert!(gpu(&run).unavailable["readings.power_watts"].contains("lost"));
}

#[test]
fn throttling_from_the_start_marks_every_sample_and_discards_none() {
    for (reason, name) in [("power", "sw_power_cap"), ("thermal", "hw_thermal_slowdown")] {
        let fake =
            quick("a100").set("FAKE_DRIVER_THROTTLE", "start").set("FAKE_DRIVER_THROTTLE_REASON", reason);
        let run = measured(&fake, SHORT);
        assert!(noted(&run.notes, &["throttled from the start", name]), "{:?}", run.notes);
        let step = step(&run, Phase::Decode, 1);
        assert_eq!(step.throttled_samples, Some(step.seconds.samples.len() as u32));
        assert!(noted(&step.notes, &["held its clocks down", name]), "{:?}", step.notes);
    }
}

#[test]
fn throttling_midway_marks_the_samples_from_then_on() {
    // The host waits as long as the work takes on the virtual clock, so that a count of launches is a moment.
    let fake = FakeDriver::new()
        .gpus("a100")
        .set("FAKE_DRIVER_EXECUTE", 1)
        .set("FAKE_DRIVER_SLOWDOWN", 100)
        .set("FAKE_DRIVER_PACE", 1)
        .set("FAKE_DRIVER_THROTTLE", "after:900");
    let folder = tempfile::tempdir().unwrap();
    measure(&fake, folder.path(), &["--phase", "decode"]).well();
    let run = run(folder.path());
    assert!(noted(&run.notes, &["throttled midway, from", "sw_power_cap"]), "{:?}", run.notes);
    let marked = |batch| {
        let step = step(&run, Phase::Decode, batch);
        (step.throttled_samples.unwrap(), step.seconds.samples.len() as u32)
    };
    let ((first, of_first), (last, of_last)) = (marked(1), marked(2));
    assert!(first < of_first && last > 0 && last <= of_last, "{first} of {of_first}, {last} of {of_last}");
}

#[test]
fn other_processes_on_the_gpu_are_noted() {
    for (others, words) in [(1, "another process computed"), (3, "3 other processes computed")] {
        let run = measured(&quick("h100").set("FAKE_DRIVER_OTHERS", others), SHORT);
        assert!(noted(&run.notes, &[words]), "{:?}", run.notes);
        assert_eq!(gpu(&run).other_processes, Some(others));
    }
}
