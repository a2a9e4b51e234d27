//! Whole models on cards of which the memory is only reserved: the plan is carried out, no kernel computes.

use llmroof::run::{Run, RunStatus};
use llmroof::workload::Phase;

use crate::fake::FakeDriver;
use crate::program::{each, llmroof, run, steps};

/// Host memory that no run needs more than.
const MOST: i64 = 1 << 30;

/// Runs `measure`; the run, and the table.
fn measured(gpu: &str, options: &[&str]) -> (Run, String) {
    let reports = tempfile::tempdir().unwrap();
    let fake = FakeDriver::new().gpus(gpu).set("FAKE_DRIVER_EXECUTE", 1);
    let measure = ["measure", "--device", "cuda:0", "--reports", reports.path().to_str().unwrap()];
    let ended = llmroof(&fake, &[&measure, options].concat()).well();
    (run(reports.path()), ended.out)
}

#[test]
fn whole_models_are_resident_where_they_fit_and_sampled_otherwise() {
    let cases = vec![
        ("h100", &["--model", "llama-8b"][..], 7, true),
        ("a100-40gb", &["--model", "llama-8b"], 7, true),
        // 34 GB of cache beside 16 GB of weights.
        ("a100-40gb", &["--model", "llama-8b", "--batch", "1,256"], 3, false),
        ("h100", &["--model", "llama-70b", "--batch", "1,4"], 3, false),
        // 35 GB of weights instead of 141.
        ("h100", &["--model", "llama-70b", "--batch", "1,4", "--weights", "int4"], 3, true),
        ("a100-40gb", &["--model", "llama-8b", "--weights", "int8", "--head", "bf16"], 7, true),
        ("h100", &["--model", "llama-8b", "--weights", "fp8"], 7, true),
    ];
    each(cases, |(gpu, options, passes, resident)| {
        let (run, table) = measured(gpu, options);
        assert_eq!(run.status, RunStatus::Complete, "{gpu} {options:?}: {:?}", run.notes);
        assert_eq!(steps(&run).count(), passes, "{gpu} {options:?}");
        let all = |point: &llmroof::run::Point| point.layers_measured == point.layers_total;
        assert_eq!(run.points.iter().all(all), resident, "{gpu} {options:?}");
        let said = table.contains(&format!("of {} measured, times scaled to all", run.model.layers));
        assert_eq!(said, !resident, "{table}");
        // On the virtual clock a step takes at least what its bytes take at the datasheet's bandwidth.
        for step in steps(&run).filter(|step| step.phase == Phase::Decode) {
            assert!(
                step.seconds.median > step.bytes / 3.4e12 && step.seconds.median < step.bytes / 1e12,
                "{step:?}"
            );
        }
    });
    // SAFETY: zero bytes are a valid rusage, which the call fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage), 0);
        usage
    };
    // The largest of all programs that this process has run, in kilobytes.
    assert!(usage.ru_maxrss * 1024 < MOST, "{} MB", usage.ru_maxrss / 1024);
}

/// Of each number of ranks one's shard lies in the memory in turn; all-reduces go over the link of the card's own profile.
#[test]
fn shards_of_a_whole_model_are_measured() {
    let options = ["--model", "llama-8b", "--phase", "decode", "--batch", "1,8", "--tp", "1,2,8"];
    let (run, table) = measured("h100", &options);
    assert_eq!(run.status, RunStatus::Complete, "{:?}", run.notes);
    assert_eq!(run.plan.as_ref().unwrap().link.as_deref(), Some("h100-sxm5"));
    assert_eq!(steps(&run).count(), 2 * 3);
    for point in steps(&run) {
        assert_eq!(point.layers_measured, point.layers_total);
        assert_eq!(point.all_reduce_seconds.is_some(), point.ranks > 1);
        assert!(point.tokens_per_second.is_some());
        let whole = steps(&run).find(|p| (p.ranks, p.batch) == (1, point.batch)).unwrap();
        let part = point.bytes * f64::from(point.ranks) / whole.bytes;
        assert!((1.0..1.05).contains(&part), "{} ranks read {part} of the model's bytes", point.ranks);
    }
    let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("x of ideal 8, all-reduces"), "{table}");
}
