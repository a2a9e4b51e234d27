//! Executes a block: its warps in turn, each until it waits or ends.

mod atomic;
mod barrier;
mod copy;
mod global;
mod matrix;
mod memory;
mod warp;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::layout::split;
use crate::memory::{Memory, Touched};
use crate::op::{Address, Code, Kernel, Special};
use crate::profile::Counters;
use crate::registers::{Class, Registers};
use crate::shared::Shared;
use crate::trouble::{Checked, lanes, trouble};
use crate::{Fault, FaultKind};
use barrier::Barriers;
use copy::Copies;

/// Instructions that a warp executes before the next one gets its turn: waiting loops end even so.
const TURN: u64 = 1 << 16;

/// Everything about a launch that its blocks share.
#[derive(Debug)]
pub struct Shape<'a> {
    pub kernel: &'a Kernel,
    pub memory: &'a Memory,
    pub touched: &'a [Touched],
    pub globals: &'a [u64],
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub early: bool,
    pub parameters: &'a [u8],
    /// Instructions that one warp may execute.
    pub budget: u64,
    pub marks: usize,
    /// Lines of the PTX text.
    pub lines: &'a [String],
    /// First block that has a fault, as its index.
    pub failed: &'a AtomicU64,
}

/// Lanes that execute from here until they meet others.
#[derive(Debug, Clone, Copy)]
struct Frame {
    at: u32,
    until: u32,
    mask: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Runs,
    Waits,
    Done,
}

/// A warp of the block in hand.
#[derive(Debug)]
pub struct Warp {
    index: usize,
    registers: Registers,
    frames: Vec<Frame>,
    /// Lanes that have not exited.
    alive: u32,
    /// Lanes that passed griddepcontrol.wait.
    waited: u32,
    state: State,
    steps: u64,
    copies: Copies,
    local: Vec<u8>,
    local_defined: Vec<bool>,
}

impl Warp {
    fn address(&self, address: &Address, mask: u32) -> [u64; 32] {
        let slot = address.base.slot as usize;
        let offset = address.offset;
        let mut out = [0; 32];
        if address.base.class == Class::Wide {
            for (out, base) in out.iter_mut().zip(&self.registers.wides[slot]) {
                *out = base.wrapping_add_signed(offset);
            }
        } else {
            for (out, base) in out.iter_mut().zip(&self.registers.words[slot]) {
                *out = u64::from(base.wrapping_add(offset as u32));
            }
        }
        debug_assert!(mask != 0);
        out
    }
}

/// A host thread that executes blocks.
#[derive(Debug)]
pub struct Worker<'a> {
    shape: &'a Shape<'a>,
    pub counters: Counters,
    shared: Shared,
    barriers: Barriers,
    block: [u32; 3],
    block_index: u64,
    /// The allocation that was found last.
    recent: usize,
    clock: u64,
}

enum Next {
    Step,
    Jump,
    Wait,
}

impl<'a> Worker<'a> {
    /// A worker that has counted nothing.
    pub fn new(shape: &'a Shape<'a>) -> Self {
        Worker {
            shape,
            counters: Counters::new(shape.memory.allocations.len(), shape.marks),
            shared: Shared::default(),
            barriers: Barriers::default(),
            block: [0; 3],
            block_index: 0,
            recent: 0,
            clock: 0,
        }
    }

    /// The warps of a block, before their first one.
    pub fn warps(&self) -> Vec<Warp> {
        let kernel = self.shape.kernel;
        let threads: u32 = self.shape.block.iter().product();
        let warps = threads.div_ceil(32) as usize;
        let local = kernel.local_bytes as usize * 32;
        (0..warps)
            .map(|index| Warp {
                index,
                registers: Registers {
                    preds: vec![0; kernel.preds as usize],
                    words: vec![[0; 32]; kernel.words as usize],
                    wides: vec![[0; 32]; kernel.wides as usize],
                },
                frames: Vec::new(),
                alive: 0,
                waited: 0,
                state: State::Done,
                steps: 0,
                copies: Copies::default(),
                local: vec![0; local],
                local_defined: vec![false; local],
            })
            .collect()
    }

    /// Runs a block to its end.
    pub fn run(&mut self, index: u64, warps: &mut [Warp]) -> Result<(), Fault> {
        let [x, y, _] = self.shape.grid.map(u64::from);
        self.block = [(index % x) as u32, (index / x % y) as u32, (index / x / y) as u32];
        self.block_index = index;
        let kernel = self.shape.kernel;
        let shared_bytes = kernel.shared_bytes + u64::from(self.shape.shared);
        self.shared.reset(shared_bytes as usize, warps.len());
        self.barriers = Barriers::default();
        for warp in warps.iter_mut() {
            self.start(warp);
        }
        loop {
            let mut ran = false;
            for index in 0..warps.len() {
                if warps[index].state == State::Runs {
                    ran = true;
                    self.turn(&mut warps[index])?;
                    self.meet(warps);
                }
            }
            if self.shape.failed.load(Relaxed) < self.block_index {
                return Ok(());
            }
            if !ran {
                break;
            }
        }
        if let Some(stuck) = warps.iter().find(|warp| warp.state == State::Waits) {
            let at = stuck.frames.last().map_or(0, |frame| frame.at.saturating_sub(1));
            let others = warps.iter().filter(|warp| warp.state == State::Done).count();
            let what = format!("waits at a barrier that not all threads reach ({others} warps have ended)");
            let trouble = trouble::<()>(FaultKind::Divergence, stuck.alive.trailing_zeros() as usize, what);
            return trouble.map_err(|trouble| self.fault(stuck, at, &trouble));
        }
        Ok(())
    }

    fn start(&self, warp: &mut Warp) {
        let kernel = self.shape.kernel;
        let [x, y, z] = self.shape.block;
        let threads = x * y * z;
        let first = warp.index as u32 * 32;
        let present = (threads - first).min(32);
        let registers = &mut warp.registers;
        registers.preds[0] = !0;
        for &(slot, value) in &kernel.word_constants {
            registers.words[slot as usize] = [value; 32];
        }
        for &(slot, value) in &kernel.wide_constants {
            registers.wides[slot as usize] = [value; 32];
        }
        for &(slot, variable, offset) in &kernel.globals {
            registers.wides[slot as usize] = [self.shape.globals[variable].wrapping_add_signed(offset); 32];
        }
        for &(slot, special) in &kernel.specials {
            for lane in 0..32 {
                let thread = first + lane;
                registers.words[slot as usize][lane as usize] = match special {
                    Special::ThreadX => thread % x,
                    Special::ThreadY => thread / x % y,
                    Special::ThreadZ => thread / x / y,
                    Special::ThreadsX => x,
                    Special::ThreadsY => y,
                    Special::ThreadsZ => z,
                    Special::BlockX => self.block[0],
                    Special::BlockY => self.block[1],
                    Special::BlockZ => self.block[2],
                    Special::BlocksX => self.shape.grid[0],
                    Special::BlocksY => self.shape.grid[1],
                    Special::BlocksZ => self.shape.grid[2],
                    Special::Lane => lane,
                    Special::Warp => warp.index as u32,
                    Special::Warps => threads.div_ceil(32),
                    Special::Multiprocessor => (self.block_index % 132) as u32,
                    Special::Multiprocessors => 132,
                    Special::LanesEqual => 1 << lane,
                    Special::LanesBelow => (1 << lane) - 1,
                    Special::LanesUpTo => (2u32 << lane).wrapping_sub(1),
                    Special::LanesAbove => !(2u32 << lane).wrapping_sub(1),
                    Special::LanesFrom => !((1 << lane) - 1),
                    Special::SharedDynamic => self.shape.shared,
                    Special::SharedTotal => kernel.shared_bytes as u32 + self.shape.shared,
                };
            }
        }
        warp.alive = if present == 32 { !0 } else { (1 << present) - 1 };
        warp.waited = 0;
        warp.steps = 0;
        warp.copies.clear();
        warp.local_defined.fill(false);
        warp.frames.clear();
        warp.frames.push(Frame { at: 0, until: kernel.ops.len() as u32, mask: warp.alive });
        warp.state = State::Runs;
    }

    fn fault(&self, warp: &Warp, at: u32, trouble: &crate::trouble::Trouble) -> Fault {
        let kernel = self.shape.kernel;
        let line = kernel.ops.get(at as usize).map_or(0, |op| op.line as usize);
        let text = line.checked_sub(1).and_then(|line| self.shape.lines.get(line)).map_or("", |text| text.trim());
        let [x, y, z] = self.block;
        let lane = trouble.lane.map(|lane| {
            let thread = warp.index as u32 * 32 + lane as u32;
            let [width, height, _] = self.shape.block;
            let (tx, ty, tz) = (thread % width, thread / width % height, thread / width / height);
            if self.shape.block[1..] == [1, 1] { format!(" thread {tx}") } else { format!(" thread ({tx}, {ty}, {tz})") }
        });
        let who = lane.unwrap_or_else(|| format!(" warp {}", warp.index));
        let name = &kernel.name;
        let message =
            format!("{name}: block ({x}, {y}, {z}){who}, PTX line {line} `{text}`: {:?}: {}", trouble.kind, trouble.what);
        Fault { kind: trouble.kind, line, message }
    }

    /// Runs a warp until it waits, ends or has had its turn.
    fn turn(&mut self, warp: &mut Warp) -> Result<(), Fault> {
        let ops = &self.shape.kernel.ops[..];
        let end = (warp.steps + TURN).min(self.shape.budget);
        if warp.steps >= self.shape.budget {
            let at = warp.frames.last().map_or(0, |frame| frame.at);
            let what = format!("a warp executes more than {} instructions", self.shape.budget);
            return trouble(FaultKind::Endless, None, what).map_err(|trouble| self.fault(warp, at, &trouble));
        }
        while let Some(&Frame { at, until, mask: running }) = warp.frames.last() {
            if at == until || running == 0 {
                warp.frames.pop();
                continue;
            }
            // Straight on in this frame, until a jump or the place where it ends.
            let mut at = at;
            loop {
                let op = &ops[at as usize];
                let mask = running & (warp.registers.preds[op.guard.slot as usize] ^ op.guard.flip);
                let executed = u64::from(mask.count_ones());
                self.counters.thread_instructions += executed * u64::from(op.weight);
                self.counters.scalar_flops += executed * u64::from(op.flops);
                warp.steps += 1;
                let next = if let Code::Map { run, to, from } = &op.code {
                    run(&mut warp.registers, *to, from, mask);
                    Next::Step
                } else if mask == 0 && !matches!(op.code, Code::Branch { .. }) {
                    Next::Step
                } else {
                    match self.execute(warp, &op.code, at, running, mask) {
                        Ok(next) => next,
                        Err(trouble) => return Err(self.fault(warp, at, &trouble)),
                    }
                };
                match next {
                    Next::Step => at += 1,
                    Next::Jump => break,
                    Next::Wait => {
                        if let Some(frame) = warp.frames.last_mut() {
                            frame.at = at + 1;
                        }
                        warp.state = State::Waits;
                        return Ok(());
                    }
                }
                if at == until || warp.steps >= end {
                    if let Some(frame) = warp.frames.last_mut() {
                        frame.at = at;
                    }
                    break;
                }
            }
            if warp.steps >= end {
                return Ok(());
            }
        }
        warp.state = State::Done;
        Ok(())
    }

    /// Executes what is no map. A jump sets the frames itself.
    fn execute(&mut self, warp: &mut Warp, code: &Code, at: u32, running: u32, mask: u32) -> Checked<Next> {
        match code {
            Code::Map { .. } | Code::Nothing => {}
            Code::Convert(conversion) => {
                for lane in lanes(mask) {
                    let raw = warp.registers.get(conversion.from.class, conversion.from.slot, lane);
                    let value = conversion.how.apply(raw);
                    warp.registers.set(conversion.to.class, conversion.to.slot, lane, value);
                }
            }
            Code::Load(access) => self.load(warp, access, mask)?,
            Code::Store(access) => self.store(warp, access, mask)?,
            Code::Atomic(atomic) => self.atomic(warp, atomic, mask)?,
            Code::AsyncCopy(copy) => self.async_copy(warp, copy, mask)?,
            Code::Commit => warp.copies.commit(mask),
            Code::WaitCopies(groups) => self.wait_copies(warp, *groups, mask)?,
            Code::Mma(mma) => {
                Self::all_lanes(warp, mask)?;
                self.mma(warp, mma);
            }
            Code::MatrixAccess(access) => {
                Self::all_lanes(warp, mask)?;
                self.matrix_access(warp, access)?;
            }
            Code::MoveMatrix { to, from } => {
                Self::all_lanes(warp, mask)?;
                Self::move_matrix(warp, *to, *from);
            }
            Code::Shuffle { .. } => Self::shuffle(warp, code, mask)?,
            Code::Vote { .. } => Self::vote(warp, code, mask)?,
            Code::Redux { .. } => Self::redux(warp, code, mask)?,
            Code::ActiveMask { to } => {
                for lane in lanes(mask) {
                    warp.registers.words[*to as usize][lane] = mask;
                }
            }
            Code::Clock { to } => {
                self.clock += 32;
                let now = self.clock + warp.steps;
                for lane in lanes(mask) {
                    warp.registers.set(to.class, to.slot, lane, now);
                }
            }
            Code::Barrier { id, count, arrive } => {
                self.arrive(warp, *id, *count, *arrive, mask)?;
                if !arrive {
                    return Ok(Next::Wait);
                }
            }
            Code::WarpBarrier { members } => self.warp_barrier(warp, *members, mask)?,
            Code::Fence => std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst),
            Code::WaitForEarlier => warp.waited |= mask,
            Code::IsSpace { to, from, space } => {
                for lane in lanes(mask) {
                    let is = split(warp.registers.wides[*from as usize][lane]).0 == *space;
                    warp.registers.set(Class::Pred, *to, lane, u64::from(is));
                }
            }
            Code::Branch { target } => return Ok(self.branch(warp, *target, at, running, mask)),
            Code::BranchIndexed { index, targets } => {
                self.branch_indexed(warp, *index, targets, at, running, mask)?;
                return Ok(Next::Jump);
            }
            Code::Exit => {
                warp.alive &= !mask;
                for frame in &mut warp.frames {
                    frame.mask &= !mask;
                }
                if let Some(frame) = warp.frames.last_mut() {
                    frame.at = at + 1;
                }
                return Ok(Next::Jump);
            }
            Code::Trap => return trouble(FaultKind::Endless, mask.trailing_zeros() as usize, "trap"),
        }
        Ok(Next::Step)
    }

    fn branch(&mut self, warp: &mut Warp, target: u32, at: u32, running: u32, taken: u32) -> Next {
        if taken == 0 {
            return Next::Step;
        }
        let rest = running & !taken;
        if rest == 0 {
            if let Some(frame) = warp.frames.last_mut() {
                frame.at = target;
            }
            return Next::Jump;
        }
        let quits = &self.shape.kernel.quits;
        // Who ends goes first: the others may wait for all that are left.
        let quits = |at: u32| quits.get(at as usize).is_none_or(|quits| *quits);
        let rest_first = quits(at + 1) && !quits(target);
        let ways = [(target, taken), (at + 1, rest)];
        self.diverge(warp, at, if rest_first { ways } else { [ways[1], ways[0]] });
        Next::Jump
    }

    /// Goes several ways, the last one first, until they meet.
    fn diverge(&mut self, warp: &mut Warp, at: u32, ways: impl IntoIterator<Item = (u32, u32)>) {
        let meet = self.shape.kernel.meets[at as usize];
        if let Some(frame) = warp.frames.last_mut() {
            frame.at = meet;
            // A loop that lanes leave one by one would pile up frames that have nothing left to do.
            if meet == frame.until {
                warp.frames.pop();
            }
        }
        for (target, mask) in ways {
            if target != meet {
                warp.frames.push(Frame { at: target, until: meet, mask });
            }
        }
    }

    fn branch_indexed(
        &mut self,
        warp: &mut Warp,
        index: u32,
        targets: &[u32],
        at: u32,
        running: u32,
        mask: u32,
    ) -> Checked {
        let mut ways: Vec<(u32, u32)> = Vec::new();
        let mut add = |target: u32, lanes: u32| match ways.iter_mut().find(|way| way.0 == target) {
            Some(way) => way.1 |= lanes,
            None => ways.push((target, lanes)),
        };
        for lane in lanes(mask) {
            let index = warp.registers.words[index as usize][lane] as usize;
            let Some(&target) = targets.get(index) else {
                return trouble(FaultKind::OutOfBounds, lane, format!("branch target {index} of {}", targets.len()));
            };
            add(target, 1 << lane);
        }
        if running != mask {
            add(at + 1, running & !mask);
        }
        self.diverge(warp, at, ways);
        Ok(())
    }

    /// Every lane of the warp must be here.
    fn all_lanes(warp: &Warp, mask: u32) -> Checked {
        if mask == !0 {
            return Ok(());
        }
        let missing = (!mask).trailing_zeros() as usize;
        let why = if warp.alive >> missing & 1 == 0 { "has exited" } else { "is not" };
        trouble(FaultKind::Divergence, missing, format!("all lanes must be here; this one {why} (here: {mask:#010x})"))
    }
}
