//! Products of a warpgroup: four warps, sixteen rows each, of matrices in shared memory.
//!
//! A warp computes its rows when it executes the instruction. Nothing may touch what the product reads and writes until
//! it is waited for, so that shows nowhere; `accumulators` and `shared::proxy` see to it. Sums are as exact as those of
//! `matrix`. Traffic of the matrix units with shared memory is not counted.

use super::{Warp, Worker};
use crate::numbers::{bf16, e4m3, f16};
use crate::op::{Element, Wgmma};
use crate::registers::fast;
use crate::shared::CHUNK;
use crate::trouble::{Checked, trouble};
use crate::{Fault, FaultKind};

/// Rows of a warp.
const ROWS: usize = 16;
/// Warps of a warpgroup.
const WARPS: usize = 4;

/// Place of an instruction and the descriptors it had.
type Executed = (u32, u64, u64);

/// What each warpgroup of the block executed: its warps must all execute the same.
#[derive(Debug, Default)]
pub struct Warpgroups(Vec<Vec<Executed>>);

impl Warpgroups {
    pub fn new(warps: usize) -> Warpgroups {
        Warpgroups(vec![Vec::new(); warps / WARPS])
    }
}

/// Rows of 32 bytes in shared memory, as a descriptor tells: eight rows belong together.
#[derive(Debug)]
struct Matrix {
    start: u64,
    /// From the first to the second 16 bytes of a row, if not swizzled.
    leading: u64,
    /// From eight rows to the next eight.
    stride: u64,
    /// Rows of 128 bytes, whose 16-byte pieces are swapped by the row's place among eight; otherwise of 16 bytes.
    swizzled: bool,
}

impl Matrix {
    fn of(descriptor: u64) -> Checked<Matrix> {
        let bytes = |low: u32| (descriptor >> low & 0x3fff) * 16;
        let swizzled = match (descriptor >> 62, descriptor >> 49 & 7) {
            (0, 0) => false,
            (1, 0) => true,
            (mode, base) => {
                let what =
                    format!("descriptor {descriptor:#018x}: swizzle mode {mode} with base offset {base}");
                return trouble(FaultKind::Unknown, None, what);
            }
        };
        let matrix = Matrix { start: bytes(0), leading: bytes(16), stride: bytes(32), swizzled };
        // The swap goes by the address: rows that are eight apart must be where it begins anew.
        let first_row = matrix.start & !127;
        if swizzled && !(first_row.is_multiple_of(1024) && matrix.stride.is_multiple_of(1024)) {
            let what = format!(
                "a swizzled matrix at shared byte {}, eight rows in {}: no multiples of 1024",
                matrix.start, matrix.stride
            );
            return trouble(FaultKind::Misaligned, None, what);
        }
        if swizzled && matrix.start % 128 + Wgmma::ROW_BYTES as u64 > 128 {
            let what = format!("a swizzled matrix at shared byte {}: rows end before it does", matrix.start);
            return trouble(FaultKind::OutOfBounds, None, what);
        }
        Ok(matrix)
    }

    /// Address of 16 bytes.
    fn at(&self, row: usize, piece: usize) -> u64 {
        let (eight, row, piece) = (row as u64 / 8, row as u64 % 8, piece as u64);
        if self.swizzled {
            let at = self.start + eight * self.stride + 128 * row + 16 * piece;
            at ^ (at >> 7 & 7) << 4
        } else {
            self.start + eight * self.stride + 16 * row + piece * self.leading
        }
    }
}

/// The values of a row's bytes.
fn values(element: Element, bytes: &[u8]) -> impl Iterator<Item = f64> {
    let width = if matches!(element, Element::Bf16 | Element::F16) { 2 } else { 1 };
    bytes.chunks_exact(width).map(move |bytes| match element {
        Element::Bf16 => f64::from(bf16(u16::from_le_bytes([bytes[0], bytes[1]]))),
        Element::F16 => f64::from(f16(u16::from_le_bytes([bytes[0], bytes[1]]))),
        Element::E4m3 => f64::from(e4m3(bytes[0])),
        Element::S8 => f64::from(bytes[0] as i8),
        Element::U8 => f64::from(bytes[0]),
    })
}

/// Sums of `a[16][k]` with `b[k][n]`.
#[inline(always)]
fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let k = a.len() / ROWS;
    let mut sums = vec![0.0; ROWS * n];
    for (sums, a) in sums.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        for (a, b) in a.iter().zip(b.chunks_exact(n)) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
    sums
}

/// [`product`] with 256-bit vectors where the host has them.
fn best_product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn vector(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
            product(a, b, n)
        }
        if fast() {
            // SAFETY: `fast` has found both features.
            return unsafe { vector(a, b, n) };
        }
    }
    product(a, b, n)
}

/// Products whose two factors are both not zero.
fn effective(a: &[f64], b: &[f64], n: usize) -> u64 {
    let k = a.len() / ROWS;
    let nonzero = |value: &f64| u64::from(*value != 0.0);
    let products = |(column, row): (usize, &[f64])| {
        let rows: u64 = a.iter().skip(column).step_by(k).map(nonzero).sum();
        rows * row.iter().map(nonzero).sum::<u64>()
    };
    b.chunks_exact(n).enumerate().map(products).sum()
}

impl Worker<'_> {
    /// One value for all lanes of a warp.
    fn uniform<T: Copy + PartialEq + std::fmt::LowerHex>(values: &[T; 32], what: &str) -> Checked<T> {
        match values.iter().position(|value| *value != values[0]) {
            None => Ok(values[0]),
            Some(lane) => {
                let what = format!("{what} {:#x}, but {:#x} in lane 0", values[lane], values[0]);
                trouble(FaultKind::Divergence, lane, what)
            }
        }
    }

    pub(super) fn wgmma(&mut self, warp: &mut Warp, wgmma: &Wgmma, at: u32) -> Checked {
        let a = Self::uniform(&warp.registers.wides[wgmma.a as usize], "descriptor of a")?;
        let b = Self::uniform(&warp.registers.wides[wgmma.b as usize], "descriptor of b")?;
        let adds = match warp.registers.preds[wgmma.adds as usize] {
            0 => false,
            0xffff_ffff => true,
            lanes => {
                let what = format!("adds to the accumulators in some lanes alone ({lanes:#010x})");
                return trouble(FaultKind::Divergence, None, what);
            }
        };
        self.same_in_warpgroup(warp, (at, a, b))?;
        let mut reads = Vec::with_capacity((ROWS + wgmma.n) * Wgmma::ROW_BYTES / CHUNK as usize);
        let own = warp.index % WARPS * ROWS;
        let a = self.matrix_rows(warp.index, &Matrix::of(a)?, own..own + ROWS, &mut reads)?;
        let b = self.matrix_rows(warp.index, &Matrix::of(b)?, 0..wgmma.n, &mut reads)?;
        warp.accumulators.begin(&wgmma.d, reads)?;

        let (n, k) = (wgmma.n, wgmma.k());
        let a: Vec<f64> = values(wgmma.a_type, &a).collect();
        let mut columns = vec![0.0; k * n];
        for (column, bytes) in b.chunks_exact(Wgmma::ROW_BYTES).enumerate() {
            for (row, value) in values(wgmma.b_type, bytes).enumerate() {
                columns[row * n + column] = value;
            }
        }
        let sums = best_product(&a, &columns, n);
        let integer = matches!(wgmma.a_type, Element::S8 | Element::U8);
        let sign = if wgmma.negative { -1.0 } else { 1.0 };
        for (index, &slot) in wgmma.d.iter().enumerate() {
            for (lane, register) in warp.registers.words[slot as usize].iter_mut().enumerate() {
                let row = lane / 4 + index / 2 % 2 * 8;
                let column = index / 4 * 8 + lane % 4 * 2 + index % 2;
                let sum = sign * sums[row * n + column];
                let old = if adds { *register } else { 0 };
                *register = if integer {
                    old.wrapping_add_signed(sum as i32)
                } else {
                    ((f64::from(f32::from_bits(old)) + sum) as f32).to_bits()
                };
            }
        }
        self.count_matrix(wgmma.mark, (ROWS * n * k) as u64, effective(&a, &columns, n));
        Ok(())
    }

    /// Checks that a warp executes what the other warps of its warpgroup do.
    fn same_in_warpgroup(&mut self, warp: &Warp, executed: Executed) -> Checked {
        let number = warp.accumulators.begun;
        let Some(others) = self.warpgroups.0.get_mut(warp.index / WARPS) else {
            let what = "the block has no four warps for this warpgroup";
            return trouble(FaultKind::Divergence, None, what);
        };
        match others.get(number) {
            None => others.push(executed),
            Some(&other) if other != executed => {
                let (at, a, b) = other;
                let line = self.shape.kernel.ops[at as usize].line;
                let what = format!(
                    "wgmma number {number} of this warp, with descriptors {:#x} and {:#x}; in another warp of \
                     its warpgroup that is the one of line {line} with {a:#x} and {b:#x}",
                    executed.1, executed.2
                );
                return trouble(FaultKind::Divergence, None, what);
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Checks, when all warps have ended, that each executed all products of its warpgroup.
    pub(super) fn whole_warpgroups(&self, warps: &[Warp]) -> Result<(), Fault> {
        for warp in warps {
            let all = self.warpgroups.0.get(warp.index / WARPS);
            if let Some(&(at, ..)) = all.and_then(|all| all.get(warp.accumulators.begun)) {
                let what = "another warp of its warpgroup executes this, this one has ended";
                let trouble = trouble::<()>(FaultKind::Divergence, None, what);
                return trouble.map_err(|trouble| self.fault(warp, at, &trouble));
            }
        }
        Ok(())
    }

    /// The bytes of rows; the places that they come from are added to `reads`.
    fn matrix_rows(
        &mut self,
        warp: usize,
        matrix: &Matrix,
        rows: std::ops::Range<usize>,
        reads: &mut Vec<usize>,
    ) -> Checked<Vec<u8>> {
        let mut bytes = Vec::with_capacity(rows.len() * Wgmma::ROW_BYTES);
        for row in rows {
            for piece in 0..Wgmma::ROW_BYTES / CHUNK as usize {
                let at = self.shared.begin_matrix_read(warp, matrix.at(row, piece))?;
                bytes.extend_from_slice(&self.shared.data[at..at + CHUNK as usize]);
                reads.push(at);
            }
        }
        Ok(bytes)
    }

    /// `wgmma.wait_group`.
    pub(super) fn wait_products(&mut self, warp: &mut Warp, groups: u32) -> Checked {
        let done = warp.accumulators.wait(groups);
        done.iter()
            .flat_map(|product| &product.reads)
            .try_for_each(|&at| self.shared.end_matrix_read(warp.index, at))
    }
}
