//! Panels of the 8-bit cache times columns of 16-bit integers, in plain Rust.
//!
//! A panel of codes has the order of a bf16 panel, half as many bytes; a column is what a query, or the exponentials of a
//! block, become as integers of one scale. Sums are exact: every kernel puts out the same i32.

use super::PANEL;

/// See [`super::Dot`]; the panel holds codes, the group i16. Puts out i32.
///
/// # Safety
/// The contract of [`super::Dot`], and no sum overflows 32 bits.
pub unsafe fn dot<const C: usize, const LINES: usize>(
    panel: *const u8,
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    _ahead: *const u8,
    _step: usize,
) {
    // SAFETY: the caller keeps the same contract.
    unsafe { product::<C, LINES, false>(&[panel], pairs, x.cast(), out.cast(), accumulate) }
}

/// See [`super::Rows`]; the pieces hold codes, the rows i16. Puts out i32.
///
/// # Safety
/// The contract of [`super::Rows`], and no sum overflows 32 bits.
pub unsafe fn rows<const C: usize>(
    pieces: &[*const u8],
    pairs: usize,
    x: *const u8,
    out: *mut f32,
    accumulate: bool,
    _ahead: &[*const u8],
) {
    // SAFETY: the caller keeps the same contract.
    unsafe { product::<C, 2, true>(pieces, pairs, x.cast(), out.cast(), accumulate) }
}

/// The panel in pieces, times tokens as pairs or as rows.
///
/// # Safety
/// That of [`dot`] or [`rows`].
#[inline(always)]
unsafe fn product<const C: usize, const LINES: usize, const ROWS: bool>(
    pieces: &[*const u8],
    pairs: usize,
    x: *const i16,
    out: *mut i32,
    accumulate: bool,
) {
    // SAFETY: the caller vouches for the extents.
    unsafe {
        for (line, c) in (0..LINES).flat_map(|line| (0..C).map(move |c| (line, c))) {
            let mut sums = [0i32; 16];
            for (p, piece) in pieces.iter().enumerate() {
                for i in 0..pairs {
                    let codes = &*piece.add((i * LINES + line) * 32).cast::<[[i8; 2]; 16]>();
                    let k = p * pairs + i;
                    let token = x.add(if ROWS { c * super::ROW + 2 * k } else { (k * C + c) * 2 });
                    let (x0, x1) = (i32::from(*token), i32::from(*token.add(1)));
                    for (sum, pair) in sums.iter_mut().zip(codes) {
                        *sum += i32::from(pair[0]) * x0 + i32::from(pair[1]) * x1;
                    }
                }
            }
            let to = &mut *out.add(c * PANEL + line * 16).cast::<[i32; 16]>();
            for (to, sum) in to.iter_mut().zip(sums) {
                *to = if accumulate { *to + sum } else { sum };
            }
        }
    }
}
