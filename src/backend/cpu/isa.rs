//! The instruction sets the kernels exist for, and which of them this CPU has.

use crate::error::{Failure, Result};

/// An instruction set that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// AVX-512 with bf16 dot products.
    Avx512Bf16,
    /// AVX-512 F, BW, DQ and VL; bf16 weights are widened to f32.
    Avx512,
    /// AVX2 and FMA; bf16 weights are widened to f32.
    Avx2,
    /// What the compiler makes of plain Rust for the baseline of the target.
    Portable,
}

impl InstructionSet {
    /// All sets, the richest first.
    pub const ALL: [InstructionSet; 4] =
        [InstructionSet::Avx512Bf16, InstructionSet::Avx512, InstructionSet::Avx2, InstructionSet::Portable];

    /// The name users give and see.
    pub fn name(self) -> &'static str {
        match self {
            InstructionSet::Avx512Bf16 => "avx512-bf16",
            InstructionSet::Avx512 => "avx512",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Portable => "portable",
        }
    }

    /// Whether this CPU has it.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        match self {
            InstructionSet::Avx512Bf16 => avx512 && is_x86_feature_detected!("avx512bf16"),
            InstructionSet::Avx512 => avx512,
            InstructionSet::Avx2 => avx2,
            InstructionSet::Portable => true,
        }
    }

    /// Whether this CPU has it.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_available(self) -> bool {
        self == InstructionSet::Portable
    }

    /// Whether its kernels for quantised weights multiply 8 bits with 8: those of VNNI do, and those in plain Rust.
    pub fn multiplies_bytes(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 | InstructionSet::Avx512 => is_x86_feature_detected!("avx512vnni"),
            _ => self == InstructionSet::Portable,
        }
    }

    /// The sets this CPU has, the richest first.
    pub fn available() -> Vec<InstructionSet> {
        Self::ALL.into_iter().filter(|set| set.is_available()).collect()
    }

    /// The set of this name.
    ///
    /// # Errors
    /// The name is unknown or this CPU lacks the set; the hint lists what it has.
    pub fn named(name: &str) -> Result<InstructionSet> {
        let available = Self::available();
        available.iter().copied().find(|set| set.name() == name).ok_or_else(|| {
            let what = if Self::ALL.iter().any(|set| set.name() == name) {
                format!("this CPU does not have the instruction set {name}")
            } else {
                format!("there is no instruction set \"{}\"", name.escape_debug())
            };
            let names: Vec<_> = available.iter().map(|set| set.name()).collect();
            Failure::input(what).hint(format!("give --isa auto; this CPU has {}", names.join(", ")))
        })
    }
}

/// The pointer, as one that the compiler knows nothing about.
///
/// A short loop inside a loop is unrolled, and then the outer one is vectorised: with AVX-512 by gathers and scatters, at a
/// fraction of the rate. An outer loop over such pointers stays as it is, and what is inside becomes vectors.
#[inline(always)]
pub fn opaque<T>(pointer: *mut T) -> *mut T {
    std::hint::black_box(pointer)
}

/// Defines a function once and compiles its body for every instruction set: the first argument chooses.
///
/// The body is plain Rust that the compiler vectorises with whatever the set offers.
macro_rules! per_isa {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident $(<$A:ident: $bound:path>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name $(<$A: $bound>)? (isa: $crate::backend::cpu::isa::InstructionSet, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn body $(<$A: $bound>)? ($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512 $(<$A: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller keeps the contract of the outer function.
                unsafe { body $(::<$A>)? ($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2 $(<$A: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller keeps the contract of the outer function.
                unsafe { body $(::<$A>)? ($($arg),*) }
            }
            // SAFETY: the sets are only ever chosen where the CPU has them; the rest is the caller's contract.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::backend::cpu::isa::InstructionSet::Avx512Bf16
                    | $crate::backend::cpu::isa::InstructionSet::Avx512 => avx512 $(::<$A>)? ($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::backend::cpu::isa::InstructionSet::Avx2 => avx2 $(::<$A>)? ($($arg),*),
                    _ => body $(::<$A>)? ($($arg),*),
                }
            }
        }
    };
}
pub(super) use per_isa;
