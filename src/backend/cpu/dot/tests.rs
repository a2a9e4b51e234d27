//! Every kernel against float64, on shapes that leave remainders everywhere.

use proptest::prelude::*;

use super::*;
use crate::backend::cpu::activation::{Activation, Bf16, Full, Rounded, panel_index};
use crate::backend::weights::{from_bf16, to_bf16};

/// Values that bf16 holds exactly, so that formats differ in nothing but their kernels.
fn value(i: usize) -> f32 {
    let random = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    from_bf16(to_bf16(random as f32 / (1 << 23) as f32 - 1.0))
}

/// Runs a kernel on `k x 32` weights given by `put`, and compares with float64.
fn check<A: Activation, W: Copy + Default>(
    dot: Dot,
    tokens: usize,
    pairs: usize,
    accumulate: bool,
    rows: bool,
    put: impl Fn(&mut [W], usize, usize, f32),
) -> std::result::Result<(), TestCaseError> {
    let weight = |row: usize, k: usize| value(row * 1000 + k);
    let token = |c: usize, k: usize| value(77_777 + c * 1000 + k);
    let mut panel = vec![W::default(); pairs * 64];
    let mut x = vec![A::new(0.0); if rows { MAX_TOKENS * ROW } else { pairs * 2 * tokens }];
    for k in 0..2 * pairs {
        for row in 0..PANEL {
            put(&mut panel, row, k, weight(row, k));
        }
        for c in 0..tokens {
            let at = if rows { c * ROW + k } else { (k / 2 * tokens + c) * 2 + k % 2 };
            x[at] = A::new(token(c, k));
        }
    }
    let mut out = vec![0.5f32; tokens * PANEL];
    // SAFETY: the buffers have the extents that the kernel asks for.
    unsafe {
        dot(
            panel.as_ptr().cast(),
            pairs,
            x.as_ptr().cast(),
            out.as_mut_ptr(),
            accumulate,
            panel.as_ptr().cast(),
            64,
        )
    };
    for c in 0..tokens {
        for row in 0..PANEL {
            let products = (0..2 * pairs).map(|k| f64::from(weight(row, k)) * f64::from(token(c, k)));
            let (sum, size) = products.fold((0.0, 1.0), |(s, a), p| (s + p, a + p.abs()));
            let expected = sum + if accumulate { 0.5 } else { 0.0 };
            let got = f64::from(out[c * PANEL + row]);
            prop_assert!((got - expected).abs() < 5e-6 * size, "row {row} token {c}: {got} for {expected}");
        }
    }
    Ok(())
}

fn bf16(panel: &mut [u16], row: usize, k: usize, value: f32) {
    panel[panel_index(row, k)] = to_bf16(value);
}

fn full(panel: &mut [f32], row: usize, k: usize, value: f32) {
    panel[Full::kv_index(row, k)] = value;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_kernel_agrees_with_float64(pairs in 1usize..300, accumulate: bool) {
        let row_pairs = pairs % (ROW / 2) + 1;
        for isa in InstructionSet::available() {
            for tokens in 1..=MAX_TOKENS {
                if isa == InstructionSet::Avx512Bf16 {
                    let table = Dots::new(isa, Format::Bf16, 2).weights;
                    check::<Bf16, u16>(table.plain(tokens), tokens, pairs, accumulate, false, bf16)?;
                    check::<Bf16, u16>(table.ahead(tokens), tokens, pairs, accumulate, false, bf16)?;
                    check::<Bf16, u16>(table.rows(tokens), tokens, row_pairs, accumulate, true, bf16)?;
                }
                let table = Dots::new(isa, Format::Rounded, 2).weights;
                check::<Rounded, u16>(table.plain(tokens), tokens, pairs, accumulate, false, bf16)?;
                check::<Rounded, u16>(table.ahead(tokens), tokens, pairs, accumulate, false, bf16)?;
                check::<Rounded, u16>(table.rows(tokens), tokens, row_pairs, accumulate, true, bf16)?;
                let table = Dots::new(isa, Format::Full, 2).kv;
                check::<Full, f32>(table.plain(tokens), tokens, pairs, accumulate, false, full)?;
                check::<Full, f32>(table.rows(tokens), tokens, row_pairs, accumulate, true, full)?;
            }
        }
    }
}
