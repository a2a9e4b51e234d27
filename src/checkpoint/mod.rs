//! Hugging Face folders: `config.json`, the weights as safetensors, and `expected.json` where there is one.
//!
//! Weights are mapped, not read: opening a folder of any size is a matter of milliseconds. Everything that
//! can be wrong with the folder is found when it is opened.

mod expected;
mod files;
mod header;
mod tensors;

use std::path::{Path, PathBuf};

pub use expected::Expected;
use files::{File, Located};

use crate::backend::weights::{Tensor, WeightSource};
use crate::error::Result;
use crate::input;
use crate::model::ModelSpec;

/// An opened checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    spec: ModelSpec,
    files: Vec<File>,
    /// Embedding, final norm and head, then each layer's tensors, in the order of [`Tensor::ALL`].
    outside: Vec<Located>,
    layers: Vec<Vec<Located>>,
    expected: Option<Expected>,
}

impl Checkpoint {
    /// Opens a folder with `config.json` and `model.safetensors`, or `model.safetensors.index.json` and its
    /// shards. Weights may be BF16, or F16 or F32, which are rounded to bf16 as they are read.
    ///
    /// # Errors
    /// In one line which file, tensor or field is not as it must be, and what it must be.
    pub fn open(folder: &Path) -> Result<Self> {
        let name = folder.file_name().map_or_else(|| "checkpoint".into(), |name| name.to_string_lossy());
        let config = folder.join("config.json");
        let spec = ModelSpec::from_config_json(&input::text(&config, input::CHECKPOINT)?, &name)
            .map_err(|e| e.at(config.display()))?;
        let files = files::open_all(folder)?;
        let find = |tensor, layer| tensors::find(&files, &spec, tensor, layer);
        let (inside, outside): (Vec<_>, Vec<_>) = Tensor::ALL.into_iter().partition(|t| t.per_layer());
        let outside = outside.iter().map(|&tensor| find(tensor, 0)).collect::<Result<_>>()?;
        let layers = (0..spec.layers)
            .map(|layer| inside.iter().map(|&tensor| find(tensor, layer)).collect())
            .collect::<Result<_>>()?;
        let expected = Expected::open(&folder.join("expected.json"), &spec)?;
        Ok(Checkpoint { folder: folder.to_path_buf(), spec, files, outside, layers, expected })
    }

    /// The model's shape; its name is the folder's.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The folder it was opened from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the model must put out, where the folder says.
    pub fn expected(&self) -> Option<&Expected> {
        self.expected.as_ref()
    }

    fn locate(&self, tensor: Tensor, layer: u32) -> &Located {
        let place = Tensor::ALL.iter().filter(|t| t.per_layer() == tensor.per_layer());
        let place = place.take_while(|&&t| t != tensor).count();
        match tensor.per_layer() {
            // `find` ran for every layer and the spec has at least one: neither is empty.
            true => &self.layers[layer as usize % self.layers.len()][place],
            false => &self.outside[place],
        }
    }
}

impl WeightSource for Checkpoint {
    /// A layer beyond the last is the checkpoint's own again, from the first.
    fn row(&self, tensor: Tensor, layer: u32, row: u32, out: &mut [u16]) {
        let place = self.locate(tensor, layer);
        place.row(&self.files[place.file], row, out);
    }
}
