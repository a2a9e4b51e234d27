//! Every stage of small random models against the reference stage, fed the device's own previous output.

use super::error::Largest;
use super::shapes::{LAYERS, Shape, shapes};
use super::source::{HeldRows, NormalWeights, QuantisedRows, Random};
use super::{Bounds, CUBLASLT, Row, each_gemm};
use crate::backend::{Gemm, Residency, Session, StageOutput};
use crate::error::{Failure, Result};
use crate::model::{ModelSpec, Precision};
use crate::reference::{Cache, Numerics, Qkv, Reference, Stages};
use crate::workload::Stage;

/// How much to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Two models, a fraction of a second: before every measurement.
    Short,
    /// All shapes, some seconds.
    Full,
}

/// Whether the device can run one of the random models in these types.
///
/// # Errors
/// Why it cannot run the first of them.
pub fn check_support(session: &dyn Session, precision: Precision, extent: Extent) -> Result<()> {
    let mut refusal = Ok(());
    for shape in shapes(extent == Extent::Full, precision) {
        let answer = session.supports(&shape.spec(), precision);
        if answer.is_ok() {
            return answer;
        }
        refusal = refusal.and(answer);
    }
    refusal
}

/// Runs those of the random models that the device supports through [`Session::forward`] with a trace. One row for
/// each stage, its errors the largest over all models, layers and tokens, and one for the logits of whole models; once
/// more for models with passes that cuBLASLt can multiply in, if it may be timed.
///
/// # Errors
/// The device supports none of them, it failed, or its trace is not one of a Llama. Errors above their bounds are in
/// the rows.
pub fn check_kernels(
    session: &mut dyn Session,
    seed: u64,
    precision: Precision,
    extent: Extent,
) -> Result<Vec<Row>> {
    // Nothing compared would be nothing wrong.
    check_support(session, precision, extent)?;
    let (mut own, mut cublaslt) = (None, None);
    for (i, shape) in shapes(extent == Extent::Full, precision).iter().enumerate() {
        if session.supports(&shape.spec(), precision).is_err() {
            continue;
        }
        let seed = seed.wrapping_mul(1000).wrapping_add(i as u64);
        for gemm in each_gemm(session, shape.rows(), precision) {
            if let Some(gemm) = gemm {
                session.use_gemm(gemm)?;
            }
            let errors = if gemm == Some(Gemm::CublasLt) { &mut cublaslt } else { &mut own };
            check_model(session, shape, seed, precision, errors.get_or_insert_default())?;
        }
    }
    let rows = |(errors, by): (Option<Errors>, &str)| errors.map(|errors| errors.rows(precision, by));
    Ok([(own, ""), (cublaslt, CUBLASLT)].into_iter().filter_map(rows).flatten().collect())
}

/// The largest errors of every stage, and of the logits of whole models.
#[derive(Debug, Default)]
struct Errors {
    stages: [Largest; 7],
    logits: Largest,
}

impl Errors {
    /// Their rows; `by` is put behind the names.
    fn rows(self, precision: Precision, by: &str) -> Vec<Row> {
        let bounds = Bounds::of(precision.activations);
        let mut rows: Vec<Row> = Stage::ALL
            .into_iter()
            .zip(self.stages)
            .map(|(stage, largest)| {
                largest.row(precision, &format!("{stage}{by}"), bounds.stage, bounds.element)
            })
            .collect();
        // After all layers errors have spread over the elements: rows are compared as wholes.
        let mut whole = self.logits.row(precision, &format!("logits{by}"), bounds.logits, f64::INFINITY);
        (whole.element_error, whole.element_bound) = (None, None);
        rows.push(whole);
        rows
    }
}

fn check_model(
    session: &mut dyn Session,
    shape: &Shape,
    seed: u64,
    precision: Precision,
    errors: &mut Errors,
) -> Result<()> {
    let spec = shape.spec();
    let weights = NormalWeights::new(&spec, seed);
    let rows = HeldRows::new(&spec, &weights);
    let numerics = Numerics::of(precision);
    let rows = QuantisedRows { rows: &rows, precision };
    let mut random = Random::new(seed);
    let mut whole = Reference::new(&spec, &rows, numerics, LAYERS, shape.batch as usize);
    let mut check = PassCheck {
        stages: Stages::new(&spec, &rows, numerics),
        caches: vec![vec![Cache::default(); shape.batch as usize]; LAYERS as usize],
        held: 0,
        name: String::new(),
    };
    session.load(&Residency { model: spec.clone(), layers: LAYERS, precision, copies: 1 }, &weights)?;
    session.begin(shape.batch, shape.positions(), None)?;
    for &count in shape.passes {
        let tokens: Vec<Vec<u32>> = (0..shape.batch).map(|_| random.tokens(count, spec.vocab)).collect();
        let outputs = session.forward(&tokens, true)?;
        check.name = format!("{}, batch {}, {} + {count} tokens", spec.name, shape.batch, check.held);
        check.compare(&tokens, &outputs, &mut errors.stages)?;
        let reference = whole.forward(&tokens);
        if let (Some(out), Some(reference)) = (outputs.last(), reference.last()) {
            errors.logits.compare(&out.values, &reference.values, spec.vocab as usize, |sequence| {
                format!("{}, sequence {sequence}", check.name)
            });
        }
    }
    Ok(())
}

/// Checks one pass after the other of one model.
struct PassCheck<'a> {
    stages: Stages<'a>,
    /// `[layer][sequence]`: what the device said it put into its own.
    caches: Vec<Vec<Cache>>,
    /// Positions of each sequence before this pass.
    held: u32,
    /// The model and the pass, for people.
    name: String,
}

impl PassCheck<'_> {
    fn compare(
        &mut self,
        tokens: &[Vec<u32>],
        outputs: &[StageOutput],
        largest: &mut [Largest; 7],
    ) -> Result<()> {
        let spec = self.stages.spec().clone();
        self.check_order(outputs)?;
        let count = tokens.first().map_or(0, Vec::len);
        let positions: Vec<u32> =
            tokens.iter().flat_map(|new| (0..new.len() as u32).map(|i| self.held + i)).collect();
        // The residual as the device last wrote it, and what the stage before put out.
        let (mut residual, mut before) = (Vec::new(), Vec::new());
        for output in outputs {
            let layer = output.layer;
            let expected = match output.stage {
                Stage::Embed => self.stages.embed(&tokens.concat()),
                Stage::Qkv => self.stages.qkv(layer, &residual, &positions),
                Stage::Attention => self.attention(layer, &before, count),
                Stage::OutProj => self.stages.out_proj(layer, &before, &residual),
                Stage::GateUp => self.stages.gate_up(layer, &residual),
                Stage::Down => self.stages.down(layer, &before, &residual),
                Stage::LmHead => self.stages.lm_head(&last_rows(&residual, count, spec.hidden as usize)),
            };
            largest[output.stage.index()].compare(
                &output.values,
                &expected,
                width(&spec, output.stage),
                |row| {
                    let (sequence, token) = match output.stage {
                        Stage::LmHead => (row, count.saturating_sub(1)),
                        _ => (row / count.max(1), row % count.max(1)),
                    };
                    format!("{}, layer {layer}, sequence {sequence}, token {token}", self.name)
                },
            );
            // The next stage cannot be fed with less than it takes. The length is in the rows as an error.
            before = match output.values.len() == expected.len() {
                true => output.values.iter().map(|&x| f64::from(x)).collect(),
                false => expected,
            };
            if matches!(output.stage, Stage::Embed | Stage::OutProj | Stage::Down) {
                residual.clone_from(&before);
            }
        }
        self.held += count as u32;
        Ok(())
    }

    fn attention(&mut self, layer: u32, qkv: &[f64], count: usize) -> Vec<f64> {
        let length = count * Qkv::of(self.stages.spec()).width();
        let sequences = qkv.chunks(length.max(1)).zip(&mut self.caches[layer as usize]);
        sequences.flat_map(|(own, cache)| self.stages.attention(own, cache)).collect()
    }

    /// Every stage of every layer must be there, in order.
    fn check_order(&self, outputs: &[StageOutput]) -> Result<()> {
        let inside = Stage::ALL.into_iter().filter(|stage| stage.per_layer());
        let mut order = vec![(Stage::Embed, 0)];
        order.extend((0..LAYERS).flat_map(|layer| inside.clone().map(move |stage| (stage, layer))));
        order.push((Stage::LmHead, 0));
        let got: Vec<_> = outputs.iter().map(|output| (output.stage, output.layer)).collect();
        if got == order {
            return Ok(());
        }
        let at = got.iter().zip(&order).take_while(|(a, b)| a == b).count();
        Err(Failure::invalid(format!(
            "{}: the device's trace has {} stages instead of {}, and output {at} is not the one expected",
            self.name,
            got.len(),
            order.len()
        )))
    }
}

/// Elements of one token's row.
fn width(spec: &ModelSpec, stage: Stage) -> usize {
    match stage {
        Stage::Embed | Stage::OutProj | Stage::Down => spec.hidden as usize,
        Stage::Qkv => Qkv::of(spec).width(),
        Stage::Attention => spec.q_width() as usize,
        Stage::GateUp => spec.ffn as usize,
        Stage::LmHead => spec.vocab as usize,
    }
}

/// The last of every `count` rows.
fn last_rows(values: &[f64], count: usize, width: usize) -> Vec<f64> {
    values.chunks_exact((count * width).max(1)).flat_map(|own| &own[own.len() - width..]).copied().collect()
}
