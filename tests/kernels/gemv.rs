//! Linear stages of 1 to 8 token rows.

use llmroof::backend::cuda::driver::Gpu;
use llmroof::backend::cuda::gemv;
use llmroof::workload::Stage;

use super::gpu::{a100, h100};
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
fn zz_print() {
    for (rows, stage) in [(1, Stage::GateUp), (8, Stage::GateUp), (1, Stage::Down), (8, Stage::Qkv)] {
        let o = Case::new(stage, model(4096, 4096, 8, 2, 128, 8), rows, 1).check(small(a100()), KERNELS);
        let p = o.profile;
        println!(
            "gemv {stage} {rows}: instr/weight KB {:.0} shared {} {} {} exec/eff {}",
            p.thread_instructions as f64 / 32.0,
            p.shared_instructions,
            p.shared_passes,
            p.shared_passes_least,
            p.matrix.executed as f64 / p.matrix.effective as f64
        );
        for t in &p.traffic {
            println!(
                "   {} read {} warps {} unique {} / {} sectors {}",
                t.name, t.read, t.read_by_warps, t.unique_read, t.unique_written, t.sectors
            );
        }
    }
    for (rows, stage) in [(16, Stage::GateUp), (64, Stage::GateUp), (32, Stage::Down), (64, Stage::Qkv)] {
        let o = Case::new(stage, model(4096, 4096, 8, 2, 128, 8), rows, 1).check(
            a100(),
            (llmroof::backend::cuda::skinny::launch, llmroof::backend::cuda::skinny::workspace),
        );
        let p = o.profile;
        println!(
            "skinny {stage} {rows}: warp instr {:.0} shared {} {} {} exec/eff {}",
            p.thread_instructions as f64 / 32.0,
            p.shared_instructions,
            p.shared_passes,
            p.shared_passes_least,
            p.matrix.executed as f64 / p.matrix.effective as f64
        );
        for t in &p.traffic {
            println!(
                "   {} read {} warps {} unique {} / {} sectors {}",
                t.name, t.read, t.read_by_warps, t.unique_read, t.unique_written, t.sectors
            );
        }
    }
}
