//! Warps as a block finds them.

use super::accumulators::Accumulators;
use super::copy::Copies;
use super::flight::Flight;
use super::{Frame, State, Warp, Worker};
use crate::op::Special;
use crate::registers::Registers;

/// What registers hold that nothing wrote: as a float a NaN, as an index far too much.
const UNWRITTEN: u64 = 0x7ffa_dead_7ffa_dead;

impl Worker<'_> {
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
                flight: Flight::new(kernel.words as usize, kernel.wides as usize),
                accumulators: Accumulators::default(),
                local: vec![0; local],
                local_defined: vec![false; local],
            })
            .collect()
    }

    pub(super) fn start(&self, warp: &mut Warp) {
        let kernel = self.shape.kernel;
        let [x, y, z] = self.shape.block;
        let threads = x * y * z;
        let first = warp.index as u32 * 32;
        let present = (threads - first).min(32);
        let registers = &mut warp.registers;
        registers.words.fill([UNWRITTEN as u32; 32]);
        registers.wides.fill([UNWRITTEN; 32]);
        registers.preds.fill(0);
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
        warp.flight.clear();
        if kernel.warpgroups {
            warp.accumulators = Accumulators::new(kernel.words as usize);
        }
        warp.local_defined.fill(false);
        warp.frames.clear();
        warp.frames.push(Frame { at: 0, until: kernel.ops.len() as u32, mask: warp.alive });
        warp.state = State::Runs;
    }
}
