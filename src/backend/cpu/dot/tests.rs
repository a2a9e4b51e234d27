//! Every kernel against float64, on shapes that leave remainders everywhere.

use proptest::prelude::*;

use super::*;
use crate::backend::cpu::activation::{Activation, Bf16, Full, Rounded, panel_index};
use crate::backend::cpu::panels::{GROUP_BYTES, GROUP_COLUMN_BYTES, Integers, Panels};
use crate::backend::weights::{from_bf16, to_bf16};
use crate::model::DType;
use crate::model::precision::GROUP;

/// Values that bf16 holds exactly, so that formats differ in nothing but their kernels.
fn value(i: usize) -> f32 {
    let random = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    from_bf16(to_bf16(random as f32 / (1 << 23) as f32 - 1.0))
}

/// A kernel, and what it takes beside a whole panel and pairs of tokens.
#[derive(Clone, Copy)]
enum Kernel {
    Plain(Dot),
    /// Half a panel.
    Half(Dot),
    /// Tokens as rows; a panel in so many pieces.
    Values(Rows, usize),
}

impl Kernel {
    /// Rows of its panel.
    fn height(self) -> usize {
        if matches!(self, Kernel::Half(_)) { PANEL / 2 } else { PANEL }
    }

    /// Elements of the tokens, and where token `c` of `tokens` keeps its element `k`.
    fn tokens(self, tokens: usize, pairs: usize) -> (usize, impl Fn(usize, usize) -> usize) {
        let rows = matches!(self, Kernel::Values(..));
        let at = move |c: usize, k: usize| if rows { c * ROW + k } else { (k / 2 * tokens + c) * 2 + k % 2 };
        (if rows { MAX_TOKENS * ROW } else { pairs * 2 * tokens }, at)
    }

    /// Runs it on a panel of so many pairs, whose pieces are put into another order first.
    fn run<W: Copy, X, O>(self, panel: &[W], pairs: usize, x: &[X], out: &mut [O], accumulate: bool) {
        let (x, out) = (x.as_ptr().cast(), out.as_mut_ptr().cast());
        // SAFETY: the buffers have the extents that the kernel asks for.
        unsafe {
            match self {
                Kernel::Plain(dot) | Kernel::Half(dot) => {
                    let panel = panel.as_ptr().cast();
                    dot(panel, pairs, x, out, accumulate, panel, 64);
                }
                Kernel::Values(dot, count) => {
                    let pieces: Vec<Vec<W>> =
                        panel.chunks(panel.len() / count).rev().map(<[W]>::to_vec).collect();
                    let pieces: Vec<*const u8> =
                        pieces.iter().rev().map(|piece| piece.as_ptr().cast()).collect();
                    dot(&pieces, pairs / count, x, out, accumulate, &pieces);
                }
            }
        }
    }
}

/// All kernels of keys and values for so many tokens.
fn kernels(cached: Cached, tokens: usize, pairs: usize) -> Vec<(Kernel, usize)> {
    let of = |dots: CacheDots| {
        let (keys, halves) = (dots.keys(tokens, PANEL), dots.keys(tokens, PANEL / 2));
        let values = [(1, 32), (1, 8), (2, 32), (4, 32), (3, 24), (2, 8)];
        let values = values.map(|(count, pairs)| (Kernel::Values(dots.values(tokens), count), pairs));
        [&[(Kernel::Plain(keys), pairs), (Kernel::Half(halves), pairs)][..], &values].concat()
    };
    cached.0.into_iter().flat_map(of).collect()
}

/// All kernels of weights for so many tokens.
fn of_weights(table: DotTable, tokens: usize) -> [Dot; 2] {
    [table.ahead(tokens), table.stream(tokens)]
}

/// Runs a kernel on `k x 32` weights given by `put`, `k x 16` of half a panel, and compares with float64.
fn check<A: Activation, W: Copy + Default>(
    kernel: Kernel,
    tokens: usize,
    pairs: usize,
    accumulate: bool,
    put: impl Fn(&mut [W], usize, usize, usize, f32),
) -> std::result::Result<(), TestCaseError> {
    let height = kernel.height();
    let weight = |row: usize, k: usize| value(row * 1000 + k);
    let token = |c: usize, k: usize| value(77_777 + c * 1000 + k);
    let mut panel = vec![W::default(); pairs * 2 * height];
    let (len, at) = kernel.tokens(tokens, pairs);
    let mut x = vec![A::new(0.0); len];
    for k in 0..2 * pairs {
        for row in 0..height {
            put(&mut panel, height, row, k, weight(row, k));
        }
        for c in 0..tokens {
            x[at(c, k)] = A::new(token(c, k));
        }
    }
    let mut out = vec![0.5f32; tokens * PANEL];
    kernel.run(&panel, pairs, &x, &mut out, accumulate);
    for c in 0..tokens {
        for row in 0..PANEL {
            let got = f64::from(out[c * PANEL + row]);
            if row >= height {
                prop_assert_eq!(got, 0.5, "row {} is none of half a panel", row);
                continue;
            }
            let products = (0..2 * pairs).map(|k| f64::from(weight(row, k)) * f64::from(token(c, k)));
            let (sum, size) = products.fold((0.0, 1.0), |(s, a), p| (s + p, a + p.abs()));
            let expected = sum + if accumulate { 0.5 } else { 0.0 };
            prop_assert!((got - expected).abs() < 5e-6 * size, "row {row} token {c}: {got} for {expected}");
        }
    }
    Ok(())
}

fn bf16(panel: &mut [u16], rows: usize, row: usize, k: usize, value: f32) {
    panel[panel_index(rows, row, k)] = to_bf16(value);
}

fn full(panel: &mut [f32], rows: usize, row: usize, k: usize, value: f32) {
    panel[Full::kv_index(rows, row, k)] = value;
}

/// A panel of a quantised type and columns of integers, all from a counter.
struct Quantised {
    panels: Panels,
    /// `[row][column]` without the offset, and `[column of integers][column]`.
    codes: Vec<Vec<i32>>,
    columns: Vec<Vec<i32>>,
    /// `[row][group]`
    scales: Vec<Vec<f32>>,
}

impl Quantised {
    fn new(dtype: DType, columns: usize, tokens: usize, integers: Integers) -> Quantised {
        let most = if dtype == DType::Int4 { 7 } else { 127 };
        let most_of_input = if let Integers::Words { most } = integers { i32::from(most) } else { 127 };
        let code = |i: usize, most: i32| (value(i) * (most as f32 + 0.99)) as i32;
        let groups = columns.div_ceil(GROUP as usize);
        Quantised {
            panels: Panels { dtype, columns, integers, element: 2 },
            codes: (0..PANEL).map(|r| (0..columns).map(|k| code(r * 4001 + k, most)).collect()).collect(),
            columns: (0..tokens * integers.columns())
                .map(|c| (0..columns).map(|k| code(50_021 + c * 977 + k, most_of_input)).collect())
                .collect(),
            scales: (0..PANEL)
                .map(|r| (0..groups).map(|g| value(9 + r * 31 + g).abs() + 0.5).collect())
                .collect(),
        }
    }

    /// As `panels.rs` lays them out.
    fn panel(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.panels.bytes()];
        for (r, (codes, scales)) in self.codes.iter().zip(&self.scales).enumerate() {
            for (k, &code) in codes.iter().enumerate() {
                if self.panels.dtype == DType::Int8 {
                    bytes[k / 4 * STEP_BYTES + r * 4 + k % 4] = (code + 128) as u8;
                } else {
                    let step = k / 8;
                    let at = step / GROUP_STEPS * GROUP_BYTES + step % GROUP_STEPS * STEP_BYTES;
                    bytes[at + r * 4 + k % 4] |= ((code + 8) as u8) << (k % 8 / 4 * 4);
                }
            }
            for (g, scale) in scales.iter().enumerate().filter(|_| self.panels.dtype == DType::Int4) {
                let at = g * GROUP_BYTES + GROUP_STEPS * STEP_BYTES + r * 2;
                bytes[at..at + 2].copy_from_slice(&to_bf16(*scale).to_le_bytes());
            }
        }
        bytes
    }

    /// As `quantised.rs` lays them out.
    fn input(&self) -> Vec<u8> {
        if matches!(self.panels.integers, Integers::Words { .. }) {
            return self.words();
        }
        let count = self.columns.len();
        let tokens = count / self.panels.integers.columns();
        let mut bytes = vec![0; self.panels.input_offset(self.panels.steps(), tokens)];
        for (c, column) in self.columns.iter().enumerate() {
            for (k, &x) in column.iter().enumerate() {
                let at = match self.panels.dtype {
                    DType::Int8 => (k / 4 * count + c) * 4 + k % 4,
                    _ => {
                        let (group, k) = (k / GROUP as usize, k % GROUP as usize);
                        group * count * GROUP_COLUMN_BYTES + (k / 8 * count + c) * 8 + k % 8
                    }
                };
                bytes[at] = x as i8 as u8;
            }
            for (g, group) in
                column.chunks(GROUP as usize).enumerate().filter(|_| self.panels.dtype == DType::Int4)
            {
                let at = (g + 1) * count * GROUP_COLUMN_BYTES - (count - c) * 4;
                bytes[at..at + 4].copy_from_slice(&group.iter().sum::<i32>().to_le_bytes());
            }
        }
        bytes
    }

    /// The same in 16 bits.
    fn words(&self) -> Vec<u8> {
        let (count, width) = (self.columns.len(), self.panels.step_columns());
        let mut bytes = Vec::new();
        let columns = self.panels.columns;
        for first in (0..columns).step_by(GROUP as usize) {
            let group = first..columns.min(first + GROUP as usize);
            for step in group.clone().step_by(width) {
                for (column, four) in self.columns.iter().flat_map(|c| (0..width / 4).map(move |f| (c, f))) {
                    for k in [0, 2, 1, 3] {
                        bytes.extend((column[step + four * 4 + k] as i16).to_le_bytes());
                    }
                }
            }
            for column in &self.columns {
                bytes.extend(column[group.clone()].iter().sum::<i32>().to_le_bytes());
            }
        }
        assert_eq!(bytes.len(), self.panels.input_offset(self.panels.steps(), count));
        bytes
    }

    /// Runs a kernel and compares with 64-bit arithmetic: int8 in bytes to the bit, the others but for the rounding of their
    /// sums.
    fn check(&self, dot: Dot, accumulate: bool) -> std::result::Result<(), TestCaseError> {
        let (panel, input) = (self.panel(), self.input());
        let (limbs, outputs) = (self.panels.integers.columns(), self.panels.outputs());
        let tokens = self.columns.len() / limbs;
        let exact =
            self.panels.dtype == DType::Int8 && matches!(self.panels.integers, Integers::Bytes { .. });
        let before = if exact { 7i32.cast_unsigned() } else { 7f32.to_bits() };
        let mut out = vec![f32::from_bits(before); tokens * outputs * PANEL];
        // SAFETY: the buffers have the extents that the kernel asks for.
        unsafe {
            let (x, to) = (input.as_ptr(), out.as_mut_ptr());
            dot(panel.as_ptr(), self.panels.steps(), x, to, accumulate, panel.as_ptr(), STEP_BYTES);
        }
        let held = if accumulate { 7 } else { 0 };
        for t in 0..tokens {
            for r in 0..PANEL {
                let products = |c: usize, offset: i32, range: std::ops::Range<usize>| -> i64 {
                    let pairs = self.codes[r][range.clone()].iter().zip(&self.columns[c][range]);
                    pairs.map(|(code, x)| i64::from(code + offset) * i64::from(*x)).sum()
                };
                if exact {
                    for limb in 0..limbs {
                        let c = t * limbs + limb;
                        let got = out[c * PANEL + r].to_bits().cast_signed();
                        prop_assert_eq!(i64::from(got), held + products(c, 128, 0..self.panels.columns));
                    }
                    continue;
                }
                let mut expected = held as f64;
                if self.panels.dtype == DType::Int8 {
                    expected += products(t, 0, 0..self.panels.columns) as f64;
                }
                let groups = self.scales[r].iter().filter(|_| self.panels.dtype == DType::Int4);
                for (g, scale) in groups.enumerate() {
                    let range = g * GROUP as usize..(g + 1) * GROUP as usize;
                    let sum =
                        (0..limbs).fold(0, |sum, l| sum * 256 + products(t * limbs + l, 0, range.clone()));
                    expected += sum as f64 * f64::from(from_bf16(to_bf16(*scale)));
                }
                let got = f64::from(out[t * PANEL + r]);
                prop_assert!((got - expected).abs() <= 1e-5 * expected.abs() + 100.0, "{got} for {expected}");
            }
        }
        Ok(())
    }
}

/// Runs a kernel of the cache's codes on `k x 32` of them, `k x 16` of half a panel, and compares with 64-bit arithmetic, to
/// the bit. Of `rare` values two are as large as there are.
fn check_codes(
    kernel: Kernel,
    tokens: usize,
    pairs: usize,
    accumulate: bool,
    rare: usize,
) -> std::result::Result<(), TestCaseError> {
    let height = kernel.height();
    let number = |i: usize, most: f32| match i % rare {
        0 => most as i64,
        1 => -most as i64,
        _ => (value(i) * most) as i64,
    };
    let code = |row: usize, k: usize| number(row * 1009 + k, 127.0);
    let token = |c: usize, k: usize| number(77_777 + c * 1013 + k, 32767.0);
    let mut panel = vec![0i8; pairs * 2 * height];
    let (len, at) = kernel.tokens(tokens, pairs);
    let mut x = vec![0i16; len];
    for k in 0..2 * pairs {
        for row in 0..height {
            panel[panel_index(height, row, k)] = code(row, k) as i8;
        }
        for c in 0..tokens {
            x[at(c, k)] = token(c, k) as i16;
        }
    }
    let mut out = vec![7i32; tokens * PANEL];
    kernel.run(&panel, pairs, &x, &mut out, accumulate);
    for (c, row) in (0..tokens).flat_map(|c| (0..PANEL).map(move |row| (c, row))) {
        let sum: i64 = (0..2 * pairs).map(|k| code(row, k) * token(c, k)).sum();
        let expected = if row < height { sum + if accumulate { 7 } else { 0 } } else { 7 };
        prop_assert_eq!(i64::from(out[c * PANEL + row]), expected, "row {} token {}", row, c);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_kernel_agrees_with_float64(pairs in 1usize..300, accumulate: bool) {
        for (isa, tokens) in InstructionSet::available().into_iter().flat_map(|isa| (1..=MAX_TOKENS).map(move |t| (isa, t))) {
            if isa == InstructionSet::Avx512Bf16 {
                let dots = Dots::new(isa, Format::Bf16, Integers::of(isa, DType::Bf16));
                let weights = of_weights(dots.weights, tokens).map(|dot| (Kernel::Plain(dot), pairs));
                for (kernel, pairs) in [kernels(dots.kv, tokens, pairs), weights.to_vec()].concat() {
                    check::<Bf16, u16>(kernel, tokens, pairs, accumulate, bf16)?;
                }
            }
            let dots = Dots::new(isa, Format::Rounded, Integers::of(isa, DType::Bf16));
            let weights = of_weights(dots.weights, tokens).map(|dot| (Kernel::Plain(dot), pairs));
            for (kernel, pairs) in [kernels(dots.kv, tokens, pairs), weights.to_vec()].concat() {
                check::<Rounded, u16>(kernel, tokens, pairs, accumulate, bf16)?;
            }
            for (kernel, pairs) in kernels(Dots::new(isa, Format::Full, Integers::of(isa, DType::Bf16)).kv, tokens, pairs) {
                check::<Full, f32>(kernel, tokens, pairs, accumulate, full)?;
            }
        }
    }

    #[test]
    fn every_kernel_of_integers_agrees_with_64_bit_arithmetic(groups in 1usize..5, fours in 1usize..200, accumulate: bool) {
        for isa in InstructionSet::available() {
            for activations in [DType::Bf16, DType::Int8] {
                let integers = Integers::of(isa, activations);
                let dots = Dots::new(isa, Format::Rounded, integers);
                for tokens in 1..=MAX_TOKENS / integers.columns() {
                    let int8 = Quantised::new(DType::Int8, fours * 4, tokens, integers);
                    for dot in of_weights(dots.int8, tokens) {
                        int8.check(dot, accumulate)?;
                    }
                    let int4 = Quantised::new(DType::Int4, groups * GROUP as usize, tokens, integers);
                    for dot in of_weights(dots.int4, tokens) {
                        int4.check(dot, accumulate)?;
                    }
                }
            }
        }
    }

    #[test]
    fn every_kernel_of_codes_agrees_with_64_bit_arithmetic(pairs in 1usize..200, rare in 2usize..40, accumulate: bool) {
        for (isa, tokens) in InstructionSet::available().into_iter().flat_map(|isa| (1..=MAX_TOKENS).map(move |t| (isa, t))) {
            for (kernel, pairs) in kernels(Dots::new(isa, Format::Rounded, Integers::of(isa, DType::Bf16)).codes, tokens, pairs) {
                check_codes(kernel, tokens, pairs, accumulate, rare)?;
            }
        }
    }
}
