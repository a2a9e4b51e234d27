//! What kernels are lowered to: a dense list of operations on register slots.

use crate::parse::ast::{Room, Space};
use crate::registers::{Class, MapFn};

/// Lanes that execute: those where the predicate, xor `flip`, is set.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    pub slot: u32,
    pub flip: u32,
}

/// One operation.
#[derive(Debug)]
pub struct Op {
    pub code: Code,
    pub guard: Guard,
    pub line: u32,
    /// Instructions that this counts as: 1 for one of the operations that an instruction becomes, 0 for the others.
    pub weight: u8,
    /// Floating-point operations per thread.
    pub flops: u8,
    /// Only gives values another name: `mov` between registers, which a device's compiler leaves out.
    pub renames: bool,
    /// Registers that it reads and writes, as a range of [`Kernel::uses`].
    pub uses: (u32, u32),
}

/// A register by class and slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub class: Class,
    pub slot: u32,
}

/// Register (32 or 64 bits) plus a constant.
#[derive(Debug, Clone, Copy)]
pub struct Address {
    pub base: Slot,
    pub offset: i64,
}

/// A load or store, of one element or a vector.
#[derive(Debug)]
pub struct Access {
    pub space: Space,
    pub address: Address,
    /// Bytes of one element.
    pub bytes: u32,
    /// Elements are sign-extended into wider registers.
    pub signed: bool,
    pub registers: Vec<Slot>,
    /// Relaxed or stronger: does not race with others of its kind.
    pub strong: bool,
    /// Through the read-only path (`.nc`): the launch must not write there.
    pub read_only: bool,
}

impl Access {
    pub fn width(&self) -> u32 {
        self.bytes * self.registers.len() as u32
    }
}

/// What an atomic does to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomicOp {
    Add,
    AddF32,
    AddF64,
    And,
    Or,
    Xor,
    MinU,
    MaxU,
    MinS,
    MaxS,
    Inc,
    Dec,
    Exchange,
    CompareSwap,
}

/// An atomic or reduction.
#[derive(Debug)]
pub struct Atomic {
    pub space: Space,
    pub op: AtomicOp,
    /// 4 or 8.
    pub bytes: u32,
    pub to: Option<Slot>,
    pub address: Address,
    pub value: Slot,
    /// New value of a compare-and-swap; `value` is what it compares with.
    pub swap: Option<Slot>,
}

/// A `cp.async`.
#[derive(Debug)]
pub struct AsyncCopy {
    pub to: Address,
    pub from: Address,
    pub bytes: u32,
    /// How many bytes to read; the rest is zero.
    pub source_bytes: Option<u32>,
}

/// How a `shfl.sync` finds its source lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// Element types of matrix instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    Bf16,
    F16,
    S8,
    U8,
    E4m3,
}

/// A matrix instruction with 16 rows and 8 columns.
#[derive(Debug)]
pub struct Mma {
    pub k: usize,
    pub a_type: Element,
    pub b_type: Element,
    /// Accumulators of two f16 in a register.
    pub half: bool,
    pub d: Vec<u32>,
    pub a: Vec<u32>,
    pub b: Vec<u32>,
    pub c: Vec<u32>,
    /// Index of the mark on its line.
    pub mark: Option<usize>,
}

/// A `wgmma.mma_async` with both operands in shared memory: 64 rows, one register for two columns.
#[derive(Debug)]
pub struct Wgmma {
    pub n: usize,
    pub a_type: Element,
    pub b_type: Element,
    /// Accumulators.
    pub d: Vec<u32>,
    /// Wide registers with the matrices' descriptors.
    pub a: u32,
    pub b: u32,
    /// Predicate: whether what the accumulators hold is added.
    pub adds: u32,
    /// Whether the product is subtracted: one of the immediate scales is -1.
    pub negative: bool,
    /// Index of the mark on its line.
    pub mark: Option<usize>,
}

impl Wgmma {
    /// Bytes of a row that one instruction takes.
    pub const ROW_BYTES: usize = 32;

    /// Columns of `a`.
    pub fn k(&self) -> usize {
        if matches!(self.a_type, Element::Bf16 | Element::F16) {
            Self::ROW_BYTES / 2
        } else {
            Self::ROW_BYTES
        }
    }
}

/// `ldmatrix` and `stmatrix`: one register for each 8x8 matrix.
#[derive(Debug)]
pub struct MatrixAccess {
    pub address: Address,
    pub registers: Vec<u32>,
    pub transposed: bool,
    pub store: bool,
}

/// What a vote asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

/// How `redux.sync` combines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redux {
    Add,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
}

/// A conversion that is done lane by lane, see `lower::convert`.
#[derive(Debug)]
pub struct Conversion {
    pub how: crate::convert::Convert,
    pub to: Slot,
    pub from: Slot,
}

/// What an operation does.
#[derive(Debug)]
pub enum Code {
    Map {
        run: MapFn,
        to: u32,
        from: [u32; 4],
    },
    Convert(Box<Conversion>),
    Load(Box<Access>),
    Store(Box<Access>),
    Atomic(Box<Atomic>),
    AsyncCopy(Box<AsyncCopy>),
    /// `cp.async.commit_group`.
    Commit,
    /// Waits until at most this many groups are pending; `None`: for everything, committed or not.
    WaitCopies(Option<u32>),
    Mma(Box<Mma>),
    Wgmma(Box<Wgmma>),
    /// `wgmma.fence`.
    WgmmaFence,
    /// `wgmma.commit_group`.
    WgmmaCommit,
    /// `wgmma.wait_group`: waits until at most this many groups are pending.
    WgmmaWait(u32),
    /// `fence.proxy.async`.
    ProxyFence,
    MatrixAccess(Box<MatrixAccess>),
    /// `movmatrix`: transposes 8x8.
    MoveMatrix {
        to: u32,
        from: u32,
    },
    Shuffle {
        how: Shuffle,
        to: u32,
        found: Option<u32>,
        from: u32,
        lane: u32,
        clamp: u32,
        members: u32,
    },
    /// `flip` negates the source predicate.
    Vote {
        how: Vote,
        to: u32,
        from: u32,
        flip: u32,
        members: u32,
    },
    Redux {
        how: Redux,
        to: u32,
        from: u32,
        members: u32,
    },
    ActiveMask {
        to: u32,
    },
    Clock {
        to: Slot,
    },
    /// `bar.sync` and `bar.arrive`; without a count all threads of the block take part.
    Barrier {
        id: u32,
        count: Option<u32>,
        arrive: bool,
    },
    WarpBarrier {
        members: u32,
    },
    Fence,
    /// `griddepcontrol.wait`.
    WaitForEarlier,
    /// Which window a generic address is in.
    IsSpace {
        to: u32,
        from: u32,
        space: Space,
    },
    Branch {
        target: u32,
    },
    /// `brx.idx`.
    BranchIndexed {
        index: u32,
        targets: Box<[u32]>,
    },
    Exit,
    Trap,
    /// Known, and nothing to do: prefetches, hints, `nanosleep`.
    Nothing,
}

impl Code {
    /// Registers that it reads or writes; a map's are known where it is made.
    pub fn uses(&self) -> Vec<Slot> {
        let word = |slot: &u32| Slot { class: Class::Word, slot: *slot };
        match self {
            Code::Convert(conversion) => vec![conversion.to, conversion.from],
            Code::Load(access) | Code::Store(access) => {
                access.registers.iter().copied().chain([access.address.base]).collect()
            }
            Code::Atomic(atomic) => {
                [atomic.address.base, atomic.value].into_iter().chain(atomic.to).chain(atomic.swap).collect()
            }
            Code::AsyncCopy(copy) => [copy.to.base, copy.from.base]
                .into_iter()
                .chain(copy.source_bytes.as_ref().map(word))
                .collect(),
            Code::Mma(mma) => [&mma.d, &mma.a, &mma.b, &mma.c].into_iter().flatten().map(word).collect(),
            Code::Wgmma(wgmma) => {
                let descriptors = [wgmma.a, wgmma.b].map(|slot| Slot { class: Class::Wide, slot });
                wgmma.d.iter().map(word).chain(descriptors).collect()
            }
            Code::MatrixAccess(access) => {
                access.registers.iter().map(word).chain([access.address.base]).collect()
            }
            Code::MoveMatrix { to, from } | Code::Redux { to, from, .. } => vec![word(to), word(from)],
            Code::Shuffle { to, from, lane, clamp, members, .. } => {
                [to, from, lane, clamp, members].map(word).to_vec()
            }
            Code::Vote { how: Vote::Ballot, to, .. } | Code::ActiveMask { to } => vec![word(to)],
            Code::Clock { to } => vec![*to],
            Code::IsSpace { from, .. } => vec![Slot { class: Class::Wide, slot: *from }],
            Code::BranchIndexed { index, .. } => vec![word(index)],
            _ => Vec::new(),
        }
    }

    /// Whether the lanes of a warp, or the warps of a block, meet here.
    pub fn meets(&self) -> bool {
        matches!(
            self,
            Code::Mma(_)
                | Code::Wgmma(_)
                | Code::WgmmaFence
                | Code::WgmmaCommit
                | Code::WgmmaWait(_)
                | Code::MatrixAccess(_)
                | Code::MoveMatrix { .. }
                | Code::Shuffle { .. }
                | Code::Vote { .. }
                | Code::Redux { .. }
                | Code::Barrier { .. }
                | Code::WarpBarrier { .. }
        )
    }
}

/// A value that every thread finds in a register before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    ThreadX,
    ThreadY,
    ThreadZ,
    ThreadsX,
    ThreadsY,
    ThreadsZ,
    BlockX,
    BlockY,
    BlockZ,
    BlocksX,
    BlocksY,
    BlocksZ,
    Lane,
    Warp,
    Warps,
    Multiprocessor,
    Multiprocessors,
    LanesEqual,
    LanesBelow,
    LanesUpTo,
    LanesAbove,
    LanesFrom,
    SharedDynamic,
    SharedTotal,
}

/// A kernel that can be executed.
#[derive(Debug)]
pub struct Kernel {
    pub name: String,
    pub ops: Vec<Op>,
    /// For every operation: where the two ways of a branch there meet again; `ops.len()` is the end.
    pub meets: Vec<u32>,
    /// For every operation: whether from here on a thread ends without meeting others.
    pub quits: Vec<bool>,
    pub preds: u32,
    pub words: u32,
    pub wides: u32,
    pub word_constants: Vec<(u32, u32)>,
    pub wide_constants: Vec<(u32, u64)>,
    pub specials: Vec<(u32, Special)>,
    /// Slots that hold the address of the module's variable of this index, plus an offset.
    pub globals: Vec<(u32, usize, i64)>,
    pub parameter_bytes: u64,
    pub max_threads: Option<[u32; 3]>,
    pub exact_threads: bool,
    /// Static shared memory, padded to where dynamic shared memory begins.
    pub shared_bytes: u64,
    /// Places of shared variables; the last one is dynamic shared memory, its size that of the launch.
    pub shared_rooms: Vec<Room>,
    pub local_bytes: u64,
    /// Whether it has `wgmma` instructions.
    pub warpgroups: bool,
    /// See [`Op::uses`]; the destination of an operation that renames comes first.
    pub uses: Vec<Slot>,
}
