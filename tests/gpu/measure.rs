//! `measure` on fake GPUs, from the command line to the files.

use std::thread;
use std::time::{Duration, Instant};

use llmroof::model::DType;
use llmroof::roofline::{CeilingKind, CeilingSource};
use llmroof::run::{Run, RunStatus, Status};
use llmroof::workload::{Chunk, Phase, Stage};
use serde_json::Value;

use crate::fake::FakeDriver;
use crate::program::{
    GOLDEN, each, files, llmroof, measure, measuring, noted, quick, run, runs, start, step, steps,
};

/// What a GPU of either generation leaves.
fn check_gpu(run: &Run, hopper: bool) {
    assert_eq!(run.device.kind, "cuda");
    assert!(run.device.id.as_ref().unwrap().starts_with("GPU-"), "{:?}", run.device.id);
    let profile = if hopper { "h100-sxm5" } else { "a100-sxm4-80gb" };
    assert_eq!(run.device.profile.as_deref(), Some(profile));
    let verification = run.verification.as_ref().unwrap();
    assert!(verification.passed && verification.largest_error > 0.0);
    let conditions = run.conditions.as_ref().unwrap();
    assert_eq!(conditions.energy_source.as_deref(), Some("the GPU's energy counter"));
    assert_eq!(conditions.threads, None);
    let gpu = conditions.gpu.as_ref().unwrap();
    assert_eq!((gpu.driver.as_deref(), gpu.cuda.as_str()), (Some("570.86.15"), "12.8"));
    assert!(gpu.kernels.iter().all(|kernel| kernel.registers > 0 && kernel.local_bytes == 0), "{gpu:?}");
    let target = |name: &str| gpu.kernels.iter().any(|kernel| kernel.target == name);
    assert_eq!((target("sm_80"), target("sm_90"), target("sm_90a")), (!hopper, hopper, hopper));
    assert!(gpu.graph_node_seconds.unwrap() > 0.0 && gpu.graph_launch_seconds.unwrap() > 0.0);
    assert!(!gpu.readings.is_empty() && gpu.readings.iter().all(|reading| reading.power_watts.is_some()));
    // What this generation has not is null, with the reason; all else is there.
    let mut missing: Vec<&str> = gpu.unavailable.keys().map(String::as_str).collect();
    missing.sort_unstable();
    let counters: &[&str] = if hopper { &[] } else { &["tensor_activity", "witnessed_bytes"] };
    assert_eq!(missing, counters, "{:?}", gpu.unavailable);
    assert!(gpu.unavailable.values().all(|reason| reason.contains("Hopper")), "{:?}", gpu.unavailable);

    for of in steps(run) {
        assert_eq!((of.status, of.layers_measured), (Status::Ok, of.layers_total), "{of:?}");
        let tokens = of.tokens_per_second.unwrap() * of.seconds.median;
        let watts = of.joules_per_token.unwrap() * tokens / of.seconds.median;
        assert!((1.0..900.0).contains(&watts), "{watts} W");
        assert!(of.wall_seconds.unwrap() > 0.0 && of.sm_clock_hz.unwrap() > 1e9);
        assert_eq!(of.throttled_samples, Some(0));
        assert_eq!((of.witnessed_bytes.is_some(), of.tensor_activity.is_some()), (hopper, hopper));
        if let Some(bytes) = of.witnessed_bytes {
            // The fake's counter sees what its kernels must touch; a gap would be an error of a unit.
            assert!((0.8..2.0).contains(&(bytes / of.bytes)), "{bytes} of {} bytes", of.bytes);
        }
    }
    for source in [CeilingSource::Measured, CeilingSource::Datasheet] {
        let kinds =
            run.ceilings.iter().filter(|ceiling| ceiling.source == source).map(|ceiling| ceiling.kind);
        let kinds: Vec<CeilingKind> = kinds.collect();
        assert!(
            kinds.contains(&CeilingKind::MemoryRead) && kinds.contains(&CeilingKind::Compute),
            "{kinds:?}"
        );
    }
}

#[test]
fn a_small_model_is_measured_exported_and_drawn() {
    let cases = vec![("h100", true), ("a100", false)];
    each(cases, |(gpu, hopper)| {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (reports, csv, markdown, table) = (path("reports"), path("a.csv"), path("a.md"), path("a.txt"));
        let exports = ["--export", &csv, "--export", &markdown, "--export", &table];
        // Time enough for windows of the energy counter.
        let options = ["--budget", "24s", "-o", "json"];
        let fake = quick(gpu);
        let ended = measure(&fake, reports.as_ref(), &[&options[..], &exports[..]].concat()).well();
        let of = run(reports.as_ref());
        assert_eq!(Run::from_json(&ended.out).unwrap(), of, "stdout is the run file");
        assert_eq!(of.status, RunStatus::Complete, "{:?}", of.notes);
        check_gpu(&of, hopper);
        let read = |path: &str| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&csv).lines().count(), 1 + of.points.len());
        assert!(read(&markdown).contains("| decode") && read(&table).contains("GPU: driver 570.86.15"));
        assert_eq!(read(&table).contains("memory traffic by the GPU's counters"), hopper);

        let (file, svg) = (files(reports.as_ref()).remove(0), path("a.svg"));
        llmroof(&fake, &["plot", file.to_str().unwrap(), "-o", &svg]).well();
        let name = if hopper { "NVIDIA H100 80GB HBM3" } else { "NVIDIA A100-SXM4-80GB" };
        assert!(read(&svg).starts_with("<svg") && read(&svg).contains(name));
    });
}

/// The graphs of Hopper, whose kernels start early, choose the tokens that the kernels choose one by one: `prepare`
/// compares them where kernels compute. On a card whose memory is small enough for that it takes half a minute of two
/// cores.
#[test]
#[ignore = "takes half a minute; cargo test --test gpu -- --ignored graphs_compute"]
fn graphs_compute_on_a_whole_card_what_their_kernels_do() {
    let folder = tempfile::tempdir().unwrap();
    let fake = quick("h100").set("FAKE_DRIVER_MEMORY", 3_000_000_000u64);
    measure(&fake, folder.path(), &["--phase", "decode", "--batch", "1", "--budget", "24s"]).well();
    assert!(!step(&run(folder.path()), Phase::Decode, 1).seconds.samples.is_empty());
}

#[test]
fn other_gpus_are_measured_too_each_against_its_own_datasheet() {
    let cases = vec![
        ("a100-40gb", Some("a100-sxm4-40gb"), ""),
        ("unknown", None, "no datasheet percentages"),
        ("mig", None, "slice"),
    ];
    each(cases, |(gpu, profile, note)| {
        let folder = tempfile::tempdir().unwrap();
        measure(&quick(gpu), folder.path(), &["--phase", "decode", "--batch", "1"]).well();
        let run = run(folder.path());
        assert_eq!((run.status, run.device.profile.as_deref()), (RunStatus::Complete, profile));
        let datasheet = run.ceilings.iter().any(|ceiling| ceiling.source == CeilingSource::Datasheet);
        assert_eq!(datasheet, profile.is_some());
        assert!(profile.is_some() || noted(&run.notes, &[note]), "{:?}", run.notes);
    });
}

#[test]
fn all_gpus_are_measured_in_turn_and_one_file_is_refused_for_them() {
    let fake = quick("h100,a100");
    let folder = tempfile::tempdir().unwrap();
    for more in [["-o", "json"], ["-o", "csv"], ["--export", "/tmp/points.csv"]] {
        let ended = measure(&fake, folder.path(), &[&["--device", "cuda:all"], &more[..]].concat());
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{}", ended.err);
        assert!(ended.error().contains("2 GPUs") && ended.error().contains(". hint: "), "{}", ended.err);
        assert!(runs(folder.path()).is_empty());
    }
    let ended = measure(&fake, folder.path(), &["--device", "cuda:all"]).well();
    let mut names: Vec<String> = runs(folder.path()).into_iter().map(|run| run.device.name).collect();
    names.sort();
    assert_eq!(names.len(), 2);
    assert!(names[0].contains("A100") && names[1].contains("H100"), "{names:?}");
    assert!(names.iter().all(|name| ended.out.contains(&format!(" on {name}"))), "{}", ended.out);
}

#[test]
fn of_two_gpus_one_that_fails_does_not_keep_the_other_from_its_run() {
    let folder = tempfile::tempdir().unwrap();
    // The first cannot be opened.
    let fake = quick("h100,a100").fault("cuDevicePrimaryCtxRetain=46@1");
    let ended = measure(&fake, folder.path(), &["--device", "cuda:all", "--phase", "decode"]);
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    assert!(ended.error().starts_with("cuda:0 NVIDIA H100 80GB HBM3 GPU-"), "{}", ended.err);
    let run = run(folder.path());
    assert_eq!((run.device.name.as_str(), run.status), ("NVIDIA A100-SXM4-80GB", RunStatus::Complete));
}

#[test]
fn auto_takes_the_gpu_and_otherwise_the_cpu_with_one_line_why() {
    let verify = |fake: FakeDriver| {
        let ended = llmroof(&fake, &["verify", "--checkpoint", GOLDEN[0], "-o", "json"]).well();
        let report: Value = serde_json::from_str(&ended.out).unwrap();
        (report["device_id"].is_string(), ended.err)
    };
    assert_eq!(verify(FakeDriver::new().gpus("old,a100")), (true, String::new()));
    for (fake, why) in [
        (FakeDriver::new().without("cuda"), "libcuda.so.1 was not found"),
        (FakeDriver::new().fault("cuInit=803"), "different versions"),
        (FakeDriver::new().gpus("old"), "7.0"),
    ] {
        let (gpu, said) = verify(fake);
        assert!(!gpu && said.lines().count() == 1, "{said}");
        assert!(
            said.starts_with("no GPU: ") && said.contains(why) && said.contains("; using the CPU"),
            "{said}"
        );
    }
}

#[test]
fn a_chunk_of_a_prompt_rides_along_with_decode() {
    let cases = vec![
        ("mig", "bf16", "bf16", "gemv_qkv"),
        ("h100", "int8", "bf16", "gemv_int8_qkv"),
        ("a100", "int8", "int8", "gemm_w8a8_qkv"),
    ];
    each(cases, |(gpu, weights, activations, product)| {
        let folder = tempfile::tempdir().unwrap();
        let types = ["--weights", weights, "--activations", activations];
        let options = [&types[..], &["--mix", "16", "--phase", "decode", "--budget", "60s"]].concat();
        measure(&quick(gpu), folder.path(), &options).well();
        let run = run(folder.path());
        assert_eq!(run.status, RunStatus::Complete, "{:?}", run.notes);
        // On average the chunks of a prompt of 20 attend 18.
        let chunk = Chunk { tokens: 16, context: 18 };
        assert!(steps(&run).any(|of| (of.phase, of.tokens, of.context) == (Phase::Prefill, 16, 18)));
        for batch in [1, 2] {
            let (alone, mixed) = (step(&run, Phase::Decode, batch), step(&run, Phase::Mixed, batch));
            assert_eq!((mixed.chunk, mixed.tokens, mixed.context), (Some(chunk), 1, alone.context));
            assert!(mixed.seconds.count > 0 && mixed.tokens_per_second.unwrap() > 0.0);
            let stages = run.points.iter().filter(|of| of.phase == Phase::Mixed && of.batch == batch);
            assert_eq!(stages.clone().count(), 8, "the step and its stages");
            assert!(stages.into_iter().all(|of| of.status == Status::Ok && of.seconds.median > 0.0));
        }
        let peak = |dtype| {
            let measured = run.ceilings.iter().filter(|of| of.source == CeilingSource::Measured);
            measured.into_iter().find(|of| of.dtype == Some(dtype)).map(|of| of.rate).unwrap()
        };
        // Products of codes are held against the peak of integers.
        let multiplied = if activations == "int8" { DType::Int8 } else { DType::Bf16 };
        let roof = step(&run, Phase::Mixed, 1).roof_flops_per_second;
        assert!((roof / peak(multiplied) - 1.0).abs() < 0.1, "{roof:e}");
        let kernels = &run.conditions.as_ref().unwrap().gpu.as_ref().unwrap().kernels;
        for kernel in ["attention_decode_64", "attention_prefill_64", product] {
            assert!(kernels.iter().any(|of| of.name.starts_with(kernel)), "{kernel} of {kernels:?}");
        }
    });
}

#[test]
fn the_run_says_what_multiplied() {
    let cases = vec![
        ("own", "own"),
        // The fake's cuBLASLt is slower on the virtual clock at this size or faster: either is an answer.
        ("auto", ""),
        ("cublaslt", "cublaslt 12."),
    ];
    each(cases, |(gemm, name)| {
        let folder = tempfile::tempdir().unwrap();
        let fake = quick("h100").with("cublaslt");
        let ended =
            measure(&fake, folder.path(), &["--gemm", gemm, "--prompt", "100", "--batch", "1"]).well();
        let run = run(folder.path());
        let ran = |of: Phase, stage| {
            let mut of = run.points.iter().filter(|point| point.phase == of && point.stage == stage);
            of.next().unwrap().gemm.clone()
        };
        let multiplied = ran(Phase::Prefill, Some(Stage::GateUp)).unwrap();
        assert!(multiplied.starts_with(name), "{multiplied}");
        assert!(
            ["own"].contains(&multiplied.as_str()) || multiplied.starts_with("cublaslt 12."),
            "{multiplied}"
        );
        assert_eq!(ran(Phase::Decode, Some(Stage::GateUp)), None, "one token has no choice");
        assert!(ended.out.contains(&format!("products of many rows by {multiplied}")), "{}", ended.out);
    });
}

#[test]
fn trials_are_repeated_and_the_peak_is_soaked() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--repeat", "2", "--soak", "1s", "--phase", "decode"];
    measure(&quick("a100"), folder.path(), &options).well();
    let run = run(folder.path());
    for step in steps(&run) {
        assert_eq!(step.seconds.trials.len(), 2, "{:?}", step.seconds.trials);
        assert_eq!(step.seconds.trials.iter().sum::<u32>() as usize, step.seconds.samples.len());
    }
    let soaked = run.ceilings.iter().find(|ceiling| ceiling.kind == CeilingKind::ComputeSustained).unwrap();
    let burst = run.ceilings.iter().find(|ceiling| ceiling.kind == CeilingKind::Compute).unwrap();
    assert!((0.8..1.25).contains(&(soaked.rate / burst.rate)), "{} and {}", soaked.rate, burst.rate);
    assert!(soaked.samples.len() >= 8 && soaked.citation.contains("the last third of 1 s"), "{soaked:?}");
}

#[test]
fn an_interrupt_keeps_what_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    // The clock of the host goes with the GPU's, so that the passes after the first take their time.
    let fake = quick("h100").set("FAKE_DRIVER_SLOWDOWN", 1).set("FAKE_DRIVER_PACE", 1);
    let mut running = start(&mut measuring(&fake, folder.path(), &["--batch", "1-64*2", "--budget", "40s"]));
    let began = Instant::now();
    // The first file there is only tries out whether the folder can be written to.
    let kept = || files(folder.path()).iter().any(|file| file.extension().is_some_and(|e| e == "json"));
    while !kept() && running.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(40), "no run file");
        thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: a signal to a child that was not waited for.
    unsafe { libc::kill(running.child.id() as i32, libc::SIGINT) };
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{}", ended.err);
    assert!(ended.error().contains("interrupted") && ended.out.starts_with("PARTIAL: "), "{}", ended.err);
    let run = run(folder.path());
    assert_eq!(run.status, RunStatus::Partial);
    assert!(!step(&run, Phase::Decode, 1).seconds.samples.is_empty());
    assert!(noted(&run.notes, &["interrupted"]) && noted(&run.notes, &["not reached", "decode batch 64"]));
}
