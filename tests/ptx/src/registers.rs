//! A warp's registers, and instructions that map them lane by lane.

/// Width of a register. Sixteen-bit registers are kept in 32 bits, the upper half zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Pred,
    Half,
    Word,
    Wide,
}

/// Registers of the 32 lanes of a warp: by register, then by lane.
#[derive(Debug, Default)]
pub struct Registers {
    /// One bit per lane.
    pub preds: Vec<u32>,
    pub words: Vec<[u32; 32]>,
    pub wides: Vec<[u64; 32]>,
}

impl Registers {
    /// One lane of a register that is no predicate.
    pub fn get(&self, class: Class, slot: u32, lane: usize) -> u64 {
        match class {
            Class::Pred => u64::from(self.preds[slot as usize] >> lane & 1),
            Class::Half | Class::Word => u64::from(self.words[slot as usize][lane]),
            Class::Wide => self.wides[slot as usize][lane],
        }
    }

    /// Sets one lane of a register that is no predicate; what does not fit the class is dropped.
    pub fn set(&mut self, class: Class, slot: u32, lane: usize, value: u64) {
        match class {
            Class::Pred => {
                let bit = 1 << lane;
                let old = &mut self.preds[slot as usize];
                *old = if value != 0 { *old | bit } else { *old & !bit };
            }
            Class::Half => self.words[slot as usize][lane] = value as u32 & 0xffff,
            Class::Word => self.words[slot as usize][lane] = value as u32,
            Class::Wide => self.wides[slot as usize][lane] = value,
        }
    }

    /// Sets the lanes of a predicate that are in `mask`.
    pub fn set_pred(&mut self, slot: u32, bits: u32, mask: u32) {
        let old = &mut self.preds[slot as usize];
        *old = *old & !mask | bits & mask;
    }
}

/// Maps registers to a register: destination slot, source slots, lanes.
pub type MapFn = fn(&mut Registers, u32, &[u32; 4], u32);

/// A map with the classes of its operands.
#[derive(Debug, Clone, Copy)]
pub struct Map {
    pub run: MapFn,
    pub to: Class,
    pub from: &'static [Class],
}

/// A type that lanes of registers hold.
pub trait Lane: Copy + Default {
    /// Class of the registers that hold it.
    const CLASS: Class;
    /// What a register of that class is.
    type Line;
    /// A register.
    fn line(registers: &Registers, slot: u32) -> &Self::Line;
    /// One lane of it.
    fn at(line: &Self::Line, lane: usize) -> Self;
    /// Writes the lanes in `mask`.
    fn store(registers: &mut Registers, slot: u32, values: &[Self; 32], mask: u32);
}

macro_rules! lane {
    ($type:ty, $class:ident, $file:ident, $raw:ty, |$value:ident| $to_raw:expr, |$bits:ident| $from_raw:expr) => {
        impl Lane for $type {
            const CLASS: Class = Class::$class;
            type Line = [$raw; 32];
            #[inline(always)]
            fn line(registers: &Registers, slot: u32) -> &[$raw; 32] {
                &registers.$file[slot as usize]
            }
            #[inline(always)]
            fn at(line: &[$raw; 32], lane: usize) -> Self {
                let $bits = line[lane];
                $from_raw
            }
            #[inline(always)]
            fn store(registers: &mut Registers, slot: u32, values: &[Self; 32], mask: u32) {
                let line = &mut registers.$file[slot as usize];
                if mask == !0 {
                    for lane in 0..32 {
                        let $value = values[lane];
                        line[lane] = $to_raw;
                    }
                } else {
                    for lane in 0..32 {
                        let $value = values[lane];
                        line[lane] = if mask >> lane & 1 != 0 { $to_raw } else { line[lane] };
                    }
                }
            }
        }
    };
}

lane!(u32, Word, words, u32, |x| x, |x| x);
lane!(i32, Word, words, u32, |x| x as u32, |x| x as i32);
lane!(f32, Word, words, u32, |x| x.to_bits(), |x| f32::from_bits(x));
lane!(u16, Half, words, u32, |x| u32::from(x), |x| x as u16);
lane!(i16, Half, words, u32, |x| u32::from(x as u16), |x| x as i16);
lane!(u64, Wide, wides, u64, |x| x, |x| x);
lane!(i64, Wide, wides, u64, |x| x as u64, |x| x as i64);
lane!(f64, Wide, wides, u64, |x| x.to_bits(), |x| f64::from_bits(x));

impl Lane for bool {
    const CLASS: Class = Class::Pred;
    type Line = u32;
    #[inline(always)]
    fn line(registers: &Registers, slot: u32) -> &u32 {
        &registers.preds[slot as usize]
    }
    #[inline(always)]
    fn at(line: &u32, lane: usize) -> bool {
        line >> lane & 1 != 0
    }
    #[inline(always)]
    fn store(registers: &mut Registers, slot: u32, values: &[bool; 32], mask: u32) {
        let bits = (0..32).fold(0, |bits, lane| bits | u32::from(values[lane]) << lane);
        registers.set_pred(slot, bits, mask);
    }
}

/// Whether the host has what the faster variants of the maps are compiled for.
pub fn fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// A [`Map`] that computes every lane of its destination from the same lane of its sources. It is compiled twice:
/// for any host, and for one with 256-bit vectors.
macro_rules! map {
    (|$($x:ident: $from:ty),+| -> $to:ty $body:block) => {{
        use $crate::registers::{Class, Lane, Map, MapFn, Registers};
        #[inline(always)]
        fn compute(registers: &mut Registers, to: u32, from: &[u32; 4], mask: u32) {
            let mut slots = from.iter();
            $(let $x = <$from as Lane>::line(registers, *slots.next().unwrap_or(&0));)+
            let mut values = [<$to as Default>::default(); 32];
            for lane in 0..32 {
                $(let $x = <$from as Lane>::at($x, lane);)+
                values[lane] = $body;
            }
            <$to as Lane>::store(registers, to, &values, mask);
        }
        fn any(registers: &mut Registers, to: u32, from: &[u32; 4], mask: u32) {
            compute(registers, to, from, mask);
        }
        #[cfg(target_arch = "x86_64")]
        fn vector(registers: &mut Registers, to: u32, from: &[u32; 4], mask: u32) {
            #[target_feature(enable = "avx2,fma")]
            fn inner(registers: &mut Registers, to: u32, from: &[u32; 4], mask: u32) {
                compute(registers, to, from, mask);
            }
            // SAFETY: this variant is only chosen where `fast` has found both features.
            unsafe { inner(registers, to, from, mask) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        use any as vector;
        const FROM: &[Class] = &[$(<$from as Lane>::CLASS),+];
        Map { run: if $crate::registers::fast() { vector as MapFn } else { any as MapFn }, to: <$to as Lane>::CLASS, from: FROM }
    }};
}
pub(crate) use map;
