//! Bytes of global memory that a warp has asked for and not yet needed.

use std::collections::VecDeque;

use crate::op::{Op, Slot};
use crate::registers::Class;

/// Loads under way.
#[derive(Debug, Default)]
pub struct Flight {
    /// Number of each load and its bytes, oldest first.
    loads: VecDeque<(u64, u64)>,
    issued: u64,
    bytes: u64,
    /// Number of the load whose value a register waits for.
    words: Vec<u64>,
    wides: Vec<u64>,
    copies: u64,
}

impl Flight {
    pub fn new(words: usize, wides: usize) -> Flight {
        Flight { words: vec![0; words], wides: vec![0; wides], ..Flight::default() }
    }

    pub fn clear(&mut self) {
        self.loads.clear();
        self.words.fill(0);
        self.wides.fill(0);
        (self.issued, self.bytes, self.copies) = (0, 0, 0);
    }

    /// Whether any register may wait.
    #[inline]
    pub fn any(&self) -> bool {
        !self.loads.is_empty()
    }

    fn load_of(&mut self, slot: Slot) -> &mut u64 {
        let of = if slot.class == Class::Wide { &mut self.wides } else { &mut self.words };
        &mut of[slot.slot as usize]
    }

    /// An operation waits for the loads of its registers, or passes them on.
    pub fn step(&mut self, op: &Op, uses: &[Slot]) {
        let uses = &uses[op.uses.0 as usize..op.uses.1 as usize];
        if op.renames {
            // Predicates are not in the list.
            if let Some((&to, from)) = uses.split_first() {
                let newest = from.iter().map(|&slot| *self.load_of(slot)).max().unwrap_or(0);
                *self.load_of(to) = newest;
            }
            return;
        }
        let newest = uses.iter().map(|&slot| *self.load_of(slot)).max().unwrap_or(0);
        while let Some(&(number, bytes)) = self.loads.front() {
            if number > newest {
                break;
            }
            self.bytes -= bytes;
            self.loads.pop_front();
        }
    }

    /// A load begins; what is under way with it.
    pub fn load(&mut self, registers: &[Slot], bytes: u64) -> u64 {
        self.issued += 1;
        self.loads.push_back((self.issued, bytes));
        self.bytes += bytes;
        for &slot in registers {
            *self.load_of(slot) = self.issued;
        }
        self.bytes + self.copies
    }

    /// An asynchronous copy begins; what is under way with it.
    pub fn copy(&mut self, bytes: u64) -> u64 {
        self.copies += bytes;
        self.bytes + self.copies
    }

    /// An asynchronous copy was waited for.
    pub fn copied(&mut self, bytes: u64) {
        self.copies -= bytes;
    }
}
