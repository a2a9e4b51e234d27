//! Registers that a warp's matrix units write in the background, and what may touch them when. A `mov` counts like any
//! other instruction, as PTX has it, though a compiler may leave it out.

use crate::FaultKind;
use crate::op::{Code, Op, Slot};
use crate::registers::Class;
use crate::trouble::{Checked, trouble};

/// A `wgmma.mma_async` that is not waited for.
#[derive(Debug)]
pub struct Product {
    group: u32,
    registers: Vec<u32>,
    /// Places in shared memory that it reads.
    pub reads: Vec<usize>,
}

/// The accumulators of a warp.
#[derive(Debug, Default)]
pub struct Accumulators {
    /// Number of `wgmma.fence`s so far.
    fences: u32,
    /// Of each register: that number when an ordinary instruction last read or wrote it.
    touched: Vec<u32>,
    /// Of each register: products under way that accumulate into it.
    busy: Vec<u32>,
    pending: Vec<Product>,
    committed: u32,
    /// Number of products so far.
    pub begun: usize,
}

impl Accumulators {
    pub fn new(words: usize) -> Accumulators {
        Accumulators { touched: vec![0; words], busy: vec![0; words], ..Accumulators::default() }
    }

    /// Any instruction executes.
    pub fn ordinary(&mut self, op: &Op, uses: &[Slot]) -> Checked {
        if matches!(op.code, Code::Wgmma(_)) {
            return Ok(());
        }
        for slot in &uses[op.uses.0 as usize..op.uses.1 as usize] {
            if slot.class == Class::Wide {
                continue;
            }
            if self.busy[slot.slot as usize] > 0 {
                let what = "reads or writes an accumulator of a wgmma that is not waited for";
                return trouble(FaultKind::Race, None, what);
            }
            self.touched[slot.slot as usize] = self.fences;
        }
        Ok(())
    }

    /// `wgmma.fence`.
    pub fn fence(&mut self) {
        self.fences += 1;
    }

    /// A product begins. One that accumulates into the same registers as the one before it comes behind that.
    pub fn begin(&mut self, registers: &[u32], reads: Vec<usize>) -> Checked {
        if registers.iter().any(|&slot| self.touched[slot as usize] == self.fences) {
            let what = "no wgmma.fence since another instruction read or wrote an accumulator";
            return trouble(FaultKind::Race, None, what);
        }
        registers.iter().for_each(|&slot| self.busy[slot as usize] += 1);
        self.pending.push(Product { group: self.committed, registers: registers.to_vec(), reads });
        self.begun += 1;
        Ok(())
    }

    /// `wgmma.commit_group`.
    pub fn commit(&mut self) {
        self.committed += 1;
    }

    /// Ends the products of all committed groups but the last `groups`.
    pub fn wait(&mut self, groups: u32) -> Vec<Product> {
        let before = self.committed.saturating_sub(groups);
        let done: Vec<Product> = self.pending.extract_if(.., |product| product.group < before).collect();
        for slot in done.iter().flat_map(|product| &product.registers) {
            self.busy[*slot as usize] -= 1;
        }
        done
    }
}
