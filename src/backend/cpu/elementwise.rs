//! What happens between the products: norms, rotary embedding, SwiGLU, softmax.

use super::activation::Activation;
use super::dot::PANEL;
use super::isa::per_isa;

/// exp to about 1e-7 relative; arguments are clamped to what f32 can hold as a normal number.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 x 2^23 rounds to an integer that stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut y = 1.987_569_1e-4;
    y = y * r + 1.398_199_9e-3;
    y = y * r + 8.333_452e-3;
    y = y * r + 4.166_579_6e-2;
    y = y * r + 1.666_666_5e-1;
    y = y * r + 0.5;
    let y = y * (r * r) + r + 1.0;
    y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

per_isa! {
    /// RMS norm of the `tokens` rows of a group at `x`, `stride` apart, packed into `out` (`[k/2][tokens][2]`), for the
    /// pairs of columns `first..last`. `weight` is as long as a row.
    ///
    /// # Safety
    /// The rows and the group are in bounds and nobody else writes them meanwhile.
    pub unsafe fn norm<A: Activation>(
        x: *const f32, tokens: usize, stride: usize, weight: &[f32], epsilon: f32, first: usize, last: usize,
        out: *mut A,
    ) {
        let width = weight.len();
        for c in 0..tokens {
            // SAFETY: the caller vouches for the row.
            let row = unsafe { std::slice::from_raw_parts(x.add(c * stride), width) };
            let mut sums = [0f32; 32];
            let chunks = row.chunks_exact(32);
            let rest: f32 = chunks.remainder().iter().map(|v| v * v).sum();
            for chunk in chunks {
                for (sum, v) in sums.iter_mut().zip(chunk) {
                    *sum += v * v;
                }
            }
            let mean = (sums.iter().sum::<f32>() + rest) / width as f32;
            let scale = 1.0 / (mean + epsilon).sqrt();
            let (row, weight) = (&row[2 * first..2 * last], &weight[2 * first..2 * last]);
            // SAFETY: the group holds `last` pairs of its tokens.
            unsafe {
                if tokens == 1 {
                    let out = std::slice::from_raw_parts_mut(out.add(2 * first), row.len());
                    for ((o, v), w) in out.iter_mut().zip(row).zip(weight) {
                        *o = A::new(v * scale * w);
                    }
                } else {
                    let out = out.add((first * tokens + c) * 2).cast::<[A; 2]>();
                    for (pair, (v, w)) in row.chunks_exact(2).zip(weight.chunks_exact(2)).enumerate() {
                        *out.add(pair * tokens) = [A::new(v[0] * scale * w[0]), A::new(v[1] * scale * w[1])];
                    }
                }
            }
        }
    }
}

per_isa! {
    /// Rotates a panel's output row of a q or k head: the first 16 values with their partners in the second 16.
    ///
    /// # Safety
    /// `row` holds 32 values, `cos` and `sin` 16.
    pub unsafe fn rotate(row: *mut f32, cos: *const f32, sin: *const f32) {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            let (cos, sin) = (&*cos.cast::<[f32; 16]>(), &*sin.cast::<[f32; 16]>());
            let [mut first, mut second] = *row.cast::<[[f32; 16]; 2]>();
            for i in 0..16 {
                let (a, b) = (first[i], second[i]);
                first[i] = a * cos[i] - b * sin[i];
                second[i] = b * cos[i] + a * sin[i];
            }
            *row.cast() = [first, second];
        }
    }
}

per_isa! {
    /// Packs the first `rows` (even) of 32 values of one token into its group of `tokens`, at place `out`.
    ///
    /// # Safety
    /// `values` holds 32, `out` points at the token's first pair of a group with `rows / 2` pairs from there.
    pub unsafe fn pack<A: Activation>(values: *const f32, rows: usize, tokens: usize, out: *mut A) {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            // All 32 side by side, whatever is kept of them.
            let values = &*values.cast::<[f32; PANEL]>();
            let mut packed = [A::new(0.0); PANEL];
            for (to, &value) in packed.iter_mut().zip(values) {
                *to = A::new(value);
            }
            let out = out.cast::<[A; 2]>();
            for pair in 0..rows / 2 {
                *out.add(pair * tokens) = [packed[2 * pair], packed[2 * pair + 1]];
            }
        }
    }
}

per_isa! {
    /// silu(gate) x up of a panel for the `tokens` of a group, packed at `out` (the panel's first pair): `rows` (even, at
    /// most 32) of `[tokens][32]`.
    ///
    /// # Safety
    /// `gate` and `up` hold `tokens x 32` values; `out` has `rows / 2` pairs of its tokens from there.
    pub unsafe fn swiglu<A: Activation>(
        gate: *const f32, up: *const f32, tokens: usize, rows: usize, out: *mut A,
    ) {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            for c in 0..tokens {
                let gate = &*gate.add(c * PANEL).cast::<[f32; PANEL]>();
                let up = &*up.add(c * PANEL).cast::<[f32; PANEL]>();
                let mut values = [A::new(0.0); PANEL];
                for ((v, &g), &u) in values.iter_mut().zip(gate).zip(up) {
                    *v = A::new(g / (1.0 + exp(-g)) * u);
                }
                let out = out.add(c * 2).cast::<[A; 2]>();
                for pair in 0..rows / 2 {
                    *out.add(pair * tokens) = [values[2 * pair], values[2 * pair + 1]];
                }
            }
        }
    }
}

per_isa! {
    /// Adds the first `rows` of 32 values to the residual stream at `x`.
    ///
    /// # Safety
    /// `values` holds 32, `x` `rows`.
    pub unsafe fn add(values: *const f32, rows: usize, x: *mut f32) {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            if rows == PANEL {
                for i in 0..PANEL {
                    *x.add(i) += *values.add(i);
                }
            } else {
                for i in 0..rows {
                    *x.add(i) += *values.add(i);
                }
            }
        }
    }
}

per_isa! {
    /// One block of 64 positions of the online softmax for the `columns` of a tile.
    ///
    /// `scores` are `[2][columns][32]`, column `c` sees the first `limits[c]` of the 64. Scaled by `scale`, their
    /// exponentials go into `out` (`[columns][64]`), `largest` and `sums` are brought up to date, and the
    /// factor by which what was summed up before must shrink is left in `shrink`.
    ///
    /// # Safety
    /// All pointers have the extents given above.
    pub unsafe fn softmax<A: Activation>(
        scores: *const f32, columns: usize, limits: &[usize], scale: f32, largest: *mut f32, sums: *mut f32,
        shrink: *mut f32, out: *mut A,
    ) {
        // SAFETY: the caller vouches for the extents.
        unsafe {
            for (c, &limit) in limits.iter().enumerate() {
                let mut p = [0f32; 64];
                p[..32].copy_from_slice(&*scores.add(c * PANEL).cast::<[f32; PANEL]>());
                p[32..].copy_from_slice(&*scores.add((columns + c) * PANEL).cast::<[f32; PANEL]>());
                for v in &mut p {
                    *v *= scale;
                }
                if limit < 64 {
                    for v in &mut p[limit..] {
                        *v = -1e30;
                    }
                }
                let mut lanes = [f32::MIN; 16];
                for chunk in p.chunks_exact(16) {
                    for (lane, &v) in lanes.iter_mut().zip(chunk) {
                        *lane = if v > *lane { v } else { *lane };
                    }
                }
                let old = *largest.add(c);
                let block = halve(lanes, |a, b| if a > b { a } else { b });
                let new = if block > old { block } else { old };
                let mut lanes = [0f32; 16];
                for chunk in p.chunks_exact_mut(16) {
                    for (lane, v) in lanes.iter_mut().zip(chunk) {
                        *v = exp(*v - new);
                        *lane += *v;
                    }
                }
                let mut sum = halve(lanes, |a, b| a + b);
                if limit < 64 {
                    // exp is clamped above zero: what is masked must not count at all.
                    p[limit..].fill(0.0);
                    sum = p.iter().sum();
                }
                let factor = if new > old { exp(old - new) } else { 1.0 };
                *largest.add(c) = new;
                *sums.add(c) = *sums.add(c) * factor + sum;
                *shrink.add(c) = factor;
                let out = &mut *out.add(c * 64).cast::<[A; 64]>();
                for (to, &v) in out.iter_mut().zip(&p) {
                    *to = A::new(v);
                }
            }
        }
    }
}

/// Reduces 16 lanes pair by pair: four steps instead of a chain of fifteen.
#[inline(always)]
fn halve(mut lanes: [f32; 16], reduce: impl Fn(f32, f32) -> f32) -> f32 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            lanes[i] = reduce(lanes[i], lanes[i + width]);
        }
    }
    lanes[0]
}

per_isa! {
    /// Multiplies 32 values.
    ///
    /// # Safety
    /// `values` holds 32.
    pub unsafe fn scale(values: *mut f32, factor: f32) {
        // SAFETY: the caller vouches for the extent.
        unsafe {
            for i in 0..PANEL {
                *values.add(i) *= factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_single_precision() {
        for i in -8600..8600 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "{x}");
        }
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
    }
}
