//! A model that is not the one that was asked for: real kernels, wrong parameters.

use llmroof::backend::Residency;
use llmroof::backend::weights::{Distribution, WeightSource};
use llmroof::model::{ModelSpec, Tensor};

/// What differs from the model that was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Model {
    /// The base of the rotary frequencies, by this share.
    Rope(f64),
    /// The epsilon of the norms, by this share.
    Epsilon(f64),
    /// The tensor has the weights of the next layer; outside of the layers those of the next row.
    Weights(Tensor),
}

impl Model {
    /// The residency that is loaded in place of the right one.
    pub fn residency(self, right: &Residency) -> Residency {
        let mut wrong = right.clone();
        match self {
            Model::Rope(share) => wrong.model.rope_theta *= 1.0 + share,
            Model::Epsilon(share) => wrong.model.norm_eps *= 1.0 + share,
            Model::Weights(_) => {}
        }
        wrong
    }

    /// The weights that are loaded in place of the right ones.
    pub fn weights<'a>(self, right: &'a dyn WeightSource, spec: &ModelSpec) -> Mixed<'a> {
        let tensor = match self {
            Model::Weights(tensor) => Some(tensor),
            _ => None,
        };
        Mixed { right, tensor, spec: spec.clone() }
    }
}

/// Weights one tensor of which is mixed up.
pub struct Mixed<'a> {
    right: &'a dyn WeightSource,
    tensor: Option<Tensor>,
    spec: ModelSpec,
}

impl WeightSource for Mixed<'_> {
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [u16]) {
        let (layer, row) = match self.tensor == Some(tensor) {
            false => (layer, row),
            true if tensor.per_layer() => ((layer + 1) % self.spec.layers.max(1), row),
            true => (layer, (row + 1) % tensor.shape(&self.spec).0.max(1)),
        };
        self.right.row(tensor, layer, row, out);
    }

    fn distribution(&self, tensor: Tensor, layer: u32, columns: u32) -> Option<Distribution> {
        self.right.distribution(tensor, layer, columns)
    }
}
