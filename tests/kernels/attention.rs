//! Attention against float64, with what it reads, writes and multiplies.

use llmroof::backend::cuda::driver::{Driver, Gpu};
use llmroof::backend::cuda::launch::args::AttentionArgs;
use llmroof::backend::cuda::launch::attention;
use llmroof::backend::cuda::launch::format::Format;
use llmroof::profiles::Catalog;
use llmroof::workload::{Stage, Workload};
use ptx_interpreter::Profile;

use crate::attended::{Case, HELD, PLAIN, traffic};
use crate::gpu::{InterpretedGpu, a100, h100};
use crate::numbers::{from_bf16, relative_error, to_bf16, wide};

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
            let case = Case { head_dim, heads, kv_heads, capacity: 208, start: &STARTS, ..PLAIN };
            let (launch, ..) = case.decode(&mut InterpretedGpu::new(card));
            assert!(launch.early && launch.threads > 0);
        }
    }
}

#[test]
fn decode_attends_caches_of_codes_and_pages() {
    for (head_dim, heads, kv_heads) in [(64, 4, 2), (128, 6, 2), (64, 12, 1), (128, 20, 1)] {
        for ((format, page), card) in HELD.into_iter().skip(1).zip([a100(), h100()].into_iter().cycle()) {
            let case =
                Case { head_dim, heads, kv_heads, capacity: 208, start: &STARTS, format, page, ..PLAIN };
            let (launch, ..) = case.decode(&mut InterpretedGpu::new(card));
            assert_eq!(launch.kernel.contains("paged"), page.is_some());
        }
    }
}

#[test]
fn decode_shares_a_long_context_out() {
    for (head_dim, heads, kv_heads, (format, page)) in [
        (64, 4, 1, HELD[0]),
        (128, 8, 2, HELD[0]),
        (128, 1, 1, HELD[0]),
        (128, 16, 1, HELD[0]),
        (64, 16, 1, HELD[0]),
        (64, 4, 1, HELD[1]),
        (128, 16, 1, HELD[2]),
        (128, 8, 2, HELD[3]),
        (64, 16, 1, HELD[5]),
        (128, 4, 1, HELD[7]),
    ] {
        let case =
            Case { head_dim, heads, kv_heads, capacity: 1024, start: &[999, 3], format, page, ..PLAIN };
        let (launch, split, profile) = case.decode(&mut InterpretedGpu::new(a100()));
        assert!(launch.grid[0] > 2, "{} splits", launch.grid[0]);
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
                let case =
                    Case { head_dim, heads, kv_heads, tokens, capacity: 256, start: &[0, 70], ..PLAIN };
                let (launch, _) = case.prefill(&mut InterpretedGpu::new(card));
                assert!(launch.kernel.ends_with(&format!("rows_{rows}")), "{}", launch.kernel);
            }
        }
    }
}

#[test]
fn prefill_attends_caches_of_codes_and_pages() {
    for (head_dim, heads, kv_heads) in [(64, 2, 2), (128, 4, 2)] {
        for (tokens, (format, page)) in
            [1, 17, 65, 130, 64].into_iter().cycle().zip(HELD.into_iter().skip(1).cycle()).take(14)
        {
            for (card, rows) in [(a100(), 64), (small(h100()), 128)] {
                let start = &[0, 70];
                let case = Case { head_dim, heads, kv_heads, tokens, capacity: 256, start, format, page };
                let (launch, _) = case.prefill(&mut InterpretedGpu::new(card));
                assert!(launch.kernel.ends_with(&format!("rows_{rows}")), "{}", launch.kernel);
            }
        }
    }
}

#[test]
fn prefill_of_long_groups_and_chunks() {
    for (start, tokens) in [(200, 3), (127, 129), (1, 256)] {
        let case =
            Case { head_dim: 128, heads: 8, kv_heads: 1, tokens, capacity: 320, start: &[start], ..PLAIN };
        case.prefill(&mut InterpretedGpu::new(small(a100())));
        case.prefill(&mut InterpretedGpu::new(h100()));
    }
}

#[test]
fn scores_that_grow_and_fall_along_the_context_keep_their_weights() {
    // Keys of growing length make the greatest score rise again and again; no row's sum may be left behind.
    for tokens in [1, 96] {
        let case =
            Case { head_dim: 64, heads: 2, kv_heads: 1, tokens, capacity: 512, start: &[400], ..PLAIN };
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
            attention::decode(gpu.gpu(), buffers.args, 64, case.format, case.context())
        } else {
            attention::prefill(gpu.gpu(), buffers.args, 64, case.format, case.context())
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
        ..PLAIN
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
        let launch = attention::decode(card, args, 128, Format::Bf16, context);
        let workspace = attention::workspace(card, &args, 128, Format::Bf16, context);
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
        let case = Case { head_dim: 64, heads: 2, kv_heads: 2, tokens, capacity: 80, start: &[30], ..PLAIN };
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
        let launch = launch(gpu.gpu(), buffers.args, 64, case.format, case.context());
        gpu.launch(&launch).unwrap();
        case.check_rows(&gpu, &buffers);
    }
}
