//! Executes a block: its warps in turn, each until it waits or ends.

mod accumulators;
mod atomic;
mod barrier;
mod copy;
mod flight;
mod flow;
mod global;
mod matrix;
mod memory;
mod start;
mod warp;
mod wgmma;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::layout::split;
use crate::memory::{Memory, Touched};
use crate::op::{Address, Code, Kernel};
use crate::profile::Counters;
use crate::registers::{Class, Registers};
use crate::shared::Shared;
use crate::trouble::{Checked, lanes, trouble};
use crate::{Fault, FaultKind};
use accumulators::Accumulators;
use barrier::Barriers;
use copy::Copies;
use flight::Flight;
use wgmma::Warpgroups;

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
    flight: Flight,
    accumulators: Accumulators,
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
    warpgroups: Warpgroups,
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
            warpgroups: Warpgroups::default(),
            block: [0; 3],
            block_index: 0,
            recent: 0,
            clock: 0,
        }
    }

    /// Runs a block to its end.
    pub fn run(&mut self, index: u64, warps: &mut [Warp]) -> Result<(), Fault> {
        let [x, y, _] = self.shape.grid.map(u64::from);
        self.block = [(index % x) as u32, (index / x % y) as u32, (index / x / y) as u32];
        self.block_index = index;
        let kernel = self.shape.kernel;
        self.shared.reset(&kernel.shared_rooms, self.shape.shared, warps.len(), kernel.warpgroups);
        self.barriers = Barriers::default();
        self.warpgroups = Warpgroups::new(warps.len());
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
        self.whole_warpgroups(warps)
    }

    fn fault(&self, warp: &Warp, at: u32, trouble: &crate::trouble::Trouble) -> Fault {
        let kernel = self.shape.kernel;
        let line = kernel.ops.get(at as usize).map_or(0, |op| op.line as usize);
        let text =
            line.checked_sub(1).and_then(|line| self.shape.lines.get(line)).map_or("", |text| text.trim());
        let [x, y, z] = self.block;
        let lane = trouble.lane.map(|lane| {
            let thread = warp.index as u32 * 32 + lane as u32;
            let [width, height, _] = self.shape.block;
            let (tx, ty, tz) = (thread % width, thread / width % height, thread / width / height);
            if self.shape.block[1..] == [1, 1] {
                format!(" thread {tx}")
            } else {
                format!(" thread ({tx}, {ty}, {tz})")
            }
        });
        let who = lane.unwrap_or_else(|| format!(" warp {}", warp.index));
        let name = &kernel.name;
        let message = format!(
            "{name}: block ({x}, {y}, {z}){who}, PTX line {line} `{text}`: {:?}: {}",
            trouble.kind, trouble.what
        );
        Fault { kind: trouble.kind, line, message }
    }

    /// Runs a warp until it waits, ends or has had its turn.
    fn turn(&mut self, warp: &mut Warp) -> Result<(), Fault> {
        let kernel = self.shape.kernel;
        let ops = &kernel.ops[..];
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
                if warp.flight.any() {
                    warp.flight.step(op, &kernel.uses);
                }
                if kernel.warpgroups
                    && mask != 0
                    && let Err(trouble) = warp.accumulators.ordinary(op, &kernel.uses)
                {
                    return Err(self.fault(warp, at, &trouble));
                }
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
            Code::Wgmma(wgmma) => {
                Self::all_lanes(warp, mask)?;
                self.wgmma(warp, wgmma, at)?;
            }
            Code::WgmmaFence => {
                Self::all_lanes(warp, mask)?;
                warp.accumulators.fence();
            }
            Code::WgmmaCommit => {
                Self::all_lanes(warp, mask)?;
                warp.accumulators.commit();
            }
            Code::WgmmaWait(groups) => {
                Self::all_lanes(warp, mask)?;
                self.wait_products(warp, *groups)?;
            }
            Code::ProxyFence => self.shared.fence_proxy(warp.index, mask),
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
            Code::Trap => {
                return trouble(FaultKind::Trap, mask.trailing_zeros() as usize, "the kernel stops itself");
            }
        }
        Ok(Next::Step)
    }
}
