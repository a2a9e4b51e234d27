//! Shared memory as the matrix units see it. They read descriptors' matrices by another way (the asynchronous proxy)
//! than ordinary loads and stores take, and long after the instruction that asks for it.
//!
//! What ordinary stores wrote they see if the thread that wrote has since made a `fence.proxy.async`, and a barrier
//! lies between that fence and the instruction. (PTX also admits a fence by the reader, behind the barrier; this
//! check does not.) The last writer of a word stands for its four bytes.

use super::{Shared, Who};
use crate::FaultKind;
use crate::trouble::{Checked, lanes, trouble};

/// Bytes that are read at once, and at multiples of this.
pub const CHUNK: u32 = 16;

/// What is kept for kernels that have such instructions.
#[derive(Debug, Default)]
pub struct Proxy {
    /// Fences of the block so far: the clock of what follows.
    clock: u32,
    /// Of each word: who wrote it last, and when.
    written: Vec<(u16, u32)>,
    /// Of each thread: its fences, and the time of the barriers then.
    fences: Vec<Vec<(u32, u32)>>,
    /// Of each chunk: instructions that may still read it.
    reading: Vec<u16>,
}

impl Proxy {
    pub fn new(bytes: usize, warps: usize) -> Proxy {
        Proxy {
            clock: 0,
            written: vec![(0, 0); bytes.div_ceil(4)],
            fences: vec![Vec::new(); 32 * warps],
            reading: vec![0; bytes.div_ceil(CHUNK as usize)],
        }
    }

    /// A thread writes; only what nobody may still read.
    pub fn write(&mut self, who: Who, at: usize, width: usize) -> Checked {
        let chunk = CHUNK as usize;
        if let Some(read) = (at / chunk..(at + width).div_ceil(chunk)).find(|&chunk| self.reading[chunk] > 0)
        {
            let byte = at.max(read * chunk);
            let what =
                format!("writes shared byte {byte}, which a wgmma that is not waited for may still read");
            return trouble(FaultKind::Race, usize::from(who.thread) % 32, what);
        }
        self.wrote(who.thread, at, width);
        Ok(())
    }

    /// A thread has written there, or its copy has.
    pub fn wrote(&mut self, thread: u16, at: usize, width: usize) {
        self.written[at / 4..(at + width).div_ceil(4)].fill((thread, self.clock));
    }
}

impl Shared {
    /// `fence.proxy.async` of these lanes.
    pub fn fence_proxy(&mut self, warp: usize, mask: u32) {
        let time = self.time;
        if let Some(proxy) = &mut self.proxy {
            proxy.clock += 1;
            lanes(mask).for_each(|lane| proxy.fences[32 * warp + lane].push((proxy.clock, time)));
        }
    }

    /// A warp's matrix unit begins to read a chunk; gives its first byte.
    pub fn begin_matrix_read(&mut self, warp: usize, address: u64) -> Checked<usize> {
        let at = self.read(Self::matrix_unit(warp), address, CHUNK)?;
        let Some(proxy) = &self.proxy else { return Ok(at) };
        for (word, &(thread, when)) in proxy.written[at / 4..(at + CHUNK as usize) / 4].iter().enumerate() {
            let fences = &proxy.fences[usize::from(thread)];
            let since = fences.get(fences.partition_point(|&(number, _)| number <= when));
            let missing = match since {
                None => "fence.proxy.async of that thread since",
                Some(&(_, time)) if !self.ordered(warp, usize::from(thread / 32), time) => {
                    "barrier after that thread's fence.proxy.async"
                }
                Some(_) => continue,
            };
            let byte = at + 4 * word;
            let what =
                format!("wgmma reads shared byte {byte}, which thread {thread} wrote with no {missing}");
            return trouble(FaultKind::Race, None, what);
        }
        if let Some(proxy) = &mut self.proxy {
            proxy.reading[at / CHUNK as usize] += 1;
        }
        Ok(at)
    }

    /// A warp has waited for a read: what is written from here on must come behind a barrier with that warp.
    pub fn end_matrix_read(&mut self, warp: usize, at: usize) -> Checked {
        if let Some(proxy) = &mut self.proxy {
            proxy.reading[at / CHUNK as usize] -= 1;
        }
        self.read(Self::matrix_unit(warp), at as u64, CHUNK).map(|_| ())
    }

    fn matrix_unit(warp: usize) -> Who {
        Who { thread: 32 * warp as u16, together: true, atomic: false }
    }
}
