//! How many blocks a multiprocessor holds at once.

/// What the multiprocessors of an architecture have. Registers are 65,536 in four partitions on all of them,
/// given to warps by 256; shared memory is given to blocks by 128 bytes, and the system takes 1 KiB for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// As ptxas names it.
    pub name: &'static str,
    /// Warps that a multiprocessor holds at most.
    pub warps: u32,
    /// Blocks that it holds at most.
    pub blocks: u32,
    /// Its shared memory in bytes.
    pub shared: u32,
}

/// The architectures that machine code is made for, from the CUDA programming guide's table of compute capabilities.
pub const ARCHITECTURES: [Architecture; 7] = [
    Architecture { name: "sm_80", warps: 64, blocks: 32, shared: 164 << 10 },
    Architecture { name: "sm_86", warps: 48, blocks: 16, shared: 100 << 10 },
    Architecture { name: "sm_89", warps: 48, blocks: 24, shared: 100 << 10 },
    Architecture { name: "sm_90", warps: 64, blocks: 32, shared: 228 << 10 },
    Architecture { name: "sm_90a", warps: 64, blocks: 32, shared: 228 << 10 },
    Architecture { name: "sm_100", warps: 64, blocks: 32, shared: 228 << 10 },
    Architecture { name: "sm_120", warps: 48, blocks: 24, shared: 100 << 10 },
];

/// The architecture of this name.
pub fn architecture(name: &str) -> Option<Architecture> {
    ARCHITECTURES.into_iter().find(|architecture| architecture.name == name)
}

/// Blocks of this many threads, registers per thread and bytes of shared memory (static and dynamic together) that
/// one multiprocessor holds at once; 0 where a single one does not fit.
pub fn blocks(architecture: Architecture, threads: u32, registers: u32, shared: u32) -> u32 {
    let warps = threads.div_ceil(32).max(1);
    let registers_of_warp = (registers * 32).next_multiple_of(256).max(256);
    let warps_by_registers = 4 * (16_384 / registers_of_warp);
    let shared_of_block = shared.next_multiple_of(128) + 1024;
    (architecture.warps / warps)
        .min(warps_by_registers / warps)
        .min(architecture.shared / shared_of_block)
        .min(architecture.blocks)
}
