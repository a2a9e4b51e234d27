//! Linear stages of 9 to 64 token rows.

use llmroof::backend::cuda::driver::Gpu;
use llmroof::backend::cuda::launch::format::Format;
use llmroof::backend::cuda::launch::skinny;
use llmroof::workload::Stage;

use super::gpu::{a100, h100};
use super::held::QUANTISED;
use super::linear::{Case, Kernels, model};

const KERNELS: Kernels = (skinny::launch, skinny::workspace);

fn with_multiprocessors(multiprocessors: u32) -> Gpu {
    Gpu { multiprocessors, ..a100() }
}

#[test]
fn every_stage_with_9_33_and_64_tokens() {
    let model = model(136, 104, 2, 1, 64, 251);
    for stage in [Stage::Qkv, Stage::OutProj, Stage::GateUp, Stage::Down, Stage::LmHead] {
        for sequences in [9, 16, 17, 33, 64] {
            for gpu in [a100(), h100()] {
                Case::new(stage, model.clone(), sequences, 1).check(gpu, KERNELS);
            }
        }
    }
}

#[test]
fn tiles_in_pieces_of_every_kind() {
    // 3 tiles of 20 steps on 1 to 15 blocks: whole tiles, shared ends, tiles of many blocks, blocks of many tiles.
    for multiprocessors in [1, 2, 3, 7] {
        for (rows, stage) in
            [(12, Stage::GateUp), (40, Stage::GateUp), (20, Stage::LmHead), (64, Stage::LmHead)]
        {
            let model = model(20 * 64 - 8, 3 * 64 - 8, 1, 1, 16, 3 * 128 - 5);
            Case::new(stage, model, rows, 1).check(with_multiprocessors(multiprocessors), KERNELS);
        }
    }
}

#[test]
fn several_tokens_of_a_sequence_go_to_positions_in_a_row() {
    for head_dim in [16, 64, 128] {
        Case::new(Stage::Qkv, model(72, 8, 6, 2, head_dim, 8), 3, 7).check(h100(), KERNELS);
        // A mixed step.
        Case::new(Stage::Qkv, model(72, 8, 6, 2, head_dim, 8), 6, 1).with_further(29).check(a100(), KERNELS);
    }
}

#[test]
fn only_the_last_token_of_a_sequence_gets_logits() {
    Case::new(Stage::LmHead, model(72, 8, 1, 1, 16, 33), 11, 2).check(a100(), KERNELS);
}

#[test]
fn the_lowest_of_equal_logits_is_chosen() {
    // Whole tiles on one block, and on two: logits of tiles in pieces are summed in other orders and may differ.
    for vocab in [333, 1001] {
        let case =
            Case { distinct_logits: 7, ..Case::new(Stage::LmHead, model(64, 8, 1, 1, 16, vocab), 20, 1) };
        let chosen = case.check(a100(), KERNELS).chosen;
        assert!(chosen.iter().all(|&index| index < 7), "{chosen:?}");
    }
}

#[test]
fn each_warp_has_its_part_of_the_pipeline_under_way_and_meets_no_bank_twice() {
    // Of 16 KB of weights a step, a quarter: three steps ahead, two with 64 tokens.
    for (rows, stage, ahead) in [(16, Stage::GateUp, 12), (32, Stage::Down, 12), (64, Stage::Qkv, 8)] {
        let case = Case::new(stage, model(512, 512, 8, 2, 64, 8), rows, 1);
        let profile = case.check(with_multiprocessors(2), KERNELS).profile;
        assert!(profile.in_flight >= ahead << 10, "{stage}: {}", profile.in_flight);
        assert_eq!(profile.shared_passes, profile.shared_passes_least, "{stage}");
    }
}

#[test]
fn every_stage_with_quantised_weights() {
    for format in QUANTISED {
        let model = match format {
            Format::Int4 => model(256, 384, 2, 1, 64, 251),
            _ => model(136, 328, 2, 1, 64, 251),
        };
        for stage in [Stage::Qkv, Stage::OutProj, Stage::GateUp, Stage::Down, Stage::LmHead] {
            for (sequences, gpu) in [(9, a100()), (16, h100()), (32, a100()), (64, h100()), (64, a100())] {
                Case::new(stage, model.clone(), sequences, 1).held_in(format).check(gpu, KERNELS);
            }
        }
    }
}

#[test]
fn quantised_tiles_in_pieces_meet_no_bank_twice() {
    for format in QUANTISED {
        for (multiprocessors, rows) in [(1, 16), (3, 64), (5, 33)] {
            let case = Case::new(Stage::Down, model(328, 1408, 1, 1, 16, 8), rows, 1).held_in(format);
            let profile = case.check(with_multiprocessors(multiprocessors), KERNELS).profile;
            assert_eq!(profile.shared_passes, profile.shared_passes_least, "{rows} rows, {format:?}");
        }
    }
}
