//! The command line, as clap sees it. Definitions only.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use crate::compare::Prices;
pub use crate::export::Format;
pub use crate::export::comparison::ComparisonFormat;
pub use crate::plot::size::Size;
pub use crate::run::Condition;
use crate::sweep::Sweep;

mod all_reduces;
mod parse;
mod precision;
mod ways;

pub use all_reduces::AllReducesArgs;
pub use precision::{ActivationsArg, HeadArg, KvArg, PrecisionArgs, WeightsArg};
pub use ways::WaysArgs;

use parse::{parse_condition, parse_duration, parse_layers, parse_prices, parse_share};

/// Roofline and memory-bandwidth profiler for LLM inference
#[derive(Debug, Parser)]
#[command(name = "llmroof", version, about, max_term_width = 110, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 a check failed or the verdict is slower, 2 usage, bad input or a place \
that cannot be written to, 3 inconclusive, 4 the device cannot run it, 5 a result is not to be believed, \
130/143 interrupted (what was measured is kept)."
)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the suite: table on stdout, run file in reports/
    Measure(MeasureArgs),
    /// Draw one or more runs as SVG or PNG, in the terminal, or as an HTML report with everything in it
    Plot(PlotArgs),
    /// The same table from a device profile, without the hardware
    Predict(PredictArgs),
    /// Judge whether NEW is slower or faster than BASE, from their trials
    Compare(CompareArgs),
    /// Check that the kernels on this device compute a real Llama
    Verify(VerifyArgs),
    /// What a course says of decode on an A100, claim by claim: computed, measured, verdict
    Claims(ClaimsArgs),
    /// Is a device as fast as it must be? One line, exit 0 or 1: for Slurm, Kubernetes, monitoring
    Check(CheckArgs),
    /// The devices of this machine and the known device profiles
    Devices(CatalogArgs),
    /// The known models, or what a config.json describes
    Models(CatalogArgs),
    /// Times all-reduces for a measurement, in a process of their own
    #[command(hide = true)]
    AllReduces(AllReducesArgs),
}

/// Where results go.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Format of what is printed on stdout
    #[arg(short, long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,
    /// Also write the result to a file, its format by the ending (.json, .csv, .md, .txt, .benchmark.json, .bmf.json);
    /// - is stdout
    #[arg(long, value_name = "PATH")]
    pub export: Vec<PathBuf>,
}

/// Which part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PhaseArg {
    /// Prompt tokens in one pass
    Prefill,
    /// One token per pass
    Decode,
    /// Both
    All,
}

/// What runs a GPU's matrix products of many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GemmArg {
    /// The faster of the two in each pass
    Auto,
    /// The kernels of this program
    Own,
    /// The machine's cuBLASLt
    Cublaslt,
}

/// How many of the identical layers to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayersArg {
    /// As many as memory and budget allow, scaled to all
    Auto,
    /// Every layer
    All,
    /// This many, scaled to all
    Count(u32),
}

/// What to run, for `measure` and `predict`.
#[derive(Debug, Args)]
pub struct WorkArgs {
    /// Which phases
    #[arg(long, value_enum, default_value_t = PhaseArg::All)]
    pub phase: PhaseArg,
    /// Batch sizes of the decode sweep, as 1,8,32 or 1-256*2
    #[arg(long, default_value = "1,2,4,8,16,32", value_name = "SWEEP", env = "LLMROOF_BATCH")]
    pub batch: Sweep,
    /// Prompt lengths in tokens, as 1000 or 128-4096*2; the request is that of the shortest
    #[arg(long, default_value = "1000", value_name = "SWEEP")]
    pub prompt: Sweep,
    /// Attended positions in decode, as 1000 or 128,8192 [default: the middle of the generation, prompt + generate / 2]
    #[arg(long, value_name = "SWEEP")]
    pub context: Option<Sweep>,
    /// Generated tokens of the request
    #[arg(long, default_value_t = 100, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub generate: u32,
    /// Ranks of tensor parallelism, as 1,2,4,8: one rank's shard of the model is run; all-reduces are measured with
    /// NCCL among as many GPUs of its kind, where they are there, and otherwise modelled
    #[arg(long, default_value = "1", value_name = "SWEEP", env = "LLMROOF_TP")]
    pub tp: Sweep,
    /// Device profile over whose link all-reduces are modelled [default: the device's own]
    #[arg(long, value_name = "PROFILE", env = "LLMROOF_LINK")]
    pub link: Option<String>,
}

/// What runs the work, for `measure` and `verify`.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// auto (a GPU if there is one), cpu, cuda:N, cuda:all, a GPU's UUID or its PCI address
    #[arg(long = "device", value_name = "NAME", default_value = "auto", env = "LLMROOF_DEVICE")]
    pub name: String,
    /// GPU: what runs the matrix products of many rows
    #[arg(long, value_enum, default_value_t = GemmArg::Auto, value_name = "WHICH", env = "LLMROOF_GEMM")]
    pub gemm: GemmArg,
    /// GPU: longest wait for one piece of work, as 60s or 5m
    #[arg(long, default_value = "2m", value_parser = parse_duration, value_name = "TIME", env = "LLMROOF_TIMEOUT")]
    pub timeout: Duration,
    /// CPU: threads [default: one per physical core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096), env = "LLMROOF_THREADS")]
    pub threads: Option<u32>,
    /// CPU: instruction set: auto, avx512-bf16, avx512, avx2, portable
    #[arg(long, default_value = "auto", value_name = "NAME", env = "LLMROOF_ISA")]
    pub isa: String,
}

/// What `--append` and `--resume` take from the run file.
const OF_A_RUN: [&str; 23] = [
    "model",
    "checkpoint",
    "name",
    "gemm",
    "threads",
    "isa",
    "phase",
    "batch",
    "prompt",
    "context",
    "generate",
    "tp",
    "link",
    "layers",
    "weights",
    "head",
    "activations",
    "kv",
    "kv_page",
    "speculate",
    "mix",
    "ways",
    "seed",
];

/// Arguments of `measure`.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// Model preset, or path of a config.json
    #[arg(short, long, default_value = "llama-8b", value_name = "NAME|PATH", env = "LLMROOF_MODEL")]
    pub model: String,
    /// Use the weights of this Hugging Face folder instead of random ones
    #[arg(long, value_name = "DIR", conflicts_with = "model")]
    pub checkpoint: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub work: WorkArgs,
    /// Layers to run: a number, all, or auto
    #[arg(long, default_value = "auto", value_parser = parse_layers)]
    pub layers: LayersArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub precision: PrecisionArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub ways: WaysArgs,
    /// Time to spend, as 60s or 5m [default: 25s on a GPU, 60s on a CPU, for each trial]
    #[arg(long, value_parser = parse_duration, value_name = "TIME", env = "LLMROOF_BUDGET")]
    pub budget: Option<Duration>,
    /// Also measure the compute peak after working at it for so long, as 10s; beyond the budget
    #[arg(long, value_parser = parse_duration, value_name = "TIME", env = "LLMROOF_SOAK")]
    pub soak: Option<Duration>,
    /// Whole trials, each with fresh contexts and allocations; `compare` counts trials
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeat: u32,
    /// Add --repeat trials to this run file: its work, on its device, under its conditions
    #[arg(long, value_name = "RUN", conflicts_with_all = OF_A_RUN)]
    pub append: Option<PathBuf>,
    /// Complete this run file, which was interrupted or whose budget ended
    #[arg(long, value_name = "RUN", conflicts_with_all = OF_A_RUN, conflicts_with_all = ["repeat", "append"])]
    pub resume: Option<PathBuf>,
    /// Seed of the random weights
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder of run files
    #[arg(long, default_value = "reports", value_name = "DIR", env = "LLMROOF_REPORTS")]
    pub reports: PathBuf,
    /// No progress on stderr
    #[arg(long)]
    pub no_progress: bool,
    /// More profiles: a folder with devices/ and models/
    #[arg(long, value_name = "DIR", env = "LLMROOF_PROFILES")]
    pub profiles: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}

/// Arguments of `plot`.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Run files; several are drawn over each other [default: the newest run in --reports]
    pub runs: Vec<PathBuf>,
    /// Where the picture goes, SVG or PNG by the ending; - is stdout, as SVG; .html gets a report with every figure, the
    /// numbers and the conditions [default: the first run file's name with .svg]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Folder of run files
    #[arg(long, default_value = "reports", value_name = "DIR", env = "LLMROOF_REPORTS")]
    pub reports: PathBuf,
    /// Which figure; all writes one file each, named after the output: NAME-roofline.svg, NAME-stages.svg, ...
    #[arg(long, value_enum, default_value_t = FigureArg::Roofline)]
    pub figure: FigureArg,
    /// Draw whole steps, stages, or both on the roofline [default: both of one run, whole steps of several]
    #[arg(long, value_enum)]
    pub level: Option<LevelArg>,
    /// Pixels of the picture, as 1800 or 1800x1200, into which it is scaled [default: 1800 for PNG, 900 for SVG]
    #[arg(long, value_name = "WIDTH[xHEIGHT]")]
    pub size: Option<Size>,
    /// Colours; auto follows the reader's system, and is light in PNG
    #[arg(long, value_enum, default_value_t = ThemeArg::Auto)]
    pub theme: ThemeArg,
    /// Draw the roofline of whole steps here in the terminal instead
    #[arg(long, conflicts_with_all = ["output", "figure", "level", "size", "theme"])]
    pub term: bool,
}

/// Which figure a plot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FigureArg {
    /// Rate over arithmetic intensity, under the roofs
    Roofline,
    /// Where the time of each step goes, stage by stage
    Stages,
    /// Tokens per second against batch size
    Batch,
    /// Tokens per second against context
    Context,
    /// All of these that the runs have points for
    All,
}

/// The colours of a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ThemeArg {
    /// Light or dark as the reader's system is set, for paper when printed
    Auto,
    /// On white
    Light,
    /// On a dark screen
    Dark,
    /// On paper
    Print,
}

/// What a plot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    /// Whole steps
    Phase,
    /// Stages
    Stage,
    /// Both
    All,
}

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// Model preset, or path of a config.json
    #[arg(short, long, default_value = "llama-8b", value_name = "NAME|PATH", env = "LLMROOF_MODEL")]
    pub model: String,
    /// Device profile
    #[arg(short, long, value_name = "NAME")]
    pub device: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub work: WorkArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub precision: PrecisionArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub ways: WaysArgs,
    /// Show the arithmetic: bytes, FLOPs, intensity, ridge, ceiling in tokens per second
    #[arg(long)]
    pub explain: bool,
    /// Also write a run file to this folder
    #[arg(long, value_name = "DIR", env = "LLMROOF_REPORTS")]
    pub reports: Option<PathBuf>,
    /// More profiles: a folder with devices/ and models/
    #[arg(long, value_name = "DIR", env = "LLMROOF_PROFILES")]
    pub profiles: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}

/// Arguments of `claims`.
#[derive(Debug, Args)]
pub struct ClaimsArgs {
    /// Run files that `measure` wrote, of one model; without any only what is computed is shown
    pub runs: Vec<PathBuf>,
    /// Device profile that the claims are held against
    #[arg(short, long, value_name = "NAME", default_value = "a100-sxm4-80gb")]
    pub device: String,
    /// Model preset, or path of a config.json [default: that of the runs, or llama-8b]
    #[arg(short, long, value_name = "NAME|PATH")]
    pub model: Option<String>,
    /// More profiles: a folder with devices/ and models/
    #[arg(long, value_name = "DIR", env = "LLMROOF_PROFILES")]
    pub profiles: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MetricArg {
    /// Seconds of a step or stage
    Time,
    /// Its time over the shortest that the roofs probed beside it allow: a machine that is slower by itself today
    /// does not count
    Roof,
}

/// Verdicts that end in a failing exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailOnArg {
    /// Slower ends in exit code 1, inconclusive in 0 with a warning
    Slower,
    /// Inconclusive ends in exit code 3 as well
    Inconclusive,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// What NEW is held against: a run file, or a folder of run files
    #[arg(value_name = "BASE", required_unless_present = "base_files")]
    pub base: Option<PathBuf>,
    /// What is judged: a run file, or a folder of run files
    #[arg(value_name = "NEW", required_unless_present = "new_files")]
    pub new: Option<PathBuf>,
    /// More runs of BASE
    #[arg(long = "base", id = "base_files", value_name = "RUN", num_args = 1..)]
    pub base_files: Vec<PathBuf>,
    /// More runs of NEW
    #[arg(long = "new", id = "new_files", value_name = "RUN", num_args = 1..)]
    pub new_files: Vec<PathBuf>,
    /// The practical margin: nothing within it is called slower or faster
    #[arg(long, default_value = "2%", value_parser = parse_share, value_name = "SHARE", env = "LLMROOF_THRESHOLD")]
    pub threshold: f64,
    /// What is compared
    #[arg(long = "by", value_enum, default_value_t = MetricArg::Time, value_name = "WHAT")]
    pub metric: MetricArg,
    /// Compare all the same where these conditions differ: device, driver, clocks, ecc, mig, threads, isa, tool,
    /// layers, gemm, weights
    #[arg(long, value_delimiter = ',', value_parser = parse_condition, value_name = "CONDITIONS")]
    pub across: Vec<Condition>,
    /// Which verdicts end in a failing exit code
    #[arg(long, value_enum, default_value_t = FailOnArg::Slower, value_name = "VERDICT")]
    pub fail_on: FailOnArg,
    /// Dollars per hour of each side's device, for dollars per million tokens: BASE=1.5/h,NEW=3/h
    #[arg(long, value_parser = parse_prices, value_name = "PRICES")]
    pub price: Option<Prices>,
    /// Format of what is printed on stdout
    #[arg(short, long, value_enum, default_value_t = ComparisonFormat::Table, value_name = "FORMAT")]
    pub output: ComparisonFormat,
    /// Also write the result to a file, its format by the ending (.txt, .md, .json, .csv, .xml for JUnit)
    #[arg(long, value_name = "PATH")]
    pub export: Vec<PathBuf>,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Hugging Face folder: config.json, model.safetensors (also sharded), and expected.json if there is one
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub precision: PrecisionArgs,
    /// Seed of the random shapes, weights and tokens
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Format of what is printed
    #[arg(short, long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// What to hold it against: a device profile, or a run file of a healthy device, whose threads and instruction set a CPU
    /// then runs with [default: the device's profile]
    #[arg(long, value_name = "PROFILE|RUN", env = "LLMROOF_AGAINST")]
    pub against: Option<String>,
    /// With a run file: how much less than the run still passes, as 5%
    #[arg(long, default_value = "5%", value_parser = parse_share, value_name = "SHARE")]
    pub tolerance: f64,
    /// Time for all of it, as 45s, the start of the process included
    #[arg(long, default_value = "45s", value_parser = parse_duration, value_name = "TIME")]
    pub budget: Duration,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArgs,
    /// More profiles: a folder with devices/ and models/
    #[arg(long, value_name = "DIR", env = "LLMROOF_PROFILES")]
    pub profiles: Option<PathBuf>,
    /// Every figure with its floor instead of the one line
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Also write every figure to a file, its format by the ending (.json, .csv, .md, .txt)
    #[arg(long, value_name = "PATH")]
    pub export: Vec<PathBuf>,
}

/// Arguments of `devices` and `models`.
#[derive(Debug, Args)]
pub struct CatalogArgs {
    /// Only this one, in full: a name, or for models the path of a config.json
    pub name: Option<String>,
    /// More profiles: a folder with devices/ and models/
    #[arg(long, value_name = "DIR", env = "LLMROOF_PROFILES")]
    pub profiles: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}
