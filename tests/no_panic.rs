//! Damaged input of every kind: the answer is a value or one line, never a panic, never a huge allocation.
#![allow(clippy::unwrap_used)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use clap::Parser;
use llmroof::backend::weights::{Tensor, WeightSource};
use llmroof::checkpoint::{Checkpoint, Expected};
use llmroof::cli::Cli;
use llmroof::device::DeviceProfile;
use llmroof::error::{Code, Result};
use llmroof::model::ModelSpec;
use llmroof::run::Run;
use llmroof::sweep::Sweep;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::tests;

/// Remembers the largest single allocation of each thread: the tests run side by side.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn largest() -> usize {
    LARGEST.with(Cell::get)
}

/// Inputs have a few kilobytes: whoever takes this much believed what a damaged file said.
const HUGE: usize = 8 << 20;

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends allocates after its variables are gone.
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` by `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// One kind of damage. Places are shares of the length, so that they fit any input.
#[derive(Debug, Clone)]
enum Damage {
    Flip(f64, u8),
    Truncate(f64),
    Insert(f64, Vec<u8>),
    /// Copies a piece (from, to) of the input to another place.
    Splice(f64, f64, f64),
    /// Puts a nasty token in place of the number at or after a place.
    Number(f64, &'static str),
}

const NUMBERS: [&str; 16] = [
    "1e999",
    "-1e999",
    "NaN",
    "-1",
    "0",
    "-0.0",
    "1e-400",
    "18446744073709551616",
    "4294967296",
    "4294967295",
    "0.5",
    "null",
    "\"x\"",
    "[]",
    "{}",
    "99999999999999999999999999999999999999",
];

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let place = 0.0..1.0f64;
    let one = prop_oneof![
        (place.clone(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        place.clone().prop_map(Damage::Truncate),
        (place.clone(), prop::collection::vec(any::<u8>(), 1..12))
            .prop_map(|(at, new)| Damage::Insert(at, new)),
        (place.clone(), place.clone(), place.clone()).prop_map(|(a, b, to)| Damage::Splice(a, b, to)),
        (place, prop::sample::select(&NUMBERS[..])).prop_map(|(at, text)| Damage::Number(at, text)),
    ];
    prop::collection::vec(one, 1..4)
}

fn damaged(valid: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for damage in damages {
        let place = |share: &f64| (share * bytes.len() as f64) as usize;
        match damage {
            Damage::Flip(at, bit) => {
                let at = place(at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Damage::Truncate(at) => bytes.truncate(place(at)),
            Damage::Insert(at, new) => {
                let at = place(at);
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Splice(a, b, to) => {
                let (a, b, to) = (place(a), place(b), place(to));
                let piece = bytes[a.min(b)..a.max(b)].to_vec();
                bytes.splice(to..to, piece);
            }
            Damage::Number(at, text) => {
                let from = place(at);
                let number = |b: &u8| b.is_ascii_digit() || b".-+e".contains(b);
                let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit) else { continue };
                let start = from + start;
                let length = bytes[start..].iter().take_while(|b| number(b)).count();
                bytes.splice(start..start + length, text.bytes());
            }
        }
    }
    bytes
}

/// The answer is a value, or one line of bad input.
fn answers<T>(result: Result<T>) -> std::result::Result<Option<T>, TestCaseError> {
    prop_assert!(largest() < HUGE, "an allocation of {} bytes", largest());
    match result {
        Ok(value) => Ok(Some(value)),
        Err(failure) => {
            prop_assert_eq!(failure.code, Code::BadInput);
            let message = failure.to_string();
            prop_assert_eq!(message.lines().count(), 1, "{}", message);
            Ok(None)
        }
    }
}

fn fixture(path: &str) -> Vec<u8> {
    std::fs::read(tests("fixtures/valid").join(path)).unwrap()
}

/// Opens a copy of a valid folder in which one file is damaged, and reads every row if it opens.
fn open_damaged(folder: &str, file: &str, damages: &[Damage]) -> std::result::Result<(), TestCaseError> {
    let folder = support::copy(&tests("fixtures/valid/checkpoint").join(folder));
    let path = folder.path().join(file);
    let bytes = damaged(&std::fs::read(&path).unwrap(), damages);
    std::fs::write(&path, bytes).unwrap();
    if let Some(checkpoint) = answers(Checkpoint::open(folder.path()))? {
        read_all(&checkpoint);
    }
    Ok(())
}

fn read_all(checkpoint: &Checkpoint) {
    for tensor in Tensor::ALL {
        let (rows, columns) = tensor.shape(checkpoint.spec());
        let mut out = vec![0; columns as usize];
        for row in [0, rows / 2, rows - 1] {
            checkpoint.row(tensor, 3, row, &mut out);
        }
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 1500,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn config_json(damages in damages(), name in prop::sample::select(&["llama2", "llama3"][..])) {
        let bytes = damaged(&fixture(&format!("config/{name}.json")), &damages);
        let text = String::from_utf8_lossy(&bytes);
        if let Some(spec) = answers(ModelSpec::from_config_json(&text, "x"))? {
            spec.validate().unwrap();
            // What is accepted can be counted.
            prop_assert!(spec.parameters().is_finite());
        }
    }

    #[test]
    fn model_toml(damages in damages()) {
        let bytes = damaged(&fixture("model/small.toml"), &damages);
        answers(ModelSpec::from_toml(&String::from_utf8_lossy(&bytes)))?;
    }

    #[test]
    fn device_toml(damages in damages()) {
        let bytes = damaged(&fixture("device/card.toml"), &damages);
        if let Some(profile) = answers(DeviceProfile::from_toml(&String::from_utf8_lossy(&bytes)))? {
            prop_assert!(!profile.ceilings().is_empty());
        }
    }

    #[test]
    fn run_json(damages in damages()) {
        let bytes = damaged(&fixture("run/small.json"), &damages);
        if let Some(run) = answers(Run::from_json(&String::from_utf8_lossy(&bytes)))? {
            // What was read can be written, and read again as the same.
            let again = Run::from_json(&run.to_json().unwrap()).unwrap();
            prop_assert_eq!(again, run);
        }
    }

    #[test]
    fn expected_json(damages in damages()) {
        let spec = ModelSpec::from_config_json(
            std::str::from_utf8(&fixture("checkpoint/single/config.json")).unwrap(), "x").unwrap();
        let bytes = damaged(&fixture("checkpoint/single/expected.json"), &damages);
        answers(Expected::from_json(&String::from_utf8_lossy(&bytes), &spec))?;
    }

    #[test]
    fn sweep(text in "[0-9,*+\\- \n\u{2028}x]{0,24}") {
        if let Err(message) = text.parse::<Sweep>() {
            prop_assert_eq!(message.lines().count(), 1, "{}", message);
        }
        prop_assert!(largest() < HUGE);
    }

    #[test]
    fn duration(text in "[0-9.eEsmNainf+\\-]{0,12}") {
        let _ = Cli::try_parse_from(["llmroof", "measure", &format!("--budget={text}")]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..config() })]

    #[test]
    fn folder_weights(damages in damages()) {
        open_damaged("single", "model.safetensors", &damages)?;
    }

    #[test]
    fn folder_header(mut damages in damages()) {
        // The header is the first quarter of the file: most of the damage belongs there.
        for damage in &mut damages {
            match damage {
                Damage::Flip(at, _) | Damage::Truncate(at) | Damage::Insert(at, _) | Damage::Number(at, _) => {
                    *at *= 0.25;
                }
                Damage::Splice(a, b, to) => (*a, *b, *to) = (*a * 0.25, *b * 0.25, *to * 0.25),
            }
        }
        open_damaged("single", "model.safetensors", &damages)?;
    }

    #[test]
    fn folder_index(damages in damages()) {
        open_damaged("sharded", "model.safetensors.index.json", &damages)?;
    }

    #[test]
    fn folder_config(damages in damages()) {
        open_damaged("tied", "config.json", &damages)?;
    }
}

#[test]
fn nested_without_end() {
    let nested = |open: &str| open.repeat(100_000);
    for text in
        [nested("["), nested("{\"a\":"), format!("a = {}", nested("[")), format!("{} = 1", nested("a."))]
    {
        assert!(Run::from_json(&text).is_err());
        assert!(ModelSpec::from_config_json(&text, "x").is_err());
        assert!(ModelSpec::from_toml(&text).is_err());
        assert!(DeviceProfile::from_toml(&text).is_err());
    }
}

#[test]
fn every_fixture_of_bad_folders_answers() {
    let folders: &Path = &tests("fixtures/invalid/checkpoint");
    for entry in std::fs::read_dir(folders).unwrap() {
        assert!(Checkpoint::open(&entry.unwrap().path()).is_err());
    }
    assert!(largest() < HUGE);
}
