//! What servers do, through the binary: the cache in pages, and chunks of prompts that ride along with decode. How fast
//! anything is, is never asserted.
#![allow(clippy::unwrap_used)]

mod support;

use llmroof::run::merge;
use llmroof::ways::{mixed, paged};
use llmroof::workload::{Chunk, Phase, Stage};
use support::{llmroof, refused, run_of};

const CHECKPOINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny-gqa-hd128");

#[test]
fn every_pass_runs_with_both_caches_and_every_chunk_alone_and_riding_along() {
    let folder = tempfile::tempdir().unwrap();
    let reports = folder.path().to_str().unwrap();
    let measured = llmroof(&[
        "measure",
        "--checkpoint",
        CHECKPOINT,
        "--kv-page",
        "16",
        "--mix",
        "24",
        "--prompt",
        "96",
        "--context",
        "100",
        "--batch",
        "1,2",
        "--threads",
        "1",
        "--budget",
        "24s",
        "--reports",
        reports,
        "--no-progress",
        "-o",
        "json",
    ]);
    // A busy machine may leave a point above its roof: the run is whole all the same.
    assert!(matches!(measured.status.code(), Some(0 | 5)), "{}", String::from_utf8_lossy(&measured.stderr));
    let run = run_of(&measured);
    let steps: Vec<_> = run.points.iter().filter(|p| p.stage.is_none()).collect();
    let chunk = Chunk { tokens: 24, context: 60 };
    for kv_page in [None, Some(16)] {
        for (phase, batch, tokens, context, chunk) in [
            (Phase::Prefill, 1, 96, 96, None),
            (Phase::Prefill, 1, 24, 60, None),
            (Phase::Decode, 2, 1, 100, None),
            (Phase::Mixed, 2, 1, 100, Some(chunk)),
        ] {
            let wanted = (phase, batch, tokens, context, chunk, kv_page);
            let found = steps
                .iter()
                .find(|p| (p.phase, p.batch, p.tokens, p.context, p.chunk, p.kv_page) == wanted)
                .unwrap_or_else(|| panic!("{wanted:?}"));
            assert!(found.seconds.count > 0, "{wanted:?}");
        }
    }
    assert_eq!(steps.len(), 12);
    if measured.status.code() == Some(0) {
        assert_eq!((paged(&run).len(), mixed(&run).len()), (6, 4));
        for one in mixed(&run) {
            assert!(one.decode > 0.0 && one.alone > 0.0 && one.together > 0.0, "{one:?}");
            assert!(one.pause().is_some(), "{one:?}");
        }
    }
    // What rides along counts in a rate, also in one that two processes measured.
    let both = merge(&run, run.clone());
    for point in run.points.iter().chain(&both.points).filter(|p| p.stage.is_none()) {
        let new = point.tokens_per_second.unwrap() * point.seconds.median;
        assert!((new - run.workload(point).new_tokens()).abs() < 1e-6, "{point:?}");
    }
    // The request is that of the contiguous cache.
    let request = run.request.unwrap();
    let prefill = steps.iter().find(|p| p.tokens == 96 && p.kv_page.is_none()).unwrap();
    assert_eq!(request.time_to_first_token_seconds, prefill.seconds.median);
}

#[test]
fn the_tables_of_a_prediction() {
    let output = llmroof(&[
        "predict",
        "-d",
        "h100-sxm5",
        "--kv-page",
        "16",
        "--mix",
        "64,256",
        "--batch",
        "1,64",
        "--context",
        "4096",
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_prediction_pays_for_tables_and_saves_the_weights_of_one_pass() {
    let output = llmroof(&[
        "predict",
        "-d",
        "h100-sxm5",
        "--kv-page",
        "16",
        "--mix",
        "64",
        "--batch",
        "8",
        "--context",
        "4096",
        "-o",
        "json",
    ]);
    let run = run_of(&output);
    let decode = paged(&run).into_iter().find(|paged| paged.work.phase == Phase::Decode).unwrap();
    // 4 bytes of table for 16 positions of 4096 bytes, in each layer.
    let table = 4.0 / (16.0 * 4096.0);
    assert!((decode.attention.unwrap() - 1.0 - table).abs() < table / 100.0, "{decode:?}");
    let one = mixed(&run).into_iter().find(|mixed| mixed.work.kv_page.is_none()).unwrap();
    let weights = run.model.layer_matrix_parameters() * f64::from(run.model.layers) * 2.0;
    // Decode and the chunk are both memory-bound on this card: what is saved is one read of the layers' weights.
    let seconds = weights / run.roofline().unwrap().bandwidth.0;
    let saved = one.decode + one.alone - one.together;
    assert!((saved / seconds - 1.0).abs() < 0.02, "{one:?}: {saved} of {seconds}");
    let attention = |phase| {
        let own = run.points.iter().find(|p| {
            p.phase == phase && p.stage == Some(Stage::Attention) && p.kv_page.is_none() && p.tokens != 1000
        });
        own.unwrap().bytes
    };
    assert_eq!(attention(Phase::Mixed), attention(Phase::Decode) + attention(Phase::Prefill));
}

#[test]
fn what_cannot_be_is_said_in_one_line() {
    for (arguments, words) in [
        (&["--kv-page", "24"][..], "give 16, 32, 64, 128 or 256"),
        (&["--kv-page", "512"], "give 16, 32, 64, 128 or 256"),
        (&["--mix", "2000"], "give --mix 1000 or less"),
        (&["--mix", "0"], "--mix"),
    ] {
        refused(&[&["predict", "-d", "l4"], arguments].concat(), words);
    }
    refused(&["verify", "--kv-page", "17"], "give 16, 32, 64, 128 or 256");
}
