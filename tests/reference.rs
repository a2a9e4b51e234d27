//! The float64 reference against the logits that transformers computes.
#![allow(clippy::unwrap_used)]

mod support;

use llmroof::checkpoint::Checkpoint;
use llmroof::measure::verify::{WeightRows, random_logits};
use llmroof::model::Precision;
use llmroof::reference::{Numerics, Reference, Rounding};

/// Largest relative error over prefill and decode.
fn largest_error(folder: &str, rounding: Rounding) -> f64 {
    let checkpoint = Checkpoint::open(&support::tests(folder)).unwrap();
    let expected = checkpoint.expected().unwrap();
    let rows = WeightRows(&checkpoint);
    let mut model = Reference::new(
        checkpoint.spec(),
        &rows,
        Numerics { rounding, ..Numerics::exact(Precision::BF16) },
        checkpoint.spec().layers,
        1,
    );
    let passes = std::iter::once((expected.prompt.clone(), &expected.prefill_logits))
        .chain(expected.continuation.iter().map(|&t| vec![t]).zip(&expected.decode_logits));
    passes
        .map(|(tokens, logits)| {
            let out = &model.forward(&[tokens]).pop().unwrap().values;
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            norm(&mut out.iter().zip(logits).map(|(o, r)| o - r)) / norm(&mut logits.iter().copied())
        })
        .fold(0.0, f64::max)
}

#[test]
fn it_computes_what_transformers_computes() {
    for folder in support::GOLDEN {
        let error = largest_error(folder, Rounding::None);
        println!("{folder}: {error:.2e}");
        assert!(error < 1e-5, "{folder}: {error:.2e}");
    }
}

#[test]
fn with_bf16_activations_it_is_off_by_as_much_as_transformers() {
    for folder in support::GOLDEN {
        let error = largest_error(folder, Rounding::Bf16);
        println!("{folder}: {error:.2e}");
        assert!((1e-3..0.05).contains(&error), "{folder}: {error:.2e}");
    }
}

#[test]
fn rounding_is_to_nearest_even() {
    for (x, rounded) in [(1.0, 1.0), (1.003_906_25, 1.0), (1.011_718_75, 1.015_625), (-1.004, -1.007_812_5)] {
        assert_eq!(Rounding::Bf16.apply(x), rounded);
    }
    assert!(Rounding::Bf16.apply(f64::NAN).is_nan());
    assert_eq!(Rounding::Bf16.apply(1e300), f64::INFINITY);
}

#[test]
fn a_prompt_in_one_pass_or_in_pieces_gives_the_same_logits() {
    let checkpoint = Checkpoint::open(&support::tests(support::GOLDEN[0])).unwrap();
    let rows = WeightRows(&checkpoint);
    let tokens: Vec<u32> = (1..12).map(|i| i * 37 % 512).collect();
    let new = |batch| Reference::new(checkpoint.spec(), &rows, Numerics::exact(Precision::BF16), 3, batch);
    let whole = new(1).forward(std::slice::from_ref(&tokens)).pop().unwrap().values;
    let mut pieces = new(2);
    pieces.forward(&[tokens[..5].to_vec(), vec![1; 5]]);
    let both = pieces.forward(&[tokens[5..].to_vec(), vec![2; 6]]).pop().unwrap().values;
    for (a, b) in whole.iter().zip(&both) {
        assert!((a - b).abs() < 1e-9);
    }
}

#[test]
fn random_tokens_stand_in_for_expected_logits() {
    let checkpoint = Checkpoint::open(&support::tests(support::GOLDEN[0])).unwrap();
    let expected = random_logits(&checkpoint, 3, Numerics::exact(Precision::BF16));
    assert_eq!(expected.prompt.len() + expected.continuation.len(), 80);
    assert_eq!(expected.decode_logits.len(), 12);
    assert!(expected.decode_logits.iter().all(|row| row.len() == 512));
}
