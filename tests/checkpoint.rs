//! Checkpoint folders: what is read from the good ones, and what is said of the bad ones.
#![allow(clippy::unwrap_used)]

mod support;

use llmroof::backend::weights::{Tensor, WeightSource, from_bf16};
use llmroof::checkpoint::Checkpoint;
use llmroof::error::Code;
use support::tests;

fn row(checkpoint: &Checkpoint, tensor: Tensor, layer: u32, row: u32) -> Vec<f32> {
    let mut bits = vec![0; tensor.shape(checkpoint.spec()).1 as usize];
    checkpoint.row(tensor, layer, row, &mut bits);
    bits.into_iter().map(from_bf16).collect()
}

#[test]
fn golden_folders_open() {
    let tied = Checkpoint::open(&tests("golden/tiny-tied-hd64")).unwrap();
    assert_eq!((tied.spec().layers, tied.spec().group(), tied.spec().tied_embeddings), (3, 2, true));
    assert_eq!(tied.spec().name, "tiny-tied-hd64");
    let expected = tied.expected().unwrap();
    assert_eq!((expected.prompt.len(), expected.continuation.len()), (77, 12));
    // The head is the embedding, and a fourth layer is the first one again.
    assert_eq!(row(&tied, Tensor::Head, 0, 5), row(&tied, Tensor::Embedding, 0, 5));
    assert_eq!(row(&tied, Tensor::Q, 4, 3), row(&tied, Tensor::Q, 1, 3));
    assert_ne!(row(&tied, Tensor::Q, 0, 3), row(&tied, Tensor::Q, 1, 3));
    let gqa = Checkpoint::open(&tests("golden/tiny-gqa-hd128")).unwrap();
    assert_ne!(row(&gqa, Tensor::Head, 0, 5), row(&gqa, Tensor::Embedding, 0, 5));
    // Norms were drawn around one.
    let norm = row(&gqa, Tensor::FinalNorm, 0, 0);
    let mean = norm.iter().sum::<f32>() / norm.len() as f32;
    assert!((0.95..1.05).contains(&mean), "{mean}");
}

#[test]
fn every_valid_folder_opens_and_gives_every_row() {
    for entry in std::fs::read_dir(tests("fixtures/valid/checkpoint")).unwrap() {
        let checkpoint = Checkpoint::open(&entry.unwrap().path()).unwrap();
        for tensor in Tensor::ALL {
            let rows = tensor.shape(checkpoint.spec()).0;
            for at in 0..rows {
                // Eighths up to 2 were written in every type.
                assert!(
                    row(&checkpoint, tensor, 1, at)
                        .iter()
                        .all(|x| x.abs() <= 2.0 && (x * 8.0).fract() == 0.0)
                );
            }
        }
    }
}

#[test]
fn a_shard_of_another_type_gives_the_same_values() {
    let one = Checkpoint::open(&tests("fixtures/valid/checkpoint/single")).unwrap();
    let many = Checkpoint::open(&tests("fixtures/valid/checkpoint/sharded")).unwrap();
    // The first tensors of both were drawn from the same seed: bf16 in one, f32 in the other.
    for at in 0..11 {
        assert_eq!(row(&one, Tensor::Embedding, 0, at), row(&many, Tensor::Embedding, 0, at));
    }
}

/// Each bad folder, with the file and the words that its message must have.
const INVALID: [(&str, &str, &[&str]); 31] = [
    ("config-truncated", "config.json", &["line", "column"]),
    ("config-of-another-model", "model.safetensors", &["embed_tokens", "[11, 8]", "[11, 16]"]),
    ("no-weights", "", &["neither model.safetensors"]),
    ("empty-weights", "model.safetensors", &["truncated"]),
    ("truncated-weights", "model.safetensors", &["data_offsets", "outside"]),
    ("truncated-header", "model.safetensors", &["truncated", "192"]),
    ("header-length-huge", "model.safetensors", &["18446744073709551615 bytes"]),
    ("header-length-beyond-file", "model.safetensors", &["truncated", "1048576"]),
    ("header-not-json", "model.safetensors", &["header is damaged", "column"]),
    ("header-tensor-twice", "model.safetensors", &["layers.0.self_attn.q_proj.weight is there twice"]),
    ("header-field-twice", "model.safetensors", &["embed_tokens", "duplicate field `dtype`"]),
    ("offsets-beyond-file", "model.safetensors", &["layers.0.self_attn.q_proj", "outside"]),
    ("offsets-backwards", "model.safetensors", &["layers.0.self_attn.q_proj", "512..256"]),
    ("offsets-overlap", "model.safetensors", &["begins at byte", "ends at"]),
    ("offsets-overflow", "model.safetensors", &["layers.0.self_attn.q_proj", "outside"]),
    ("shape-overflow", "model.safetensors", &["layers.0.self_attn.q_proj", "does not fill"]),
    ("shape-too-long", "model.safetensors", &["[17, 8]", "256 bytes"]),
    ("shape-transposed", "model.safetensors", &["layers.0.self_attn.q_proj", "[8, 16]", "[16, 8]"]),
    ("missing-tensor", "model.safetensors", &["layers.0.self_attn.q_proj", "missing"]),
    ("integer-weights", "model.safetensors", &["I64", "BF16, F16 or F32"]),
    ("missing-shard", "b.safetensors", &["cannot be read"]),
    ("escaping-shard", "model.safetensors.index.json", &["../single", "own folder"]),
    ("absolute-shard", "model.safetensors.index.json", &["/etc/passwd", "own folder"]),
    ("tensor-in-two-shards", "", &["is in a.safetensors and in b.safetensors"]),
    (
        "index-tensor-twice",
        "model.safetensors.index.json",
        &["layers.0.self_attn.q_proj.weight is there twice"],
    ),
    ("index-without-map", "model.safetensors.index.json", &["weight_map"]),
    ("index-empty-map", "model.safetensors.index.json", &["weight_map is empty"]),
    ("expected-row-short", "expected.json", &["prefill_logits", "10", "11"]),
    ("expected-token-outside", "expected.json", &["prompt[1]", "11"]),
    ("expected-steps-differ", "expected.json", &["decode_logits has 1", "2 tokens"]),
    ("expected-too-large", "expected.json", &["number out of range", "line"]),
];

#[test]
fn what_is_wrong_with_a_folder_is_said_in_one_line() {
    let root = tests("fixtures/invalid/checkpoint");
    for (case, file, words) in INVALID {
        let folder = root.join(case);
        let failure = Checkpoint::open(&folder).unwrap_err();
        let message = failure.to_string();
        assert_eq!(failure.code, Code::BadInput, "{case}: {message}");
        let place = if file.is_empty() { folder } else { folder.join(file) };
        assert!(message.contains(&place.display().to_string()), "{case}: {message}");
        assert!(message.contains(". hint: ") && message.lines().count() == 1, "{case}: {message}");
        for word in words {
            assert!(message.contains(word), "{case} lacks \"{word}\": {message}");
        }
    }
    let folders = std::fs::read_dir(root).unwrap().count();
    assert_eq!(folders, INVALID.len(), "every folder has its case");
}

#[test]
fn a_folder_that_is_none_is_said() {
    for folder in ["golden/nowhere", "checkpoint.rs"] {
        let failure = Checkpoint::open(&tests(folder)).unwrap_err();
        assert_eq!(failure.code, Code::BadInput);
        assert!(failure.to_string().contains("config.json: cannot be read"), "{failure}");
    }
}

#[cfg(unix)]
#[test]
fn a_folder_in_place_of_a_file_is_said() {
    let folder = support::copy(&tests("fixtures/valid/checkpoint/single"));
    let weights = folder.path().join("model.safetensors");
    std::fs::remove_file(&weights).unwrap();
    std::fs::create_dir(&weights).unwrap();
    let failure = Checkpoint::open(folder.path()).unwrap_err();
    assert!(failure.to_string().contains("not a file"), "{failure}");
}
