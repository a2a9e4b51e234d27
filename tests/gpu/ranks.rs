//! `--tp` on several GPUs: all-reduces measured with NCCL, modelled where they cannot be, and what can go wrong.

use std::path::Path;

use llmroof::model::DType;
use llmroof::run::{AllReduceFrom, Basis, Collectives, Run, RunStatus};
use llmroof::units::Bytes;
use llmroof::workload::Reduction;

use crate::fake::FakeDriver;
use crate::program::{Ended, each, files, noted, quick, run, runs, start, steps};

/// Four H100 with NCCL.
fn four() -> FakeDriver {
    quick("h100,h100,h100,h100").with("nccl")
}

/// Decode of a model of 8 KV heads, of which kernels are timed and not executed.
fn measure(fake: &FakeDriver, reports: &Path, more: &[&str]) -> Ended {
    let mut all = vec!["measure", "--reports", reports.to_str().unwrap()];
    let given = |option| more.contains(&option);
    if !given("--append") {
        all.extend(["--model", "llama-1b", "--phase", "decode", "--batch", "1,8", "--context", "128"]);
    }
    if !given("--append") && !given("--device") {
        all.extend(["--device", "cuda:0"]);
    }
    // Not used up: samples are soon enough.
    all.extend(["--budget", "60s"]);
    start(&mut fake.llmroof(&[&all, more].concat())).end()
}

/// What the fake takes for one: its README says so. A node of a graph costs 1.3 us, and a [`quick`] fake is 50 times as slow.
fn wanted(ranks: u32, bytes: f64) -> f64 {
    let n = f64::from(ranks);
    50.0 * (1.05 * 8e-6 + 1.3e-6 + 2.0 * (n - 1.0) / n * bytes / (0.8 * 450e9))
}

fn among(run: &Run, ranks: u32) -> &Collectives {
    run.collectives.iter().find(|among| among.ranks == ranks).unwrap()
}

#[test]
fn as_many_gpus_as_ranks_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("points.csv");
    let reports = folder.path().join("reports");
    let ended = measure(&four(), &reports, &["--tp", "1,2,4", "--export", csv.to_str().unwrap()]).well();
    let run = run(&reports);
    assert_eq!(run.status, RunStatus::Complete, "{:?}", run.notes);
    assert_eq!(steps(&run).count(), 6);
    assert_eq!(run.collectives.iter().map(|among| among.ranks).collect::<Vec<_>>(), [2, 4]);
    for among in &run.collectives {
        assert_eq!(among.library, "NCCL 2.27.3");
        assert_eq!(among.devices, ["cuda:0", "cuda:1", "cuda:2", "cuda:3"][..among.ranks as usize]);
        // Activations and argmax of one row and of eight.
        let sums = among.all_reduces.iter().filter(|one| one.reduction == Reduction::Sum).count();
        assert_eq!((sums, among.all_reduces.len()), (2, 4), "{among:?}");
        for one in &among.all_reduces {
            let wanted = wanted(among.ranks, one.bytes);
            assert!((one.seconds / wanted - 1.0).abs() < 0.015, "{one:?}: {wanted} is that of the slowest");
            assert!(one.samples.len() >= 3 && one.modelled_seconds.is_some_and(|model| model < one.seconds));
        }
    }
    for step in steps(&run).filter(|step| step.ranks > 1) {
        let rows = f64::from(step.batch * step.tokens);
        let one = |reduction, bytes: f64| {
            let same = |(kind, size)| kind == reduction && size == bytes;
            let all = &among(&run, step.ranks).all_reduces;
            all.iter().find(|one| same((one.reduction, one.bytes))).unwrap().seconds
        };
        let all = 32.0 * one(Reduction::Sum, rows * 4096.0) + one(Reduction::Largest, rows * 8.0);
        assert!((step.all_reduce_seconds.unwrap() / all - 1.0).abs() < 1e-9, "{step:?}");
        assert_eq!(step.all_reduce_from, Some(AllReduceFrom::Measured));
        let rate = rows / (step.seconds.median + all);
        assert!((step.tokens_per_second.unwrap() / rate - 1.0).abs() < 1e-9);
    }
    let note = ["all-reduces of 4 ranks are measured: NCCL 2.27.3 among cuda:0, cuda:1, cuda:2, cuda:3"];
    assert!(noted(&run.notes, &note), "{:?}", run.notes);
    assert!(noted(&run.notes, &["times what is modelled over the link of h100-sxm5"]), "{:?}", run.notes);
    assert!(!noted(&run.notes, &["are modelled over the link"]), "{:?}", run.notes);
    let ranks = run.ways.iter().find(|way| way.way == "4 ranks").unwrap();
    assert_eq!(ranks.basis, Basis::Measured);
    assert!(ended.out.contains("‡ measured among as many GPUs") && !ended.out.contains('†'), "{}", ended.out);
    assert!(std::fs::read_to_string(csv).unwrap().contains(",measured,"));
}

#[test]
fn the_measured_gpu_comes_first_and_the_others_are_of_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    let fake = quick("a100,h100,a100,h100").with("nccl");
    measure(&fake, folder.path(), &["--device", "cuda:3", "--tp", "2"]).well();
    assert_eq!(among(&run(folder.path()), 2).devices, ["cuda:3", "cuda:1"]);
}

#[test]
fn fewer_gpus_than_ranks_are_modelled() {
    let folder = tempfile::tempdir().unwrap();
    let ended = measure(&four(), folder.path(), &["--tp", "4,8"]).well();
    let run = run(folder.path());
    for step in steps(&run) {
        let from = if step.ranks == 4 { AllReduceFrom::Measured } else { AllReduceFrom::Modelled };
        assert_eq!(step.all_reduce_from, Some(from));
    }
    assert_eq!(run.collectives.len(), 1);
    let why = ["of 8 ranks are not measured: this machine shows 4 NVIDIA H100 80GB HBM3"];
    assert!(noted(&run.notes, &why), "{:?}", run.notes);
    assert!(noted(&run.notes, &["are modelled over the link of h100-sxm5"]), "{:?}", run.notes);
    assert!(ended.out.contains("† modelled, ‡ measured"), "{}", ended.out);
}

/// What keeps NCCL from it is said, and the run goes on with the model.
#[test]
fn without_nccl_that_works_they_are_modelled() {
    let bare = || quick("h100,h100");
    let with = |rule: &str| bare().with("nccl").fault(rule);
    let cases = vec![
        (bare(), "libnccl.so.2 was not found"),
        (bare().with("nccl").set("FAKE_DRIVER_NCCL_VERSION", 2804), "NCCL 2.8.4 is too old"),
        (bare().with("nccl").without_symbol("ncclCommAbort"), "libnccl.so.2 has no ncclCommAbort"),
        (with("ncclGetVersion=3"), "ncclGetVersion: internal error"),
        (with("ncclCommInitAll=2"), "ncclCommInitAll: unhandled system error"),
        (with("ncclAllReduce=1@3"), "ncclAllReduce: unhandled cuda error"),
        // While the streams record.
        (with("ncclGroupEnd=5@5"), "ncclGroupEnd: invalid usage"),
        (with("ncclGroupEnd=99@15"), "unknown result code (status 99)"),
        (with("corrupt/ncclAllReduce@2"), "an all-reduce of known numbers gave others"),
        // The measuring process opens the first GPU, the one with NCCL both.
        (with("cuDevicePrimaryCtxRetain=46@2"), "opening the NVIDIA H100 80GB HBM3: the GPU is busy"),
        (quick("mig,mig").with("nccl"), "slices are not joined"),
        (quick("h100").with("nccl"), "this machine shows 1 NVIDIA H100"),
    ];
    each(cases, |(fake, why)| {
        let folder = tempfile::tempdir().unwrap();
        measure(&fake, folder.path(), &["--tp", "2", "--link", "h100-sxm5"]).well();
        let run = run(folder.path());
        assert!(
            noted(&run.notes, &["all-reduces of 2 ranks are not measured: ", why]),
            "{why}: {:?}",
            run.notes
        );
        assert!(noted(&run.notes, &["are modelled over the link of h100-sxm5"]), "{:?}", run.notes);
        assert!(run.collectives.is_empty());
        assert!(steps(&run).all(|step| step.all_reduce_from == Some(AllReduceFrom::Modelled)));
    });
}

/// One line, and no process that goes on hanging.
#[test]
fn what_hangs_ends_in_one_line() {
    let cases = vec![
        ("ncclCommInitAll=-1", "joining the GPUs: not finished within 1 s"),
        ("ncclGroupEnd=-1@15", "all-reduces: not finished within 1 s"),
        ("ncclCommDestroy=-1", "giving the GPUs back: not finished within 1 s"),
        ("hang@3", "the GPU has not finished within 1 s"),
    ];
    each(cases, |(rule, what)| {
        let folder = tempfile::tempdir().unwrap();
        let fake = quick("h100,h100").with("nccl").fault(rule);
        let ended = measure(&fake, folder.path(), &["--tp", "2", "--timeout", "1s"]);
        assert_eq!(ended.code, Some(4), "{rule}: {ended:?}");
        let error = ended.error();
        assert!(error.contains(what) && error.contains("hint: NCCL_DEBUG=INFO"), "{rule}: {error}");
        assert!(runs(folder.path()).is_empty(), "nothing had been measured");
    });
}

#[test]
fn what_was_measured_is_kept_when_a_later_process_can_only_model() {
    let folder = tempfile::tempdir().unwrap();
    let gpus = || quick("h100,h100");
    let one = ["--tp", "2"];
    measure(&gpus().with("nccl"), folder.path(), &one).well();
    let before = run(folder.path());
    let file = files(folder.path()).remove(0);
    measure(&gpus(), folder.path(), &["--append", file.to_str().unwrap()]).well();
    let after = run(folder.path());
    assert_eq!(after.collectives, before.collectives);
    for (old, new) in steps(&before).zip(steps(&after)) {
        assert_eq!(new.trials.len(), 2);
        assert_eq!(new.all_reduce_seconds, old.all_reduce_seconds);
        assert_eq!(new.all_reduce_from, Some(AllReduceFrom::Measured));
        let rate = f64::from(new.batch) / (new.seconds.median + new.all_reduce_seconds.unwrap());
        assert!((new.tokens_per_second.unwrap() / rate - 1.0).abs() < 1e-9);
    }
    // A third that measures them counts its own.
    measure(&gpus().with("nccl"), folder.path(), &["--append", file.to_str().unwrap()]).well();
    assert_eq!(run(folder.path()).collectives.len(), 2);
}

/// `--ways` runs what a GPU can by itself: fp8 as well.
#[test]
#[ignore = "verifies four types of weights, which takes minutes of a busy machine; cargo test --test gpu -- --ignored fp8"]
fn the_ways_of_a_gpu_have_fp8() {
    let folder = tempfile::tempdir().unwrap();
    measure(&quick("a100"), folder.path(), &["--ways", "--layers", "1"]).well();
    let plan = run(folder.path()).plan.unwrap();
    assert_eq!(plan.weights, [DType::Bf16, DType::Int8, DType::Int4, DType::Fp8]);
}

/// The sizes are those of the ledger: what the model is over is what was measured.
#[test]
fn a_prompt_s_all_reduces_are_as_large_as_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let fake = quick("a100,a100").with("nccl");
    let args =
        ["--tp", "2", "--phase", "prefill", "--prompt", "1000", "--model", "llama-8b", "--budget", "60s"];
    let all = [&["measure", "--device", "cuda:0", "--reports", folder.path().to_str().unwrap()], &args[..]];
    start(&mut fake.llmroof(&all.concat())).end().well();
    let run = run(folder.path());
    let largest = among(&run, 2).all_reduces.last().unwrap();
    assert_eq!((largest.reduction, Bytes(largest.bytes)), (Reduction::Sum, Bytes(1000.0 * 8192.0)));
}
