//! The table of `kernels/README.md`: every kernel with what it takes of a multiprocessor and what it moves, worked
//! out from the launches, ptxas' table and interpreted runs. The test fails when the README says something else;
//! with LLMROOF_WRITE_TABLE=1 it writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use generate_kernels::occupancy::{architecture, blocks};
use llmroof::backend::cuda::driver::{Driver, Gpu};
use llmroof::backend::cuda::launch::Launch;
use llmroof::backend::cuda::launch::args::LinearArgs;
use llmroof::backend::cuda::launch::format::Format;
use llmroof::backend::cuda::launch::gemv::LinearStage;
use llmroof::backend::cuda::launch::workspace::Workspace;
use llmroof::backend::cuda::launch::{
    attention, ceilings, elementwise, fill, gemm, gemv, quantise, reference, skinny,
};
use llmroof::model::DType;
use ptx_interpreter::Profile;

use crate::attended::Case;
use crate::gpu::{InterpretedGpu, a100, h100};
use crate::held::{Held as Matrix, QUANTISED};
use crate::numbers::normals;

/// Long enough for every pipeline to fill; the simple kernels need none.
const K: u32 = 4096;
const K_OF_TILES: u32 = 512;
const K_OF_REFERENCE: u32 = 64;
const HEAD_DIM: u32 = 128;

/// One kernel on one GPU.
struct Row {
    launch: Launch,
    profile: Profile,
}

impl Row {
    /// Bytes that warps ask for over distinct bytes, of the allocations of these names; all if none is given.
    fn read_again(&self, names: &[&str]) -> Option<f64> {
        let traffic = self.profile.traffic.iter();
        let chosen = traffic.filter(|t| names.is_empty() || names.contains(&t.name.as_str()));
        let (asked, unique) = chosen.fold((0, 0), |(a, u), t| (a + t.read_by_warps, u + t.unique_read));
        (unique > 0).then(|| asked as f64 / unique as f64)
    }
}

/// What a block of a kernel holds of a multiprocessor.
struct Held {
    registers: u32,
    shared: u32,
    blocks: u32,
    warps: u32,
}

/// Name and source: the peaks of `ceilings.cu` and `hopper.cu` have the same names.
type Kernel = (&'static str, &'static str);

/// Runs every kernel that has a launch on this GPU, on shapes large enough to fill its pipelines.
fn run_all(gpu: fn() -> Gpu) -> BTreeMap<Kernel, Row> {
    let mut rows = BTreeMap::new();
    let mut run = |machine: &mut InterpretedGpu, launch: Launch| {
        machine.profiles.clear();
        machine.launch(&launch).unwrap();
        let profile = machine.profiles.pop().unwrap().1;
        rows.entry((launch.kernel, launch.source)).or_insert(Row { launch, profile });
    };
    for (format, stage) in
        Format::ALL.into_iter().flat_map(|format| LinearStage::ALL.map(|stage| (format, stage)))
    {
        for (count, family) in [(1, 0), (8, 0), (16, 1), (32, 1), (64, 1), (256, 2)] {
            let mut machine = InterpretedGpu::with_workers(gpu(), 1);
            let normed = family < 2 && stage != LinearStage::Residual;
            let k = if family < 2 { K } else { K_OF_TILES };
            let args = linear(&mut machine, stage, format, count, k, normed);
            let on = machine.gpu().clone();
            // Products of codes are those of weights in int8 with x in int8 as well.
            let codes = (format == Format::Int8).then(|| {
                let x = Matrix::new(format, &normals(7, (count * k) as usize, 1.0), k as usize);
                x.upload(&mut machine, "x", "scales")
            });
            match family {
                0 => with_workspace(&mut machine, args, gemv::workspace(&on, stage, format, &args), |args| {
                    vec![gemv::launch(&on, stage, format, args)]
                }),
                1 => {
                    with_workspace(&mut machine, args, skinny::workspace(&on, stage, format, &args), |args| {
                        vec![skinny::launch(&on, stage, format, args)]
                    })
                }
                _ => with_workspace(
                    &mut machine,
                    args,
                    Workspace { arrivals: 4096, partial_bytes: 0 },
                    |args| {
                        let of = |operands: gemm::Operands, args| {
                            let plans = gemm::Tile::all(operands).into_iter();
                            plans.map(move |tile| gemm::Plan { tile, splits: 1 }.launch(stage, args))
                        };
                        let of_codes = codes.into_iter().flat_map(|(x, x_scales)| {
                            of(gemm::Operands::Codes, LinearArgs { x, x_scales, ..args })
                        });
                        of(format.into(), args).chain(of_codes).collect()
                    },
                ),
            }
            .into_iter()
            .for_each(|launch| run(&mut machine, launch));
            if family == 0 && format == Format::Bf16 {
                let args = linear(&mut machine, stage, format, count, K_OF_REFERENCE, normed);
                let launches = match stage {
                    LinearStage::Qkv => vec![reference::qkv(&args)],
                    LinearStage::Residual => vec![reference::residual(&args)],
                    LinearStage::GateUp => vec![reference::gate_up(&args)],
                    LinearStage::LmHead => vec![reference::lm_head(&args), reference::argmax(&args)],
                };
                launches.into_iter().for_each(|launch| run(&mut machine, launch));
            }
        }
    }
    for format in QUANTISED {
        let mut machine = InterpretedGpu::with_workers(gpu(), 1);
        let from = machine.upload(&normals(3, 16 * K as usize, 0.1), "from");
        let codes = machine.allocate(format.code_bytes(16, K), "codes").unwrap();
        let scales = machine.allocate(format.scale_bytes(16, K), "scales").unwrap();
        let target = quantise::Target { format, codes, scales };
        run(&mut machine, quantise::rows(from, target, 0, 16, K));
    }
    for (format, page) in
        [Format::Bf16, Format::Int8, Format::Fp8].into_iter().flat_map(|f| [(f, None), (f, Some(16))])
    {
        // Groups of 4 and of 16 query heads; prompts on a card that is large beside them, and on a small one.
        for (head_dim, heads, tokens, context, few) in
            [(4, 1, 3000, false), (16, 1, 3000, false), (4, 256, 256, false), (4, 256, 256, true)]
                .into_iter()
                .flat_map(|(heads, tokens, context, few)| [64, 128].map(|d| (d, heads, tokens, context, few)))
        {
            let on = if few { Gpu { multiprocessors: 1, ..gpu() } } else { gpu() };
            let start = &[context - tokens];
            let case = Case { head_dim, heads, kv_heads: 1, tokens, capacity: context, start, format, page };
            let mut machine = InterpretedGpu::with_workers(gpu(), 1);
            let args = case.upload(&mut machine).args;
            let launch = match tokens {
                1 => attention::decode(&on, args, head_dim, format, context),
                _ => attention::prefill(&on, args, head_dim, format, context),
            };
            run(&mut machine, launch);
            if format == Format::Bf16 && page.is_none() && heads == 4 && tokens == 1 {
                let args = Case { start: &[19], ..case }.upload(&mut machine).args;
                run(&mut machine, reference::attention(&args, head_dim));
            }
        }
    }
    let mut machine = InterpretedGpu::with_workers(gpu(), 1);
    let on = machine.gpu().clone();
    let table = machine.upload(&normals(1, 64 * K as usize, 1.0), "table");
    let tokens = machine.upload(&[5u32, 3, 9, 60], "tokens");
    let residual = machine.machine.allocate(u64::from(4 * K) * 2, "x");
    let embed = elementwise::EmbedArgs { table, tokens, residual, k: K, reserved: 0 };
    run(&mut machine, elementwise::embed(4, embed));
    let norm = machine.upload(&normals(2, K as usize, 1.0), "norm");
    let normed = machine.machine.allocate(u64::from(4 * K) * 2, "normed");
    let args =
        elementwise::RmsNormArgs { x: residual, norm, normed, k: K, x_stride: K, eps: 1e-5, reserved: 0 };
    run(&mut machine, elementwise::rms_norm(4, args));
    for (stage, finish) in [
        (LinearStage::Qkv, elementwise::rotate_append as fn(LinearArgs) -> Launch),
        (LinearStage::GateUp, elementwise::silu_multiply),
    ] {
        let args = linear(&mut machine, stage, Format::Bf16, 256, K_OF_REFERENCE, false);
        let width = if stage == LinearStage::GateUp { 2 * args.n } else { args.n };
        let x = machine.upload(&normals(10, (256 * width) as usize, 1.0), "x");
        run(&mut machine, finish(LinearArgs { x, x_stride: width, ..args }));
    }
    for format in [Format::Int8, Format::Fp8] {
        let args = linear(&mut machine, LinearStage::Qkv, Format::Bf16, 256, K_OF_REFERENCE, false);
        let fresh: Vec<f32> = (0..256 * 2 * args.kv_width).map(|i| (i % 97) as f32 - 48.5).collect();
        let fresh = machine.upload(&fresh, "fresh");
        let scales = u64::from(256 * 16 * args.kv_width / HEAD_DIM) * 4;
        let key_scales = machine.machine.allocate(scales, "key scales");
        let value_scales = machine.machine.allocate(scales, "value scales");
        run(
            &mut machine,
            elementwise::append(format, LinearArgs { fresh, key_scales, value_scales, ..args }),
        );
    }
    let bytes = ceilings::cache_footprint(&on);
    let from = machine.machine.allocate(bytes, "from");
    run(&mut machine, fill::normals(&on, from, bytes / 2, 1, 1, fill::Normal { mean: 0.0, deviation: 1.0 }));
    let to = machine.machine.allocate(bytes, "to");
    run(&mut machine, ceilings::read(&on, from, bytes, 0).0);
    run(&mut machine, ceilings::copy(&on, from, to, bytes).0);
    run(&mut machine, ceilings::read_cache(&on, from, 2 * bytes, 0).0);
    for dtype in [DType::F32, DType::F16, DType::Bf16, DType::Int8, DType::Fp8] {
        let operands = machine.upload(&ceilings::operands(dtype), "operands");
        // A Hopper has kernels of its own for this and can run the others.
        for capability in [(8, 0), on.capability] {
            let on = Gpu { capability, multiprocessors: 2, ..on.clone() };
            if let Some((launch, _)) = ceilings::peak(&on, dtype, operands, 2, 0) {
                run(&mut machine, launch);
            }
        }
    }
    rows
}

fn with_workspace(
    machine: &mut InterpretedGpu,
    mut args: LinearArgs,
    workspace: Workspace,
    launches: impl Fn(LinearArgs) -> Vec<Launch>,
) -> Vec<Launch> {
    args.partial = machine.machine.allocate(workspace.partial_bytes.max(16), "partial");
    args.arrivals = machine.upload(&vec![0u32; workspace.arrivals as usize + 1], "arrivals");
    launches(args)
}

/// A linear stage of `rows` tokens, one per sequence.
fn linear(
    machine: &mut InterpretedGpu,
    stage: LinearStage,
    format: Format,
    rows: u32,
    k: u32,
    normed: bool,
) -> LinearArgs {
    let (q_width, kv_width) = (512, 128);
    let n = match stage {
        LinearStage::Qkv => q_width + 2 * kv_width,
        LinearStage::LmHead => 1001,
        _ => 512,
    };
    let mut matrix = |name: &str, rows: u32| {
        let values = normals(u64::from(rows), (rows * k) as usize, 1.0 / f64::from(k).sqrt());
        Matrix::new(format, &values, k as usize).upload(machine, name, "scales")
    };
    let [(w0, s0), (w1, s1), (w2, s2)] = match stage {
        LinearStage::Qkv => [matrix("w0", q_width), matrix("w1", kv_width), matrix("w2", kv_width)],
        LinearStage::GateUp => [matrix("w0", n), matrix("w1", n), (0, 0)],
        _ => [matrix("w0", n), (0, 0), (0, 0)],
    };
    let out = |machine: &mut InterpretedGpu| machine.upload(&normals(9, (rows * 512) as usize, 1.0), "y");
    LinearArgs {
        x: machine.upload(&normals(7, (rows * k) as usize, 1.0), "x"),
        norm: if normed { machine.upload(&normals(8, k as usize, 1.0), "norm") } else { 0 },
        w0,
        w1,
        w2,
        s0,
        s1,
        s2,
        y: out(machine),
        keys: machine.allocate(u64::from(rows * kv_width) * 2 * 16, "keys").unwrap(),
        values: machine.allocate(u64::from(rows * kv_width) * 2 * 16, "values").unwrap(),
        turns: machine.upload(&vec![1u64 << 60; HEAD_DIM as usize / 2], "turns"),
        start: machine.upload(&vec![3u32; rows as usize], "start"),
        chosen: machine.allocate(u64::from(rows) * 4, "chosen").unwrap(),
        best: machine.upload(&vec![0u64; rows as usize], "best"),
        logits: machine.allocate(u64::from(rows * n) * 4, "logits").unwrap(),
        rows,
        k,
        n,
        x_stride: k,
        tokens: 1,
        sequences: rows,
        head_dim: HEAD_DIM,
        q_width,
        kv_width,
        capacity: 16,
        splits: 1,
        eps: 1e-5,
        ..LinearArgs::default()
    }
}

/// Registers and static shared memory of each (kernel, architecture), as ptxas reported them.
fn resources() -> BTreeMap<(String, String), (u32, u32)> {
    let path = root().join("kernels/resources.csv");
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|h| h == name).unwrap();
    let [kernel, architecture, registers, shared] =
        ["kernel", "architecture", "registers", "static_shared"].map(column);
    reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            let number = |at: usize| record[at].parse().unwrap();
            (
                (record[kernel].to_owned(), record[architecture].to_owned()),
                (number(registers), number(shared)),
            )
        })
        .collect()
}

fn held(launch: &Launch, on: &str, resources: &BTreeMap<(String, String), (u32, u32)>) -> Held {
    let (registers, static_shared) = resources[&(launch.kernel.to_owned(), on.to_owned())];
    let shared = static_shared + launch.shared;
    let blocks = blocks(architecture(on).unwrap(), launch.threads, registers, shared);
    Held { registers, shared, blocks, warps: blocks * launch.threads / 32 }
}

/// What a kernel computes, on what tile, and what it moves.
fn about((kernel, source): Kernel) -> [&'static str; 3] {
    if source == "hopper" {
        let tile = "2 warpgroups x 64 rows x 256 columns";
        return ["products from shared memory (wgmma)", tile, "its operands, once a block"];
    }
    let computes = match kernel {
        k if k.contains("qkv") => "norm, q/k/v, rotation, cache append",
        k if k.contains("residual") => "out_proj or down, residual add",
        k if k.contains("gate_up") => "norm, gate and up, SwiGLU",
        k if k.contains("lm_head") => "norm, logits, argmax",
        k if k.starts_with("attention_decode") || k.starts_with("attention_prefill") => "softmax(q k^T) v",
        "embed" => "table rows of tokens",
        "rms_norm" => "x / rms(x) * weight, before gemm",
        "rotate_append" => "rotation, cache append, after cuBLASLt",
        "silu_multiply" => "SwiGLU, after cuBLASLt",
        k if k.starts_with("append") => "codes of new keys and values",
        "read_memory" => "xor of a buffer",
        "copy_memory" => "a copy",
        "read_cache" => "xor of a buffer in L2, over and over",
        "fill_normals" => "seeded normals",
        k if k.starts_with("quantise") => "codes and scales of bf16",
        k if k.contains("argmax") => "first of the greatest logits",
        k if k.contains("attention") => "softmax(q k^T) v, one row after the other",
        k if k.starts_with("peak") => "products from registers",
        other => panic!("{other} is not described in tests/kernels/table.rs"),
    };
    let computes = if kernel.starts_with("gemm") { computes.trim_start_matches("norm, ") } else { computes };
    let [tile, moves] = match kernel {
        k if k.starts_with("gemv") && k.ends_with("_1") => {
            ["16 weight rows x 1 token, all of k", "weights once; x from the caches for each 16 rows"]
        }
        k if k.starts_with("gemv") => {
            ["16 weight rows x 2-8 tokens, all of k", "weights once; x from the caches for each 16 rows"]
        }
        k if k.starts_with("skinny") && k.ends_with("16") => {
            ["128 weight rows x 16 tokens, a share of k", "weights once; x from L2 for each 128 rows"]
        }
        k if k.starts_with("skinny") && k.ends_with("32") => {
            ["128 weight rows x 32 tokens, a share of k", "weights once; x from L2 for each 128 rows"]
        }
        k if k.starts_with("skinny") => {
            ["128 weight rows x 64 tokens, a share of k", "weights once; x from L2 for each 128 rows"]
        }
        k if k.starts_with("gemm") && k.ends_with("256") => {
            ["128 tokens x 256 weight rows", "weights tokens/128 times, x n/256 times"]
        }
        k if k.starts_with("gemm") && k.ends_with("128") => {
            ["128 tokens x 128 weight rows", "weights tokens/128 times, x n/128 times"]
        }
        k if k.starts_with("gemm") => {
            ["128 tokens x 64 weight rows", "weights tokens/128 times, x n/64 times"]
        }
        k if k.starts_with("attention_decode") && k.ends_with("_8") => {
            ["up to 8 query heads of a KV head, a share of the positions", "keys and values once"]
        }
        k if k.starts_with("attention_decode") => [
            "up to 16 query heads of a KV head, a share of the positions",
            "keys and values once for each 16 query heads",
        ],
        k if k.starts_with("attention_prefill") && k.ends_with("rows_64") => {
            ["64 tokens of a query head", "keys and values once for each tile and query head"]
        }
        k if k.starts_with("attention_prefill") => {
            ["128 tokens of a query head", "keys and values once for each tile and query head"]
        }
        "embed" => ["4096 elements of a row", "rows in, rows out"],
        "rms_norm" => ["a row", "x, weight; normed"],
        "rotate_append" => ["2048 elements of a row", "q, k and v in; out to q and the caches"],
        k if k.starts_with("append") => ["1024 elements of a row", "f32 in, codes and scales out"],
        "silu_multiply" => ["1024 pairs of a row", "gate and up in, their product out"],
        "read_memory" | "copy_memory" | "read_cache" => ["32 KB at a time", "what it is asked for"],
        "fill_normals" => ["2048 elements at a time", "writes alone"],
        k if k.starts_with("quantise") => ["a row", "bf16 in, codes and scales out"],
        k if k.starts_with("peak") => ["8 warps x 16 chains", "its operands, once a block"],
        _ => ["one output a thread", "re-reads everything"],
    };
    [computes, tile, moves]
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

/// What is streamed: weights, or keys and values, or the buffer of a ceiling.
const STREAMED: [&str; 7] = ["w0", "w1", "w2", "keys", "values", "from", "table"];

#[test]
fn the_table_of_the_readme_is_true() {
    let resources = resources();
    let (on_a100, on_h100) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run_all(h100));
        (run_all(a100), other.join().unwrap())
    });
    let mut table = String::from(
        "| kernel | computes | a block takes | moves | threads | registers | shared, KB | blocks (warps) per SM | KB in flight per SM | streamed, read again | all, read again |\n\
         |---|---|---|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let mut seen = Vec::new();
    for (&key, other) in &on_h100 {
        let (kernel, source) = key;
        // Only an H100 has the kernels of `hopper.cu`.
        let hopper = source == "hopper";
        let row = on_a100.get(&key).unwrap_or(other);
        let a = (!hopper).then(|| held(&row.launch, "sm_80", &resources));
        let h = held(&other.launch, if hopper { "sm_90a" } else { "sm_90" }, &resources);
        let pair = |show: &dyn Fn(&Row, &Held) -> String| {
            let h = show(other, &h);
            match a.as_ref().map(|a| show(row, a)) {
                None => format!("- / {h}"),
                Some(a) if a == h => a,
                Some(a) => format!("{a} / {h}"),
            }
        };
        let in_flight = |row: &Row, held: &Held| row.profile.in_flight * u64::from(held.warps);
        let again = |of: Option<f64>| of.map_or("-".to_owned(), |x| format!("{x:.2}"));
        let [computes, tile, moves] = about(key);
        writeln!(
            table,
            "| `{kernel}`{} | {computes} | {tile} | {moves} | {} | {} | {} | {} | {} | {} | {} |",
            if hopper { " (`hopper.cu`)" } else { "" },
            row.launch.threads,
            pair(&|_, held| held.registers.to_string()),
            pair(&|_, held| format!("{:.1}", f64::from(held.shared) / 1024.0)),
            pair(&|_, held| format!("{} ({})", held.blocks, held.warps)),
            pair(&|row, held| (in_flight(row, held) / 1024).to_string()),
            again(row.read_again(&STREAMED)),
            again(row.read_again(&[]).filter(|_| !kernel.starts_with("peak"))),
        )
        .unwrap();
        seen.push((kernel.to_owned(), if hopper { "sm_90a" } else { "sm_80" }.to_owned()));

        // The targets that decide whether a kernel can reach the roof at all.
        assert_eq!((row.profile.local_bytes, other.profile.local_bytes), (0, 0), "{kernel}: local memory");
        if ["gemv", "skinny", "attention_decode"].iter().any(|family| kernel.starts_with(family)) {
            let flying = [in_flight(row, a.as_ref().unwrap()), in_flight(other, &h)];
            assert!(flying[0] >= 16 << 10, "{kernel}: {} bytes in flight on sm_80", flying[0]);
            assert!(flying[1] >= 32 << 10, "{kernel}: {} bytes in flight on sm_90", flying[1]);
            assert!(row.read_again(&STREAMED).unwrap() <= 1.02, "{kernel} reads again");
            for traffic in
                row.profile.traffic.iter().filter(|t| STREAMED.contains(&t.name.as_str()) && t.read > 0)
            {
                // A value of 64 bytes is eight for each of eight lanes.
                let halves =
                    kernel.contains("8_64_") && kernel.contains("attention") && traffic.name == "values";
                assert!(traffic.widths.keys().eq([if halves { &8 } else { &16 }]), "{kernel}: {traffic:?}");
            }
        }
    }
    let first = |on: &str| on == "sm_80" || on == "sm_90a";
    let missing: Vec<_> = resources.keys().filter(|key| first(&key.1) && !seen.contains(key)).collect();
    assert!(missing.is_empty(), "kernels without a row: {missing:?}");

    let path = root().join("kernels/README.md");
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- table -->\n", "<!-- end of table -->");
    let (before, rest) = text.split_once(begin).expect("the README has a place for the table");
    let (kept, after) = rest.split_once(end).expect("the table's place has an end");
    if env::var_os("LLMROOF_WRITE_TABLE").is_some() {
        fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert!(
            kept == table,
            "kernels/README.md: run LLMROOF_WRITE_TABLE=1 cargo test --test kernels table"
        );
    }
}
