//! The ceilings do all of the work that they are charged with, and no more.

use llmroof::backend::cuda::driver::{Driver, Gpu};
use llmroof::backend::cuda::launch::ceilings::{
    OPERANDS, cache_footprint, copy, operands, peak, read, read_cache,
};
use llmroof::model::DType;
use ptx_interpreter::{Profile, Traffic};

use crate::gpu::{InterpretedGpu, a100, h100};
use crate::numbers::{normals, wide};

/// A GPU of two multiprocessors, so that blocks go round their loops.
fn small(gpu: Gpu) -> InterpretedGpu {
    InterpretedGpu::new(Gpu { multiprocessors: 2, l2: 1 << 20, ..gpu })
}

fn traffic<'a>(profile: &'a Profile, name: &str) -> &'a Traffic {
    profile.traffic.iter().find(|traffic| traffic.name == name).unwrap()
}

fn words(count: usize) -> Vec<u32> {
    let halves = normals(1, 2 * count, 1.0);
    halves.chunks_exact(2).map(|pair| u32::from(pair[0]) << 16 | u32::from(pair[1])).collect()
}

#[test]
fn reading_takes_every_byte_once_in_lines_of_16() {
    // 9 tiles and a part of one, and less than one tile.
    for lines in [9 * 2048 + 700, 5] {
        for device in [a100(), h100()] {
            let mut gpu = small(device);
            let data = words(lines * 4);
            let from = gpu.upload(&data, "data");
            let sum = gpu.upload(&[0u32], "sum");
            let (launch, bytes) = read(gpu.gpu(), from, 16 * lines as u64, sum);
            assert_eq!(bytes.0, 16.0 * lines as f64);
            gpu.launch(&launch).unwrap();
            let expected = data.iter().fold(0u32, |sum, word| sum.wrapping_add(*word));
            assert_eq!(gpu.download::<u32>(sum, 1), [expected]);
            let data = traffic(&gpu.profiles[0].1, "data").clone();
            assert_eq!([data.read, data.unique_read, data.written], [bytes.0 as u64, bytes.0 as u64, 0]);
            assert_eq!(data.widths.keys().collect::<Vec<_>>(), [&16]);
            // A measurement has no sum to keep, and reads the same.
            let (launch, _) = read(gpu.gpu(), from, 16 * lines as u64, 0);
            gpu.launch(&launch).unwrap();
            let alone = &gpu.profiles[1].1;
            assert_eq!(alone.traffic, [data]);
        }
    }
}

#[test]
fn copying_copies() {
    for lines in [9 * 2048 + 700, 5] {
        let mut gpu = small(a100());
        let data = words(lines * 4);
        let from = gpu.upload(&data, "from");
        let to = gpu.allocate(16 * lines as u64, "to").unwrap();
        let (launch, bytes) = copy(gpu.gpu(), from, to, 16 * lines as u64);
        gpu.launch(&launch).unwrap();
        assert_eq!(gpu.download::<u32>(to, data.len()), data);
        let profile = &gpu.profiles[0].1;
        let (from, to) = (traffic(profile, "from"), traffic(profile, "to"));
        assert_eq!((from.read + to.written) as f64, bytes.0);
        assert_eq!((from.unique_read + to.unique_written) as f64, bytes.0);
    }
}

#[test]
fn the_cache_is_read_over_and_over() {
    let mut gpu = small(a100());
    let footprint = cache_footprint(gpu.gpu());
    assert_eq!(footprint, 256 << 10);
    let data = words(footprint as usize / 4);
    let from = gpu.upload(&data, "data");
    let sum = gpu.upload(&[0u32], "sum");
    let (launch, bytes) = read_cache(gpu.gpu(), from, 3 * footprint, sum);
    gpu.launch(&launch).unwrap();
    let once = data.iter().fold(0u32, |sum, word| sum.wrapping_add(*word));
    assert_eq!(gpu.download::<u32>(sum, 1), [once.wrapping_mul(3)]);
    let data = traffic(&gpu.profiles[0].1, "data");
    assert_eq!((data.read as f64, data.unique_read), (bytes.0, footprint));
    // What was read before must come from L2 again: the loads pass the first-level cache by.
    let image = llmroof::backend::cuda::image::image("ceilings", (8, 0)).unwrap();
    let ptx = image.ptx().unwrap();
    let kernel = ptx.split(".entry read_cache").nth(1).unwrap().split(".entry").next().unwrap();
    assert_eq!((kernel.matches("ld.global.cg.v4").count(), kernel.matches("ld.global").count()), (8, 8));
}

fn read_as<T: bytemuck::Pod>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

/// The values of operands.
fn values(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        DType::F32 => read_as::<f32>(bytes).into_iter().map(f64::from).collect(),
        DType::Bf16 => wide(&read_as(bytes)),
        DType::Int8 | DType::Int4 => bytes.iter().map(|byte| f64::from(*byte as i8)).collect(),
        DType::F16 => read_as::<u16>(bytes).into_iter().map(|x| float(x, 10)).collect(),
        DType::Fp8 => bytes.iter().map(|x| float(u16::from(*x), 3)).collect(),
    }
}

/// The value of a normal f16 or e4m3.
fn float(bits: u16, mantissa: i32) -> f64 {
    let (width, bias) = if mantissa == 10 { (5, 15) } else { (4, 7) };
    let exponent = i32::from(bits >> mantissa) & ((1 << width) - 1);
    let fraction = f64::from(bits & ((1 << mantissa) - 1)) / f64::from(1 << mantissa);
    assert!(exponent > 0, "subnormal");
    let magnitude = (1.0 + fraction) * 2f64.powi(exponent - bias);
    if bits >> (mantissa + width) & 1 == 1 { -magnitude } else { magnitude }
}

#[test]
fn operands_are_random_and_none_is_zero() {
    for dtype in [DType::Bf16, DType::F16, DType::Int8, DType::Fp8] {
        let bytes = operands(dtype);
        assert_eq!(bytes.len(), OPERANDS);
        let values = values(dtype, &bytes);
        let unit = if dtype == DType::Int8 { 32.0 } else { 1.0 };
        let mean = values.iter().sum::<f64>() / values.len() as f64 / unit;
        let deviation = (values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64).sqrt() / unit;
        assert!(values.iter().all(|x| *x != 0.0), "{dtype}");
        assert!(mean.abs() < 0.03 && (0.9..1.05).contains(&deviation), "{dtype}: {mean} {deviation}");
    }
}

#[test]
fn matrix_units_do_the_operations_they_are_charged_with() {
    const ROUNDS: usize = 3;
    // Elements of one register of a fragment, and columns of the products.
    for (dtype, pack) in [(DType::Bf16, 2), (DType::F16, 2), (DType::Int8, 4)] {
        let mut gpu = small(a100());
        let bytes = operands(dtype);
        let from = gpu.upload(&bytes, "operands");
        let blocks = 4;
        let out = gpu.allocate(blocks * 8 * 64 * 32 * 4, "out").unwrap();
        let (launch, flops) = peak(gpu.gpu(), dtype, from, ROUNDS as u32, out).unwrap();
        assert_eq!(u64::from(launch.grid[0]), blocks);
        gpu.launch(&launch).unwrap();
        let matrix = gpu.profiles[0].1.matrix;
        assert_eq!((matrix.executed as f64, matrix.effective as f64), (flops.0, flops.0), "{dtype}");

        // Register r of a warp, lane l, element i.
        let values = values(dtype, &bytes);
        let of =
            |warp: usize, r: usize, lane: usize, i: usize| values[((warp * 24 + r) * 32 + lane) * pack + i];
        let got: Vec<f64> = match dtype {
            DType::Int8 => gpu.download::<i32>(out, 4 * 8 * 64 * 32).into_iter().map(f64::from).collect(),
            _ => gpu.download::<f32>(out, 4 * 8 * 64 * 32).into_iter().map(f64::from).collect(),
        };
        for (at, got) in got.iter().enumerate().step_by(7) {
            let (lane, register, warp) = (at % 32, at / 32 % 64, at / 32 / 64 % 8);
            let (left, right, c) = (register / 16, register / 4 % 4, register % 4);
            // Accumulator c of a lane: row lane / 4 (8 further down for 2 and 3), column 2 (lane % 4) + c % 2.
            let (row, column) = (lane / 4, 2 * (lane % 4) + c % 2);
            let mut expected = 0.0;
            for k in 0..8 * pack {
                let (quarter, i, upper) = (k / pack % 4, k % pack, k / (4 * pack));
                let a = of(warp, left * 4 + c / 2 + 2 * upper, row * 4 + quarter, i);
                expected += a * of(warp, 16 + right * 2 + upper, column * 4 + quarter, i);
            }
            let expected = ROUNDS as f64 * expected;
            assert!(
                (got - expected).abs() <= 1e-4 * expected.abs().max(1.0),
                "{dtype} {at}: {got} {expected}"
            );
        }
    }
}

#[test]
fn ordinary_units_do_the_operations_they_are_charged_with() {
    let mut gpu = small(a100());
    let bytes = operands(DType::F32);
    let from = gpu.upload(&bytes, "operands");
    let out = gpu.allocate(8 * 8 * 16 * 32 * 4, "out").unwrap();
    let (launch, flops) = peak(gpu.gpu(), DType::F32, from, 11, out).unwrap();
    gpu.launch(&launch).unwrap();
    assert_eq!(gpu.profiles[0].1.scalar_flops as f64, flops.0);
    let values: Vec<f32> = read_as(&bytes);
    for (at, got) in gpu.download::<f32>(out, 8 * 8 * 16 * 32).into_iter().enumerate() {
        let (lane, chain, warp) = (at % 32, at / 32 % 16, at / 32 / 16 % 8);
        let of = |register: usize| values[(warp * 24 + register) * 32 + lane];
        // Eleven rounds are asked for; it does them 32 at a time.
        let expected = (0..32).fold(of(chain), |c, _| c.mul_add(of(16), of(17)));
        assert_eq!(got, expected, "{at}");
    }
}

#[test]
fn hopper_multiplies_out_of_shared_memory() {
    const ROUNDS: usize = 3;
    const BLOCKS: usize = 2;
    for dtype in [DType::Bf16, DType::F16, DType::Int8, DType::Fp8] {
        let mut gpu = small(h100());
        let bytes = operands(dtype);
        let from = gpu.upload(&bytes, "operands");
        let count = BLOCKS * 2 * 64 * 256;
        let out = gpu.allocate(4 * count as u64, "out").unwrap();
        let (launch, flops) = peak(gpu.gpu(), dtype, from, ROUNDS as u32, out).unwrap();
        assert_eq!((launch.source, launch.grid), ("hopper", [BLOCKS as u32, 1, 1]));
        gpu.launch(&launch).unwrap();
        let profile = &gpu.profiles[0].1;
        assert_eq!(profile.matrix.executed as f64, flops.0, "{dtype}");
        assert_eq!(profile.matrix.effective as f64, flops.0, "{dtype}");

        // Rows of 128 bytes: 64 of each warpgroup's left factor, then 256 of the right one, which all share.
        let values = values(dtype, &bytes);
        let columns = values.len() / (2 * 64 + 256);
        let row = |row: usize| &values[row * columns..][..columns];
        let got: Vec<f64> = match dtype {
            DType::Int8 => gpu.download::<i32>(out, count).into_iter().map(f64::from).collect(),
            _ => gpu.download::<f32>(out, count).into_iter().map(f64::from).collect(),
        };
        for (at, got) in got.iter().enumerate() {
            let (column, left) = (at % 256, at / 256 % 128);
            // A round goes over the columns four times.
            let product: f64 = row(left).iter().zip(row(128 + column)).map(|(a, b)| a * b).sum();
            let expected = 4.0 * ROUNDS as f64 * product;
            assert!(
                (got - expected).abs() <= 1e-4 * expected.abs().max(1.0),
                "{dtype} {at}: {got} {expected}"
            );
        }
    }
}

#[test]
fn every_gpu_gets_the_instructions_it_has() {
    for dtype in [DType::Bf16, DType::F16, DType::Int8, DType::Fp8] {
        assert_eq!(peak(&h100(), dtype, 0, 8, 0).unwrap().0.source, "hopper", "{dtype}");
    }
    assert_eq!(peak(&h100(), DType::F32, 0, 8, 0).unwrap().0.source, "ceilings");
    assert_eq!(peak(&a100(), DType::Fp8, 0, 8, 0), None);
    let blackwell = Gpu { capability: (10, 0), ..h100() };
    assert_eq!(peak(&blackwell, DType::Bf16, 0, 8, 0).unwrap().0.source, "ceilings");
}
