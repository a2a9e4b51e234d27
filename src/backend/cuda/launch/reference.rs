//! Simple, slow kernels to check the others against: `kernels/reference.cu`. They take the same parameters, need no
//! workspace, and never start early.

use super::Launch;
use super::args::{AttentionArgs, LinearArgs};

const THREADS: u32 = 256;

fn linear(kernel: &'static str, args: &LinearArgs, outputs: u32) -> Launch {
    let blocks = (u64::from(args.rows) * u64::from(outputs)).div_ceil(u64::from(THREADS)) as u32;
    Launch::new("reference", kernel, [blocks, 1, 1], THREADS, 0, args)
}

/// Norm, projections, rotation; q to `y`, k and v to the cache.
pub fn qkv(args: &LinearArgs) -> Launch {
    linear("reference_qkv", args, args.n / 2)
}

/// Output or down projection, added to `y`.
pub fn residual(args: &LinearArgs) -> Launch {
    linear("reference_residual", args, args.n)
}

/// Norm, then silu(gate) x up to `y`.
pub fn gate_up(args: &LinearArgs) -> Launch {
    linear("reference_gate_up", args, args.n)
}

/// Norm, then the vocabulary's products to `logits`, which must be there; [`argmax`] chooses.
pub fn lm_head(args: &LinearArgs) -> Launch {
    linear("reference_lm_head", args, args.n)
}

/// The first of the largest `logits` of each row, to `chosen`.
pub fn argmax(args: &LinearArgs) -> Launch {
    linear("reference_argmax", args, 1)
}

/// Attention of both phases, heads of up to 256 elements.
pub fn attention(args: &AttentionArgs, head_dim: u32) -> Launch {
    let blocks = args.sequences * args.tokens * args.heads;
    Launch::new("reference", "reference_attention", [blocks, 1, 1], head_dim, 0, args)
}
