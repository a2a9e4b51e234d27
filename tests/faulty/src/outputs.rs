//! What a pass is said to have put out.

use llmroof::backend::StageOutput;
use llmroof::model::ModelSpec;
use llmroof::workload::Stage;

/// Which outputs are wrong, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outputs {
    pub wrong: Wrong,
    /// The stage; `None` is any for a single element, every one for the rest.
    pub stage: Option<Stage>,
    /// How far the single element is off, relative to the larger of itself and its row's root mean square.
    pub size: f64,
    /// Picks pass, layer and element.
    pub seed: u64,
}

/// How an output is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// One element of one output of one of the first passes.
    Element,
    /// The same, and it is no number.
    Nan,
    /// The second half of every output is what the buffer held before: read before the last blocks had written.
    Half,
    /// All of it is: read before the kernel had started.
    Stale,
}

/// Passes among which the one with the wrong element is: the short check of the kernels has seven.
const PASSES: u64 = 7;

/// What the device's buffers held when they were last read.
#[derive(Debug, Default)]
pub struct Buffers {
    passes: u64,
    held: [Vec<f32>; 5],
}

impl Buffers {
    /// Spoils the outputs of the next pass.
    pub fn spoil(&mut self, faults: &Outputs, spec: &ModelSpec, outputs: &mut [StageOutput]) {
        let pass = self.passes;
        self.passes += 1;
        match faults.wrong {
            Wrong::Element | Wrong::Nan => one_element(faults, pass, spec, outputs),
            Wrong::Half | Wrong::Stale => {
                for output in outputs {
                    let right = output.values.clone();
                    if faults.stage.is_none_or(|stage| stage == output.stage) {
                        let from = if faults.wrong == Wrong::Half { right.len() / 2 } else { 0 };
                        let held = &self.held[buffer(output.stage)];
                        for (at, value) in output.values.iter_mut().enumerate().skip(from) {
                            // Fresh memory is zero.
                            *value = held.get(at).copied().unwrap_or_default();
                        }
                    }
                    self.held[buffer(output.stage)] = right;
                }
            }
        }
    }
}

/// The buffer that a stage writes to: embed, out_proj and down share the residual stream's.
fn buffer(stage: Stage) -> usize {
    match stage {
        Stage::Embed | Stage::OutProj | Stage::Down => 0,
        Stage::Qkv => 1,
        Stage::Attention => 2,
        Stage::GateUp => 3,
        Stage::LmHead => 4,
    }
}

fn one_element(faults: &Outputs, pass: u64, spec: &ModelSpec, outputs: &mut [StageOutput]) {
    let mut random = mix(faults.seed);
    let mut below = |n: u64| {
        random = mix(random);
        random % n.max(1)
    };
    if pass != below(PASSES) {
        return;
    }
    let mut of_stage: Vec<&mut StageOutput> =
        outputs.iter_mut().filter(|output| faults.stage.is_none_or(|stage| stage == output.stage)).collect();
    let at = below(of_stage.len() as u64) as usize;
    let Some(output) = of_stage.get_mut(at) else { return };
    let at = below(output.values.len() as u64) as usize;
    let width = width(spec, output.stage);
    let row = &output.values[at / width * width..][..width];
    let square: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
    let value = f64::from(output.values[at]);
    let size = value.abs().max((square / width as f64).sqrt());
    output.values[at] = match faults.wrong {
        Wrong::Nan => f32::NAN,
        _ => (value + faults.size * size) as f32,
    };
}

/// Elements of one token's row.
fn width(spec: &ModelSpec, stage: Stage) -> usize {
    let width = match stage {
        Stage::Embed | Stage::OutProj | Stage::Down => spec.hidden,
        Stage::Qkv => spec.q_width() + 2 * spec.kv_width(),
        Stage::Attention => spec.q_width(),
        Stage::GateUp => spec.ffn,
        Stage::LmHead => spec.vocab,
    };
    width as usize
}

/// The finaliser of SplitMix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
