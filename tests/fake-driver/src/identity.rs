//! The GPUs that can be faked.

/// Operations per second of the arithmetic units, dense.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Peaks {
    pub bf16: f64,
    pub f16: f64,
    pub int8: f64,
    pub fp8: f64,
    pub f32: f64,
}

/// What a kind of GPU tells of itself, and how fast the virtual clock takes it to be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Identity {
    /// In `FAKE_DRIVER_GPUS`.
    pub key: &'static str,
    /// As CUDA names it.
    pub name: &'static str,
    /// As NVML names it: of a MIG slice the whole GPU.
    pub board: &'static str,
    pub capability: (i32, i32),
    pub multiprocessors: i32,
    pub l2: i32,
    /// Dynamic and static shared memory of a block, at most.
    pub shared_per_block: i32,
    pub shared_per_multiprocessor: i32,
    pub threads_per_multiprocessor: i32,
    pub blocks_per_multiprocessor: i32,
    /// Bytes as `cuDeviceTotalMem` gives them.
    pub memory: u64,
    /// Bytes as NVML gives them.
    pub board_memory: u64,
    /// MHz.
    pub clock: u32,
    /// MHz.
    pub memory_clock: u32,
    /// Bits.
    pub bus: u32,
    /// Bytes per second of the datasheet.
    pub bandwidth: f64,
    /// Bytes per second of what joins it to others, in each direction.
    pub link: f64,
    pub peaks: Peaks,
    /// Watts.
    pub power: f64,
    /// Watts.
    pub idle: f64,
    pub ecc: bool,
    /// A slice of a GPU.
    pub mig: bool,
    /// MIG can be turned on.
    pub mig_able: bool,
}

const A100: Identity = Identity {
    key: "a100",
    name: "NVIDIA A100-SXM4-80GB",
    board: "NVIDIA A100-SXM4-80GB",
    capability: (8, 0),
    multiprocessors: 108,
    l2: 40 << 20,
    shared_per_block: 163 << 10,
    shared_per_multiprocessor: 164 << 10,
    threads_per_multiprocessor: 2048,
    blocks_per_multiprocessor: 32,
    memory: 85_097_971_712,
    board_memory: 81_920 << 20,
    clock: 1410,
    memory_clock: 1593,
    bus: 5120,
    bandwidth: 2039e9,
    link: 300e9,
    peaks: Peaks { bf16: 312e12, f16: 312e12, int8: 624e12, fp8: 312e12, f32: 19.5e12 },
    power: 400.0,
    idle: 62.0,
    ecc: true,
    mig: false,
    mig_able: true,
};

const H100: Identity = Identity {
    key: "h100",
    name: "NVIDIA H100 80GB HBM3",
    board: "NVIDIA H100 80GB HBM3",
    capability: (9, 0),
    multiprocessors: 132,
    l2: 50 << 20,
    shared_per_block: 227 << 10,
    shared_per_multiprocessor: 228 << 10,
    memory: 85_028_896_768,
    board_memory: 81_559 << 20,
    clock: 1980,
    memory_clock: 2619,
    bandwidth: 3350e9,
    link: 450e9,
    peaks: Peaks { bf16: 989.4e12, f16: 989.4e12, int8: 1979e12, fp8: 1979e12, f32: 66.9e12 },
    power: 700.0,
    idle: 70.0,
    ..A100
};

/// All of them.
pub const IDENTITIES: &[Identity] = &[
    A100,
    Identity {
        key: "a100-40gb",
        name: "NVIDIA A100-SXM4-40GB",
        board: "NVIDIA A100-SXM4-40GB",
        memory: 42_298_834_944,
        board_memory: 40_960 << 20,
        memory_clock: 1215,
        bandwidth: 1555e9,
        idle: 55.0,
        ..A100
    },
    H100,
    Identity {
        key: "h200",
        name: "NVIDIA H200",
        board: "NVIDIA H200",
        // 60 MB by cudaDeviceProp, as of the H100 with all of its L2.
        l2: 60 << 20,
        memory: 150_109_880_320,
        board_memory: 143_771 << 20,
        memory_clock: 3201,
        bus: 6144,
        bandwidth: 4800e9,
        idle: 75.0,
        ..H100
    },
    Identity {
        key: "unknown",
        name: "NVIDIA Graphics Device",
        board: "NVIDIA Graphics Device",
        capability: (8, 6),
        multiprocessors: 82,
        l2: 6 << 20,
        shared_per_block: 99 << 10,
        shared_per_multiprocessor: 100 << 10,
        threads_per_multiprocessor: 1536,
        blocks_per_multiprocessor: 16,
        memory: 25_438_126_080,
        board_memory: 24_576 << 20,
        clock: 1695,
        memory_clock: 9751,
        bus: 384,
        bandwidth: 936e9,
        link: 32e9,
        peaks: Peaks { bf16: 71e12, f16: 71e12, int8: 284e12, fp8: 71e12, f32: 35.6e12 },
        power: 350.0,
        idle: 25.0,
        ecc: false,
        mig_able: false,
        ..A100
    },
    Identity {
        key: "old",
        name: "Tesla V100-SXM2-16GB",
        board: "Tesla V100-SXM2-16GB",
        capability: (7, 0),
        multiprocessors: 80,
        l2: 6 << 20,
        shared_per_block: 96 << 10,
        shared_per_multiprocessor: 96 << 10,
        memory: 16_935_419_904,
        board_memory: 16_384 << 20,
        clock: 1530,
        memory_clock: 877,
        bus: 4096,
        bandwidth: 900e9,
        link: 150e9,
        peaks: Peaks { bf16: 15.7e12, f16: 125e12, int8: 62e12, fp8: 15.7e12, f32: 15.7e12 },
        power: 300.0,
        idle: 40.0,
        mig_able: false,
        ..A100
    },
    Identity {
        key: "mig",
        name: "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        multiprocessors: 14,
        l2: 5 << 20,
        memory: 10_200_547_328,
        bandwidth: 2039e9 / 8.0,
        peaks: Peaks {
            bf16: 312e12 * 14.0 / 108.0,
            f16: 312e12 * 14.0 / 108.0,
            int8: 624e12 * 14.0 / 108.0,
            fp8: 312e12 * 14.0 / 108.0,
            f32: 19.5e12 * 14.0 / 108.0,
        },
        mig: true,
        ..A100
    },
];

impl Identity {
    /// Has the counters of NVML's GPM interface.
    pub fn gpm(&self) -> bool {
        self.capability.0 >= 9
    }

    /// `8.0` as 80.
    pub fn architecture(&self) -> i32 {
        self.capability.0 * 10 + self.capability.1
    }
}

/// UUID of the GPU in this slot.
pub fn uuid(slot: usize) -> [u8; 16] {
    std::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ (slot as u8).wrapping_mul(91).wrapping_add(0x4c))
}

/// UUID of its first MIG slice.
pub fn slice_uuid(slot: usize) -> [u8; 16] {
    uuid(slot).map(|byte| byte.rotate_left(3) ^ 0x5a)
}

/// `GPU-` (or another prefix) and a UUID in the usual groups.
pub fn uuid_text(prefix: &str, bytes: [u8; 16]) -> String {
    let mut text = String::from(prefix);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}

/// PCI bus of the GPU in this slot.
pub fn bus(slot: usize) -> u32 {
    const BUSES: [u32; 8] = [0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf];
    BUSES.get(slot).copied().unwrap_or(0xe0 + slot as u32 % 0x1f)
}
