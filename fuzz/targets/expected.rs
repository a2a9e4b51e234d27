//! `expected.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmroof::checkpoint::Expected;
use llmroof::model::ModelSpec;
use llmroof_fuzz::answered;

const CONFIG: &str = include_str!("../../tests/fixtures/valid/checkpoint/single/config.json");

thread_local! {
    static SPEC: ModelSpec = ModelSpec::from_config_json(CONFIG, "x").expect("valid");
}

fuzz_target!(|text: &str| {
    answered(SPEC.with(|spec| Expected::from_json(text, spec)));
});
