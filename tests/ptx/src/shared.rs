//! A block's shared memory, with the accesses since the last barriers: who wrote, who read.
//!
//! Time counts barriers. `known[w][u]` is the time up to which all accesses of warp `u` come before what warp `w` does
//! now. Two accesses race if one is a write and neither is known to the other.

mod proxy;

use crate::FaultKind;
use crate::parse::ast::Room;
use crate::trouble::{Checked, trouble};
pub use proxy::CHUNK;
use proxy::Proxy;

const NOBODY: u16 = 0x8000;
const PENDING: u16 = 0x4000;
const ATOMIC: u16 = 0x2000;
const SPLIT: u16 = 0x1000;
const THREAD: u16 = 0x03ff;
/// Several lanes of a warp.
const LANES: u16 = 0x4000;
/// A warp as a whole (ldmatrix): none of its lanes goes on before all have read.
const TOGETHER: u16 = 0x1000;
/// Several warps.
const WARPS: u16 = 0x2000;

/// History of one word or one byte.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cell {
    /// Time of the last write; with SPLIT the index of the bytes' cells.
    written: u32,
    /// Time of the last read.
    read: u32,
    /// Warps that read, for WARPS.
    readers: u32,
    /// Last writer, with flags; NOBODY: never written.
    writer: u16,
    /// Last reader, with flags; NOBODY: not since the last write.
    reader: u16,
}

const UNTOUCHED: Cell = Cell { written: 0, read: 0, readers: 0, writer: NOBODY, reader: NOBODY };

/// Who accesses.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    pub thread: u16,
    /// The warp does, for any of its lanes (ldmatrix).
    pub together: bool,
    /// Atomic, or relaxed or stronger.
    pub atomic: bool,
}

/// Shared memory of a block.
#[derive(Debug, Default)]
pub struct Shared {
    pub data: Vec<u8>,
    /// Where variables are; what lies between is out of bounds.
    rooms: Vec<Room>,
    cells: Vec<Cell>,
    bytes: Vec<[Cell; 4]>,
    known: Vec<[u32; 32]>,
    pub time: u32,
    /// Up to here everything is known to everyone.
    settled: u32,
    /// For kernels whose matrix units read shared memory themselves.
    proxy: Option<Proxy>,
}

impl Shared {
    /// As a block finds it: nothing written. The last room has `dynamic` bytes.
    pub fn reset(&mut self, rooms: &[Room], dynamic: u32, warps: usize, warpgroups: bool) {
        self.rooms = rooms.to_vec();
        if let Some(last) = self.rooms.last_mut() {
            last.bytes = u64::from(dynamic);
        }
        let bytes = self.rooms.last().map_or(0, |last| (last.start + last.bytes) as usize);
        self.data.clear();
        self.data.resize(bytes, 0);
        self.cells.clear();
        self.cells.resize(bytes.div_ceil(4), UNTOUCHED);
        self.bytes.clear();
        self.known.clear();
        self.known.resize(warps, [0; 32]);
        self.time = 1;
        self.settled = 0;
        self.proxy = warpgroups.then(|| Proxy::new(bytes, warps));
    }

    /// A warp arrives at a barrier: what it hands to those who wait there.
    pub fn release(&mut self, warp: usize, into: &mut [u32; 32]) {
        for (into, known) in into.iter_mut().zip(&self.known[warp]) {
            *into = (*into).max(*known);
        }
        into[warp] = self.time;
        self.time += 1;
    }

    /// A warp leaves a barrier.
    pub fn acquire(&mut self, warp: usize, from: &[u32; 32]) {
        for (known, from) in self.known[warp].iter_mut().zip(from) {
            *known = (*known).max(*from);
        }
    }

    /// All warps met.
    pub fn settle(&mut self) {
        self.settled = self.time;
        self.time += 1;
    }

    /// The lanes of a warp met.
    pub fn settle_warp(&mut self, warp: usize) {
        self.known[warp][warp] = self.time;
        self.time += 1;
    }

    fn ordered(&self, warp: usize, before: usize, time: u32) -> bool {
        time <= self.settled || self.known[warp][before] >= time
    }

    fn race<T>(&self, who: Who, verb: &str, at: usize, cell: &Cell, write: bool) -> Checked<T> {
        let lane = usize::from(who.thread) % 32;
        let other = if write { cell.writer } else { cell.reader };
        let thread = other & THREAD;
        let what = if write && other & PENDING != 0 {
            format!("{verb} shared byte {at}, which thread {thread} is still copying to (cp.async)")
        } else if write {
            format!("{verb} shared byte {at}, which thread {thread} wrote with no barrier between")
        } else if other & WARPS != 0 {
            format!(
                "{verb} shared byte {at}, which warps {:#x} (as bits) read with no barrier between",
                cell.readers
            )
        } else if other & (LANES | TOGETHER) != 0 {
            format!("{verb} shared byte {at}, which warp {} read with no barrier between", thread / 32)
        } else {
            format!("{verb} shared byte {at}, which thread {thread} read with no barrier between")
        };
        trouble(FaultKind::Race, lane, what)
    }

    #[inline]
    fn check_read(&self, mut cell: Cell, who: Who, at: usize) -> Checked<Cell> {
        let warp = usize::from(who.thread / 32);
        if cell.writer & (NOBODY | PENDING) != 0 {
            if cell.writer & NOBODY != 0 {
                let what = format!("reads shared byte {at}, which nothing wrote");
                return trouble(FaultKind::Uninitialised, usize::from(who.thread) % 32, what);
            }
            return self.race(who, "reads", at, &cell, true);
        }
        if cell.written > self.settled {
            let writer = cell.writer & THREAD;
            let own = writer == who.thread && !who.together;
            let both_atomic = who.atomic && cell.writer & ATOMIC != 0;
            if !own && !both_atomic && !self.ordered(warp, usize::from(writer / 32), cell.written) {
                return self.race(who, "reads", at, &cell, true);
            }
        }
        if who.atomic {
            return Ok(cell);
        }
        let me = if who.together { who.thread & !31 | TOGETHER } else { who.thread };
        if cell.reader == NOBODY || cell.read <= self.settled {
            cell.readers = 1 << warp;
            cell.reader = me;
        } else if cell.reader & WARPS != 0 {
            cell.readers |= 1 << warp;
        } else if cell.reader != me {
            let before = usize::from(cell.reader & THREAD) / 32;
            let met = before == warp && (who.together || cell.reader & TOGETHER != 0);
            if met || self.ordered(warp, before, cell.read) {
                cell.readers = 1 << warp;
                cell.reader = me;
            } else if before == warp {
                cell.reader = who.thread & !31 | LANES;
            } else {
                cell.readers = 1 << warp | 1 << before;
                cell.reader = WARPS;
            }
        }
        cell.read = self.time;
        Ok(cell)
    }

    #[inline]
    fn check_write(&self, cell: Cell, who: Who, at: usize, flags: u16) -> Checked<Cell> {
        let warp = usize::from(who.thread / 32);
        if cell.writer & PENDING != 0 && cell.writer & NOBODY == 0 {
            return self.race(who, "writes", at, &cell, true);
        }
        if cell.writer & NOBODY == 0 && cell.written > self.settled {
            let writer = cell.writer & THREAD;
            let own = writer == who.thread && !who.together;
            let both_atomic = who.atomic && cell.writer & ATOMIC != 0;
            if !own && !both_atomic && !self.ordered(warp, usize::from(writer / 32), cell.written) {
                return self.race(who, "writes", at, &cell, true);
            }
        }
        if cell.reader != NOBODY && cell.read > self.settled {
            let fine = if cell.reader & WARPS != 0 {
                (0..self.known.len()).all(|u| cell.readers >> u & 1 == 0 || self.ordered(warp, u, cell.read))
            } else {
                let before = usize::from(cell.reader & THREAD) / 32;
                cell.reader == who.thread && !who.together
                    || before == warp && cell.reader & TOGETHER != 0
                    || self.ordered(warp, before, cell.read)
            };
            if !fine {
                return self.race(who, "writes", at, &cell, false);
            }
        }
        let atomic = if who.atomic { ATOMIC } else { 0 };
        Ok(Cell {
            written: self.time,
            read: 0,
            readers: 0,
            writer: who.thread | flags | atomic,
            reader: NOBODY,
        })
    }

    /// Applies a check to the cells of a range.
    #[inline]
    fn visit(
        &mut self,
        at: usize,
        length: usize,
        check: impl Fn(&Shared, Cell, usize) -> Checked<Cell>,
    ) -> Checked {
        let end = at + length;
        // Most often the words of a wide access have one history.
        if let (Some(&[a, b, c, d]), true) = (self.cells.get(at / 4..end / 4), length == 16)
            && a == b
            && c == d
            && a == c
            && a.writer & SPLIT == 0
        {
            let cell = check(self, a, at)?;
            self.cells[at / 4..end / 4].fill(cell);
            return Ok(());
        }
        let mut byte = at;
        while byte < end {
            let word = byte / 4;
            let cell = self.cells[word];
            let whole = byte.is_multiple_of(4) && end - byte >= 4;
            if cell.writer & SPLIT == 0 && whole {
                self.cells[word] = check(self, cell, byte)?;
                byte += 4;
                continue;
            }
            if cell.writer & SPLIT == 0 {
                self.bytes.push([cell; 4]);
                self.cells[word] = Cell { written: self.bytes.len() as u32 - 1, writer: SPLIT, ..UNTOUCHED };
            }
            let index = self.cells[word].written as usize;
            let upto = end.min(word * 4 + 4);
            for at in byte..upto {
                self.bytes[index][at % 4] = check(self, self.bytes[index][at % 4], at)?;
            }
            byte = upto;
        }
        Ok(())
    }

    #[cold]
    fn outside<T>(&self, lane: usize, address: u64, width: u32) -> Checked<T> {
        let near = self.rooms.iter().rev().find(|room| room.start <= address && room.bytes > 0);
        let what = match near {
            Some(Room { name, start, bytes }) => {
                format!(
                    "{width} bytes at shared byte {address}, byte {} of `{name}`, which has {bytes} bytes",
                    address - start
                )
            }
            None => format!("{width} bytes at shared byte {address}, before every variable"),
        };
        trouble(FaultKind::OutOfBounds, lane, what)
    }

    fn bounds(&self, who: Who, address: u64, width: u32) -> Checked<usize> {
        let lane = usize::from(who.thread) % 32;
        let end = address.saturating_add(u64::from(width));
        if !self.rooms.iter().any(|room| room.start <= address && end <= room.start + room.bytes) {
            return self.outside(lane, address, width);
        }
        if !address.is_multiple_of(u64::from(width)) {
            return trouble(FaultKind::Misaligned, lane, format!("{width} bytes at shared byte {address}"));
        }
        Ok(address as usize)
    }

    /// Checks a read and gives its first byte.
    pub fn read(&mut self, who: Who, address: u64, width: u32) -> Checked<usize> {
        let at = self.bounds(who, address, width)?;
        self.visit(at, width as usize, |shared, cell, at| shared.check_read(cell, who, at))?;
        Ok(at)
    }

    /// Checks a write and gives its first byte.
    pub fn write(&mut self, who: Who, address: u64, width: u32) -> Checked<usize> {
        let at = self.bounds(who, address, width)?;
        self.visit(at, width as usize, |shared, cell, at| shared.check_write(cell, who, at, 0))?;
        self.proxy.as_mut().map_or(Ok(at), |proxy| proxy.write(who, at, width as usize).map(|()| at))
    }

    /// As [`Shared::write`], but nobody may touch it until [`Shared::arrive`].
    pub fn write_pending(&mut self, who: Who, address: u64, width: u32) -> Checked<usize> {
        let at = self.bounds(who, address, width)?;
        self.visit(at, width as usize, |shared, cell, at| shared.check_write(cell, who, at, PENDING))?;
        self.proxy.as_mut().map_or(Ok(at), |proxy| proxy.write(who, at, width as usize).map(|()| at))
    }

    /// A pending copy is there, and counts as written now by the thread that made it.
    pub fn arrive(&mut self, thread: u16, at: usize, width: u32) -> Checked {
        let time = self.time;
        if let Some(proxy) = &mut self.proxy {
            proxy.wrote(thread, at, width as usize);
        }
        self.visit(at, width as usize, |_, cell, _| {
            Ok(Cell { written: time, writer: cell.writer & !PENDING, ..cell })
        })
    }

    /// A little-endian value of up to 8 bytes.
    #[inline]
    pub fn load(&self, at: usize, bytes: u32) -> u64 {
        let mut value = [0; 8];
        value[..bytes as usize].copy_from_slice(&self.data[at..at + bytes as usize]);
        u64::from_le_bytes(value)
    }

    /// Writes a little-endian value of up to 8 bytes.
    #[inline]
    pub fn store(&mut self, at: usize, bytes: u32, value: u64) {
        self.data[at..at + bytes as usize].copy_from_slice(&value.to_le_bytes()[..bytes as usize]);
    }
}
