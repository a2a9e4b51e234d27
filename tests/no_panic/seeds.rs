//! The valid files that are damaged.

use serde_json::Value;

use super::random::Random;
use super::support::tests;
use super::text;
use super::tree::Tree;

/// A valid file: its bytes, and what they mean.
pub struct Seed {
    bytes: Vec<u8>,
    tree: Tree,
    toml: bool,
}

impl Seed {
    /// A JSON file below `tests/fixtures/valid`.
    pub fn json(path: &str) -> Seed {
        let bytes = std::fs::read(tests("fixtures/valid").join(path)).unwrap();
        Seed { tree: Tree::of(&serde_json::from_slice(&bytes).unwrap()), bytes, toml: false }
    }

    /// Damaged, as bytes or as a tree.
    pub fn damaged(&self, random: &mut Random) -> Vec<u8> {
        // One in four of the trees gets damage to its bytes as well.
        let tree = |random: &mut Random| {
            let tree = self.tree.damaged(random);
            if self.toml { tree.toml() } else { tree.json() }.into_bytes()
        };
        match random.below(8) {
            0..3 => text::damaged(&self.bytes, random),
            3 => {
                let bytes = tree(random);
                text::damaged(&bytes, random)
            }
            _ => tree(random),
        }
    }
}

/// Every file of a folder below `tests/fixtures/valid`.
pub fn all(folder: &str) -> Vec<Seed> {
    let mut paths: Vec<_> =
        std::fs::read_dir(tests("fixtures/valid").join(folder)).unwrap().map(|e| e.unwrap().path()).collect();
    // The order of a folder is not the same everywhere.
    paths.sort();
    let seed = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        let toml = path.extension().unwrap() == "toml";
        let value: Value =
            if toml { toml::from_str(text).unwrap() } else { serde_json::from_str(text).unwrap() };
        Seed { tree: Tree::of(&value), bytes, toml }
    };
    paths.iter().map(seed).collect()
}

/// One of them, the small ones far more often: each case costs what its file has bytes.
pub fn one<'a>(seeds: &'a [Seed], random: &mut Random) -> &'a Seed {
    let small: Vec<&Seed> = seeds.iter().filter(|seed| seed.bytes.len() < 8_000).collect();
    if small.is_empty() || random.once_in(20) { random.pick(seeds) } else { small[random.below(small.len())] }
}
