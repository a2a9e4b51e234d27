//! Attention against float64, with what it reads, writes and multiplies.

use llmroof::backend::cuda::driver::{Address, Driver, Gpu};
use llmroof::backend::cuda::launch::Launch;
use llmroof::backend::cuda::launch::args::AttentionArgs;
use llmroof::backend::cuda::launch::attention;
use llmroof::profiles::Catalog;
use llmroof::workload::{Stage, Workload};
use ptx_interpreter::{Profile, Traffic};

use crate::gpu::{InterpretedGpu, a100, h100};
use crate::numbers::{from_bf16, normals, relative_error, to_bf16, wide};

/// Heads of one layer, and where each sequence stands.
#[derive(Clone, Copy)]
struct Case<'a> {
    head_dim: u32,
    heads: u32,
    kv_heads: u32,
    tokens: u32,
    capacity: u32,
    start: &'a [u32],
}

/// The buffers of a case on a GPU, with what q, keys and values hold: `keys[sequence][kv_head][position][element]`.
struct Buffers {
    args: AttentionArgs,
    q: Vec<f64>,
    keys: Vec<Vec<Vec<f64>>>,
    values: Vec<Vec<Vec<f64>>>,
}

impl Case<'_> {
    fn attended(&self, sequence: usize) -> u32 {
        self.start[sequence] + self.tokens
    }

    fn context(&self) -> u32 {
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

    /// Bytes of the keys (or the values) that are attended.
    fn cache_bytes(&self) -> u64 {
        let positions: u64 = (0..self.start.len()).map(|s| u64::from(self.attended(s))).sum();
        positions * u64::from(self.kv_heads * self.head_dim) * 2
    }

    /// Allocates everything for launches on `gpu`; of the cache only what is attended is written.
    fn upload(&self, gpu: &mut InterpretedGpu) -> Buffers {
        let q = normals(1, self.q_elements(), 1.5);
        let line = u64::from(self.capacity) * u64::from(self.head_dim) * 2;
        let bytes = self.start.len() as u64 * u64::from(self.kv_heads) * line;
        let mut args = AttentionArgs {
            q: gpu.upload(&q, "q"),
            keys: gpu.allocate(bytes, "keys").unwrap(),
            values: gpu.allocate(bytes, "values").unwrap(),
            out: gpu.allocate(q.len() as u64 * 2, "out").unwrap(),
            start: gpu.upload(self.start, "start"),
            sequences: self.start.len() as u32,
            tokens: self.tokens,
            heads: self.heads,
            kv_heads: self.kv_heads,
            capacity: self.capacity,
            scale: (std::f64::consts::LOG2_E / f64::from(self.head_dim).sqrt()) as f32,
            ..AttentionArgs::default()
        };
        let mut fill = |cache: Address, seed: u64| -> Vec<Vec<Vec<f64>>> {
            let lines = (0..self.start.len()).map(|sequence| {
                let of_head = |head: u32| {
                    let line_at = sequence as u64 * u64::from(self.kv_heads) + u64::from(head);
                    let elements = (self.attended(sequence) * self.head_dim) as usize;
                    let content = normals(seed + line_at, elements, 1.0);
                    gpu.write(cache + line_at * line, bytemuck::cast_slice(&content)).unwrap();
                    wide(&content)
                };
                (0..self.kv_heads).map(of_head).collect()
            });
            lines.collect()
        };
        let (keys, values) = (fill(args.keys, 1000), fill(args.values, 2000));
        let workspace = attention::workspace(gpu.gpu(), &args, self.head_dim, self.context());
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
    fn check_rows(&self, gpu: &InterpretedGpu, buffers: &Buffers) -> Vec<u16> {
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
        assert_eq!(profile.matrix_by_mark["values"].effective, self.products());
        assert_eq!(profile.local_bytes, 0);
        if launch.grid[0] > 1 && buffers.args.arrivals != 0 {
            let counters =
                attention::workspace(gpu.gpu(), &buffers.args, self.head_dim, self.context()).arrivals;
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

    fn decode(&self, gpu: &mut InterpretedGpu) -> (Launch, Vec<u16>, Profile) {
        let buffers = self.upload(gpu);
        let launch = attention::decode(gpu.gpu(), buffers.args, self.head_dim, self.context());
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

    fn prefill(&self, gpu: &mut InterpretedGpu) -> (Launch, Profile) {
        let buffers = self.upload(gpu);
        let launch = attention::prefill(gpu.gpu(), buffers.args, self.head_dim, self.context());
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

fn traffic(profile: &Profile, name: &str) -> Traffic {
    profile.traffic.iter().find(|traffic| traffic.name == name).cloned().unwrap_or_default()
}

/// A GPU with few multiprocessors: nothing is shared out further than it must be.
fn small(gpu: Gpu) -> Gpu {
    Gpu { multiprocessors: 1, ..gpu }
}

/// Starts of sequences whose contexts stand at and beside the edges of chunks.
const STARTS: [u32; 9] = [0, 14, 15, 16, 62, 63, 64, 199, 110];

#[test]
fn decode_attends_every_context_with_every_group() {
    for (head_dim, heads, kv_heads) in
        [(64, 2, 2), (128, 6, 2), (64, 8, 2), (128, 8, 1), (64, 12, 1), (128, 20, 1)]
    {
        for card in [a100(), h100()] {
            let case = Case { head_dim, heads, kv_heads, tokens: 1, capacity: 208, start: &STARTS };
            let (launch, ..) = case.decode(&mut InterpretedGpu::new(card));
            assert!(launch.early && launch.threads > 0);
        }
    }
}

#[test]
fn decode_shares_a_long_context_out() {
    for (head_dim, heads, kv_heads) in [(64, 4, 1), (128, 8, 2), (128, 1, 1), (128, 16, 1), (64, 16, 1)] {
        let case = Case { head_dim, heads, kv_heads, tokens: 1, capacity: 1024, start: &[999, 3] };
        let (launch, split, profile) = case.decode(&mut InterpretedGpu::new(a100()));
        assert!(launch.grid[0] > 4, "{} splits", launch.grid[0]);
        assert!(traffic(&profile, "partial").unique_written > 0);
        // Partial results are few beside the cache: of every split two numbers and a row for each query head.
        let rows = u64::from(launch.grid[0] * heads * 2);
        assert_eq!(traffic(&profile, "partial").unique_read, rows * u64::from(head_dim + 2) * 4);

        let (launch, whole, profile) = case.decode(&mut InterpretedGpu::new(small(a100())));
        assert_eq!((launch.grid[0], traffic(&profile, "partial").written), (1, 0));
        let width = head_dim as usize;
        for (split, whole) in split.chunks(width).zip(whole.chunks(width)) {
            assert!(relative_error(&wide(split), &wide(whole)) < 1e-2);
        }
    }
}

#[test]
fn prefill_is_causal_with_tiles_of_either_size() {
    for (head_dim, heads, kv_heads) in [(64, 2, 2), (128, 3, 1), (64, 4, 1), (128, 4, 2)] {
        for tokens in [1, 2, 17, 63, 64, 65, 130] {
            for (card, rows) in [(a100(), 64), (small(h100()), 128)] {
                let case = Case { head_dim, heads, kv_heads, tokens, capacity: 256, start: &[0, 70] };
                let (launch, _) = case.prefill(&mut InterpretedGpu::new(card));
                assert!(launch.kernel.ends_with(&format!("rows_{rows}")), "{}", launch.kernel);
            }
        }
    }
}

#[test]
fn prefill_of_long_groups_and_chunks() {
    for (start, tokens) in [(200, 3), (127, 129), (1, 256)] {
        let case = Case { head_dim: 128, heads: 8, kv_heads: 1, tokens, capacity: 320, start: &[start] };
        case.prefill(&mut InterpretedGpu::new(small(a100())));
        case.prefill(&mut InterpretedGpu::new(h100()));
    }
}

#[test]
fn scores_that_grow_and_fall_along_the_context_keep_their_weights() {
    // Keys of growing length make the greatest score rise again and again; no row's sum may be left behind.
    for tokens in [1, 96] {
        let case = Case { head_dim: 64, heads: 2, kv_heads: 1, tokens, capacity: 512, start: &[400] };
        let mut gpu = InterpretedGpu::new(small(a100()));
        let mut buffers = case.upload(&mut gpu);
        let positions = case.context() as usize;
        let grown: Vec<u16> = buffers.keys[0][0]
            .iter()
            .enumerate()
            .map(|(i, key)| {
                let position = (i / 64) as f64;
                let length = 6.0 * (position / positions as f64) * if i / 64 % 7 == 0 { 1.0 } else { 0.5 };
                to_bf16((key * length + 1e-3) as f32)
            })
            .collect();
        gpu.write(buffers.args.keys, bytemuck::cast_slice(&grown)).unwrap();
        buffers.keys[0][0] = grown.iter().map(|&bits| f64::from(from_bf16(bits))).collect();
        let launch = if tokens == 1 {
            attention::decode(gpu.gpu(), buffers.args, 64, case.context())
        } else {
            attention::prefill(gpu.gpu(), buffers.args, 64, case.context())
        };
        gpu.launch(&launch).unwrap();
        case.check_rows(&gpu, &buffers);
    }
}

#[test]
fn the_ledger_charges_what_llama_1b_does() {
    let model = Catalog::load(None).unwrap().model("llama-1b").unwrap();
    let case = |tokens, start| Case {
        head_dim: model.head_dim,
        heads: model.heads,
        kv_heads: model.kv_heads,
        tokens,
        capacity: 160,
        start,
    };
    let layers = f64::from(model.layers);
    let moved = |profile: &Profile| {
        let [q, keys, values, out] = ["q", "keys", "values", "out"].map(|name| traffic(profile, name));
        (keys.unique_read + values.unique_read, q.unique_read + out.unique_written)
    };

    let charged = Workload::decode(&model, 2, 100).cost(Stage::Attention);
    let (_, _, profile) = case(1, &[99, 99]).decode(&mut InterpretedGpu::new(a100()));
    assert_eq!(profile.matrix.effective as f64 * layers, charged.flops.0);
    let (kv, activations) = moved(&profile);
    assert_eq!(
        (kv as f64 * layers, activations as f64 * layers),
        (charged.kv_bytes.0, charged.activation_bytes.0)
    );

    let charged = Workload::prefill(&model, 1, 150).cost(Stage::Attention);
    let (_, profile) = case(150, &[0]).prefill(&mut InterpretedGpu::new(h100()));
    assert_eq!(profile.matrix_by_mark["values"].effective as f64 * layers, charged.flops.0 / 2.0);
    let (kv, activations) = moved(&profile);
    assert_eq!(
        (kv as f64 * layers, activations as f64 * layers),
        (charged.kv_bytes.0, charged.activation_bytes.0)
    );
}

#[test]
fn as_many_splits_as_occupy_the_card() {
    let blocks = |card: &Gpu, sequences, context| {
        let args = AttentionArgs { sequences, tokens: 1, heads: 32, kv_heads: 8, ..AttentionArgs::default() };
        let launch = attention::decode(card, args, 128, context);
        let workspace = attention::workspace(card, &args, 128, context);
        let [splits, kv_heads, sequences] = launch.grid.map(u64::from);
        assert_eq!(workspace.arrivals, if splits > 1 { kv_heads * sequences } else { 0 });
        assert_eq!(workspace.partial_bytes, if splits > 1 { splits * sequences * 32 * 130 * 4 } else { 0 });
        (splits, splits * kv_heads * sequences)
    };
    for card in [a100(), h100()] {
        let resident = 2 * u64::from(card.multiprocessors);
        let (_, one) = blocks(&card, 1, 131_072);
        assert!(one <= resident && one * 20 > resident * 19, "{one} blocks");
        let (_, few) = blocks(&card, 4, 4096);
        assert!(few <= resident && few * 5 > resident * 4, "{few} blocks");
        // No split is so short that warps have nothing to do.
        assert_eq!(blocks(&card, 1, 96).0, 1);
        assert_eq!(blocks(&card, 64, 512).0, 1);
    }
}
#[test]
fn caches_of_more_than_four_billion_elements() {
    for tokens in [1, 40] {
        let case = Case { head_dim: 64, heads: 2, kv_heads: 2, tokens, capacity: 80, start: &[30] };
        let mut gpu = InterpretedGpu::new(small(a100()));
        let mut buffers = case.upload(&mut gpu);
        // The heads' lines in allocations of their own, so far apart that the second starts beyond 2^32 elements.
        let lines = |gpu: &mut InterpretedGpu, head: usize| {
            [&buffers.keys, &buffers.values].map(|cache| {
                let line = &cache[0][head];
                let bits: Vec<u16> = line.iter().map(|&x| to_bf16(x as f32)).collect();
                gpu.upload(&bits, "line")
            })
        };
        let near = lines(&mut gpu, 0);
        gpu.allocate(9 << 30, "what lies between").unwrap();
        let far = lines(&mut gpu, 1);
        assert_eq!(far[0] - near[0], far[1] - near[1]);
        buffers.args.capacity = ((far[0] - near[0]) / 128) as u32;
        [buffers.args.keys, buffers.args.values] = near;
        let launch = if tokens == 1 { attention::decode } else { attention::prefill };
        let launch = launch(gpu.gpu(), buffers.args, 64, case.context());
        gpu.launch(&launch).unwrap();
        case.check_rows(&gpu, &buffers);
    }
}
