//! Matrix instructions. Products of 16-bit floats are summed in float64, added to the accumulator and rounded once:
//! more exact than any device, whose own sums differ between generations.

use super::{Warp, Worker};
use crate::banks;
use crate::numbers::{Rounding, bf16, f16, sticky_sum, to_f16};
use crate::op::{Element, MatrixAccess, Mma};
use crate::registers::fast;
use crate::shared::Who;
use crate::trouble::{Checked, lanes};

/// Factors of a product: 16 rows and 8 columns; of the 32 columns and rows of `k` those in use.
struct Factors<T> {
    a: [[T; 32]; 16],
    b: [[T; 8]; 32],
}

impl<T: Copy + Default + PartialEq> Factors<T> {
    /// Spreads registers: those of `a` hold, for lane `4 g + t`, row `g` and then `g + 8` of the columns from `t`
    /// elements on, those of `b` rows and column `g` likewise.
    fn of(warp: &Warp, mma: &Mma, each: usize, value: impl Fn(Element, u32, usize) -> T) -> Self {
        let mut factors = Factors { a: [[T::default(); 32]; 16], b: [[T::default(); 8]; 32] };
        let words = &warp.registers.words;
        for (index, &slot) in mma.a.iter().enumerate() {
            for lane in 0..32 {
                let row = lane / 4 + 8 * (index % 2);
                let column = each * (lane % 4) + 4 * each * (index / 2);
                for i in 0..each {
                    factors.a[row][column + i] = value(mma.a_type, words[slot as usize][lane], i);
                }
            }
        }
        for (index, &slot) in mma.b.iter().enumerate() {
            for lane in 0..32 {
                let row = each * (lane % 4) + 4 * each * index;
                for i in 0..each {
                    factors.b[row + i][lane / 4] = value(mma.b_type, words[slot as usize][lane], i);
                }
            }
        }
        factors
    }

    /// Products whose two factors are both not zero.
    fn effective(&self, k: usize) -> u64 {
        let zero = T::default();
        (0..k)
            .map(|k| {
                let rows = self.a.iter().filter(|row| row[k] != zero).count();
                let columns = self.b[k].iter().filter(|value| **value != zero).count();
                (rows * columns) as u64
            })
            .sum()
    }
}

#[inline(always)]
fn sums(factors: &Factors<f32>, k: usize) -> [[f64; 8]; 16] {
    let mut out = [[0.0; 8]; 16];
    for (row, sums) in factors.a.iter().zip(&mut out) {
        for (a, b) in row[..k].iter().zip(&factors.b) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += f64::from(*a) * f64::from(*b);
            }
        }
    }
    out
}

/// [`sums`] with 256-bit vectors where the host has them; products are exact, so the sums are the same.
fn best_sums(factors: &Factors<f32>, k: usize) -> [[f64; 8]; 16] {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn vector(factors: &Factors<f32>, k: usize) -> [[f64; 8]; 16] {
            sums(factors, k)
        }
        if fast() {
            // SAFETY: `fast` has found both features.
            return unsafe { vector(factors, k) };
        }
    }
    sums(factors, k)
}

impl Worker<'_> {
    pub(super) fn mma(&mut self, warp: &mut Warp, mma: &Mma) {
        let effective = match mma.a_type {
            Element::Bf16 | Element::F16 => Self::mma_float(warp, mma),
            Element::S8 | Element::U8 => Self::mma_integer(warp, mma),
        };
        let executed = 2 * 16 * 8 * mma.k as u64;
        let mark = mma.mark.map(|mark| &mut self.counters.by_mark[mark]);
        for work in std::iter::once(&mut self.counters.matrix).chain(mark) {
            work.executed += executed;
            work.effective += 2 * effective;
        }
    }

    fn mma_float(warp: &mut Warp, mma: &Mma) -> u64 {
        let bf = mma.a_type == Element::Bf16;
        let factors = Factors::of(warp, mma, 2, |_, word, i| {
            let bits = (word >> (16 * i)) as u16;
            if bf { bf16(bits) } else { f16(bits) }
        });
        let sums = best_sums(&factors, mma.k);
        let words = &mut warp.registers.words;
        let mut out = [[0u32; 32]; 4];
        for (index, out) in out.iter_mut().enumerate() {
            for (lane, out) in out.iter_mut().enumerate() {
                let sum = sums[lane / 4 + 8 * (index / 2)][2 * (lane % 4) + index % 2];
                *out = if mma.half {
                    let pair = words[mma.c[index / 2] as usize][lane];
                    let c = f64::from(f16((pair >> (16 * (index % 2))) as u16));
                    u32::from(to_f16(sticky_sum(sum, c), Rounding::Nearest))
                } else {
                    let c = f64::from(f32::from_bits(words[mma.c[index] as usize][lane]));
                    ((sum + c) as f32).to_bits()
                };
            }
        }
        for (index, &slot) in mma.d.iter().enumerate() {
            words[slot as usize] = if mma.half {
                std::array::from_fn(|lane| out[2 * index][lane] | out[2 * index + 1][lane] << 16)
            } else {
                out[index]
            };
        }
        factors.effective(mma.k)
    }

    fn mma_integer(warp: &mut Warp, mma: &Mma) -> u64 {
        let factors = Factors::of(warp, mma, 4, |element, word, i| {
            let byte = (word >> (8 * i)) as u8;
            if element == Element::S8 { i32::from(byte as i8) } else { i32::from(byte) }
        });
        let words = &mut warp.registers.words;
        let mut out = [[0u32; 32]; 4];
        for (index, out) in out.iter_mut().enumerate() {
            for (lane, out) in out.iter_mut().enumerate() {
                let (row, column) = (lane / 4 + 8 * (index / 2), 2 * (lane % 4) + index % 2);
                let c = words[mma.c[index] as usize][lane] as i32;
                let add = |sum: i32, k: usize| sum.wrapping_add(factors.a[row][k] * factors.b[k][column]);
                *out = (0..mma.k).fold(c, add) as u32;
            }
        }
        for (out, &slot) in out.iter().zip(&mma.d) {
            words[slot as usize] = *out;
        }
        factors.effective(mma.k)
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
            for lane in 0..32 {
                for i in 0..2 {
                    let (row, column) = (lane / 4, 2 * (lane % 4) + i);
                    let (row, column) = if access.transposed { (column, row) } else { (row, column) };
                    let byte = at[row] + 2 * column;
                    let word = &mut warp.registers.words[slot as usize][lane];
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
