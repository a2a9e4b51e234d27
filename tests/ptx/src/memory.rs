//! Global memory: allocations, what of them was written, and what a launch touches.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::FaultKind;
use crate::layout::GLOBAL_START;
use crate::trouble::{Checked, trouble};

/// Zeroed words that the system gives pages for when they are touched.
#[derive(Debug)]
pub struct Words {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: it owns its words, and they are atomic.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    fn layout(count: usize) -> Layout {
        // A greater alignment than malloc's own would be zeroed by hand, and every page touched.
        Layout::from_size_align(count.max(1) * 8, 16).expect("an allocation of less than 2^63 bytes")
    }

    /// This many zeros.
    pub fn new(count: usize) -> Words {
        let layout = Words::layout(count);
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start.cast()).unwrap_or_else(|| handle_alloc_error(layout));
        Words { start, count }
    }

    /// Room for this many bits.
    pub fn bits(count: u64) -> Words {
        Words::new(count.div_ceil(64) as usize)
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it with this layout.
        unsafe { dealloc(self.start.as_ptr().cast(), Words::layout(self.count)) }
    }
}

impl Deref for Words {
    type Target = [AtomicU64];
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `new` allocated `count` words, and zero is a value of each.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

/// Words of a range of bits: index and mask.
fn spans(from: u64, count: u64) -> impl Iterator<Item = (usize, u64)> {
    let (mut at, end) = (from, from + count);
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (word, shift) = (at / 64, at % 64);
        let length = (64 - shift).min(end - at);
        at += length;
        Some((word as usize, (!0 >> (64 - length)) << shift))
    })
}

/// Sets a range of bits.
pub fn mark(bits: &[AtomicU64], from: u64, count: u64) {
    for (word, mask) in spans(from, count) {
        if bits[word].load(Relaxed) & mask != mask {
            bits[word].fetch_or(mask, Relaxed);
        }
    }
}

/// The first bit of a range that is not set.
pub fn first_missing(bits: &[AtomicU64], from: u64, count: u64) -> Option<u64> {
    spans(from, count).find_map(|(word, mask)| {
        let missing = !bits[word].load(Relaxed) & mask;
        (missing != 0).then(|| word as u64 * 64 + u64::from(missing.trailing_zeros()))
    })
}

/// One allocation.
#[derive(Debug)]
pub struct Allocation {
    pub base: u64,
    pub bytes: u64,
    pub name: String,
    /// Nothing once it was given back.
    data: Option<Words>,
    /// A bit for every byte that was written.
    defined: Words,
    /// Every byte was written.
    whole: AtomicBool,
    /// A kernel wrote here since the host last waited for all kernels.
    pub dirty: AtomicBool,
}

impl Allocation {
    /// Pointer to a byte.
    #[inline]
    fn at(&self, offset: u64, bytes: u64) -> *mut u8 {
        assert!(offset + bytes <= self.bytes);
        let Some(data) = &self.data else {
            unreachable!("`find` gives no allocation that was given back");
        };
        // SAFETY: inside of the words, by the assertion above; `Words` holds at least `self.bytes` bytes.
        unsafe { data.start.as_ptr().cast::<u8>().add(offset as usize) }
    }

    /// A value of 1, 2, 4 or 8 bytes at an offset that is a multiple of that.
    pub fn load(&self, offset: u64, bytes: u32) -> u64 {
        let at = self.at(offset, u64::from(bytes));
        debug_assert!(offset.is_multiple_of(u64::from(bytes)));
        // SAFETY: inside of the words and aligned; every access while kernels run is atomic.
        unsafe {
            match bytes {
                1 => u64::from(AtomicU8::from_ptr(at).load(Relaxed)),
                2 => u64::from(AtomicU16::from_ptr(at.cast()).load(Relaxed)),
                4 => u64::from(AtomicU32::from_ptr(at.cast()).load(Relaxed)),
                _ => AtomicU64::from_ptr(at.cast()).load(Relaxed),
            }
        }
    }

    /// Words at an offset that is a multiple of four.
    #[inline]
    pub fn load_words(&self, offset: u64, count: usize, mut each: impl FnMut(usize, u32)) {
        let at = self.at(offset, 4 * count as u64).cast::<u32>();
        debug_assert!(offset.is_multiple_of(4));
        for index in 0..count {
            // SAFETY: as in `load`; `at` was checked for all of them.
            each(index, unsafe { AtomicU32::from_ptr(at.add(index)).load(Relaxed) });
        }
    }

    /// Writes a value of 1, 2, 4 or 8 bytes at an offset that is a multiple of that.
    pub fn store(&self, offset: u64, bytes: u32, value: u64) {
        let at = self.at(offset, u64::from(bytes));
        debug_assert!(offset.is_multiple_of(u64::from(bytes)));
        // SAFETY: as in `load`.
        unsafe {
            match bytes {
                1 => AtomicU8::from_ptr(at).store(value as u8, Relaxed),
                2 => AtomicU16::from_ptr(at.cast()).store(value as u16, Relaxed),
                4 => AtomicU32::from_ptr(at.cast()).store(value as u32, Relaxed),
                _ => AtomicU64::from_ptr(at.cast()).store(value, Relaxed),
            }
        }
    }

    /// Replaces a value of 4 or 8 bytes by what `update` makes of it and returns the old one.
    pub fn update(&self, offset: u64, bytes: u32, update: impl Fn(u64) -> u64) -> u64 {
        use std::sync::atomic::Ordering::SeqCst;
        let at = self.at(offset, u64::from(bytes));
        // SAFETY: as in `load`.
        unsafe {
            if bytes == 4 {
                let word = AtomicU32::from_ptr(at.cast());
                let old = word.fetch_update(SeqCst, SeqCst, |old| Some(update(u64::from(old)) as u32));
                u64::from(old.unwrap_or_else(|old| old))
            } else {
                let word = AtomicU64::from_ptr(at.cast());
                word.fetch_update(SeqCst, SeqCst, |old| Some(update(old))).unwrap_or_else(|old| old)
            }
        }
    }

    /// The first byte of a range that nothing wrote.
    pub fn undefined(&self, offset: u64, bytes: u64) -> Option<u64> {
        if self.whole.load(Relaxed) { None } else { first_missing(&self.defined, offset, bytes) }
    }

    /// A range was written.
    pub fn define(&self, offset: u64, bytes: u64) {
        if bytes == self.bytes {
            self.whole.store(true, Relaxed);
        }
        if !self.whole.load(Relaxed) {
            mark(&self.defined, offset, bytes);
        }
    }

    /// Whether a range lies inside.
    #[inline]
    pub fn holds(&self, address: u64, bytes: u64) -> bool {
        let offset = address.wrapping_sub(self.base);
        offset < self.bytes && offset + bytes <= self.bytes && self.data.is_some()
    }

    /// A kernel wrote a range.
    #[inline]
    pub fn wrote(&self, offset: u64, bytes: u64) {
        self.define(offset, bytes);
        if !self.dirty.load(Relaxed) {
            self.dirty.store(true, Relaxed);
        }
    }

    /// Copies from the host.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let to = self.at(offset, data.len() as u64);
        // SAFETY: inside of the words; no kernel runs while the host writes.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) }
        self.define(offset, data.len() as u64);
    }

    /// Copies to the host.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        let from = self.at(offset, into.len() as u64);
        // SAFETY: inside of the words; no kernel runs while the host reads.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) }
    }
}

/// What a launch touches of an allocation, over all workers.
#[derive(Debug, Default)]
pub struct Touched {
    /// An earlier kernel that may still run wrote here.
    pub hazard: bool,
    read: OnceLock<Words>,
    written: OnceLock<Words>,
}

impl Touched {
    /// Nothing yet.
    pub fn new(hazard: bool) -> Touched {
        Touched { hazard, ..Touched::default() }
    }

    /// Bits of the bytes read.
    pub fn read(&self, allocation: &Allocation) -> &Words {
        self.read.get_or_init(|| Words::bits(allocation.bytes))
    }

    /// Bits of the bytes written.
    pub fn written(&self, allocation: &Allocation) -> &Words {
        self.written.get_or_init(|| Words::bits(allocation.bytes))
    }

    /// Whether any byte of a range was written.
    pub fn wrote(&self, offset: u64, bytes: u64) -> bool {
        let set =
            |bits: &Words| spans(offset, bytes).any(|(word, mask)| bits[word].load(Relaxed) & mask != 0);
        self.written.get().is_some_and(set)
    }

    /// Distinct bytes read and written.
    pub fn unique(&self) -> (u64, u64) {
        let count = |bits: &OnceLock<Words>| {
            bits.get()
                .map_or(0, |words| words.iter().map(|word| u64::from(word.load(Relaxed).count_ones())).sum())
        };
        (count(&self.read), count(&self.written))
    }
}

/// All allocations, in the order of their addresses, which are never used twice.
#[derive(Debug)]
pub struct Memory {
    pub allocations: Vec<Allocation>,
    /// Address of the first.
    pub start: u64,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { allocations: Vec::new(), start: GLOBAL_START }
    }
}

impl Memory {
    /// A new allocation's address.
    pub fn allocate(&mut self, bytes: u64, name: &str) -> u64 {
        const GAP: u64 = 4096;
        let end = self.allocations.last().map_or(self.start, |last| last.base + last.bytes + GAP);
        let base = end.next_multiple_of(256);
        self.allocations.push(Allocation {
            base,
            bytes,
            name: name.to_string(),
            data: Some(Words::new(bytes.div_ceil(8) as usize)),
            defined: Words::bits(bytes),
            whole: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
        });
        base
    }

    /// Gives an allocation back: whether one starts there.
    pub fn free(&mut self, address: u64) -> bool {
        let found = self
            .allocations
            .iter_mut()
            .find(|allocation| allocation.base == address && allocation.data.is_some());
        let Some(allocation) = found else {
            return false;
        };
        allocation.data = None;
        allocation.defined = Words::new(0);
        true
    }

    /// The allocation that holds all of a range.
    pub fn find(&self, address: u64, bytes: u64) -> Checked<usize> {
        let index = self.allocations.partition_point(|allocation| allocation.base <= address);
        let Some(allocation) = index.checked_sub(1).map(|index| &self.allocations[index]) else {
            return trouble(
                FaultKind::OutOfBounds,
                None,
                format!("{bytes} bytes at {address:#x}, below every allocation"),
            );
        };
        let offset = address - allocation.base;
        if allocation.data.is_some() && offset.saturating_add(bytes) <= allocation.bytes {
            return Ok(index - 1);
        }
        let name = &allocation.name;
        let what = if allocation.data.is_none() {
            format!("{bytes} bytes at {address:#x}, byte {offset} of `{name}`, which was given back")
        } else {
            let size = allocation.bytes;
            format!("{bytes} bytes at {address:#x}, byte {offset} of `{name}`, which has {size} bytes")
        };
        let next = self.allocations.get(index).map(|next| (next.base - address, &next.name));
        let what = match next {
            Some((distance, next)) if distance < 4096 => format!("{what} ({distance} bytes before `{next}`)"),
            _ => what,
        };
        trouble(FaultKind::OutOfBounds, None, what)
    }
}
