//! Kernels as they are written: a tiled product and a norm, compiled from CUDA, with the bugs that such kernels have.

use ptx_interpreter::FaultKind::{Divergence, OutOfBounds, Race, Uninitialised};
use ptx_interpreter::{Fault, FaultKind, Launch, MatrixWork, Profile};

use crate::half::BF16;
use crate::lab::{Lab, Plain, parse, traffic};

const MATMUL: &str = include_str!("../fixtures/matmul.ptx");
const NORM: &str = include_str!("../fixtures/norm.ptx");

const M: usize = 70;
const N: usize = 96;
const K: usize = 160;

/// Small whole numbers, so that the product is exact.
fn a(row: usize, k: usize) -> i32 {
    ((row * 31 + k * 17) % 11) as i32 - 5
}

fn b(row: usize, k: usize) -> i32 {
    ((row * 13 + k * 7) % 9) as i32 - 4
}

fn bf16(rows: usize, of: fn(usize, usize) -> i32) -> Vec<u16> {
    (0..rows * K).map(|n| BF16.nearest(of(n / K, n % K).into()).unwrap()).collect()
}

/// Runs one of the products; on success, c and the profile.
fn matmul(kernel: &str, workers: usize) -> Result<(Vec<f32>, Profile), Fault> {
    let mut lab = Lab::with_workers(workers);
    let pointers = [lab.upload("a", &bf16(M, a)), lab.upload("b", &bf16(N, b)), lab.room("c", 4 * M * N)];
    let mut parameters: Vec<u8> = pointers.iter().flat_map(|p| p.to_le_bytes()).collect();
    [M as u32, N as u32, K as u32, 0].iter().for_each(|v| v.put(&mut parameters));
    let launch = Launch {
        kernel,
        grid: [(N / 32) as u32, M.div_ceil(32) as u32, 1],
        block: [128, 1, 1],
        shared: 4 * 2048,
        early: false,
        parameters: &parameters,
    };
    let profile = lab.machine.launch(&parse(MATMUL), &launch)?;
    Ok((lab.read(pointers[2], M * N), profile))
}

fn expected() -> Vec<f32> {
    (0..M * N).map(|n| (0..K).map(|k| a(n / N, k) * b(n % N, k)).sum::<i32>() as f32).collect()
}

/// The fault is of this kind, in this kernel, at an instruction with this text.
#[track_caller]
fn assert_stops<T: std::fmt::Debug>(
    result: Result<T, Fault>,
    kernel: &str,
    kind: FaultKind,
    ptx: &str,
    at: &str,
) {
    let fault = result.expect_err(kernel);
    assert_eq!(fault.kind, kind, "{fault}");
    let line = ptx.lines().nth(fault.line - 1).unwrap();
    assert!(line.contains(at), "line {}, {line}: {fault}", fault.line);
    // The line lies between the kernel's head and the next one's.
    let head = ptx.lines().take(fault.line).filter(|line| line.contains(".entry")).last().unwrap();
    assert!(head.contains(&format!(".entry {kernel}(")), "{head}: {fault}");
    assert!(fault.message.contains(kernel) && fault.message.contains("block ("), "{fault}");
}

#[test]
fn a_tiled_product() {
    let (c, profile) = matmul("correct", 1).unwrap();
    assert_eq!(c, expected());
    let (again, two) = matmul("correct", 2).unwrap();
    assert_eq!((again, &two), (c, &profile), "on 1 and on 2 host threads");

    // Three tiles of 32 rows for 70; what is beyond is zero, as are some of the numbers.
    let zeros =
        |rows: usize, of: fn(usize, usize) -> i32, k: usize| (0..rows).filter(|row| of(*row, k) == 0).count();
    let both: usize = (0..K).map(|k| (M - zeros(M, a, k)) * (N - zeros(N, b, k))).sum();
    let work = MatrixWork { executed: 2 * 96 * (N * K) as u64, effective: 2 * both as u64 };
    assert_eq!(profile.matrix, work);
    assert_eq!(profile.matrix_by_mark["product"], work);

    // Each of 3 columns of blocks reads all of a, each of 3 rows of blocks all of b; c is written once.
    let (a, b, c) = (traffic(&profile, "a"), traffic(&profile, "b"), traffic(&profile, "c"));
    assert_eq!(
        (a.read, a.read_by_warps, a.unique_read),
        (3 * 2 * (M * K) as u64, a.read, 2 * (M * K) as u64)
    );
    assert_eq!(
        (b.read, b.read_by_warps, b.unique_read),
        (3 * 2 * (N * K) as u64, b.read, 2 * (N * K) as u64)
    );
    assert_eq!((c.written, c.unique_written, c.read), (4 * (M * N) as u64, 4 * (M * N) as u64, 0));
    assert_eq!(a.widths.keys().chain(b.widths.keys()).collect::<Vec<_>>(), [&16, &16]);
    assert_eq!(profile.shared_passes, profile.shared_passes_least, "the swizzle leaves no conflicts");
    assert_eq!(profile.local_bytes, 0);
}

/// Right, but four rows of a matrix lie on the same banks.
#[test]
fn without_a_swizzle() {
    let (c, profile) = matmul("not_swizzled", 1).unwrap();
    assert_eq!(c, expected());
    // 9 blocks, 5 stages, 4 warps, each 2 x 2 ldmatrix of four matrices: 4 passes, or 16.
    let loads = 9 * 5 * 4 * 4;
    let (_, swizzled) = matmul("correct", 1).unwrap();
    assert_eq!(profile.shared_passes - swizzled.shared_passes, loads * 12);
    assert_eq!(profile.shared_passes_least, swizzled.shared_passes_least);
}

/// Reading by another swizzle than storing shows as wrong numbers only: every byte is there, no two accesses race.
#[test]
fn a_wrong_swizzle() {
    let (c, profile) = matmul("wrong_swizzle", 1).unwrap();
    assert_ne!(c, expected());
    // Rows r and r + 4 of a matrix then share their banks.
    assert!(profile.shared_passes > profile.shared_passes_least);
}

#[test]
fn a_product_with_a_barrier_missing() {
    assert_stops(matmul("no_barrier_after_use", 1), "no_barrier_after_use", Race, MATMUL, "ldmatrix");
    assert_stops(matmul("no_barrier_after_wait", 1), "no_barrier_after_wait", Race, MATMUL, "ldmatrix");
    assert_stops(matmul("waits_too_little", 1), "waits_too_little", Race, MATMUL, "ldmatrix");
    // The same with blocks on several host threads.
    assert_stops(matmul("no_barrier_after_use", 2), "no_barrier_after_use", Race, MATMUL, "ldmatrix");
}

#[test]
fn a_product_beyond_its_rows() {
    assert_stops(matmul("off_by_one", 1), "off_by_one", OutOfBounds, MATMUL, "cp.async.cg");
    assert_stops(matmul("not_filled", 1), "not_filled", Uninitialised, MATMUL, "ldmatrix");
}

/// Runs one of the norms over 5 rows.
fn norm(kernel: &str, width: usize) -> Result<Vec<f32>, Fault> {
    let x: Vec<f32> = (0..5 * width).map(|n| 0.25 + (n * 29 % 101) as f32).collect();
    let mut lab = Lab::new();
    let pointers = [lab.upload("x", &x), lab.room("out", 20 * width)];
    let mut parameters: Vec<u8> = pointers.iter().flat_map(|p| p.to_le_bytes()).collect();
    [width as u32, 0].iter().for_each(|v| v.put(&mut parameters));
    let launch = Launch {
        kernel,
        grid: [5, 1, 1],
        block: [256, 1, 1],
        shared: 0,
        early: false,
        parameters: &parameters,
    };
    lab.machine.launch(&parse(NORM), &launch)?;
    let out = lab.read::<f32>(pointers[1], 5 * width);
    for (row, got) in x.chunks(width).zip(out.chunks(width)) {
        let square: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
        let rms = (square / width as f64).sqrt();
        for (x, got) in row.iter().zip(got) {
            assert!((f64::from(*got) * rms / f64::from(*x) - 1.0).abs() < 1e-5, "{kernel}: {got}");
        }
    }
    Ok(out)
}

#[test]
fn a_norm() {
    for width in [256, 1000, 70] {
        norm("correct", width).unwrap();
    }
    assert_stops(norm("no_barrier_before_sum", 1000), "no_barrier_before_sum", Race, NORM, "ld.shared.f32");
    // The first warps read the result before the last one has stored it.
    assert_stops(
        norm("no_barrier_before_use", 1000),
        "no_barrier_before_use",
        Uninitialised,
        NORM,
        "ld.shared.f32",
    );
    assert_stops(norm("barrier_in_branch", 1000), "barrier_in_branch", Divergence, NORM, "bar.sync");
    assert_stops(norm("too_few_parts", 1000), "too_few_parts", OutOfBounds, NORM, "st.shared.f32");
    // Of 256 elements all lanes take part; of 200 the seventh warp has only eight.
    norm("shuffle_in_branch", 256).unwrap();
    assert_stops(norm("shuffle_in_branch", 200), "shuffle_in_branch", Divergence, NORM, "shfl.sync");
}
