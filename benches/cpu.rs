//! How close the CPU's kernels come to the ceilings that are measured right before and after each of them.
//!
//! `cargo bench --bench cpu -- [--quick] [--rounds N] [--layers N] [--threads N] [FILTER...]`; filters are words
//! that a line's name must contain, such as `llama-1b` or `decode`. Ratios are medians over the rounds.
//!
//! One thread is timed by the CPU time it got, so that other load on the machine disturbs less; several by the
//! clock on the wall, so that two-thread lines want a quiet machine.

use llmroof::backend::cpu::CpuBackend;
use llmroof::backend::weights::RandomWeights;
use llmroof::backend::{Backend, Execution, OpenOptions, Probe, Residency, Session, Work};
use llmroof::model::{DType, ModelSpec};
use llmroof::workload::{Phase, Stage, Workload};

struct Options {
    rounds: usize,
    layers: u32,
    threads: Vec<usize>,
    set: Option<String>,
    filters: Vec<String>,
}

fn options() -> Options {
    let mut options = Options { rounds: 7, layers: 6, threads: vec![1, 2], set: None, filters: Vec::new() };
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

/// Seconds on the clock that fits the number of threads.
fn now(threads: usize) -> f64 {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    #[cfg(unix)]
    if threads == 1 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call fills the structure it is given.
        if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } == 0 {
            return time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9;
        }
    }
    START.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let options = options();
    println!("{:<44} {:>7}  {:>15}  {:>9} {:>9} {:>8}", "line", "median", "spread", "step", "read", "peak");
    for (name, dims) in [
        ("llama-1b", [2048, 8192, 16, 32, 8, 64]),
        ("llama-8b", [4096, 14336, 32, 32, 8, 128]),
        ("narrow-1b", [64, 64, 8, 32, 8, 64]),
        ("narrow-8b", [64, 64, 8, 32, 8, 128]),
    ] {
        let narrow = name.starts_with("narrow");
        for &threads in &options.threads {
            let wanted = |line: &str| {
                let full = format!("{name} {threads}t {line}");
                line.starts_with("attention") == narrow
                    && options.filters.iter().all(|filter| full.contains(filter.as_str()))
            };
            if !LINES.iter().any(|line| wanted(line.0)) {
                continue;
            }
            let mut model = model(name, dims);
            if narrow {
                (model.vocab, model.layers) = (64, 8);
            } else {
                model.layers = model.layers.min(options.layers.max(1));
            }
            let open = OpenOptions { threads: Some(threads), instruction_set: options.set.clone() };
            let session = CpuBackend.open(&open).and_then(|mut session| {
                let residency = Residency {
                    model: model.clone(),
                    layers: model.layers,
                    activations: DType::Bf16,
                    copies: 1,
                };
                session.load(&residency, &RandomWeights::new(1, &model))?;
                // Narrow weights are no footprint to measure memory by: a session without any has its own.
                Ok((session, if narrow { Some(CpuBackend.open(&open)?) } else { None }))
            });
            let (mut session, mut prober) = match session {
                Ok(sessions) => sessions,
                Err(failure) => {
                    println!("{name} {threads}t: {failure}");
                    continue;
                }
            };
            for line in LINES.iter().filter(|line| wanted(line.0)) {
                let prober = prober.as_deref_mut();
                if let Err(failure) = measure(session.as_mut(), prober, &model, line, threads, options.rounds)
                {
                    println!("{name} {threads}t {}: {failure}", line.0);
                }
            }
        }
    }
}

/// Measures one line: in every round the ceilings before and after, and the passes between.
fn measure(
    session: &mut dyn Session,
    mut prober: Option<&mut (dyn Session + 'static)>,
    model: &ModelSpec,
    &(name, phase, batch, tokens, context, against): &(&str, Phase, u32, u32, u32, Against),
    threads: usize,
    rounds: usize,
) -> llmroof::error::Result<()> {
    let mut work = Workload::prefill(model, batch, tokens);
    (work.phase, work.context) = (phase, context);
    session.prepare(&Work { phase, batch, tokens, context })?;
    let peak = Probe::Compute(session.setup().product_dtype);
    session.run(1)?;
    let (mut ratios, mut steps, mut reads, mut peaks) = (vec![], vec![], vec![], vec![]);
    let mut stages = [0.0; 7];
    for _ in 0..rounds {
        let mut rate = |session: &mut dyn Session, probe, seconds| -> llmroof::error::Result<f64> {
            let session = prober.as_deref_mut().map_or(session, |prober| prober as &mut dyn Session);
            let start = now(threads);
            let probed = session.probe(probe, seconds)?;
            Ok(if threads == 1 { probed.amount / (now(1) - start) } else { probed.rate() })
        };
        let mut ceilings = |session: &mut dyn Session| -> llmroof::error::Result<(f64, f64)> {
            Ok((rate(session, Probe::MemoryRead, 0.05)?, rate(session, peak, 0.02)?))
        };
        let before = ceilings(session)?;
        let n = if phase == Phase::Decode { 5 } else { 1 };
        let start = now(threads);
        let executions = session.run(n)?;
        let elapsed = (now(threads) - start) / n as f64;
        let after = ceilings(session)?;
        let (read, peak) = ((before.0 + after.0) / 2.0, (before.1 + after.1) / 2.0);
        let of = |f: &dyn Fn(&Execution) -> f64| median(executions.iter().map(f).collect());
        let seconds = if threads == 1 { elapsed } else { of(&|e| e.seconds) };
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
    let (low, high) = ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), &r| (low.min(r), high.max(r)));
    println!(
        "{:<44} {:>7.3}  {:>6.3} - {:<6.3}  {:>6.2} ms {:>4.1} GB/s {:>4.0} GF  {}",
        format!("{} {threads}t {name}", model.name),
        median(ratios),
        low,
        high,
        median(steps) * 1e3,
        median(reads) / 1e9,
        median(peaks) / 1e9,
        stages.map(|s| format!("{:.1}", s * 100.0)).join(" ")
    );
    Ok(())
}
