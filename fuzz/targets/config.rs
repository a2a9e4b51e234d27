//! `config.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmroof::model::ModelSpec;
use llmroof_fuzz::answered;

fuzz_target!(|text: &str| {
    if let Some(spec) = answered(ModelSpec::from_config_json(text, "x")) {
        spec.validate().expect("accepted, so it is valid");
    }
});
