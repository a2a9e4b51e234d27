//! `1,8,32` and `1-256*2`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmroof::sweep::Sweep;

fuzz_target!(|text: &str| {
    match text.parse::<Sweep>() {
        Ok(Sweep(values)) => assert!(!values.is_empty() && values.len() <= 64),
        Err(message) => assert_eq!(message.lines().count(), 1, "{message}"),
    }
});
