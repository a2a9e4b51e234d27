//! Checkpoint folders with one damaged file. What opens gives every row.

use std::fs;

use llmroof::backend::weights::{Tensor, WeightSource};
use llmroof::checkpoint::Checkpoint;
use serde_json::Value;

use super::cases::{Verdict, answered, each};
use super::random::Random;
use super::seeds::Seed;
use super::support::{copy, tests};
use super::text;
use super::tree::Tree;

/// Opens copies of a valid folder in which this file is damaged.
fn each_folder(test: &str, folder: &str, file: &str, make: impl Fn(&mut Random) -> Vec<u8>) {
    let folder = copy(&tests("fixtures/valid/checkpoint").join(folder));
    let path = folder.path().join(file);
    each(test, make, |bytes| {
        fs::write(&path, bytes).map_err(|e| e.to_string())?;
        open(folder.path())
    });
}

fn open(folder: &std::path::Path) -> Verdict {
    let Some(checkpoint) = answered(Checkpoint::open(folder))? else { return Ok(false) };
    for tensor in Tensor::ALL {
        let (rows, columns) = tensor.shape(checkpoint.spec());
        let mut out = vec![0; columns as usize];
        for row in [0, rows / 2, rows - 1] {
            checkpoint.row(tensor, 3, row, &mut out);
        }
    }
    Ok(true)
}

#[test]
fn weights() {
    let bytes = fs::read(tests("fixtures/valid/checkpoint/single/model.safetensors")).unwrap();
    each_folder("weights", "single", "model.safetensors", |random| text::damaged(&bytes, random));
}

/// The header as a tree, the data as it was, the length as it must be, but for one in eight.
#[test]
fn header() {
    let bytes = fs::read(tests("fixtures/valid/checkpoint/tied/model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, data) = bytes[8..].split_at(length);
    let tree = Tree::of(&serde_json::from_slice::<Value>(header).unwrap());
    each_folder("header", "tied", "model.safetensors", |random| {
        let header = match random.below(4) {
            0 => text::damaged(header, random),
            // Nothing but the order is changed: such a file opens.
            1 if random.once_in(4) => tree.json().into_bytes(),
            _ => tree.damaged(random).json().into_bytes(),
        };
        let length = match random.below(8) {
            0 => *random.pick(&[0, 7, u64::MAX, 1 << 26, (1 << 26) + 1, header.len() as u64 + 1]),
            _ => header.len() as u64,
        };
        [&length.to_le_bytes(), header.as_slice(), data].concat()
    });
}

#[test]
fn index() {
    let seed = Seed::json("checkpoint/sharded/model.safetensors.index.json");
    each_folder("index", "sharded", "model.safetensors.index.json", |random| seed.damaged(random));
}

#[test]
fn config() {
    let seed = Seed::json("checkpoint/tied/config.json");
    each_folder("config of a folder", "tied", "config.json", |random| seed.damaged(random));
}

#[test]
fn every_fixture_of_bad_folders_answers() {
    for entry in fs::read_dir(tests("fixtures/invalid/checkpoint")).unwrap() {
        assert_eq!(open(&entry.unwrap().path()), Ok(false));
    }
}
