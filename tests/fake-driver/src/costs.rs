//! What the suite's kernels touch and do, read from their parameters: the layouts of `kernels/stages.cuh`,
//! `kernels/attention.cuh` and of the sources beside them, known here once more and on purpose.

/// Arithmetic units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unit {
    Bf16,
    F16,
    Int8,
    Fp8,
    F32,
}

/// What a piece of work costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Bytes moved.
    pub bytes: f64,
    /// At this share of the datasheet's bandwidth.
    pub of_bandwidth: f64,
    /// They come from L2.
    pub cached: bool,
    /// Operations done.
    pub flops: f64,
    /// By these units.
    pub unit: Unit,
    /// At this share of the datasheet's peak.
    pub of_peak: f64,
    /// Nanoseconds besides.
    pub fixed: f64,
}

impl Cost {
    /// Memory traffic alone.
    pub fn memory(bytes: f64, of_bandwidth: f64) -> Cost {
        Cost { bytes, of_bandwidth, cached: false, flops: 0.0, unit: Unit::F32, of_peak: 1.0, fixed: 0.0 }
    }

    /// Traffic and matrix products together, both below what the ceilings' kernels reach.
    pub fn product(bytes: f64, flops: f64) -> Cost {
        Cost { flops, unit: Unit::Bf16, of_peak: 0.75, ..Cost::memory(bytes, 0.90) }
    }

    /// Something that is not known.
    pub fn unknown() -> Cost {
        Cost { fixed: 700.0, ..Cost::memory(0.0, 1.0) }
    }
}

/// A range of device memory that a kernel uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub address: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// The parameter.
    pub what: &'static str,
}

/// How a kernel is carried out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    /// By the interpreter.
    Interpret,
    /// Not at all: nothing reads what it makes.
    Skip,
    /// By writing `count` bf16 numbers with this mean and deviation.
    Fill {
        /// Where.
        to: u64,
        /// How many.
        count: u64,
        /// Their mean.
        mean: f32,
        /// Their deviation.
        deviation: f32,
    },
    /// By copying.
    Copy {
        /// Where from.
        from: u64,
        /// Where to.
        to: u64,
        /// How much.
        bytes: u64,
    },
}

/// A launch as understood from its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Understood {
    /// What it costs.
    pub cost: Cost,
    /// What it uses.
    pub spans: Vec<Span>,
    /// How it is done.
    pub way: Way,
}

/// The parameter bytes of a launch.
pub struct Parameters<'a>(pub &'a [u8]);

impl Parameters<'_> {
    /// The four bytes there; 0 beyond the end.
    pub fn word(&self, offset: usize) -> u64 {
        let bytes = self.0.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
        u64::from(bytes.map_or(0, u32::from_le_bytes))
    }

    /// The eight bytes there; 0 beyond the end.
    pub fn wide(&self, offset: usize) -> u64 {
        let bytes = self.0.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    }

    fn float(&self, offset: usize) -> f32 {
        f32::from_bits(self.word(offset) as u32)
    }
}

/// What a launch is taken from.
pub struct Launched<'a> {
    /// Entry point.
    pub kernel: &'a str,
    /// Of `hopper.cu`, which has names that `ceilings.cu` has too.
    pub hopper: bool,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Parameter bytes.
    pub parameters: &'a [u8],
}

/// Understands a launch of one of the suite's kernels. `start` reads that many u32 of device memory; `None` is a
/// kernel of others.
pub fn understand(launched: &Launched, start: &dyn Fn(u64, u64) -> Vec<u32>) -> Option<Understood> {
    let p = Parameters(launched.parameters);
    let kernel = launched.kernel;
    if kernel.starts_with("gemv_") || kernel.starts_with("skinny_") || kernel.starts_with("gemm_") {
        return crate::stages::linear(kernel, &p);
    }
    if kernel.contains("attention") {
        return crate::stages::attention(launched, &p, start);
    }
    if kernel.starts_with("quantise_") {
        return crate::stages::quantise(kernel, &p);
    }
    if kernel.starts_with("reference_") {
        return crate::stages::linear(kernel, &p);
    }
    let interpret = |cost, spans| Some(Understood { cost, spans, way: Way::Interpret });
    let span = |address, bytes, what| Span { address, bytes, what };
    match kernel {
        "embed" => {
            let (rows, k) = (u64::from(launched.grid[0]), p.word(24));
            // The rows that are looked up lie anywhere in the table: its first is checked.
            let spans = vec![
                span(p.wide(0), 2 * k, "table"),
                span(p.wide(8), 4 * rows, "tokens"),
                span(p.wide(16), 2 * rows * k, "residual"),
            ];
            interpret(Cost::memory((4 * rows * k) as f64, 0.85), spans)
        }
        "rms_norm" => {
            let (rows, k, stride) = (u64::from(launched.grid[0]), p.word(24), p.word(28));
            let spans = vec![
                span(p.wide(0), 2 * ((rows - 1) * stride + k), "x"),
                span(p.wide(8), 2 * k, "norm"),
                span(p.wide(16), 2 * rows * k, "normed"),
            ];
            interpret(Cost::memory((4 * rows * k) as f64, 0.85), spans)
        }
        "rotate_append" | "silu_multiply" | "append_int8" | "append_fp8" => crate::stages::finish(kernel, &p),
        "fill_normals" => {
            let (to, count) = (p.wide(0), p.wide(8));
            let way = if count > MOST_FILLED {
                Way::Fill { to, count, mean: p.float(24), deviation: p.float(28) }
            } else {
                Way::Interpret
            };
            let spans = vec![span(to, 2 * count, "to")];
            Some(Understood { cost: Cost::memory(2.0 * count as f64, 0.6), spans, way })
        }
        "read_memory" | "copy_memory" | "read_cache" => stream(kernel, &p),
        _ => peak(launched, &p),
    }
}

/// Elements that `fill_normals` is interpreted for.
const MOST_FILLED: u64 = 1 << 20;
/// Bytes that `copy_memory` copies; nobody reads what more than this would give.
const MOST_COPIED: u64 = 16 << 20;
/// Bytes of a tile of `read_cache`.
const TILE: u64 = 32 << 10;

fn stream(kernel: &str, p: &Parameters) -> Option<Understood> {
    let (from, to, sum) = (p.wide(0), p.wide(8), p.wide(16));
    let bytes = p.wide(24).checked_mul(16)?;
    let mut spans = vec![Span { address: from, bytes, what: "from" }];
    if sum != 0 {
        spans.push(Span { address: sum, bytes: 4, what: "sum" });
    }
    let way = if sum == 0 { Way::Skip } else { Way::Interpret };
    Some(match kernel {
        "read_memory" => Understood { cost: Cost::memory(bytes as f64, 0.93), spans, way },
        "read_cache" => {
            let total = p.wide(32) * TILE;
            let cost = Cost { cached: true, ..Cost::memory(total as f64, 3.0) };
            Understood { cost, spans, way }
        }
        _ => {
            spans.push(Span { address: to, bytes, what: "to" });
            let way = if bytes > MOST_COPIED { Way::Skip } else { Way::Copy { from, to, bytes } };
            Understood { cost: Cost::memory(2.0 * bytes as f64, 0.90), spans, way }
        }
    })
}

/// The arithmetic ceilings.
fn peak(launched: &Launched, p: &Parameters) -> Option<Understood> {
    let unit = match launched.kernel {
        "peak_bf16" => Unit::Bf16,
        "peak_f16" => Unit::F16,
        "peak_int8" => Unit::Int8,
        "peak_fp8" => Unit::Fp8,
        "peak_f32" => Unit::F32,
        _ => return None,
    };
    let (operands, out, rounds) = (p.wide(0), p.wide(8), p.word(16));
    let blocks: u64 = launched.grid.iter().map(|&size| u64::from(size)).product();
    let narrow = if matches!(unit, Unit::Int8 | Unit::Fp8) { 2 } else { 1 };
    // Operations of a block in a round, as the sources have them; bytes of its operands and of its sums.
    let (operations, taken, given) = match (unit, launched.hopper) {
        (Unit::F32, _) => (256 * 16 * 2, 8 * 24 * 32 * 4, 8 * 16 * 32 * 4),
        (_, true) => (narrow * 2 * 16 * 2 * 64 * 256 * 16, (2 * 64 + 256) * 128, 2 * 64 * 256 * 4),
        (_, false) => (narrow * 8 * 16 * 2 * 16 * 8 * 16, 8 * 24 * 32 * 4, 8 * 64 * 32 * 4),
    };
    let mut spans = vec![Span { address: operands, bytes: taken, what: "operands" }];
    if out != 0 {
        spans.push(Span { address: out, bytes: blocks * given, what: "out" });
    }
    // Of the warpgroup instructions' peak, mma.sync gets about 0.6 on Hopper; `ceilings` is not used there.
    let cost = Cost {
        flops: (blocks * rounds) as f64 * f64::from(operations),
        unit,
        of_peak: 0.95,
        ..Cost::memory(0.0, 1.0)
    };
    Some(Understood { cost, spans, way: if out == 0 { Way::Skip } else { Way::Interpret } })
}
