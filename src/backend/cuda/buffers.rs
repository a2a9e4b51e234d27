//! The buffers of a pass, and the memory that they take.

use super::cache::Layout;
use super::cublaslt;
use super::driver::{Address, Gpu};
use super::launch::format::Format;
use super::launch::workspace::Workspace;
use super::memory::Allocations;
use super::pass::Pass;
use super::step::{Products, Step};
use crate::backend::Residency;
use crate::model::DType;

/// Most tokens of a sequence that get logits in one pass.
pub const MOST_HEADED: u32 = 32;

/// The buffers of one pass. Activations are bf16 where nothing else is said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Buffers {
    /// `[batch x tokens]` u32: what is fed.
    pub tokens: Address,
    /// `[batch]` u32: position of each sequence's first new token.
    pub start: Address,
    /// `[head_dim / 2]` u64: turns per position, in 2^-64 of a turn.
    pub turns: Address,
    /// `[batch x tokens][hidden]`: the residual stream.
    pub residual: Address,
    /// `[batch x tokens][hidden]`: normed, for products of many rows.
    pub normed: Address,
    /// `[batch x tokens][heads x head_dim]`
    pub q: Address,
    /// `[batch x tokens][heads x head_dim]`
    pub attended: Address,
    /// `[batch x tokens][ffn]`
    pub gated: Address,
    /// `[batch][vocab]` f32; 0: logits are not stored.
    pub logits: Address,
    /// `[batch]` u64, zero between passes.
    pub best: Address,
    /// `[batch]` u32: the token with the highest logit.
    pub chosen: Address,
    /// `[batch x tokens][q + k + v, or gate + up]`: products of cuBLASLt on their way to the next kernel; 0 without it.
    pub products: Address,
    /// `[batch x tokens][widest of hidden, heads x head_dim, ffn]` int8: the input of a product; 0 where activations are bf16.
    pub codes: Address,
    /// `[batch x tokens]` f32: their scales.
    pub code_scales: Address,
    /// `[batch x tokens][k + v]` f32: new keys and values on their way to codes; 0 where the cache is bf16.
    pub fresh: Address,
    /// f32 sums of split products and split attention.
    pub partial: Address,
    /// u32 counters, zero between launches.
    pub arrivals: Address,
}

/// One that a pass has of its own.
pub struct Buffer {
    /// Its name.
    pub what: &'static str,
    /// Its size; 0: there is none.
    pub bytes: u64,
    /// Where its address belongs.
    pub place: fn(&mut Buffers) -> &mut Address,
}

/// All that a pass has of its own. Logits are stored if `logits`.
pub fn of_pass(
    residency: &Residency,
    pass: Pass,
    products: Products,
    workspace: Workspace,
    logits: bool,
) -> Vec<Buffer> {
    let Residency { model, precision, .. } = residency;
    let rows = u64::from(pass.rows());
    let activations = |width: u32| 2 * rows * u64::from(width);
    let if_needed = |needed: bool, bytes: u64| if needed { bytes } else { 0 };
    let headed = u64::from(pass.batch * pass.headed);
    let elsewhere = products == Products::CublasLt && pass.has_choice();
    let codes = precision.activations == DType::Int8;
    let widest = model.hidden.max(model.q_width()).max(model.ffn);
    let buffer = |what, bytes, place| Buffer { what, bytes, place };
    vec![
        buffer("residual", activations(model.hidden), |all| &mut all.residual),
        buffer("normed", activations(model.hidden), |all| &mut all.normed),
        buffer("q", activations(model.q_width()), |all| &mut all.q),
        buffer("attended", activations(model.q_width()), |all| &mut all.attended),
        buffer("gated", activations(model.ffn), |all| &mut all.gated),
        buffer("products", if_needed(elsewhere, activations(cublaslt::width(model))), |all| {
            &mut all.products
        }),
        buffer("codes", if_needed(codes, rows * Format::Int8.row_bytes(widest)), |all| &mut all.codes),
        buffer("scales of codes", if_needed(codes, 4 * rows), |all| &mut all.code_scales),
        buffer(
            "fresh",
            if_needed(precision.kv.is_quantised(), 8 * rows * u64::from(model.kv_width())),
            |all| &mut all.fresh,
        ),
        buffer("tokens", 4 * rows, |all| &mut all.tokens),
        buffer("logits", if_needed(logits, 4 * headed * u64::from(model.vocab)), |all| &mut all.logits),
        buffer("partial sums", workspace.partial_bytes, |all| &mut all.partial),
        buffer("arrivals", 4 * workspace.arrivals, |all| &mut all.arrivals),
    ]
}

/// Memory that the caches and buffers of a timed pass take.
pub fn pass_bytes(
    gpu: &Gpu,
    residency: &Residency,
    pass: Pass,
    layout: &Layout,
    products: Products,
    caches: u32,
) -> u64 {
    let model = &residency.model;
    let cache = Allocations::taken(layout.bytes(model));
    let workspace = Step::<'_>::workspace(gpu, residency, pass);
    let buffers = of_pass(residency, pass, products, workspace, false);
    // What filling the caches takes is given back before the pass has its buffers.
    let buffers = buffers.iter().map(|buffer| Allocations::taken(buffer.bytes)).sum::<u64>();
    let buffers = buffers.max(Allocations::taken(layout.filling_bytes(model)));
    let headed = u64::from(pass.sequences() * MOST_HEADED);
    2 * u64::from(caches.max(1)) * u64::from(residency.layers) * cache
        + buffers
        + Allocations::taken(layout.table_bytes())
        + Allocations::taken(4 * u64::from(model.head_dim))
        + Allocations::taken(4 * u64::from(pass.sequences()))
        + [8, 4].map(|bytes| Allocations::taken(bytes * headed)).iter().sum::<u64>()
}
