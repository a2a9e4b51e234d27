//! Panel times group in plain Rust, and the f32 panels of the f32 KV cache.

use super::PANEL;

/// `a * b + c`, fused only where the target's baseline has the instruction.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}

/// See [`super::Dot`]. Half a panel is one of a single line.
///
/// # Safety
/// The contract of [`super::Dot`]; the group is f32.
pub unsafe fn dot<const C: usize, const LINES: usize>(
    panel: *const u8,
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    _ahead: *const u8,
    _step: usize,
) {
    // A block of the panel stays in L1 between.
    const BLOCK: usize = 64;
    // SAFETY: the caller vouches for the extents of panel, x and out.
    unsafe {
        let mut first = 0;
        loop {
            let count = BLOCK.min(pairs - first);
            let add = accumulate || first > 0;
            for line in 0..LINES {
                let w = [panel.add((first * LINES + line) * 64)];
                let xs = x.cast::<f32>().add(first * 2 * C);
                tiles::<C, LINES>(&w, 0, count, xs, (2 * C, 2), out.add(line * 16), add);
            }
            first += count;
            if first >= pairs {
                break;
            }
        }
    }
}

/// See [`super::Rows`].
///
/// # Safety
/// The contract of [`super::Rows`]; the rows are f32.
pub unsafe fn rows<const C: usize>(
    pieces: &[*const u8],
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    _ahead: &[*const u8],
) {
    // SAFETY: the caller vouches for the extents of the pieces, x and out.
    unsafe {
        for line in 0..2 {
            tiles::<C, 2>(pieces, line, pairs, x.cast(), (2, super::ROW), out.add(line * 16), accumulate);
        }
    }
}

/// One of a panel's `LINES` lines times all tokens: 16 rows by 2 tokens fit the registers of any SIMD baseline.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn tiles<const C: usize, const LINES: usize>(
    pieces: &[*const u8],
    line: usize,
    pairs: usize,
    x: *const f32,
    apart: (usize, usize),
    out: *mut f32,
    accumulate: bool,
) {
    // SAFETY: the caller vouches for the extents.
    unsafe {
        let mut c = 0;
        while c < C {
            let (xs, to) = (x.add(c * apart.1), out.add(c * PANEL));
            if c + 1 < C {
                tile::<2, LINES>(pieces, line, pairs, xs, apart, to, accumulate);
                c += 2;
            } else {
                tile::<1, LINES>(pieces, line, pairs, xs, apart, to, accumulate);
                c += 1;
            }
        }
    }
}

/// One of a panel's `LINES` lines of 16 rows times `N` tokens that are `apart` (f32 from pair to pair, and from token to token).
///
/// # Safety
/// As for [`dot`], for this part of the panel, the group and the output.
#[inline(always)]
unsafe fn tile<const N: usize, const LINES: usize>(
    pieces: &[*const u8],
    line: usize,
    pairs: usize,
    x: *const f32,
    apart: (usize, usize),
    out: *mut f32,
    accumulate: bool,
) {
    let mut sums = [[0f32; 16]; N];
    // SAFETY: the caller vouches for the extents.
    unsafe {
        for (p, piece) in pieces.iter().enumerate() {
            for i in 0..pairs {
                let w = piece.add((i * LINES + line) * 64).cast::<u32>();
                for (n, sums) in sums.iter_mut().enumerate() {
                    let token = x.add((p * pairs + i) * apart.0 + n * apart.1);
                    let (x0, x1) = (*token, *token.add(1));
                    for (row, sum) in sums.iter_mut().enumerate() {
                        let both = *w.add(row);
                        let even = multiply_add(f32::from_bits(both << 16), x0, *sum);
                        *sum = multiply_add(f32::from_bits(both & 0xffff_0000), x1, even);
                    }
                }
            }
        }
        for (n, sums) in sums.iter().enumerate() {
            for (row, &sum) in sums.iter().enumerate() {
                let to = out.add(n * PANEL + row);
                *to = if accumulate { *to + sum } else { sum };
            }
        }
    }
}

/// As [`dot`] for an f32 panel `[k][16 rows a line]`: `out[token][32] (+)= panel x group`.
///
/// # Safety
/// The contract of [`super::Dot`] with an f32 panel; the group is f32.
#[inline(always)]
pub unsafe fn dot_f32<const C: usize, const LINES: usize>(
    panel: *const u8,
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    _ahead: *const u8,
    _step: usize,
) {
    // SAFETY: the caller keeps the same contract.
    unsafe { product_f32::<C, LINES, false>(&[panel], pairs, x.cast(), out, accumulate) }
}

/// As [`rows`] for such a panel.
///
/// # Safety
/// The contract of [`super::Rows`] with an f32 panel; the rows are f32.
#[inline(always)]
pub unsafe fn rows_f32<const C: usize>(
    pieces: &[*const u8],
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    _ahead: &[*const u8],
) {
    // SAFETY: the caller keeps the same contract.
    unsafe { product_f32::<C, 2, true>(pieces, pairs, x.cast(), out, accumulate) }
}

/// The f32 panel in pieces, times tokens as pairs or as rows.
///
/// # Safety
/// That of [`dot_f32`] or [`rows_f32`].
#[inline(always)]
unsafe fn product_f32<const C: usize, const LINES: usize, const ROWS: bool>(
    pieces: &[*const u8],
    pairs: usize,
    x: *const f32,
    out: *mut f32,
    accumulate: bool,
) {
    // SAFETY: the caller vouches for the extents.
    unsafe {
        for c in 0..C {
            let mut sums = [[0f32; 16]; LINES];
            for (p, piece) in pieces.iter().enumerate() {
                for i in 0..2 * pairs {
                    let k = 2 * p * pairs + i;
                    let token = *x.add(if ROWS { c * super::ROW + k } else { (k / 2 * C + c) * 2 + k % 2 });
                    let line = piece.cast::<f32>().add(i * LINES * 16);
                    for (row, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                        *sum += *line.add(row) * token;
                    }
                }
            }
            for (row, &sum) in sums.as_flattened().iter().enumerate() {
                let to = out.add(c * PANEL + row);
                *to = if accumulate { *to + sum } else { sum };
            }
        }
    }
}

macro_rules! f32_for {
    ($dot:ident, $rows:ident, $features:literal) => {
        /// [`dot_f32`] compiled for more than the baseline.
        ///
        /// # Safety
        /// As for [`dot_f32`]; the CPU has the features.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        pub unsafe fn $dot<const C: usize, const LINES: usize>(
            panel: *const u8,
            pairs: usize,
            x: *const u8,
            out: *mut f32,
            accumulate: bool,
            ahead: *const u8,
            step: usize,
        ) {
            // SAFETY: the caller keeps the same contract.
            unsafe { dot_f32::<C, LINES>(panel, pairs, x, out, accumulate, ahead, step) }
        }

        /// [`rows_f32`] compiled for more than the baseline.
        ///
        /// # Safety
        /// As for [`rows_f32`]; the CPU has the features.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        pub unsafe fn $rows<const C: usize>(
            pieces: &[*const u8],
            pairs: usize,
            x: *const u8,
            out: *mut f32,
            accumulate: bool,
            _ahead: &[*const u8],
        ) {
            // SAFETY: the caller keeps the same contract.
            unsafe { rows_f32::<C>(pieces, pairs, x, out, accumulate, &[]) }
        }
    };
}
f32_for!(dot_f32_avx512, rows_f32_avx512, "avx512f,avx512vl,fma");
f32_for!(dot_f32_avx2, rows_f32_avx2, "avx2,fma");
