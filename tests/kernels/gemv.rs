//! Linear stages of 1 to 8 token rows.

use llmroof::backend::cuda::driver::Gpu;
use llmroof::backend::cuda::launch::format::Format;
use llmroof::backend::cuda::launch::gemv;
use llmroof::workload::Stage;

use super::gpu::{a100, h100};
use super::held::QUANTISED;
use super::linear::{Case, Kernels, model};

const KERNELS: Kernels = (gemv::launch, gemv::workspace);

/// So few multiprocessors that every block has several tiles.
fn small(gpu: Gpu) -> Gpu {
    Gpu { multiprocessors: 1, ..gpu }
}

#[test]
fn every_stage_with_1_5_and_8_tokens() {
    // Widths that are no multiple of what a warp or a block takes, an odd vocabulary.
    let model = model(136, 104, 2, 1, 64, 251);
    for stage in [Stage::Qkv, Stage::OutProj, Stage::GateUp, Stage::Down, Stage::LmHead] {
        for sequences in [1, 5, 8] {
            for gpu in [a100(), small(a100()), h100(), small(h100())] {
                Case::new(stage, model.clone(), sequences, 1).check(gpu, KERNELS);
            }
        }
    }
}

#[test]
fn several_tokens_of_a_sequence_go_to_positions_in_a_row() {
    // q heads in groups of three to a KV head; 2 sequences of 3 tokens, the second far from its beginning.
    for head_dim in [16, 64, 128] {
        Case::new(Stage::Qkv, model(72, 8, 6, 2, head_dim, 8), 2, 3).check(h100(), KERNELS);
        // A mixed step: two tokens of their own sequences, then five of a third.
        Case::new(Stage::Qkv, model(72, 8, 6, 2, head_dim, 8), 3, 1).with_further(4).check(a100(), KERNELS);
    }
}

#[test]
fn rows_longer_than_what_is_under_way_at_once() {
    // Three rounds, the last of them short, and tiles one after another.
    let long = 2 * 2048 + 3 * 8;
    for gpu in [a100(), small(a100()), small(h100())] {
        Case::new(Stage::Down, model(56, long, 1, 1, 16, 8), 3, 1).check(gpu.clone(), KERNELS);
        Case::new(Stage::GateUp, model(long, 40, 1, 1, 16, 8), 2, 1).check(gpu, KERNELS);
    }
}

#[test]
fn only_the_last_token_of_a_sequence_gets_logits() {
    Case::new(Stage::LmHead, model(72, 8, 1, 1, 16, 33), 2, 4).check(a100(), KERNELS);
}

#[test]
fn the_lowest_of_equal_logits_is_chosen() {
    for gpu in [a100(), small(a100()), h100()] {
        let case = Case { distinct_logits: 7, ..Case::new(Stage::LmHead, model(72, 8, 1, 1, 16, 333), 4, 1) };
        let chosen = case.check(gpu, KERNELS).chosen;
        assert!(chosen.iter().all(|&index| index < 7), "{chosen:?}");
    }
}
#[test]
fn each_warp_has_slices_of_2_kb_under_way_and_meets_no_bank_twice() {
    for (rows, stage, slices) in [(1, Stage::Down, 4), (1, Stage::Qkv, 4), (8, Stage::GateUp, 3)] {
        let profile =
            Case::new(stage, model(2048, 2048, 1, 1, 16, 8), rows, 1).check(a100(), KERNELS).profile;
        assert!(profile.in_flight >= slices * 2048, "{stage}: {}", profile.in_flight);
        assert_eq!(profile.shared_passes, profile.shared_passes_least, "{stage}");
    }
}

#[test]
fn every_stage_with_quantised_weights() {
    for format in QUANTISED {
        // Of int8 and fp8 also rows that end in half a piece, and in half a slice.
        let model = match format {
            Format::Int4 => model(256, 384, 2, 1, 64, 251),
            _ => model(136, 328, 2, 1, 64, 251),
        };
        for stage in [Stage::Qkv, Stage::OutProj, Stage::GateUp, Stage::Down, Stage::LmHead] {
            for sequences in [1, 3, 8] {
                for gpu in [small(a100()), h100()] {
                    Case::new(stage, model.clone(), sequences, 1).held_in(format).check(gpu, KERNELS);
                }
            }
        }
    }
}

#[test]
fn quantised_rows_longer_than_what_is_under_way_at_once() {
    for format in QUANTISED {
        let long = 5 * 1024 + 128;
        for sequences in [1, 2] {
            let narrow = model(56, long, 1, 1, 16, 8);
            Case::new(Stage::Down, narrow, sequences, 1).held_in(format).check(small(a100()), KERNELS);
            let wide = model(long, 40, 1, 1, 16, 8);
            Case::new(Stage::GateUp, wide, sequences, 1).held_in(format).check(small(h100()), KERNELS);
        }
    }
}

#[test]
fn quantised_weights_meet_no_bank_twice() {
    for format in QUANTISED {
        for (rows, stage) in [(1, Stage::Down), (1, Stage::Qkv), (8, Stage::GateUp)] {
            let case = Case::new(stage, model(2048, 2048, 1, 1, 16, 8), rows, 1).held_in(format);
            let profile = case.check(a100(), KERNELS).profile;
            assert_eq!(profile.shared_passes, profile.shared_passes_least, "{stage}, {format:?}");
        }
    }
}
