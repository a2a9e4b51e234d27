//! Mixed steps through the suite: one token of each sequence that decodes, and a chunk of one more. Every row of every
//! stage against float64, and what moves and computes against the ledger.

use llmroof::backend::Residency;
use llmroof::backend::cuda::driver::Gpu;
use llmroof::backend::cuda::pass::Pass;
use llmroof::backend::cuda::step::Products;
use llmroof::backend::cuda::suite::Suite;
use llmroof::backend::weights::{RandomWeights, WeightSource};
use llmroof::model::{DType, ModelSpec, Precision};
use llmroof::reference::{Numerics, Reference};
use llmroof::workload::{Chunk, Stage};

use crate::gpu::{InterpretedGpu, a100, h100};
use crate::held::Spread;
use crate::ledger::{check as check_ledger, check_pages, odd_model};
use crate::numbers::relative_error;
use crate::quantised::{Quantised, grouped_model, precision};

/// `batch` sequences that decode and one more: all are fed `prompt` tokens, then the one chunks of these lengths while the
/// others go on, and at last all decode, from different positions.
struct Case<'a> {
    model: &'a ModelSpec,
    types: Precision,
    weights: &'a dyn WeightSource,
    products: Products,
    batch: u32,
    prompt: u32,
    chunks: &'a [u32],
    /// Positions of a page of the caches.
    page: Option<u32>,
}

impl Case<'_> {
    /// New tokens of each sequence in each pass.
    fn passes(&self) -> Vec<Vec<u32>> {
        let pass = |tokens: u32, last: u32| {
            let mut new = vec![tokens; self.batch as usize];
            new.push(last);
            new
        };
        let prompt = (self.prompt > 0).then(|| pass(self.prompt, self.prompt));
        let mixed = self.chunks.iter().map(|&chunk| pass(1, chunk));
        prompt.into_iter().chain(mixed).chain([pass(1, 1)]).collect()
    }

    fn check(&self, gpu: Gpu) {
        let Case { model, types, weights, batch, .. } = *self;
        let rows = Quantised(types, weights);
        let sequences = batch as usize + 1;
        let mut reference = Reference::new(model, &rows, Numerics::of(types), model.layers, sequences);
        let mut suite = Suite::new(InterpretedGpu::new(gpu));
        suite.set_products(self.products);
        let residency = Residency { model: model.clone(), layers: model.layers, precision: types, copies: 1 };
        suite.load(&residency, weights).unwrap();
        let capacity = self.passes().iter().map(|new| new.iter().max().unwrap()).sum();
        suite.begin(batch + 1, capacity, self.page).unwrap();
        for (at, new) in (0..).zip(self.passes()) {
            let token = |sequence: u32, token: u32| (sequence * 101 + at * 37 + token * 7) % model.vocab;
            let tokens: Vec<Vec<u32>> = (0..)
                .zip(&new)
                .map(|(sequence, &new)| (0..new).map(|i| token(sequence, i)).collect())
                .collect();
            let (outputs, expected) = (suite.forward(&tokens, true).unwrap(), reference.forward(&tokens));
            assert_eq!(outputs.len(), expected.len());
            let mixed = new.first() != new.last();
            let all = new.iter().sum::<u32>() as usize;
            for (output, expected) in outputs.iter().zip(&expected) {
                let (width, rows) = match output.stage {
                    // The reference gives the chunk's last token logits as well.
                    Stage::LmHead => (model.vocab as usize, sequences - usize::from(mixed)),
                    _ => (expected.values.len() / all, all),
                };
                assert_eq!(output.values.len(), rows * width, "{}", output.stage);
                let values: Vec<f64> = output.values.iter().map(|&x| f64::from(x)).collect();
                let pairs = values.chunks_exact(width).zip(expected.values.chunks_exact(width));
                for (row, (values, expected)) in pairs.enumerate() {
                    let error = relative_error(values, expected);
                    let place = format!("{new:?}, {}, {} {}", types.name(), output.stage, output.layer);
                    // Errors of the stages before are in it.
                    assert!(error < 0.03, "{}: {place}: row {row} is off by {error}", model.name);
                }
            }
        }
    }
}

#[test]
fn every_row_of_a_mixed_step_is_right() {
    let (wide, narrow) = (odd_model(128, 6, 2), odd_model(64, 4, 1));
    let check = |gpu, model, batch, prompt, chunks: &[u32]| {
        let (types, weights) = (Precision::BF16, &Spread);
        Case { model, types, weights, products: Products::Own, batch, prompt, chunks, page: None }.check(gpu);
    };
    // By the number of rows: products of few rows, of up to 64, of many.
    check(a100(), &wide, 2, 3, &[4, 2]);
    check(h100(), &narrow, 3, 5, &[20, 29]);
    check(a100(), &narrow, 5, 0, &[70, 6]);
    check(h100(), &wide, 1, 9, &[130]);
    // More rows decode than the products of few rows take, and contexts that blocks share.
    check(a100(), &narrow, 70, 2, &[5]);
    check(a100(), &wide, 2, 210, &[7]);
}

#[test]
fn with_quantised_weights() {
    let (odd, grouped) = (odd_model(64, 4, 2), grouped_model(256, 384, 4, 64));
    let check = |gpu, model, dtype, batch, chunks: &[u32]| {
        let types = precision(dtype, dtype);
        let case = Case {
            model,
            types,
            weights: &Spread,
            products: Products::Own,
            batch,
            prompt: 4,
            chunks,
            page: None,
        };
        case.check(gpu);
    };
    check(a100(), &odd, DType::Int8, 3, &[5, 40]);
    check(h100(), &odd, DType::Fp8, 6, &[70]);
    check(h100(), &grouped, DType::Int4, 2, &[3, 20, 66]);
}

#[test]
fn with_caches_of_codes_and_in_pages() {
    let (wide, narrow) = (odd_model(128, 6, 2), odd_model(64, 4, 1));
    let check = |gpu, model, kv, page, products, chunks: &[u32]| {
        let (types, weights) = (Precision { kv, ..Precision::BF16 }, &Spread);
        Case { model, types, weights, products, batch: 2, prompt: 18, chunks, page }.check(gpu);
    };
    check(a100(), &wide, DType::Int8, None, Products::Own, &[20, 2]);
    check(h100(), &narrow, DType::Bf16, Some(16), Products::Own, &[5, 33]);
    check(h100(), &wide, DType::Int8, Some(32), Products::Own, &[70]);
    check(a100(), &narrow, DType::Int8, Some(16), Products::CublasLt, &[66]);
}

#[test]
fn with_products_of_cublaslt() {
    let model = &odd_model(64, 4, 2);
    let (types, weights) = (Precision::BF16, &Spread);
    let case = Case {
        model,
        types,
        weights,
        products: Products::CublasLt,
        batch: 4,
        prompt: 3,
        chunks: &[65],
        page: None,
    };
    case.check(a100());
}

#[test]
fn a_mixed_step_moves_and_computes_what_the_ledger_says() {
    let chunk = |tokens, context| Chunk { tokens, context };
    let odd = odd_model(128, 6, 2);
    let bf16 = |gpu, model: &ModelSpec, pass| {
        check_ledger(gpu, model, pass, Precision::BF16, &RandomWeights::new(11, model));
    };
    bf16(a100(), &odd, Pass::mixed(3, 20, chunk(5, 12)));
    bf16(h100(), &odd_model(64, 4, 1), Pass::mixed(8, 9, chunk(24, 40)));
    bf16(a100(), &odd_model(64, 4, 4), Pass::mixed(2, 230, chunk(70, 70)));
    // A chunk of one token is still one without logits.
    bf16(h100(), &odd, Pass::mixed(2, 3, chunk(1, 1)));
    let cached = |gpu, model: &ModelSpec, kv, page, pass| {
        let types = Precision { kv, ..Precision::BF16 };
        check_pages(gpu, model, pass, types, page, &RandomWeights::new(11, model));
    };
    cached(a100(), &odd, DType::Int8, None, Pass::mixed(3, 20, chunk(5, 12)));
    cached(h100(), &odd, DType::Fp8, Some(16), Pass::mixed(2, 30, chunk(70, 75)));
    let quantised = |gpu, model: &ModelSpec, dtype, pass| {
        check_ledger(gpu, model, pass, precision(dtype, dtype), &Spread);
    };
    quantised(a100(), &odd_model(128, 4, 2), DType::Int8, Pass::mixed(4, 3, chunk(66, 70)));
    quantised(h100(), &grouped_model(384, 512, 4, 64), DType::Int4, Pass::mixed(2, 3, chunk(9, 9)));
}

#[test]
fn tokens_that_are_no_pass_are_refused() {
    let refused = |lengths: &[usize], filled: &[u32]| {
        let tokens: Vec<Vec<u32>> = lengths.iter().map(|&length| vec![1; length]).collect();
        let text = Pass::of(&tokens, filled).unwrap_err().to_string();
        assert!(text.contains("sequences of tokens were given"), "{text}");
    };
    refused(&[1, 1], &[0, 0, 0]);
    refused(&[1, 5], &[3]);
    refused(&[], &[]);
    refused(&[0, 0], &[3, 3]);
    refused(&[1, 0], &[3, 3]);
    refused(&[2, 5], &[3, 3]);
    refused(&[1, 2, 5], &[3, 3, 3]);
    let tokens = [vec![1], vec![1], vec![1; 5]];
    let expected = Pass::mixed(2, 8, Chunk { tokens: 5, context: 14 });
    assert_eq!(Pass::of(&tokens, &[7, 7, 9]).unwrap(), expected);
    assert_eq!((expected.rows(), expected.sequences(), expected.capacity()), (7, 3, 14));
    assert_eq!(Pass::of(&tokens[2..], &[9]).unwrap(), Pass::new(1, 5, 14));
}
