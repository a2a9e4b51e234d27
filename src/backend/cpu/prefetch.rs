//! What is fetched by hand before it is read.

/// Whether a stream from memory is best fetched into L2 by hand: on Intel's server cores L1 alone has 16 lines under way, L2
/// has 48, and what passes L2 by reaches less than half of the memory's rate. On AMD's, what is read once is best fetched past
/// L2, and bf16 not by hand at all.
pub fn streams_through_l2() -> bool {
    static ANSWER: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *ANSWER.get_or_init(is_intel)
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

/// Asks for the lines of what is read next (into the cache of `LEVEL` 1) or somewhat later (2).
#[inline(always)]
pub fn into<const LEVEL: usize>(start: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        let line = start.wrapping_add(at).cast();
        // SAFETY: a prefetch may go anywhere, and every x86-64 has it.
        unsafe {
            match LEVEL {
                1 => _mm_prefetch::<_MM_HINT_T0>(line),
                _ => _mm_prefetch::<_MM_HINT_T1>(line),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, bytes);
}
