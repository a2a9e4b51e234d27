//! Executes PTX on the CPU, checks every memory access and counts bytes and FLOPs.
//!
//! It knows the instructions that the suite's kernels use and stops with the line on anything else.
//!
//! From a text to a profile: `parse` makes instructions of the text, `lower` makes of these a dense list of operations
//! on register slots, `control` finds where the ways of a branch meet again, `exec` runs that list for a warp at a
//! time, `memory` and `shared` hold the data and know what was written and by whom, `profile` sums up.
//!
//! What it takes for granted:
//! - The blocks of a grid start in order, each on one host thread. A block may wait for an earlier one, not for a later.
//! - The warps of a block take turns, each up to a barrier. So a read of shared memory that lacks its barrier is found
//!   either as a race or, where the other warp has not come to its write yet, as a read of what nothing wrote.
//! - The lanes of a warp part at a branch and meet at its immediate post-dominator. A warp-wide instruction whose lanes
//!   are not all there by then is a fault, also where a device might wait for them.
//! - Barriers, `bar.warp.sync` of all lanes, and `cp.async` waits order shared memory; flags in it do not.
//! - Matrix instructions of warpgroups (`wgmma`) compute when they are executed; until they are waited for, nothing may
//!   touch their registers or write what they read. What they read of shared memory is checked but not counted.
//! - Global memory is checked for bounds and for what was written, not for races between blocks.
//! - Approximate functions are exact to rounding. Sums of matrix instructions are exact in float64, then rounded once.
//!   Float atomics of several host threads come in any order.

mod banks;
mod control;
mod convert;
mod exec;
mod layout;
mod lower;
mod machine;
mod memory;
mod numbers;
mod op;
mod parse;
mod profile;
mod registers;
mod shared;
mod trouble;

use std::collections::BTreeMap;
use std::fmt;

pub use machine::{Machine, Module};

/// How a kernel is launched.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Entry point.
    pub kernel: &'a str,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared: u32,
    /// Whether it may start before earlier kernels have ended: until `griddepcontrol.wait` a thread must not read
    /// what they wrote, nor write anything. Without effect for PTX of targets before sm_90, where it is not possible.
    pub early: bool,
    /// All parameters, laid out as the entry's parameter list says (one struct by value: its bytes).
    pub parameters: &'a [u8],
}

/// Why a text was not parsed or a kernel was stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// Line of the PTX text, counted from 1; 0 where there is none.
    pub line: usize,
    /// In one line: what, where (kernel, block, thread), which address of which allocation.
    pub message: String,
}

/// Kinds of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Text that the parser does not know, or an instruction form that is not implemented.
    Unknown,
    /// An address outside every allocation, or across the end of one.
    OutOfBounds,
    /// An address that is no multiple of the access's width.
    Misaligned,
    /// A read of bytes that nothing wrote.
    Uninitialised,
    /// Two threads' accesses to the same shared memory, at least one a write, with no barrier between them; or an
    /// access to what a `wgmma` in the background uses, with no fence before it or no wait behind it.
    Race,
    /// A barrier that not all threads reach, or lanes missing at a warp-wide instruction.
    Divergence,
    /// More instructions than a kernel of this size can need.
    Endless,
    /// A launch that does not fit the kernel.
    Launch,
    /// The kernel executed `trap`.
    Trap,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for Fault {}

/// What a launch executed and moved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    /// Instructions times the threads that executed them.
    pub thread_instructions: u64,
    /// Work of matrix instructions, in total.
    pub matrix: MatrixWork,
    /// Work of matrix instructions by mark: the text after `//@` on the instruction's line.
    pub matrix_by_mark: BTreeMap<String, MatrixWork>,
    /// Scalar floating-point operations of all threads: 1 for each add, sub, mul, 2 for each fma.
    pub scalar_flops: u64,
    /// Global memory, one entry for each allocation touched, by name then address.
    pub traffic: Vec<Traffic>,
    /// Shared memory accesses: warp instructions, and the passes over the 32 banks that they take.
    pub shared_instructions: u64,
    /// See `shared_instructions`; without bank conflicts a 4-byte access takes 1 pass, a 16-byte one 4.
    pub shared_passes: u64,
    /// The passes that the same accesses would take with no bank conflicts.
    pub shared_passes_least: u64,
    /// Bytes of local memory read and written.
    pub local_bytes: u64,
    /// The most bytes that loads of one warp from global memory are under way with at any time. Loads into registers
    /// are, until an instruction reads or overwrites one of these; they end in order. (A `mov` between registers reads
    /// nothing: compilers leave it out.) Asynchronous copies are until they are waited for.
    pub in_flight: u64,
}

/// FLOPs of matrix instructions, two for each multiply-add.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MatrixWork {
    /// All that the instructions do.
    pub executed: u64,
    /// Those whose two factors are both not zero. What a kernel pads is zero.
    pub effective: u64,
}

/// Global memory traffic of one allocation in one launch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// The allocation's name.
    pub name: String,
    /// Its address.
    pub address: u64,
    /// Bytes read, of every thread and access (atomics read and write).
    pub read: u64,
    /// Bytes written likewise.
    pub written: u64,
    /// Bytes read, lanes of one warp instruction that read the same byte counted once: what the warps ask for.
    pub read_by_warps: u64,
    /// Distinct bytes read.
    pub unique_read: u64,
    /// Distinct bytes written.
    pub unique_written: u64,
    /// 32-byte sectors that warp instructions touch, each instruction for itself.
    pub sectors: u64,
    /// Number of thread accesses by width in bytes.
    pub widths: BTreeMap<u32, u64>,
}
