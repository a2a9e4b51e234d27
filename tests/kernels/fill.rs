//! Random normals: their distribution, and that they do not depend on who makes them.

use llmroof::backend::cuda::driver::{Driver, Gpu};
use llmroof::backend::cuda::launch::fill::{Normal, normals};

use crate::gpu::{InterpretedGpu, a100};
use crate::numbers::wide;

const STANDARD: Normal = Normal { mean: 0.0, deviation: 1.0 };

/// `count` elements made by a GPU of this many multiprocessors.
fn filled(multiprocessors: u32, count: usize, seed: u64, stream: u64, normal: Normal) -> Vec<u16> {
    let mut gpu = InterpretedGpu::new(Gpu { multiprocessors, ..a100() });
    let to = gpu.allocate(2 * count as u64, "filled").unwrap();
    let launch = normals(gpu.gpu(), to, count as u64, seed, stream, normal);
    gpu.launch(&launch).unwrap();
    gpu.download(to, count)
}

#[test]
fn values_are_normal_and_none_is_zero() {
    let count = 1 << 20;
    let bits = filled(108, count, 1, 0, STANDARD);
    assert!(bits.iter().all(|bits| bits & 0x7fff != 0));
    let mut values = wide(&bits);
    let moment = |power: i32| values.iter().map(|z| z.powi(power)).sum::<f64>() / count as f64;
    // The deviations of the first four moments over a million values are 0.001, 0.0014, 0.004 and 0.01.
    for (power, expected, margin) in [(1, 0.0, 0.004), (2, 1.0, 0.008), (3, 0.0, 0.016), (4, 3.0, 0.05)] {
        assert!((moment(power) - expected).abs() < margin, "moment {power}: {}", moment(power));
    }
    values.sort_by(f64::total_cmp);
    for (p, z) in
        [(0.001, -3.0902), (0.025, -1.96), (0.25, -0.6745), (0.5, 0.0), (0.9, 1.2816), (0.9999, 3.719)]
    {
        let quantile = values[(p * count as f64) as usize];
        assert!((quantile - z).abs() < 0.01 + 0.02 * f64::abs(z), "quantile {p}: {quantile} instead of {z}");
    }
    assert!(values[0] < -4.3 && values[count - 1] > 4.3, "the tails are there");
}

#[test]
fn neighbours_are_independent() {
    let values = wide(&filled(108, 1 << 18, 7, 3, STANDARD));
    for lag in [1, 2, 8, 4096] {
        let pairs = values.iter().zip(&values[lag..]);
        let correlation = pairs.map(|(a, b)| a * b).sum::<f64>() / (values.len() - lag) as f64;
        assert!(correlation.abs() < 0.01, "lag {lag}: {correlation}");
    }
}

#[test]
fn mean_and_deviation_are_as_asked() {
    let values = wide(&filled(108, 1 << 16, 1, 5, Normal { mean: 1.0, deviation: 0.1 }));
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
    assert!((mean - 1.0).abs() < 0.002 && (variance.sqrt() - 0.1).abs() < 0.002, "{mean} {variance}");
}

#[test]
fn an_element_depends_on_seed_stream_and_index_alone() {
    let make = |multiprocessors, count, seed, stream| filled(multiprocessors, count, seed, stream, STANDARD);
    let whole = make(108, 40_000, 1, 2);
    // One multiprocessor goes round its loop; a count that is no multiple of 8 ends in single elements.
    for count in [1, 7, 8, 20_001, 39_999] {
        assert_eq!(make(1, count, 1, 2), whole[..count], "{count}");
    }
    for other in [make(108, 40_000, 1, 3), make(108, 40_000, 2, 2)] {
        let equal = whole.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!(equal < 400, "{equal} of 40,000 are the same in another stream");
    }
}

#[test]
fn stores_are_16_bytes_wide_and_nothing_is_read() {
    let mut gpu = InterpretedGpu::new(a100());
    let to = gpu.allocate(2 * 8003, "filled").unwrap();
    let launch = normals(gpu.gpu(), to, 8003, 1, 0, STANDARD);
    gpu.launch(&launch).unwrap();
    let (_, profile) = &gpu.profiles[0];
    let [traffic] = profile.traffic.as_slice() else { panic!("{:?}", profile.traffic) };
    assert_eq!((traffic.read, traffic.written, traffic.unique_written), (0, 16_006, 16_006));
    assert_eq!(
        traffic.widths.iter().map(|(width, count)| (*width, *count)).collect::<Vec<_>>(),
        [(2, 3), (16, 1000)]
    );
    assert_eq!(profile.local_bytes, 0);
}
