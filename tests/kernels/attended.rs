//! Cases of attention: heads and caches on a GPU, what float64 makes of them, and what a launch may read and write.

use llmroof::backend::cuda::driver::{Address, Driver};
use llmroof::backend::cuda::launch::Launch;
use llmroof::backend::cuda::launch::args::AttentionArgs;
use llmroof::backend::cuda::launch::attention;
use llmroof::backend::cuda::launch::format::Format;
use ptx_interpreter::{Profile, Traffic};

use crate::gpu::InterpretedGpu;
use crate::held::Held;
use crate::numbers::{from_bf16, normals, relative_error, to_bf16, wide};

/// Heads of one layer, and where each sequence stands.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub head_dim: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub tokens: u32,
    pub capacity: u32,
    pub start: &'a [u32],
    /// Of the cache.
    pub format: Format,
    /// Positions of a page.
    pub page: Option<u32>,
}

/// bf16, one sequence after the other.
pub const PLAIN: Case = Case {
    head_dim: 0,
    heads: 0,
    kv_heads: 0,
    tokens: 1,
    capacity: 0,
    start: &[],
    format: Format::Bf16,
    page: None,
};

/// Every way to hold a cache.
pub const HELD: [(Format, Option<u32>); 8] = [
    (Format::Bf16, None),
    (Format::Int8, None),
    (Format::Fp8, None),
    (Format::Bf16, Some(16)),
    (Format::Bf16, Some(64)),
    (Format::Int8, Some(16)),
    (Format::Int8, Some(32)),
    (Format::Fp8, Some(128)),
];

/// The buffers of a case on a GPU, with what q, keys and values hold: `keys[sequence][kv_head][position][element]`.
pub struct Buffers {
    pub args: AttentionArgs,
    pub q: Vec<f64>,
    pub keys: Vec<Vec<Vec<f64>>>,
    pub values: Vec<Vec<Vec<f64>>>,
}

impl Case<'_> {
    fn attended(&self, sequence: usize) -> u32 {
        self.start[sequence] + self.tokens
    }

    /// Most positions that a token attends.
    pub fn context(&self) -> u32 {
        (0..self.start.len()).map(|s| self.attended(s)).max().unwrap()
    }

    fn group(&self) -> u32 {
        self.heads / self.kv_heads
    }

    fn q_elements(&self) -> usize {
        self.start.len() * (self.tokens * self.heads * self.head_dim) as usize
    }

    /// Query-key pairs of one head.
    fn pairs(&self) -> u64 {
        let of = |&start: &u32| (0..self.tokens).map(|i| u64::from(start + i + 1)).sum::<u64>();
        self.start.iter().map(of).sum()
    }

    /// Bytes of a row of the cache.
    fn row_bytes(&self) -> u64 {
        self.format.row_bytes(self.head_dim)
    }

    /// Rows of the keys (or the values) that are attended.
    fn cache_rows(&self) -> u64 {
        let positions: u64 = (0..self.start.len()).map(|s| u64::from(self.attended(s))).sum();
        positions * u64::from(self.kv_heads)
    }

    fn cache_bytes(&self) -> u64 {
        self.cache_rows() * self.row_bytes()
    }

    /// Positions that a sequence has room for: whole pages.
    fn capacity(&self) -> u32 {
        self.capacity.next_multiple_of(self.page.unwrap_or(1))
    }

    /// Which page of the pool each page of each sequence is: in no order.
    fn table(&self) -> Vec<u32> {
        let pages = self.page.map_or(0, |page| self.start.len() as u32 * (self.capacity() / page));
        let mut order: Vec<u32> = (0..pages).collect();
        order.sort_by_key(|page| page.wrapping_mul(2_654_435_761));
        order
    }

    /// Row of the cache of a position.
    fn row(&self, sequence: usize, head: u32, position: u32) -> u64 {
        let heads = u64::from(self.kv_heads);
        match self.page {
            None => {
                (sequence as u64 * heads + u64::from(head)) * u64::from(self.capacity) + u64::from(position)
            }
            Some(page) => {
                let of_sequence = sequence * (self.capacity() / page) as usize;
                let own = self.table()[of_sequence + (position / page) as usize];
                (u64::from(own) * heads + u64::from(head)) * u64::from(page) + u64::from(position % page)
            }
        }
    }

    /// Allocates everything for launches on `gpu`; of the cache only what is attended is written.
    pub fn upload(&self, gpu: &mut InterpretedGpu) -> Buffers {
        let q = normals(1, self.q_elements(), 1.5);
        let rows = self.start.len() as u64 * u64::from(self.kv_heads * self.capacity());
        let bytes = rows * self.row_bytes();
        let table = self.table();
        let mut scales = |name: &str| match self.format {
            Format::Bf16 => 0,
            _ => gpu.allocate(4 * rows, name).unwrap(),
        };
        let (key_scales, value_scales) = (scales("key scales"), scales("value scales"));
        let mut args = AttentionArgs {
            q: gpu.upload(&q, "q"),
            keys: gpu.allocate(bytes, "keys").unwrap(),
            values: gpu.allocate(bytes, "values").unwrap(),
            key_scales,
            value_scales,
            pages: if table.is_empty() { 0 } else { gpu.upload(&table, "pages") },
            page_shift: self.page.map_or(0, u32::trailing_zeros),
            out: gpu.allocate(q.len() as u64 * 2, "out").unwrap(),
            start: gpu.upload(self.start, "start"),
            sequences: self.start.len() as u32,
            tokens: self.tokens,
            heads: self.heads,
            kv_heads: self.kv_heads,
            capacity: self.capacity(),
            scale: (std::f64::consts::LOG2_E / f64::from(self.head_dim).sqrt()) as f32,
            ..AttentionArgs::default()
        };
        let mut fill = |cache: Address, scales: Address, seed: u64| -> Vec<Vec<Vec<f64>>> {
            let lines = (0..self.start.len()).map(|sequence| {
                let of_head = |head: u32| {
                    let line_at = sequence as u64 * u64::from(self.kv_heads) + u64::from(head);
                    let elements = (self.attended(sequence) * self.head_dim) as usize;
                    let mut content = normals(seed + line_at, elements, 1.0);
                    if self.format != Format::Bf16 {
                        // Codes that are zero would count as padding.
                        content.iter_mut().for_each(|bits| {
                            let value = from_bf16(*bits);
                            *bits = to_bf16(value.abs().max(0.05).copysign(value));
                        });
                    }
                    let held = Held::new(self.format, &content, self.head_dim as usize);
                    let width = self.row_bytes() as usize;
                    for (position, codes) in (0..).zip(held.codes.chunks_exact(width)) {
                        let row = self.row(sequence, head, position);
                        gpu.write(cache + row * width as u64, codes).unwrap();
                        if let Some(scale) = held.scales.chunks_exact(4).nth(position as usize) {
                            gpu.write(scales + 4 * row, scale).unwrap();
                        }
                    }
                    held.values
                };
                (0..self.kv_heads).map(of_head).collect()
            });
            lines.collect()
        };
        let keys = fill(args.keys, args.key_scales, 1000);
        let values = fill(args.values, args.value_scales, 2000);
        let workspace = attention::workspace(gpu.gpu(), &args, self.head_dim, self.format, self.context());
        if workspace.arrivals > 0 {
            args.partial = gpu.allocate(workspace.partial_bytes, "partial").unwrap();
            args.arrivals = gpu.upload(&vec![0u32; workspace.arrivals as usize], "arrivals");
        }
        Buffers { args, q: wide(&q), keys, values }
    }

    /// The attended heads in float64, `[sequence][token][head][element]`.
    fn reference(&self, buffers: &Buffers) -> Vec<f64> {
        let width = self.head_dim as usize;
        let scale = 1.0 / f64::from(self.head_dim).sqrt();
        let row = |(index, q): (usize, &[f64])| {
            let (token, head) = (index / self.heads as usize, index % self.heads as usize);
            let (sequence, token) = (token / self.tokens as usize, token % self.tokens as usize);
            let kv_head = head / self.group() as usize;
            let attended = (self.start[sequence] as usize + token + 1) * width;
            let keys = buffers.keys[sequence][kv_head][..attended].chunks(width);
            let weights: Vec<f64> =
                keys.map(|k| (scale * q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>()).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mut mixed = vec![0.0; width];
            for (weight, v) in weights.iter().zip(buffers.values[sequence][kv_head].chunks(width)) {
                mixed.iter_mut().zip(v).for_each(|(mixed, v)| *mixed += weight / sum * v);
            }
            mixed
        };
        buffers.q.chunks(width).enumerate().flat_map(row).collect()
    }

    /// Compares what came out, row by row.
    pub fn check_rows(&self, gpu: &InterpretedGpu, buffers: &Buffers) -> Vec<u16> {
        let out: Vec<u16> = gpu.download(buffers.args.out, self.q_elements());
        let width = self.head_dim as usize;
        for (row, (out, expected)) in out.chunks(width).zip(self.reference(buffers).chunks(width)).enumerate()
        {
            let error = relative_error(&wide(out), expected);
            assert!(error < 1e-2, "row {row}: {error}");
        }
        out
    }

    /// Runs the launch and checks what comes out, what was moved, and that nothing is left behind.
    fn check(&self, gpu: &mut InterpretedGpu, buffers: &Buffers, launch: &Launch) -> (Vec<u16>, Profile) {
        gpu.launch(launch).unwrap();
        let out = self.check_rows(gpu, buffers);
        let profile = gpu.profiles.last().unwrap().1.clone();
        let row_bytes = self.q_elements() as u64 * 2;
        assert_eq!(traffic(&profile, "q").unique_read, row_bytes);
        assert_eq!(
            (traffic(&profile, "out").written, traffic(&profile, "out").unique_written),
            (row_bytes, row_bytes)
        );
        assert_eq!(traffic(&profile, "out").widths.keys().collect::<Vec<_>>(), [&16]);
        for cache in ["keys", "values"] {
            assert_eq!(traffic(&profile, cache).unique_read, self.cache_bytes(), "{cache}");
            assert_eq!(traffic(&profile, cache).written, 0);
        }
        for scales in ["key scales", "value scales"] {
            let each = if self.format == Format::Bf16 { 0 } else { 4 };
            assert_eq!(traffic(&profile, scales).unique_read, each * self.cache_rows(), "{scales}");
        }
        let pages =
            |page: u32| (0..self.start.len()).map(|s| u64::from(self.attended(s).div_ceil(page))).sum();
        assert_eq!(traffic(&profile, "pages").unique_read, 4 * self.page.map_or(0, pages));
        assert_eq!(profile.matrix_by_mark["values"].effective, self.products());
        assert_eq!(profile.local_bytes, 0);
        if launch.grid[0] > 1 && buffers.args.arrivals != 0 {
            let counters =
                attention::workspace(gpu.gpu(), &buffers.args, self.head_dim, self.format, self.context())
                    .arrivals;
            assert!(
                gpu.download::<u32>(buffers.args.arrivals, counters as usize).iter().all(|&count| count == 0)
            );
        }
        (out, profile)
    }

    /// FLOPs of each of the two products.
    fn products(&self) -> u64 {
        2 * u64::from(self.heads * self.head_dim) * self.pairs()
    }

    /// Runs and checks decode, twice.
    pub fn decode(&self, gpu: &mut InterpretedGpu) -> (Launch, Vec<u16>, Profile) {
        let buffers = self.upload(gpu);
        let launch = attention::decode(gpu.gpu(), buffers.args, self.head_dim, self.format, self.context());
        let (out, profile) = self.check(gpu, &buffers, &launch);
        assert_eq!(profile.matrix_by_mark["scores"].effective, self.products());
        // What the warps ask for: the cache once for every block of up to sixteen query heads, in whole sectors.
        for cache in ["keys", "values"] {
            let traffic = traffic(&profile, cache);
            assert_eq!(traffic.read_by_warps, self.cache_bytes() * u64::from(self.group().div_ceil(16)));
            assert_eq!(traffic.sectors * 32, traffic.read_by_warps);
        }
        if self.context() > 64 {
            assert!(
                profile.in_flight >= 8192,
                "{}: {} bytes of one warp under way",
                launch.kernel,
                profile.in_flight
            );
        }
        let (again, _) = self.check(gpu, &buffers, &launch);
        assert_eq!(out, again, "the same launch twice");
        (launch, out, profile)
    }

    /// Runs and checks prefill.
    pub fn prefill(&self, gpu: &mut InterpretedGpu) -> (Launch, Profile) {
        let buffers = self.upload(gpu);
        let launch = attention::prefill(gpu.gpu(), buffers.args, self.head_dim, self.format, self.context());
        let (_, profile) = self.check(gpu, &buffers, &launch);
        let rows = if launch.kernel.ends_with("rows_64") { 64 } else { 128 };
        assert_eq!(launch.grid, [self.heads, buffers.args.sequences, self.tokens.div_ceil(rows)]);
        assert_eq!(profile.matrix_by_mark["scores"].effective, self.tiled_scores(rows));
        (launch, profile)
    }

    /// FLOPs of the scores of tiles: a warp's quarter of a block's rows with all the positions, 64 at a time, that
    /// its last row attends, so far as the block loads them.
    fn tiled_scores(&self, block_rows: u32) -> u64 {
        let mut pairs = 0;
        for (warp, &start) in (0..self.tokens)
            .step_by(block_rows as usize / 4)
            .flat_map(|w| self.start.iter().map(move |s| (w, s)))
        {
            let end = self.tokens.min(warp + block_rows / 4);
            let loaded = start + self.tokens.min((warp / block_rows + 1) * block_rows);
            pairs += u64::from(end - warp) * u64::from((start + end).next_multiple_of(64).min(loaded));
        }
        2 * u64::from(self.heads * self.head_dim) * pairs
    }
}

/// What a launch moved of an allocation of this name.
pub fn traffic(profile: &Profile, name: &str) -> Traffic {
    profile.traffic.iter().find(|traffic| traffic.name == name).cloned().unwrap_or_default()
}
