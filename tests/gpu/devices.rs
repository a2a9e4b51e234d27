//! What is listed of GPUs behind the fake driver, and which one `--device` takes.

use llmroof::telemetry::Facts;
use serde_json::Value;

use crate::fake::FakeDriver;
use crate::program;

/// Exit code, stdout, stderr.
fn llmroof(fake: &FakeDriver, arguments: &[&str]) -> (i32, String, String) {
    let ended = program::llmroof(fake, arguments);
    (ended.code.unwrap(), ended.out, ended.err)
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
    for name in ["NVIDIA H200", "NVIDIA A100-SXM4-40GB", "NVIDIA Graphics Device"] {
        assert!(table.lines().any(|line| line.contains(name) && line.contains("yes")), "{name} in\n{table}");
    }
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
fn a_broken_driver_is_no_end_of_the_list() {
    let broken = [
        FakeDriver::new().fault("cuInit=803"),
        FakeDriver::new().gpus(""),
        FakeDriver::new().without_symbol("cuDeviceTotalMem_v2"),
        FakeDriver::new().without("cuda"),
    ];
    for fake in broken {
        let (code, table, stderr) = llmroof(&fake, &["devices"]);
        assert_eq!((code, stderr.as_str()), (0, ""));
        let present = table.lines().filter(|line| line.contains("yes")).count();
        assert_eq!(present, 1, "the CPU alone in\n{table}");
    }
}
