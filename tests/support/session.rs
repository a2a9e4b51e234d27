//! The float64 reference dressed up as a device, with faults to inject.

use llmroof::backend::weights::{Tensor, WeightSource, from_bf16};
use llmroof::backend::*;
use llmroof::error::{Failure, Result};
use llmroof::model::{DType, ModelSpec, Precision};
use llmroof::reference::{Numerics, Reference, Rows, quantise};
use llmroof::units::Bytes;
use std::collections::HashMap;

/// From the tensor, layer and row that are asked for to those that are given.
pub type Remap = fn(&ModelSpec, Tensor, u32, u32) -> (Tensor, u32, u32);

/// What is wrong with the device.
pub enum Fault {
    None,
    /// It computes another model: a wrong rotary base, a wrong epsilon.
    Model(fn(&mut ModelSpec)),
    /// It uses the rows of another tensor, layer or row.
    Weights(Remap),
    /// It feeds other tokens (a pass counter and the tokens).
    Tokens(fn(usize, &mut Vec<Vec<u32>>)),
    /// Its outputs are wrong (a pass counter and the outputs).
    Outputs(fn(usize, &mut Vec<StageOutput>)),
    /// It has no such activations.
    Without(DType),
}

struct Weights {
    rows: HashMap<(Tensor, u32), Vec<f64>>,
    spec: ModelSpec,
    layers: u32,
    remap: Option<Remap>,
}

impl Rows for Weights {
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [f64]) {
        let (tensor, layer, row) = match self.remap {
            Some(remap) => remap(&self.spec, tensor, layer % self.layers, row),
            None => (tensor, layer, row),
        };
        let width = tensor.shape(&self.spec).1 as usize;
        out.copy_from_slice(&self.rows[&(tensor, layer)][row as usize * width..][..width]);
    }
}

/// Leaked, so that a `Reference`, which borrows, can be kept beside it.
struct Loaded {
    weights: &'static Weights,
    numerics: Numerics,
    spec: &'static ModelSpec,
}

pub struct ReferenceSession {
    info: DeviceInfo,
    loaded: Option<Loaded>,
    model: Option<Reference<'static>>,
    /// Positions that can still be fed.
    room: usize,
    passes: usize,
    fault: Fault,
    /// What its setup says.
    pub fill_rate: f64,
}

impl ReferenceSession {
    pub fn new(fault: Fault) -> Self {
        let info = DeviceInfo {
            kind: "reference",
            name: "float64".into(),
            id: None,
            memory: Bytes(1e12),
            cache: None,
            detail: String::new(),
            gpu: None,
        };
        ReferenceSession { info, loaded: None, model: None, room: 0, passes: 0, fault, fill_rate: 1e9 }
    }
}

impl Session for ReferenceSession {
    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn setup(&self) -> Setup {
        Setup {
            instruction_set: "f64".into(),
            threads: Some(1),
            pinned_cpus: Vec::new(),
            huge_page_share: None,
            product: Multiplier::of(DType::F32),
            fill_rate: self.fill_rate,
            memory_share: 1.0,
        }
    }

    fn supports(&self, model: &ModelSpec, precision: Precision) -> Result<()> {
        match self.fault {
            Fault::Without(missing) if missing == precision.activations => {
                Err(Failure::input(format!("no {missing} activations")))
            }
            _ => precision.check(model),
        }
    }

    fn available_memory(&self) -> Bytes {
        self.info.memory
    }

    fn needed_memory(&self, residency: &Residency, _works: &[Work]) -> Bytes {
        residency.model.resident_bytes(residency.precision)
    }

    fn load(&mut self, residency: &Residency, source: &dyn WeightSource) -> Result<()> {
        let mut spec = residency.model.clone();
        let mut rows = HashMap::new();
        for tensor in Tensor::ALL {
            for layer in 0..if tensor.per_layer() { residency.layers } else { 1 } {
                let (count, width) = tensor.shape(&spec);
                let mut bits = vec![0; width as usize];
                let all: &mut Vec<f64> = rows.entry((tensor, layer)).or_default();
                for row in 0..count {
                    source.row(tensor, layer, row, &mut bits);
                    let mut values: Vec<f64> = bits.iter().map(|&b| f64::from(from_bf16(b))).collect();
                    let dtype = match tensor {
                        Tensor::Head => residency.precision.head,
                        _ if Tensor::OF_LAYER.contains(&tensor) => residency.precision.weights,
                        _ => DType::Bf16,
                    };
                    if dtype.is_quantised() {
                        let group = dtype.group(values.len());
                        values.chunks_mut(group).for_each(|group| quantise(dtype, group));
                    }
                    all.extend(values);
                }
            }
        }
        let remap = if let Fault::Weights(remap) = self.fault { Some(remap) } else { None };
        let weights = Weights { rows, spec: spec.clone(), layers: residency.layers, remap };
        if let Fault::Model(change) = self.fault {
            change(&mut spec);
        }
        spec.layers = residency.layers;
        let numerics = Numerics::of(residency.precision);
        self.loaded =
            Some(Loaded { weights: Box::leak(Box::new(weights)), numerics, spec: Box::leak(Box::new(spec)) });
        Ok(())
    }

    fn probe(&mut self, _probe: Probe, _seconds: f64) -> Result<Probed> {
        Err(Failure::device("the reference has no ceilings"))
    }

    fn prepare(&mut self, _work: &Work) -> Result<()> {
        Err(Failure::device("the reference is not timed"))
    }

    fn run(&mut self, _n: usize) -> Result<Vec<Execution>> {
        Err(Failure::device("the reference is not timed"))
    }

    fn begin(&mut self, batch: u32, capacity: u32, _: Option<u32>) -> Result<()> {
        let Loaded { weights, numerics, spec } =
            self.loaded.as_ref().ok_or_else(|| Failure::device("nothing is loaded"))?;
        self.model = Some(Reference::new(spec, *weights, *numerics, spec.layers, batch as usize));
        // A device that feeds itself other tokens has room for them: the numbers must give it away.
        self.room = capacity as usize + if let Fault::Tokens(_) = self.fault { 8 } else { 0 };
        self.passes = 0;
        Ok(())
    }

    fn forward(&mut self, tokens: &[Vec<u32>], trace: bool) -> Result<Vec<StageOutput>> {
        let model = self.model.as_mut().ok_or_else(|| Failure::device("nothing is begun"))?;
        let mut tokens = tokens.to_vec();
        if let Fault::Tokens(change) = self.fault {
            change(self.passes, &mut tokens);
        }
        self.room = self
            .room
            .checked_sub(tokens.iter().map(Vec::len).max().unwrap_or(0))
            .ok_or_else(|| Failure::device("more positions than begin gave"))?;
        let outputs = model.forward(&tokens);
        let mut outputs: Vec<StageOutput> = outputs
            .into_iter()
            .map(|o| StageOutput {
                stage: o.stage,
                layer: o.layer,
                values: o.values.iter().map(|&x| x as f32).collect(),
            })
            .collect();
        // The chunk of a prompt in a mixed step gets no logits.
        if tokens.windows(2).any(|pair| pair[0].len() != pair[1].len()) {
            let logits = outputs.last_mut().ok_or_else(|| Failure::device("no logits"))?;
            logits.values.truncate(logits.values.len() / tokens.len() * (tokens.len() - 1));
        }
        if let Fault::Outputs(change) = self.fault {
            change(self.passes, &mut outputs);
        }
        self.passes += 1;
        if !trace {
            outputs.drain(..outputs.len() - 1);
        }
        Ok(outputs)
    }
}
