//! What the hardware gives at most: `kernels/ceilings.cu`, and `kernels/hopper.cu` for Hopper's matrix units.
//!
//! Every function returns a launch with the bytes it moves or the operations it does. The addresses called `sum` and
//! `out` are 0 in measurements; in tests they get what shows that all of the work was done.

use bytemuck::{Pod, Zeroable};

use super::Launch;
use crate::backend::cuda::driver::{Address, Gpu};
use crate::backend::weights::{from_bf16, mix, to_bf16};
use crate::model::DType;
use crate::units::{Bytes, Flops};

const THREADS: u32 = 256;
/// Bytes that a block takes at once.
const TILE: u64 = 32 << 10;
/// Blocks of the memory kernels that a multiprocessor holds.
const STREAM_BLOCKS: u32 = 4;

/// `struct Stream` of `kernels/ceilings.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct StreamArgs {
    from: Address,
    to: Address,
    sum: Address,
    lines: u64,
    tiles: u64,
}

/// `struct Peak` of both sources.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct PeakArgs {
    operands: Address,
    out: Address,
    rounds: u32,
    reserved: u32,
}

fn stream(gpu: &Gpu, kernel: &'static str, tiles: u64, args: &StreamArgs) -> Launch {
    let blocks = tiles.clamp(1, u64::from(gpu.multiprocessors * STREAM_BLOCKS)) as u32;
    Launch::new("ceilings", kernel, [blocks, 1, 1], THREADS, 0, args)
}

/// Reads `bytes` at `from` once, in lines of 16 bytes.
pub fn read(gpu: &Gpu, from: Address, bytes: u64, sum: Address) -> (Launch, Bytes) {
    let args = StreamArgs { from, to: 0, sum, lines: bytes / 16, tiles: 0 };
    (stream(gpu, "read_memory", bytes.div_ceil(TILE), &args), Bytes((args.lines * 16) as f64))
}

/// Copies `bytes` in lines of 16; what is moved is twice that.
pub fn copy(gpu: &Gpu, from: Address, to: Address, bytes: u64) -> (Launch, Bytes) {
    let args = StreamArgs { from, to, sum: 0, lines: bytes / 16, tiles: 0 };
    (stream(gpu, "copy_memory", bytes.div_ceil(TILE), &args), Bytes((args.lines * 32) as f64))
}

/// Bytes that [`read_cache`] should be given: a quarter of L2, since an A100 and an H100 keep what is read from both
/// halves of the chip in both halves of L2.
pub fn cache_footprint(gpu: &Gpu) -> u64 {
    (gpu.l2 / 4).next_multiple_of(TILE).max(TILE)
}

/// Reads a buffer of [`cache_footprint`] over and over, about `total` bytes.
pub fn read_cache(gpu: &Gpu, from: Address, total: u64, sum: Address) -> (Launch, Bytes) {
    let tiles = total.div_ceil(TILE);
    let args = StreamArgs { from, to: 0, sum, lines: cache_footprint(gpu) / 16, tiles };
    (stream(gpu, "read_cache", tiles, &args), Bytes((tiles * TILE) as f64))
}

/// Bytes that [`operands`] gives and [`peak`] takes.
pub const OPERANDS: usize = 48 << 10;

/// Random operands of a type, none zero. Zeros would make the units faster than they are with data.
///
/// Normals with deviation 1 (int8: 32); of f32 numbers between 1/4 and 3/4, with which the chains of `peak_f32` stay
/// bounded.
pub fn operands(dtype: DType) -> Vec<u8> {
    let uniform = |i: u64| (mix(i) >> 40) as f64 / f64::from(1 << 24);
    let normal = |i: u64| {
        let sum: f64 = (0..12).map(|j| uniform(12 * i + j)).sum::<f64>() - 6.0;
        sum.abs().max(1.0 / 64.0).copysign(sum) as f32
    };
    let count = OPERANDS as u64 / dtype.bytes() as u64;
    let each = |i: u64| -> Vec<u8> {
        match dtype {
            DType::F32 => (0.25 + 0.5 * uniform(i) as f32).to_le_bytes().into(),
            DType::Bf16 => to_bf16(normal(i)).to_le_bytes().into(),
            DType::F16 => narrow(normal(i), 10).to_le_bytes().into(),
            DType::Fp8 => vec![narrow(normal(i), 3) as u8],
            DType::Int8 | DType::Int4 => vec![(normal(i) * 32.0).clamp(-127.0, 127.0).round() as i8 as u8],
        }
    };
    (0..count).flat_map(each).collect()
}

/// The bits of a value between 2^-6 and 16 as f16 (10 bits of mantissa, 5 of exponent) or e4m3 (3 and 4), by way of
/// bf16 and cut off there.
fn narrow(value: f32, mantissa: u32) -> u16 {
    let bits = from_bf16(to_bf16(value)).to_bits();
    let bias = if mantissa == 10 { 15 } else { 7 };
    let exponent = (bits >> 23 & 0xff) + bias - 127;
    let sign = bits >> 31 << if mantissa == 10 { 15 } else { 7 };
    (sign | exponent << mantissa | (bits & 0x7f_ffff) >> (23 - mantissa)) as u16
}

/// Multiplies operands of a type from registers (on Hopper from shared memory, which its fastest instructions
/// require) for at least `rounds` rounds. `None` where the GPU's PTX has no such instruction: fp8 before and after
/// Hopper needs a later PTX ISA.
pub fn peak(
    gpu: &Gpu,
    dtype: DType,
    operands: Address,
    rounds: u32,
    out: Address,
) -> Option<(Launch, Flops)> {
    let hopper = gpu.capability == (9, 0);
    // (source, kernel, blocks of a multiprocessor, operations of a block in a round)
    let (source, kernel, per_multiprocessor, operations) = match (dtype, hopper) {
        (DType::F32, _) => ("ceilings", "peak_f32", 4, THREADS * 16 * 2),
        (DType::Bf16, true) => ("hopper", "peak_bf16", 1, WGMMA),
        (DType::F16, true) => ("hopper", "peak_f16", 1, WGMMA),
        (DType::Int8, true) => ("hopper", "peak_int8", 1, 2 * WGMMA),
        (DType::Fp8, true) => ("hopper", "peak_fp8", 1, 2 * WGMMA),
        (DType::Bf16, false) => ("ceilings", "peak_bf16", 2, MMA),
        (DType::F16, false) => ("ceilings", "peak_f16", 2, MMA),
        (DType::Int8, false) => ("ceilings", "peak_int8", 2, 2 * MMA),
        (DType::Fp8, false) | (DType::Int4, _) => return None,
    };
    let rounds = if dtype == DType::F32 { rounds.next_multiple_of(32) } else { rounds };
    let blocks = gpu.multiprocessors * per_multiprocessor;
    let args = PeakArgs { operands, out, rounds, reserved: 0 };
    let flops = f64::from(blocks) * f64::from(rounds) * f64::from(operations);
    Some((Launch::new(source, kernel, [blocks, 1, 1], THREADS, 0, &args), Flops(flops)))
}

/// Operations of a block in a round with 16-bit operands: of 8 warps 16 products of 16 x 8 by 16.
const MMA: u32 = 8 * 16 * 2 * (16 * 8 * 16);
/// Likewise on Hopper: of 2 warpgroups 16 products of 64 x 256 by 16.
const WGMMA: u32 = 2 * 16 * 2 * (64 * 256 * 16);

#[cfg(test)]
mod tests {
    use super::narrow;

    #[test]
    fn narrow_gives_the_bits_of_f16_and_e4m3() {
        assert_eq!([1.0, -2.0, 1.5, 0.015625].map(|x| narrow(x, 10)), [0x3c00, 0xc000, 0x3e00, 0x2400]);
        assert_eq!([1.0, -2.0, 1.5, 0.015625, -4.5].map(|x| narrow(x, 3)), [0x38, 0xc0, 0x3c, 0x08, 0xc9]);
    }
}
