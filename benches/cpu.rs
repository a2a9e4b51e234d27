//! How close the CPU's kernels come to the ceilings that are measured right before and after each of them.
//!
//! `cargo bench --bench cpu -- [--quick] [--rounds N] [--layers N] [--threads N] [FILTER...]`; filters are words
//! that a line's name must contain, such as `llama-1b`, `decode` or a type: `bf16`, `int8`, `int4`, `a8w8` (int8 activations), `a8w4`. Ratios are medians over the rounds.
//!
//! Times are those of the clock on the wall: the figures want a machine that does nothing else. The last lines time
//! the program itself: `--help`, `plot` of the run in reports/, and a whole default `measure`.

use llmroof::backend::cpu::CpuBackend;
use llmroof::backend::weights::RandomWeights;
use llmroof::backend::{Backend, Execution, OpenOptions, Probe, Residency, Session, Work};
use llmroof::model::{DType, ModelSpec, Precision};
use llmroof::workload::{Phase, Stage, Workload};

struct Options {
    rounds: usize,
    layers: u32,
    threads: Vec<usize>,
    set: Option<String>,
    filters: Vec<String>,
}

fn options() -> Options {
    let mut options = Options { rounds: 5, layers: 4, threads: vec![1, 2], set: None, filters: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = |what: &mut usize| {
            if let Some(n) = args.next().and_then(|n| n.parse().ok()) {
                *what = n;
            }
        };
        match arg.as_str() {
            "--bench" => {}
            "--quick" => (options.rounds, options.layers) = (5, 2),
            "--rounds" => number(&mut options.rounds),
            "--layers" => {
                let mut layers = 0;
                number(&mut layers);
                options.layers = layers as u32;
            }
            "--threads" => {
                let mut threads = 1;
                number(&mut threads);
                options.threads = vec![threads];
            }
            "--set" => options.set = args.next(),
            _ => options.filters.push(arg),
        }
    }
    options
}

fn model(name: &str, [hidden, ffn, layers, heads, kv_heads, head_dim]: [u32; 6]) -> ModelSpec {
    ModelSpec {
        name: name.to_owned(),
        hidden,
        ffn,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab: 128_256,
        tied_embeddings: true,
        rope_theta: 500_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        max_position: 131_072,
        source: String::new(),
    }
}

/// What is divided by what.
#[derive(Clone, Copy)]
enum Against {
    /// The step's compulsory bytes over the read bandwidth.
    Read,
    /// The cache's bytes over the read bandwidth: for the narrow models, which are hardly more than attention.
    AttentionRead,
    /// The step's FLOPs over the peak of the products' type.
    Peak,
    /// The larger of both times.
    Roof,
}

/// The types that all lines run in, by the name that lines and filters have.
const PRECISIONS: [(&str, Precision); 5] = [
    ("bf16", Precision::BF16),
    ("int8", Precision { weights: DType::Int8, head: DType::Int8, ..Precision::BF16 }),
    ("int4", Precision { weights: DType::Int4, head: DType::Int4, ..Precision::BF16 }),
    (
        "a8w8",
        Precision { weights: DType::Int8, head: DType::Int8, activations: DType::Int8, kv: DType::Bf16 },
    ),
    (
        "a8w4",
        Precision { weights: DType::Int4, head: DType::Int4, activations: DType::Int8, kv: DType::Bf16 },
    ),
];

const LINES: [(&str, Phase, u32, u32, u32, Against); 10] = [
    ("decode b1 c128 / read", Phase::Decode, 1, 1, 128, Against::Read),
    ("decode b1 c8192 / read", Phase::Decode, 1, 1, 8192, Against::Read),
    ("attention b1 c8192 / read", Phase::Decode, 1, 1, 8192, Against::AttentionRead),
    ("decode b2 c128 / roof", Phase::Decode, 2, 1, 128, Against::Roof),
    ("decode b4 c128 / roof", Phase::Decode, 4, 1, 128, Against::Roof),
    ("decode b8 c128 / roof", Phase::Decode, 8, 1, 128, Against::Roof),
    ("decode b16 c128 / roof", Phase::Decode, 16, 1, 128, Against::Roof),
    ("decode b32 c128 / peak", Phase::Decode, 32, 1, 128, Against::Peak),
    ("decode b64 c128 / peak", Phase::Decode, 64, 1, 128, Against::Peak),
    ("prefill 512 / peak", Phase::Prefill, 1, 512, 512, Against::Peak),
];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let options = options();
    println!(
        "{:<50} {:>7}  {:>15}  {:>9} {:>9} {:>7}  share of each stage, %",
        "line", "median", "spread", "step", "read", "peak"
    );
    for (name, dims) in [
        ("llama-1b", [2048, 8192, 16, 32, 8, 64]),
        ("llama-8b", [4096, 14336, 32, 32, 8, 128]),
        ("narrow-1b", [64, 64, 8, 32, 8, 64]),
        ("narrow-8b", [64, 64, 8, 32, 8, 128]),
    ] {
        let narrow = name.starts_with("narrow");
        for (&threads, precision) in options.threads.iter().flat_map(|t| PRECISIONS.map(|p| (t, p))) {
            let (types, precision) = precision;
            let types = format!("{threads}t {types}");
            let wanted = |line: &str| {
                let full = format!("{name} {types} {line}");
                line.starts_with("attention") == narrow
                    && options.filters.iter().all(|filter| full.contains(filter.as_str()))
            };
            if narrow && precision != Precision::BF16 {
                continue;
            }
            if !LINES.iter().any(|line| wanted(line.0))
                && !wanted(COST)
                && !PAGES.iter().any(|line| wanted(line.0))
            {
                continue;
            }
            let mut model = model(name, dims);
            if narrow {
                (model.vocab, model.layers) = (64, 8);
            } else {
                model.layers = model.layers.min(options.layers.max(1));
            }
            let open = OpenOptions {
                threads: Some(threads),
                instruction_set: options.set.clone(),
                ..OpenOptions::default()
            };
            let session = CpuBackend.open(&open).and_then(|mut session| {
                let residency =
                    Residency { model: model.clone(), layers: model.layers, precision, copies: 1 };
                session.load(&residency, &RandomWeights::new(1, &model))?;
                // Narrow weights are no footprint to measure memory by: a session without any has its own.
                Ok((session, if narrow { Some(CpuBackend.open(&open)?) } else { None }))
            });
            let (mut session, mut prober) = match session {
                Ok(sessions) => sessions,
                Err(failure) => {
                    println!("{name} {types}: {failure}");
                    continue;
                }
            };
            let cost = if !narrow && wanted(COST) {
                cost_of_eight(session.as_mut(), &model, &types, options.rounds)
            } else {
                Ok(())
            };
            if let Err(failure) = cost {
                println!("{name} {types} {COST}: {failure}");
            }
            for &(line, page) in PAGES.iter().filter(|line| wanted(line.0)) {
                let name = format!("{name} {types} {line}");
                if let Err(failure) = cost_of_pages(session.as_mut(), &name, page, options.rounds) {
                    println!("{name}: {failure}");
                }
            }
            for line in LINES.iter().filter(|line| wanted(line.0)) {
                let prober = prober.as_deref_mut();
                let work = (precision, types.as_str());
                if let Err(failure) = measure(session.as_mut(), prober, &model, line, work, options.rounds) {
                    println!("{name} {types} {}: {failure}", line.0);
                }
            }
        }
    }
    program(&options.filters);
}

/// Name of the line that compares two batches.
const COST: &str = "decode b8 c128 time over b1";

/// What a step of eight sequences costs, in steps of one: the two in turn, round after round.
fn cost_of_eight(
    session: &mut dyn Session,
    model: &ModelSpec,
    types: &str,
    rounds: usize,
) -> llmroof::error::Result<()> {
    let mut step = |batch| -> llmroof::error::Result<f64> {
        session.prepare(&Work {
            phase: Phase::Decode,
            batch,
            tokens: 1,
            context: 128,
            chunk: None,
            kv_page: None,
        })?;
        session.run(1)?;
        Ok(median(session.run(5)?.iter().map(|e| e.seconds).collect()))
    };
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let (before, eight, after) = (step(1)?, step(8)?, step(1)?);
        ratios.push(eight * 2.0 / (before + after));
    }
    print_ratios(&format!("{} {types} {COST}", model.name), &ratios);
    println!();
    Ok(())
}

/// Lines that compare a cache in pages of so many positions with a contiguous one.
const PAGES: [(&str, u32); 3] = [
    ("attention b1 c4096 pages of 16, time over none", 16),
    ("attention b1 c4096 pages of 32, time over none", 32),
    ("attention b1 c4096 pages of 64, time over none", 64),
];

/// What attention costs with the cache in pages, in times of a contiguous one: the two in turn, round after round.
fn cost_of_pages(
    session: &mut dyn Session,
    name: &str,
    page: u32,
    rounds: usize,
) -> llmroof::error::Result<()> {
    let mut attention = |kv_page| -> llmroof::error::Result<f64> {
        let (phase, batch, tokens, context) = (Phase::Decode, 1, 1, 4096);
        session.prepare(&Work { phase, batch, tokens, context, chunk: None, kv_page })?;
        session.run(1)?;
        Ok(median(session.run(9)?.iter().map(|e| e.stages[Stage::Attention.index()]).collect()))
    };
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let (before, paged, after) = (attention(None)?, attention(Some(page))?, attention(None)?);
        ratios.push(paged * 2.0 / (before + after));
    }
    print_ratios(name, &ratios);
    println!();
    Ok(())
}

fn print_ratios(name: &str, ratios: &[f64]) {
    let (low, high) = ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), &r| (low.min(r), high.max(r)));
    print!("{name:<50} {:>7.3}  {low:>6.3} - {high:<6.3}", median(ratios.to_vec()));
}

/// Times the program as its users start it.
fn program(filters: &[String]) {
    let binary = env!("CARGO_BIN_EXE_llmroof");
    let reports = concat!(env!("CARGO_MANIFEST_DIR"), "/reports");
    let scratch = std::env::temp_dir().join("llmroof-bench");
    let scratch = scratch.to_string_lossy().into_owned();
    let lines: [(&str, usize, Vec<&str>); 3] = [
        ("llmroof --help", 21, vec!["--help"]),
        ("llmroof plot", 21, vec!["plot", "--reports", reports, "-o", "-"]),
        ("llmroof measure (60 s budget)", 1, vec!["measure", "--no-progress", "--reports", &scratch]),
    ];
    for (name, rounds, args) in lines {
        if !filters.iter().all(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let mut seconds = Vec::new();
        for _ in 0..rounds {
            let start = std::time::Instant::now();
            match std::process::Command::new(binary).args(&args).output() {
                Ok(output) if output.status.success() => seconds.push(start.elapsed().as_secs_f64()),
                other => println!("{name}: {other:?}"),
            }
        }
        if !seconds.is_empty() {
            println!("{name:<50} {:>9.2} ms, median of {rounds}", median(seconds) * 1e3);
        }
    }
}

/// Measures one line: in every round the ceilings before and after, and the passes between.
fn measure(
    session: &mut dyn Session,
    mut prober: Option<&mut (dyn Session + 'static)>,
    model: &ModelSpec,
    &(name, phase, batch, tokens, context, against): &(&str, Phase, u32, u32, u32, Against),
    (precision, types): (Precision, &str),
    rounds: usize,
) -> llmroof::error::Result<()> {
    let mut work = Workload::prefill(model, batch, tokens);
    (work.phase, work.context, work.precision) = (phase, context, precision);
    session.prepare(&Work { phase, batch, tokens, context, chunk: None, kv_page: None })?;
    let multiplier = session.setup().product;
    let peak = Probe::Compute(multiplier.dtype);
    session.run(1)?;
    let (mut ratios, mut steps, mut reads, mut peaks) = (vec![], vec![], vec![], vec![]);
    let mut stages = [0.0; 7];
    for _ in 0..rounds {
        let mut rate = |session: &mut dyn Session, probe, seconds| -> llmroof::error::Result<f64> {
            let session = prober.as_deref_mut().map_or(session, |prober| prober as &mut dyn Session);
            Ok(session.probe(probe, seconds)?.rate())
        };
        let mut ceilings = |session: &mut dyn Session| -> llmroof::error::Result<(f64, f64)> {
            Ok((rate(session, Probe::MemoryRead, 0.05)?, rate(session, peak, 0.02)?))
        };
        let before = ceilings(session)?;
        let n = if phase == Phase::Decode { 5 } else { 1 };
        let executions = session.run(n)?;
        let after = ceilings(session)?;
        let (read, peak) = ((before.0 + after.0) / 2.0, (before.1 + after.1) / 2.0 / multiplier.operations);
        let of = |f: &dyn Fn(&Execution) -> f64| median(executions.iter().map(f).collect());
        let seconds = of(&|e| e.seconds);
        let total = work.total();
        ratios.push(match against {
            Against::Read => total.bytes().0 / seconds / read,
            Against::AttentionRead => work.cost(Stage::Attention).kv_bytes.0 / seconds / read,
            Against::Peak => total.flops.0 / seconds / peak,
            Against::Roof => {
                let roof: f64 = Stage::ALL
                    .into_iter()
                    .map(|stage| work.cost(stage))
                    .map(|cost| (cost.bytes().0 / read).max(cost.flops.0 / peak))
                    .sum();
                roof / seconds
            }
        });
        steps.push(seconds);
        reads.push(read);
        peaks.push(peak);
        for (i, stage) in stages.iter_mut().enumerate() {
            *stage += of(&|e| e.stages[i] / e.seconds) / rounds as f64;
        }
    }
    print_ratios(&format!("{} {types} {name}", model.name), &ratios);
    println!(
        "  {:>6.2} ms {:>4.1} GB/s {:>4.0} GF  {}",
        median(steps) * 1e3,
        median(reads) / 1e9,
        median(peaks) / 1e9,
        stages.map(|s| format!("{:.1}", s * 100.0)).join(" ")
    );
    Ok(())
}
