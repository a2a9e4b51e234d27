//! Keys and values on the device: in bf16 or as codes of 8 bits, one sequence after the other or in pages.

use super::driver::{Address, Driver};
use super::launch::fill::{Normal, normals};
use super::launch::format::Format;
use super::launch::quantise;
use super::memory::{Allocations, Matrix};
use crate::backend::Residency;
use crate::backend::weights::{from_bf16, mix};
use crate::error::{Failure, Result};
use crate::model::{DType, ModelSpec, precision};

/// Bytes of one bf16.
const BF16: u64 = 2;
/// Bytes of bf16 that are quantised at once, about.
const PART: u64 = 64 << 20;
/// Seed of the order in which pages lie.
const PAGES_SEED: u64 = 0x9a6e;

/// Where the element is whose code is the i-th of eight: `kernels/weights.cuh`.
const ORDER: [usize; 8] = [0, 2, 1, 3, 4, 6, 5, 7];

/// How much a cache holds, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Sequences.
    pub batch: u32,
    /// Positions that each sequence has room for, at least.
    pub positions: u32,
    /// Of keys and values: bf16, int8 or fp8.
    pub format: Format,
    /// Positions of a page, a power of two from 16 on; without, the positions of a sequence lie together.
    pub page: Option<u32>,
}

impl Layout {
    /// That of `residency` for so many positions.
    ///
    /// # Errors
    /// A page that is no power of two, or of fewer than 16 positions.
    pub fn new(residency: &Residency, batch: u32, positions: u32, page: Option<u32>) -> Result<Layout> {
        if let Some(page) = page.filter(|page| !page.is_power_of_two() || *page < 16) {
            return Err(Failure::input(format!("the GPU kernels have no pages of {page} positions"))
                .hint("a page has 16, 32, 64, 128 or 256 positions, or another power of two beyond"));
        }
        let format = Format::of(residency.precision.kv);
        Ok(Layout { batch: batch.max(1), positions: positions.max(1), format, page })
    }

    /// Positions of a sequence: whole pages.
    pub fn capacity(&self) -> u32 {
        self.positions.next_multiple_of(self.page.unwrap_or(1))
    }

    /// Rows of the keys, or of the values, of one layer: one for each position of each KV head.
    fn rows(&self, model: &ModelSpec) -> u64 {
        u64::from(self.batch) * u64::from(model.kv_heads) * u64::from(self.capacity())
    }

    fn code_bytes(&self, model: &ModelSpec) -> u64 {
        let each = if self.format.is_quantised() { 1 } else { BF16 };
        each * self.rows(model) * u64::from(model.head_dim)
    }

    /// Bytes of the keys, or of the values, of one layer with their scales.
    pub fn bytes(&self, model: &ModelSpec) -> u64 {
        let scales = if self.format.is_quantised() { 4 * self.rows(model) } else { 0 };
        self.code_bytes(model) + scales
    }

    /// Bytes of the table of pages.
    pub fn table_bytes(&self) -> u64 {
        4 * self.page.map_or(0, |page| u64::from(self.batch) * u64::from(self.capacity() / page))
    }

    /// Rows that are made as bf16 at once to be quantised.
    fn part(&self, model: &ModelSpec) -> u64 {
        let each = u64::from(quantise::ROWS);
        (PART / (BF16 * u64::from(model.head_dim))).next_multiple_of(each).min(self.rows(model))
    }

    /// Bytes that [`Cache::fill`] takes besides, for a while.
    pub fn filling_bytes(&self, model: &ModelSpec) -> u64 {
        if self.format.is_quantised() { BF16 * self.part(model) * u64::from(model.head_dim) } else { 0 }
    }

    /// Which page of the pool each page of each sequence is, `[sequence][capacity / page]`. After hours of serving pages
    /// lie anywhere: all are shuffled, the same way every time.
    fn table(&self) -> Vec<u32> {
        let mut table: Vec<u32> = (0..(self.table_bytes() / 4) as u32).collect();
        for last in (1..table.len()).rev() {
            let other = mix(PAGES_SEED ^ mix(last as u64)) % (last as u64 + 1);
            table.swap(last, other as usize);
        }
        table
    }
}

/// Where the pages of sequences lie.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    /// `[sequence][capacity / page]` u32 page of the pool, on the device.
    pub table: Address,
    /// Each has 2^shift positions.
    pub shift: u32,
    held: Vec<u32>,
}

impl Pages {
    /// The table of a layout in pages, for all layers and caches.
    ///
    /// # Errors
    /// Out of memory.
    pub fn allocate(
        driver: &mut dyn Driver,
        allocations: &mut Allocations,
        layout: &Layout,
    ) -> Result<Option<Pages>> {
        let Some(page) = layout.page else { return Ok(None) };
        let held = layout.table();
        let table = allocations.allocate(driver, layout.table_bytes(), "pages")?;
        driver.write(table, bytemuck::cast_slice(&held))?;
        Ok(Some(Pages { table, shift: page.trailing_zeros(), held }))
    }
}

/// Keys and values of the held layers, as `kernels/cache.cuh` says.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    /// Keys by layer.
    pub keys: Vec<Matrix>,
    /// Values by layer.
    pub values: Vec<Matrix>,
    /// Of both.
    pub format: Format,
    /// Positions that a sequence has room for.
    pub capacity: u32,
    /// Where it is in pages.
    pub pages: Option<Pages>,
}

impl Cache {
    /// Room for one cache of a layout in each of `layers` layers; contents undefined.
    ///
    /// # Errors
    /// Out of memory.
    pub fn allocate(
        driver: &mut dyn Driver,
        allocations: &mut Allocations,
        model: &ModelSpec,
        layers: u32,
        layout: &Layout,
        pages: Option<Pages>,
    ) -> Result<Cache> {
        let (format, capacity) = (layout.format, layout.capacity());
        let mut cache = Cache { format, capacity, pages, ..Cache::default() };
        let mut one = |what: &str, layer: u32| {
            let codes = allocations.allocate(driver, layout.bytes(model), &format!("{what} {layer}"))?;
            let scales = if format.is_quantised() { codes + layout.code_bytes(model) } else { 0 };
            Ok(Matrix { codes, scales })
        };
        for layer in 0..layers {
            cache.keys.push(one("keys", layer)?);
            cache.values.push(one("values", layer)?);
        }
        Ok(cache)
    }

    /// Fills all of it with seeded normals of unit variance made on the device; `first` is the first number of the
    /// streams that they are taken from. Returns the number of the next one.
    ///
    /// # Errors
    /// Out of memory, or the device failed.
    pub fn fill(
        &self,
        driver: &mut dyn Driver,
        model: &ModelSpec,
        layout: &Layout,
        seed: u64,
        first: u64,
    ) -> Result<u64> {
        let normal = Normal { mean: 0.0, deviation: 1.0 };
        let width = u64::from(model.head_dim);
        let all = || self.keys.iter().zip(&self.values).flat_map(|(keys, values)| [keys, values]);
        if !self.format.is_quantised() {
            for (stream, matrix) in (first..).zip(all()) {
                let count = layout.rows(model) * width;
                driver.launch(&normals(driver.gpu(), matrix.codes, count, seed, stream, normal))?;
            }
            return Ok(first + 2 * self.keys.len() as u64);
        }
        let mut scratch = Allocations::default();
        let from = scratch.allocate(driver, layout.filling_bytes(model), "a cache before it is quantised")?;
        let mut fill_all = || -> Result<()> {
            for (stream, matrix) in (first..).zip(all()) {
                let part = layout.part(model);
                for (number, row) in (0..).zip((0..layout.rows(model)).step_by(part as usize)) {
                    let rows = part.min(layout.rows(model) - row);
                    // What one cache has too many parts for does not exist.
                    let stream = stream ^ number << 40;
                    driver.launch(&normals(driver.gpu(), from, rows * width, seed, stream, normal))?;
                    let target =
                        quantise::Target { format: self.format, codes: matrix.codes, scales: matrix.scales };
                    driver.launch(&quantise::rows(from, target, row as u32, rows as u32, model.head_dim))?;
                }
            }
            driver.synchronise("filling the caches")
        };
        let filled = fill_all();
        let freed = scratch.free(driver);
        filled.and(freed)?;
        Ok(first + 2 * self.keys.len() as u64)
    }

    /// What `count` positions from `first` on of a sequence hold in one of `keys` or `values`: for each KV head
    /// `[position][head_dim]`.
    ///
    /// # Errors
    /// The device failed.
    pub fn read(
        &self,
        driver: &mut dyn Driver,
        model: &ModelSpec,
        matrix: Matrix,
        sequence: u32,
        positions: (u32, u32),
    ) -> Result<Vec<Vec<f32>>> {
        (0..model.kv_heads)
            .map(|head| self.read_head(driver, model, matrix, (sequence, head), positions))
            .collect()
    }

    fn read_head(
        &self,
        driver: &mut dyn Driver,
        model: &ModelSpec,
        matrix: Matrix,
        (sequence, head): (u32, u32),
        (first, count): (u32, u32),
    ) -> Result<Vec<f32>> {
        let width = model.head_dim as usize;
        let mut values = Vec::with_capacity(count as usize * width);
        for (row, rows) in self.runs(model.kv_heads, (sequence, head), (first, count)) {
            let elements = rows as usize * width;
            let at = row * width as u64;
            if self.format.is_quantised() {
                let (mut codes, mut scales) = (vec![0u8; elements], vec![0f32; rows as usize]);
                driver.read(matrix.codes + at, &mut codes)?;
                driver.read(matrix.scales + 4 * row, bytemuck::cast_slice_mut(&mut scales))?;
                let dtype = if self.format == Format::Fp8 { DType::Fp8 } else { DType::Int8 };
                for (codes, scale) in codes.chunks_exact(width).zip(scales) {
                    let element = |i: usize| precision::value(dtype, codes[i / 8 * 8 + ORDER[i % 8]]) * scale;
                    values.extend((0..width).map(element));
                }
            } else {
                let mut bits = vec![0u16; elements];
                driver.read(matrix.codes + BF16 * at, bytemuck::cast_slice_mut(&mut bits))?;
                values.extend(bits.into_iter().map(from_bf16));
            }
        }
        Ok(values)
    }

    /// First row and number of the rows that positions lie in: one run, or one a page.
    fn runs(
        &self,
        kv_heads: u32,
        (sequence, head): (u32, u32),
        (first, count): (u32, u32),
    ) -> Vec<(u64, u32)> {
        let Some(pages) = &self.pages else {
            let line = u64::from(sequence * kv_heads + head);
            return vec![(line * u64::from(self.capacity) + u64::from(first), count)];
        };
        let (size, end) = (1 << pages.shift, first + count);
        let of_sequence = (self.capacity >> pages.shift) * sequence;
        let mut runs = Vec::new();
        let mut at = first;
        while at < end {
            let page = pages.held[(of_sequence + (at >> pages.shift)) as usize];
            let inside = at % size;
            let rows = (size - inside).min(end - at);
            let line = u64::from(page) * u64::from(kv_heads) + u64::from(head);
            runs.push((line * u64::from(size) + u64::from(inside), rows));
            at += rows;
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(page: Option<u32>) -> Layout {
        Layout { batch: 3, positions: 100, format: Format::Int8, page }
    }

    #[test]
    fn every_page_is_somebodys_and_lies_anywhere() {
        let table = layout(Some(16)).table();
        assert_eq!(table.len(), 3 * 7);
        let mut sorted = table.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..21));
        let in_order = table.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!(in_order < 5, "{table:?}");
        assert!(layout(None).table().is_empty());
    }

    #[test]
    fn runs_cover_positions_in_their_order() {
        let held = layout(Some(32)).table();
        let pages = Some(Pages { table: 0, shift: 5, held: held.clone() });
        let cache = Cache { capacity: 128, pages, ..Cache::default() };
        let row = |page: usize, inside: u64| (u64::from(held[page]) * 2 + 1) * 32 + inside;
        assert_eq!(cache.runs(2, (1, 1), (30, 40)), [(row(4, 30), 2), (row(5, 0), 32), (row(6, 0), 6)]);
        let cache = Cache { capacity: 100, ..Cache::default() };
        assert_eq!(cache.runs(2, (1, 1), (30, 40)), [(330, 40)]);
    }
}
