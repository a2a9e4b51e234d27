//! What ptxas gives the kernels: the table beside the sources.

use crate::identity::Identity;

const TABLE: &str = include_str!("../../../kernels/resources.csv");

/// What a kernel takes of a multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Threads of a block, at most.
    pub threads: i32,
    /// Registers of a thread.
    pub registers: i32,
    /// Static shared memory of a block in bytes.
    pub shared: i32,
    /// Local memory of a thread in bytes.
    pub local: i32,
}

impl Resources {
    /// Blocks that a multiprocessor holds.
    pub fn resident(&self, gpu: &Identity, threads: u32, dynamic: u64) -> i32 {
        let unsigned = |value: i32| u64::from(value.unsigned_abs());
        // Registers are given to warps in pieces of 256; each block has 1 KB of shared memory taken besides.
        let warps = u64::from(threads.div_ceil(32));
        let registers = unsigned(self.registers * 32).next_multiple_of(256) * warps;
        let reserved = if gpu.capability.0 >= 8 { 1024 } else { 0 };
        let own = unsigned(self.shared) + dynamic;
        if u64::from(threads) > unsigned(self.threads) || own > unsigned(gpu.shared_per_block) {
            return 0;
        }
        let shared = (own + reserved).next_multiple_of(128).max(1);
        let by_shared = unsigned(gpu.shared_per_multiprocessor) / shared;
        let by_threads = unsigned(gpu.threads_per_multiprocessor) / (warps * 32).max(1);
        let least = by_shared.min(65_536 / registers.max(1)).min(by_threads);
        least.min(unsigned(gpu.blocks_per_multiprocessor)) as i32
    }
}

/// Of a kernel on an architecture, by the table; something ordinary for kernels that are not in it.
pub fn resources(kernel: &str, architecture: i32, specific: bool) -> Resources {
    let suffix = if specific { "a" } else { "" };
    let rows = TABLE.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        let own = fields.get(2)?.strip_prefix("sm_")?.strip_suffix(suffix)?.parse::<i32>().ok()?;
        let numbers: Vec<i32> = fields.get(3..9)?.iter().map_while(|field| field.parse().ok()).collect();
        let [threads, _, registers, shared, _, local] = numbers[..] else { return None };
        (*fields.get(1)? == kernel && own <= architecture)
            .then_some((own, Resources { threads, registers, shared, local }))
    });
    let ordinary = Resources { threads: 1024, registers: 32, shared: 0, local: 0 };
    rows.max_by_key(|(own, _)| *own).map_or(ordinary, |(_, resources)| resources)
}

#[cfg(test)]
mod tests {
    use super::resources;
    use crate::identity::IDENTITIES;

    #[test]
    fn the_table_is_found() {
        let a100 = resources("gemv_qkv_1", 80, false);
        assert!(a100.threads == 256 && a100.registers > 32);
        let hopper = resources("peak_bf16", 90, true);
        assert_eq!((hopper.shared, resources("peak_bf16", 90, false).shared), (49_152, 0));
        assert_eq!(resources("another", 80, false).registers, 32);
    }

    #[test]
    fn as_many_blocks_are_resident_as_the_table_says() {
        let h100 = IDENTITIES.iter().find(|identity| identity.key == "h100").unwrap();
        assert_eq!(resources("peak_bf16", 90, true).resident(h100, 256, 0), 1);
        assert_eq!(resources("peak_bf16", 90, false).resident(h100, 256, 0), 2);
        assert_eq!(resources("embed", 90, false).resident(h100, 256, 0), 8);
        assert_eq!(resources("embed", 90, false).resident(h100, 512, 0), 0);
    }
}
