//! Every stage of small random models against the reference stage, fed the device's own previous output.

use super::error::Largest;
use super::shapes::{LAYERS, Shape, shapes};
use super::source::{HeldRows, NormalWeights, QuantisedRows, Random};
use super::{Bounds, CUBLASLT, Row, each_gemm};
use crate::backend::{Gemm, Residency, Session, StageOutput};
use crate::error::{Failure, Result};
use crate::model::{ModelSpec, Precision};
use crate::reference::{Cache, Numerics, Qkv, Reference, Stages};
use crate::run::of_pages;
use crate::workload::Stage;

/// How much to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Two models, a fraction of a second: before every measurement.
    Short,
    /// The same with mixed steps: before a measurement that has some.
    Mixed,
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

/// Runs those of the random models that the device supports, with the cache in pages or contiguous, through
/// [`Session::forward`] with a trace. One row for
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
    kv_page: Option<u32>,
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
            let fed = shape.feeds(extent != Extent::Short);
            check_model(session, shape, fed, seed, (precision, kv_page), errors.get_or_insert_default())?;
        }
    }
    let pages = of_pages(kv_page);
    let rows = |(errors, by): (Option<Errors>, &str)| {
        errors.map(|errors| errors.rows(precision, &format!("{by}{pages}")))
    };
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
        let bounds = Bounds::of(precision);
        let mut rows: Vec<Row> = Stage::ALL
            .into_iter()
            .zip(self.stages)
            .map(|(stage, largest)| {
                let (row, element) = bounds.of_stage(stage, precision.kv);
                largest.row(precision, &format!("{stage}{by}"), row, element)
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
    fed: Vec<Vec<u32>>,
    seed: u64,
    (precision, kv_page): (Precision, Option<u32>),
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
        held: vec![0; shape.batch as usize],
        name: String::new(),
    };
    session.load(&Residency { model: spec.clone(), layers: LAYERS, precision, copies: 1 }, &weights)?;
    session.begin(shape.batch, shape.positions(), kv_page)?;
    for counts in fed {
        let tokens: Vec<Vec<u32>> = counts.iter().map(|&count| random.tokens(count, spec.vocab)).collect();
        let outputs = session.forward(&tokens, true)?;
        let count = counts.last().copied().unwrap_or_default();
        let held = check.held.last().copied().unwrap_or_default();
        let mixed = if is_mixed(&counts) { " (mixed)" } else { "" };
        check.name = format!("{}, batch {}{mixed}, {held} + {count} tokens", spec.name, shape.batch);
        check.compare(&tokens, &outputs, &mut errors.stages)?;
        let reference = whole.forward(&tokens);
        if let (Some(out), Some(reference)) = (outputs.last(), reference.last()) {
            // A chunk of a prompt gets none.
            let headed = shape.batch as usize - usize::from(is_mixed(&counts));
            let expected = &reference.values[..headed * spec.vocab as usize];
            errors.logits.compare(&out.values, expected, spec.vocab as usize, |sequence| {
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
    held: Vec<u32>,
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
        let counts: Vec<u32> = tokens.iter().map(|new| new.len() as u32).collect();
        let rows = || counts.iter().enumerate().flat_map(|(s, &count)| (0..count).map(move |i| (s, i)));
        let positions: Vec<u32> = rows().map(|(sequence, i)| self.held[sequence] + i).collect();
        let headed = if is_mixed(&counts) { &counts[..counts.len() - 1] } else { &counts[..] };
        // The residual as the device last wrote it, and what the stage before put out.
        let (mut residual, mut before) = (Vec::new(), Vec::new());
        for output in outputs {
            let layer = output.layer;
            let expected = match output.stage {
                Stage::Embed => self.stages.embed(&tokens.concat()),
                Stage::Qkv => self.stages.qkv(layer, &residual, &positions),
                Stage::Attention => self.attention(layer, &before, &counts),
                Stage::OutProj => self.stages.out_proj(layer, &before, &residual),
                Stage::GateUp => self.stages.gate_up(layer, &residual),
                Stage::Down => self.stages.down(layer, &before, &residual),
                Stage::LmHead => self.stages.lm_head(&last_rows(&residual, headed, spec.hidden as usize)),
            };
            largest[output.stage.index()].compare(
                &output.values,
                &expected,
                width(&spec, output.stage),
                |row| {
                    let (sequence, token) = match output.stage {
                        Stage::LmHead => (row, counts[row].saturating_sub(1)),
                        _ => rows().nth(row).unwrap_or_default(),
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
        for (held, count) in self.held.iter_mut().zip(counts) {
            *held += count;
        }
        Ok(())
    }

    fn attention(&mut self, layer: u32, qkv: &[f64], counts: &[u32]) -> Vec<f64> {
        let width = Qkv::of(self.stages.spec()).width();
        let (mut out, mut rest) = (Vec::new(), qkv);
        for (&count, cache) in counts.iter().zip(&mut self.caches[layer as usize]) {
            let (own, after) = rest.split_at(count as usize * width);
            out.extend(self.stages.attention(own, cache));
            rest = after;
        }
        out
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

/// The last row of each sequence, whose rows stand one after the other.
fn last_rows(values: &[f64], counts: &[u32], width: usize) -> Vec<f64> {
    let ends = counts.iter().scan(0, |end, &count| {
        *end += count as usize * width;
        Some(*end)
    });
    ends.flat_map(|end| &values[end - width..end]).copied().collect()
}

/// Whether so many new tokens of each sequence are a mixed step.
fn is_mixed(counts: &[u32]) -> bool {
    counts.windows(2).any(|pair| pair[0] != pair[1])
}
