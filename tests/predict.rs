//! Predictions: their shape, and what must hold for every model, card and batch.

#![allow(clippy::unwrap_used)]

use llmroof::device::DeviceProfile;
use llmroof::error::Code;
use llmroof::model::{DType, ModelSpec, Precision};
use llmroof::predict::predict;
use llmroof::profiles::Catalog;
use llmroof::request::Sweeps;
use llmroof::roofline::CeilingSource;
use llmroof::run::{Host, Origin, Run, RunStatus, Status};
use llmroof::workload::{Phase, Stage, Workload};
use proptest::prelude::*;

fn sweeps() -> Sweeps {
    Sweeps {
        phases: vec![Phase::Prefill, Phase::Decode],
        batches: vec![1, 8],
        prompts: vec![1000],
        contexts: Vec::new(),
        speculate: vec![],
        mix: Vec::new(),
        kv_pages: Vec::new(),
        generate: 100,
        precisions: vec![Precision::BF16],
        ranks: vec![1],
    }
}

fn origin() -> Origin {
    let host = Host {
        os: "test".into(),
        arch: "x86_64".into(),
        cpu: "test".into(),
        physical_cores: None,
        logical_cores: 1,
        memory_bytes: 1e9,
    };
    Origin { argv: vec!["llmroof".into()], created: "2026-01-01T00:00:00Z".into(), host }
}

fn known(model: &str, device: &str) -> (ModelSpec, DeviceProfile) {
    let catalog = Catalog::load(None).unwrap();
    (catalog.model(model).unwrap(), catalog.device(device).unwrap().clone())
}

fn predicted(model: &str, device: &str, sweeps: &Sweeps) -> Run {
    let (model, device) = known(model, device);
    predict(&model, &device, sweeps, origin()).unwrap()
}

#[test]
fn a_prediction_says_so_everywhere() {
    let run = predicted("llama-8b", "a100-sxm4-80gb", &sweeps());
    assert_eq!(run.status, RunStatus::Predicted);
    assert_eq!(run.device.kind, "profile");
    assert!(run.points.iter().all(|p| p.status == Status::Predicted && p.seconds.count == 0));
    assert!(run.ceilings.iter().all(|c| c.source == CeilingSource::Datasheet && !c.citation.is_empty()));
    assert!(run.conditions.is_none() && run.verification.is_none());
}

#[test]
fn activations_in_int8_are_multiplied_under_the_peak_of_int8() {
    let of = |activations| {
        let int8 = Precision { weights: DType::Int8, head: DType::Int8, activations, ..Precision::BF16 };
        let sweeps = Sweeps { precisions: vec![int8], prompts: vec![2000], ..sweeps() };
        let run = predicted("llama-8b", "a100-sxm4-80gb", &sweeps);
        let prefill = run.points.iter().find(|point| point.phase == Phase::Prefill).unwrap().clone();
        (prefill.flops_per_second, run.roofline().unwrap().peak.0)
    };
    let ((bf16, bf16_peak), (int8, int8_peak)) = (of(DType::Bf16), of(DType::Int8));
    assert_eq!((bf16_peak, int8_peak), (312e12, 624e12));
    assert!(bf16 > 0.95 * bf16_peak && int8 > 0.95 * int8_peak, "{bf16:e} {int8:e}");
    let (model, device) = known("llama-8b", "rtx-4090");
    let int8 = Precision { weights: DType::Int8, activations: DType::Int8, ..Precision::BF16 };
    let sweeps = Sweeps { precisions: vec![int8], ..sweeps() };
    let failure = predict(&model, &device, &sweeps, origin()).unwrap_err().to_string();
    assert!(failure.contains("rtx-4090 has no int8 peak") && failure.contains("peak.int8"), "{failure}");
}

#[test]
fn it_is_a_run_file_that_can_be_read_back() {
    let run = predicted("llama-1b", "l4", &sweeps());
    assert_eq!(Run::from_json(&run.to_json().unwrap()).unwrap(), run);
}

#[test]
fn each_pass_is_a_step_and_its_seven_stages() {
    let run = predicted("llama-8b", "a100-sxm4-80gb", &sweeps());
    let passes: Vec<_> = run.points.chunks(8).collect();
    assert_eq!(passes.len(), 3);
    for pass in passes {
        assert_eq!(pass[0].stage, None);
        let stages: Vec<Stage> = pass[1..].iter().filter_map(|p| p.stage).collect();
        assert_eq!(stages, Stage::ALL);
        let sum: f64 = pass[1..].iter().map(|p| p.seconds.median).sum();
        assert!((sum / pass[0].seconds.median - 1.0).abs() < 1e-12);
    }
}

#[test]
fn the_request_is_made_of_the_points() {
    let run = predicted("llama-8b", "a100-sxm4-80gb", &sweeps());
    let request = run.request.unwrap();
    let (prefill, decode) = (run.points[0].seconds.median, run.points[8].seconds.median);
    assert_eq!(run.points[8].context, 1050);
    assert_eq!(request.time_to_first_token_seconds, prefill);
    assert_eq!(request.total_seconds, prefill + 99.0 * decode);
    assert!((request.prefill_share + request.decode_share - 1.0).abs() < 1e-12);
    // "800 ms, 94% of the request" takes all of the bandwidth.
    assert_eq!(format!("{:.0}%", request.decode_share * 100.0), "94%");
}

#[test]
fn prompts_and_contexts_are_swept_and_the_request_is_that_of_the_first() {
    let sweeps = Sweeps { prompts: vec![128, 1000], contexts: vec![64, 4096], ..sweeps() };
    let run = predicted("llama-8b", "l40s", &sweeps);
    let steps: Vec<(Phase, u32, u32)> =
        run.points.iter().filter(|p| p.stage.is_none()).map(|p| (p.phase, p.batch, p.context)).collect();
    let (prefill, decode) = (Phase::Prefill, Phase::Decode);
    assert_eq!(
        steps,
        [
            (prefill, 1, 128),
            (prefill, 1, 1000),
            (decode, 1, 64),
            (decode, 8, 64),
            (decode, 1, 4096),
            (decode, 8, 4096)
        ]
    );
    let request = run.request.unwrap();
    assert_eq!(request.prompt, 128);
    let at_64 = run.points.iter().find(|p| p.stage.is_none() && p.context == 64).unwrap();
    assert_eq!(request.time_per_output_token_seconds, at_64.seconds.median);
}

#[test]
fn no_request_without_batch_1_or_prefill() {
    let without_1 = Sweeps { batches: vec![8], ..sweeps() };
    assert!(predicted("llama-8b", "l40s", &without_1).request.is_none());
    let without_prefill = Sweeps { phases: vec![Phase::Decode], ..sweeps() };
    assert!(predicted("llama-8b", "l40s", &without_prefill).request.is_none());
}

#[test]
fn what_does_not_fit_is_said() {
    let run = predicted("llama-70b", "l4", &sweeps());
    assert!(run.notes.iter().any(|n| n.contains("does not fit") && n.contains("141 GB")), "{:?}", run.notes);
    let large = Sweeps { batches: vec![1, 1024], ..sweeps() };
    let run = predicted("llama-8b", "a100-sxm4-80gb", &large);
    assert!(run.points[8].notes.is_empty());
    assert!(run.points[16].notes[0].contains("does not fit"));
}

#[test]
fn positions_beyond_the_model_are_refused_with_a_remedy() {
    let (model, device) = known("llama2-7b", "l40s");
    let refused = |sweeps: Sweeps| {
        let failure = predict(&model, &device, &sweeps, origin()).unwrap_err();
        assert_eq!(failure.code, Code::BadInput);
        let said = failure.to_string();
        assert!(said.contains("4096 positions") && said.contains("hint:"), "{said}");
        said
    };
    assert!(refused(Sweeps { prompts: vec![4000], generate: 97, ..sweeps() }).contains("4097 positions"));
    assert!(refused(Sweeps { contexts: vec![4097], ..sweeps() }).contains("--context is 4097"));
    refused(Sweeps { prompts: vec![u32::MAX], generate: u32::MAX, ..sweeps() });
    refused(Sweeps { phases: vec![Phase::Prefill], prompts: vec![4097], ..sweeps() });
    // To the last position, and not one further.
    for fits in [
        Sweeps { prompts: vec![4000], generate: 96, ..sweeps() },
        Sweeps { contexts: vec![4096], ..sweeps() },
        Sweeps { phases: vec![Phase::Prefill], prompts: vec![4096], ..sweeps() },
    ] {
        predict(&model, &device, &fits, origin()).unwrap();
    }
}

fn any_model() -> impl Strategy<Value = ModelSpec> {
    let models: Vec<ModelSpec> = Catalog::load(None).unwrap().models().into_iter().cloned().collect();
    prop::sample::select(models)
}

fn any_device() -> impl Strategy<Value = DeviceProfile> {
    let devices: Vec<DeviceProfile> = Catalog::load(None).unwrap().devices().cloned().collect();
    prop::sample::select(devices)
}

proptest! {
    #[test]
    fn a_step_costs_what_its_stages_cost(
        model in any_model(), batch in 1u32..2048, tokens in 1u32..512, before in 0u32..4096,
    ) {
        let mut work = Workload::decode(&model, batch, tokens + before);
        work.tokens = tokens;
        let total = work.total();
        let flops: f64 = Stage::ALL.iter().map(|&s| work.cost(s).flops.0).sum();
        let bytes: f64 = Stage::ALL.iter().map(|&s| work.cost(s).bytes().0).sum();
        prop_assert!((total.flops.0 - flops).abs() <= 1e-9 * flops);
        prop_assert!((total.bytes().0 - bytes).abs() <= 1e-9 * bytes);
    }

    /// The weights are shared by the batch, the KV cache is not: intensity approaches that of one more sequence.
    #[test]
    fn intensity_grows_with_the_batch_until_the_kv_cache_dominates(
        model in any_model(), batch in 1u32..4096, context in 1u32..4096,
    ) {
        let cost = |batch| Workload::decode(&model, batch, context).total();
        let (one, two) = (cost(1), cost(2));
        let limit = ((two.flops - one.flops) / (two.bytes() - one.bytes())).0;
        let (now, next) = (cost(batch).intensity().0, cost(batch + 1).intensity().0);
        prop_assert!(now < next && next < limit);
    }

    #[test]
    fn work_grows_with_the_context(model in any_model(), batch in 1u32..512, context in 1u32..100_000) {
        let cost = |context| Workload::decode(&model, batch, context).total();
        let (now, next) = (cost(context), cost(context + 1));
        prop_assert!(next.flops > now.flops && next.bytes() > now.bytes());
    }

    #[test]
    fn no_point_is_above_a_roof(
        model in any_model(), device in any_device(), batch in 1u32..1024, prompt in 1u32..3900,
    ) {
        let sweeps = Sweeps { batches: vec![batch], prompts: vec![prompt], ..sweeps() };
        let run = predict(&model, &device, &sweeps, origin()).unwrap();
        let slack = 1.0 + 1e-9;
        for point in &run.points {
            let memory_roof = point.intensity * point.roof_bytes_per_second;
            prop_assert!(point.attainable_flops_per_second <= memory_roof * slack);
            prop_assert!(point.attainable_flops_per_second <= point.roof_flops_per_second * slack);
            prop_assert!(point.seconds.median * slack >= point.bytes / point.roof_bytes_per_second);
            prop_assert!(point.seconds.median * slack >= point.flops / point.roof_flops_per_second);
            prop_assert!((point.fraction_of_roof - 1.0).abs() < 1e-9);
        }
    }
}
