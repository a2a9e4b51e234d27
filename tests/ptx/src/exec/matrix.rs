//! Matrix instructions. Products of 16-bit floats are summed in float64, added to the accumulator and rounded once:
//! more exact than any device, whose own sums differ between generations.

use super::{Warp, Worker};
use crate::banks;
use crate::numbers::{Rounding, bf16, f16, sticky_sum, to_f16};
use crate::op::{Element, MatrixAccess, Mma};
use crate::registers::fast;
use crate::shared::Who;
use crate::trouble::{Checked, lanes};

/// Factors of a product of 16 rows, 8 columns and `K` products for each.
struct Factors<T, const K: usize> {
    a: [[T; K]; 16],
    b: [[T; 8]; K],
}

impl<T: Copy + Default + PartialEq, const K: usize> Factors<T, K> {
    /// Spreads registers: those of `a` hold, for lane `4 g + t`, row `g` and then `g + 8` of the columns from `EACH t`
    /// on, those of `b` rows and column `g` likewise.
    #[inline(always)]
    fn of<const EACH: usize>(warp: &Warp, mma: &Mma, value: impl Fn(Element, u32, usize) -> T) -> Self {
        let mut factors = Factors { a: [[T::default(); K]; 16], b: [[T::default(); 8]; K] };
        let words = &warp.registers.words;
        for (index, &slot) in mma.a.iter().enumerate() {
            let (start, first) = (4 * EACH * (index / 2), 8 * (index % 2));
            for (lane, &word) in words[slot as usize].iter().enumerate() {
                for i in 0..EACH {
                    factors.a[first + lane / 4][start + EACH * (lane % 4) + i] = value(mma.a_type, word, i);
                }
            }
        }
        for (index, &slot) in mma.b.iter().enumerate() {
            for (lane, &word) in words[slot as usize].iter().enumerate() {
                for i in 0..EACH {
                    factors.b[4 * EACH * index + EACH * (lane % 4) + i][lane / 4] =
                        value(mma.b_type, word, i);
                }
            }
        }
        factors
    }

    /// Products whose two factors are both not zero.
    #[inline(always)]
    fn effective(&self) -> u64 {
        let zero = T::default();
        let nonzero = |value: &T| usize::from(*value != zero);
        let whole = |row: &[T]| row.iter().fold(true, |whole, value| whole & (*value != zero));
        // Most often there is none.
        if self.a.iter().fold(true, |all, row| all & whole(row))
            && self.b.iter().fold(true, |all, row| all & whole(row))
        {
            return 16 * 8 * K as u64;
        }
        let products = |k: usize| {
            let rows: usize = self.a.iter().map(|row| nonzero(&row[k])).sum();
            rows * self.b[k].iter().map(nonzero).sum::<usize>()
        };
        (0..K).map(|k| products(k) as u64).sum()
    }
}

/// Which element of the result a lane holds in its accumulator of this index.
fn place(lane: usize, index: usize) -> (usize, usize) {
    (lane / 4 + 8 * (index / 2), 2 * (lane % 4) + index % 2)
}

/// The accumulators of a product of floats, and how many of its products count.
#[inline(always)]
fn float_product<const K: usize>(warp: &Warp, mma: &Mma) -> ([[u32; 32]; 4], u64) {
    let factors: Factors<f32, K> = if mma.a_type == Element::Bf16 {
        Factors::of::<2>(warp, mma, |_, word, i| bf16((word >> (16 * i)) as u16))
    } else {
        Factors::of::<2>(warp, mma, |_, word, i| f16((word >> (16 * i)) as u16))
    };
    let mut sums = [[0.0f64; 8]; 16];
    for (row, sums) in factors.a.iter().zip(&mut sums) {
        for (a, b) in row.iter().zip(&factors.b) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += f64::from(*a) * f64::from(*b);
            }
        }
    }
    let words = &warp.registers.words;
    let mut out = [[0; 32]; 4];
    for (index, out) in out.iter_mut().enumerate() {
        let c = &words[mma.c[if mma.half { index / 2 } else { index }] as usize];
        for (lane, out) in out.iter_mut().enumerate() {
            let (row, column) = place(lane, index);
            let sum = sums[row][column];
            *out = if mma.half {
                let c = f64::from(f16((c[lane] >> (16 * (index % 2))) as u16));
                u32::from(to_f16(sticky_sum(sum, c), Rounding::Nearest))
            } else {
                ((sum + f64::from(f32::from_bits(c[lane]))) as f32).to_bits()
            };
        }
    }
    (out, factors.effective())
}

/// [`float_product`] with 256-bit vectors where the host has them; the sums are the same, products being exact.
fn best_float_product<const K: usize>(warp: &Warp, mma: &Mma) -> ([[u32; 32]; 4], u64) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn vector<const K: usize>(warp: &Warp, mma: &Mma) -> ([[u32; 32]; 4], u64) {
            float_product::<K>(warp, mma)
        }
        if fast() {
            // SAFETY: `fast` has found both features.
            return unsafe { vector::<K>(warp, mma) };
        }
    }
    float_product::<K>(warp, mma)
}

fn integer_product<const K: usize>(warp: &Warp, mma: &Mma) -> ([[u32; 32]; 4], u64) {
    let factors: Factors<i32, K> = Factors::of::<4>(warp, mma, |element, word, i| {
        let byte = (word >> (8 * i)) as u8;
        if element == Element::S8 { i32::from(byte as i8) } else { i32::from(byte) }
    });
    let mut out = [[0; 32]; 4];
    for (index, out) in out.iter_mut().enumerate() {
        for (lane, out) in out.iter_mut().enumerate() {
            let (row, column) = place(lane, index);
            let c = warp.registers.words[mma.c[index] as usize][lane] as i32;
            let add = |sum: i32, k: usize| sum.wrapping_add(factors.a[row][k] * factors.b[k][column]);
            *out = (0..K).fold(c, add) as u32;
        }
    }
    (out, factors.effective())
}

impl Worker<'_> {
    pub(super) fn mma(&mut self, warp: &mut Warp, mma: &Mma) {
        let float = matches!(mma.a_type, Element::Bf16 | Element::F16);
        let (out, effective) = match (float, mma.k) {
            (true, 8) => best_float_product::<8>(warp, mma),
            (true, _) => best_float_product::<16>(warp, mma),
            (false, 16) => integer_product::<16>(warp, mma),
            (false, _) => integer_product::<32>(warp, mma),
        };
        for (index, &slot) in mma.d.iter().enumerate() {
            warp.registers.words[slot as usize] = if mma.half {
                std::array::from_fn(|lane| out[2 * index][lane] | out[2 * index + 1][lane] << 16)
            } else {
                out[index]
            };
        }
        self.count_matrix(mma.mark, 16 * 8 * mma.k as u64, effective);
    }

    /// Counts multiply-adds: all of an instruction, and those whose factors are both not zero.
    pub(super) fn count_matrix(&mut self, mark: Option<usize>, executed: u64, effective: u64) {
        let mark = mark.map(|mark| &mut self.counters.by_mark[mark]);
        for work in std::iter::once(&mut self.counters.matrix).chain(mark) {
            work.executed += 2 * executed;
            work.effective += 2 * effective;
        }
    }

    pub(super) fn matrix_access(&mut self, warp: &mut Warp, access: &MatrixAccess) -> Checked {
        let addresses = warp.address(&access.address, !0);
        self.counters.shared_instructions += 1;
        for (matrix, &slot) in access.registers.iter().enumerate() {
            let rows = 8 * matrix..8 * matrix + 8;
            let mask = 0xff << rows.start;
            let (passes, least) = banks::warp_passes(&addresses, mask, 16);
            self.counters.shared_passes += passes;
            self.counters.shared_passes_least += least;
            let mut at = [0; 8];
            for lane in lanes(mask) {
                let who = Who { thread: (warp.index * 32 + lane) as u16, together: true, atomic: false };
                at[lane % 8] = if access.store {
                    self.shared.write(who, addresses[lane], 16)?
                } else {
                    self.shared.read(who, addresses[lane], 16)?
                };
            }
            let registers = &mut warp.registers.words[slot as usize];
            for (lane, word) in registers.iter_mut().enumerate() {
                if !access.transposed && !access.store {
                    *word = self.shared.load(at[lane / 4] + 4 * (lane % 4), 4) as u32;
                    continue;
                }
                for i in 0..2 {
                    let (row, column) = (lane / 4, 2 * (lane % 4) + i);
                    let (row, column) = if access.transposed { (column, row) } else { (row, column) };
                    let byte = at[row] + 2 * column;
                    if access.store {
                        self.shared.store(byte, 2, u64::from(*word >> (16 * i)));
                    } else {
                        let value = self.shared.load(byte, 2) as u32;
                        *word = *word & !(0xffff << (16 * i)) | value << (16 * i);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn move_matrix(warp: &mut Warp, to: u32, from: u32) {
        let old = warp.registers.words[from as usize];
        let element = |row: usize, column: usize| old[4 * row + column / 2] >> (16 * (column % 2)) & 0xffff;
        for lane in 0..32 {
            let (row, column) = (lane / 4, 2 * (lane % 4));
            warp.registers.words[to as usize][lane] = element(column, row) | element(column + 1, row) << 16;
        }
    }
}
