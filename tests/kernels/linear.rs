//! One linear stage of a small model: what a kernel makes of it against float64, and against the ledger.

use llmroof::backend::cuda::driver::{Address, Driver, Gpu};
use llmroof::backend::cuda::launch::Launch;
use llmroof::backend::cuda::launch::args::LinearArgs;
use llmroof::backend::cuda::launch::format::Format;
use llmroof::backend::cuda::launch::gemv::LinearStage;
use llmroof::backend::cuda::launch::workspace::Workspace;
use llmroof::model::{ModelSpec, Precision, Tensor};
use llmroof::reference::{Numerics, Qkv, Rows, Stages};
use llmroof::workload::{Stage, Workload};
use ptx_interpreter::Profile;

use super::gpu::InterpretedGpu;
use super::held::{Held, dtype, spread};
use super::numbers::{normals, relative_error, to_bf16, wide};

/// How a family of kernels is launched, and what workspace it asks for.
pub type Kernels = (
    fn(&Gpu, LinearStage, Format, LinearArgs) -> Launch,
    fn(&Gpu, LinearStage, Format, &LinearArgs) -> Workspace,
);

/// A stage of one layer with `tokens` new tokens for each of `sequences` sequences.
#[derive(Debug, Clone)]
pub struct Case {
    pub stage: Stage,
    pub model: ModelSpec,
    pub sequences: u32,
    pub tokens: u32,
    /// Further new tokens of the last sequence, as a mixed step has them.
    pub further: u32,
    /// The head's rows repeat after this many, so that logits tie.
    pub distinct_logits: u32,
    /// What the matrices are held in.
    pub format: Format,
}

/// A model of which one layer is as wide as this.
pub fn model(hidden: u32, ffn: u32, heads: u32, kv_heads: u32, head_dim: u32, vocab: u32) -> ModelSpec {
    ModelSpec {
        name: "case".into(),
        hidden,
        ffn,
        layers: 1,
        heads,
        kv_heads,
        head_dim,
        vocab,
        tied_embeddings: false,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        max_position: 1 << 20,
        source: String::new(),
    }
}

/// What a run chose (of the head), and what it did.
#[derive(Debug)]
pub struct Outcome {
    pub chosen: Vec<u32>,
    pub profile: Profile,
}

impl Case {
    pub fn new(stage: Stage, model: ModelSpec, sequences: u32, tokens: u32) -> Self {
        let distinct_logits = model.vocab;
        Case { stage, model, sequences, tokens, further: 0, distinct_logits, format: Format::Bf16 }
    }

    /// With matrices in this format.
    pub fn held_in(self, format: Format) -> Self {
        Case { format, ..self }
    }

    /// With so many more tokens of the last sequence.
    pub fn with_further(self, further: u32) -> Self {
        Case { further, ..self }
    }

    /// Token rows.
    fn rows(&self) -> u32 {
        self.sequences * self.tokens + self.further
    }

    /// Sequence and position of each token row.
    fn places(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let tokens = |sequence| self.tokens + if sequence + 1 == self.sequences { self.further } else { 0 };
        (0..self.sequences).flat_map(move |sequence| {
            (0..tokens(sequence)).map(move |token| (sequence, self.start(sequence) + token))
        })
    }

    /// Runs the stage several times and asserts: values are those of the reference, the same bits every time;
    /// matrix work, weights, cache and activations are the ledger's to the byte; weights come 16 bytes at a time
    /// and once; counters are zero again.
    pub fn check(&self, gpu: Gpu, kernels: Kernels) -> Outcome {
        let mut run = Run::new(self, gpu, kernels);
        let first = run.values();
        let expected = run.expected();
        for (row, (values, expected)) in first.iter().zip(&expected).enumerate() {
            let error = relative_error(values, expected);
            assert!(error < 1e-2, "{self:?}: row {row} is off by {error}");
        }
        assert_eq!(first, run.values(), "{self:?}: another run, other values");

        // As a step runs it: nothing stored that is for verification, the next launch already waiting.
        run.args.logits = 0;
        let chosen = run.launch();
        assert_eq!(chosen, run.launch_twice(), "{self:?}");
        if self.stage == Stage::LmHead {
            let argmax =
                |row: &Vec<f64>| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            let expected: Vec<u32> = first.iter().map(|row| argmax(row) as u32).collect();
            assert_eq!(chosen, expected, "{self:?}");
        }
        let profile = run.gpu.profiles.pop().unwrap().1;
        self.check_profile(&profile);
        Outcome { chosen, profile }
    }

    fn check_profile(&self, profile: &Profile) {
        let dtype = dtype(self.format);
        let work = Workload {
            precision: Precision { weights: dtype, head: dtype, ..Precision::BF16 },
            ..match self.further {
                0 => Workload::prefill(&self.model, self.sequences, self.tokens),
                // Whose the rows are is no matter to a product.
                _ => Workload::prefill(&self.model, 1, self.rows()),
            }
        };
        let cost = work.cost(self.stage);
        let sum = |names: &[&str], of: fn(&ptx_interpreter::Traffic) -> u64| -> u64 {
            profile.traffic.iter().filter(|traffic| names.contains(&traffic.name.as_str())).map(of).sum()
        };
        let weights = ["w0", "w1", "w2"];
        let read = sum(&weights, |traffic| traffic.unique_read);
        assert_eq!(profile.matrix.effective as f64, cost.flops.0, "{self:?}");
        assert!(profile.matrix.executed >= profile.matrix.effective);
        assert_eq!(
            (read + sum(&["norm", "scales"], |traffic| traffic.unique_read)) as f64,
            cost.weight_bytes.0,
            "{self:?}"
        );
        let by_warps = sum(&weights, |traffic| traffic.read_by_warps);
        assert!(by_warps as f64 <= 1.02 * read as f64, "{self:?}: {by_warps} bytes of {read} are read");
        assert_eq!(sum(&["keys", "values"], |traffic| traffic.unique_written) as f64, cost.kv_bytes.0);
        assert_eq!(sum(&["keys", "values"], |traffic| traffic.read), 0);
        let activations = sum(&["x", "y"], |traffic| traffic.unique_read + traffic.unique_written);
        assert_eq!(activations as f64, cost.activation_bytes.0, "{self:?}");
        for traffic in &profile.traffic {
            if ["w0", "w1", "w2", "norm", "x", "y", "keys", "values"].contains(&traffic.name.as_str()) {
                // A row may end in half a piece.
                let half =
                    |width: &u32| self.format.is_quantised() && *width == 8 && traffic.name.starts_with('w');
                assert!(
                    traffic.widths.keys().all(|width| *width == 16 || half(width)),
                    "{self:?}: {traffic:?}"
                );
            }
        }
        assert_eq!(profile.local_bytes, 0, "{self:?}");
    }

    fn linear_stage(&self) -> LinearStage {
        match self.stage {
            Stage::Qkv => LinearStage::Qkv,
            Stage::OutProj | Stage::Down => LinearStage::Residual,
            Stage::GateUp => LinearStage::GateUp,
            Stage::LmHead => LinearStage::LmHead,
            Stage::Embed | Stage::Attention => panic!("not linear"),
        }
    }

    /// Norm and matrices of the stage.
    fn tensors(&self) -> (Option<Tensor>, &'static [Tensor]) {
        match self.stage {
            Stage::Qkv => (Some(Tensor::AttentionNorm), &[Tensor::Q, Tensor::K, Tensor::V]),
            Stage::OutProj => (None, &[Tensor::O]),
            Stage::GateUp => (Some(Tensor::FfnNorm), &[Tensor::Gate, Tensor::Up]),
            Stage::Down => (None, &[Tensor::Down]),
            _ => (Some(Tensor::FinalNorm), &[Tensor::Head]),
        }
    }

    /// Where a sequence's new tokens begin: far on where there are few sequences.
    fn start(&self, sequence: u32) -> u32 {
        sequence * (200_001 / self.sequences.pow(2))
    }
}

/// The stage's weights: each tensor and its columns. Norms are bf16.
struct Weights(Vec<(Tensor, Held, usize)>);

impl Weights {
    fn of(case: &Case) -> Self {
        let (norm, matrices) = case.tensors();
        Weights(norm.iter().chain(matrices).map(|&tensor| Self::tensor(case, tensor)).collect())
    }

    fn tensor(case: &Case, tensor: Tensor) -> (Tensor, Held, usize) {
        let (rows, columns) = tensor.shape(&case.model);
        let (rows, columns) = (rows as usize, columns as usize);
        if tensor.is_norm() {
            let values = wide(&normals(tensor as u64, columns, 0.1));
            let values: Vec<u16> = values.iter().map(|x| to_bf16((1.0 + x) as f32)).collect();
            return (tensor, Held::new(Format::Bf16, &values, columns), columns);
        }
        let distinct = if tensor == Tensor::Head { case.distinct_logits as usize } else { rows };
        let (seed, count, deviation) = (tensor as u64, distinct * columns, 1.0 / (columns as f64).sqrt());
        let values = match case.format {
            Format::Bf16 => normals(seed, count, deviation),
            _ => spread(seed, columns, count, 1.5 * deviation),
        };
        let values: Vec<u16> = values.iter().copied().cycle().take(rows * columns).collect();
        (tensor, Held::new(case.format, &values, columns), columns)
    }

    fn held(&self, tensor: Tensor) -> (&Held, usize) {
        let (_, held, columns) = self.0.iter().find(|(of, ..)| *of == tensor).unwrap();
        (held, *columns)
    }
}

impl Rows for Weights {
    fn row(&self, tensor: Tensor, _layer: u32, row: u32, out: &mut [f64]) {
        let (held, columns) = self.held(tensor);
        out.copy_from_slice(&held.values[row as usize * columns..][..columns]);
    }
}

/// A case on a GPU.
struct Run<'a> {
    case: &'a Case,
    gpu: InterpretedGpu,
    launch: fn(&Gpu, LinearStage, Format, LinearArgs) -> Launch,
    args: LinearArgs,
    workspace: Workspace,
    weights: Weights,
    /// `[sequence][token][..]` of what goes in.
    x: Vec<u16>,
    /// The residual stream before.
    residual: Vec<u16>,
}

impl<'a> Run<'a> {
    fn new(case: &'a Case, gpu: Gpu, (launch, workspace): Kernels) -> Self {
        let model = &case.model;
        let (norm, matrices) = case.tensors();
        let [_, k] = <[u32; 2]>::from(matrices[0].shape(model));
        let all_rows = case.rows();
        let x = normals(100, (all_rows * k) as usize, 1.0);
        let mut gpu = InterpretedGpu::new(gpu);
        let weights = Weights::of(case);
        let mut upload = |tensor: Option<Tensor>, name| {
            tensor.map_or((0, 0), |tensor| weights.held(tensor).0.upload(&mut gpu, name, "scales"))
        };
        let matrix = |i| matrices.get(i).copied();
        let [(norm_at, _), (w0, s0), (w1, s1), (w2, s2)] =
            [upload(norm, "norm"), upload(matrix(0), "w0"), upload(matrix(1), "w1"), upload(matrix(2), "w2")];
        let mut args = LinearArgs {
            x: gpu.upload(&x, "x"),
            norm: norm_at,
            w0,
            w1,
            w2,
            s0,
            s1,
            s2,
            rows: all_rows,
            k,
            n: matrices[0].shape(model).0,
            x_stride: k,
            tokens: case.tokens,
            sequences: case.sequences,
            eps: model.norm_eps as f32,
            ..LinearArgs::default()
        };
        let mut residual = Vec::new();
        match case.stage {
            Stage::Qkv => {
                args.n = model.q_width() + 2 * model.kv_width();
                args.head_dim = model.head_dim;
                args.q_width = model.q_width();
                args.kv_width = model.kv_width();
                args.capacity = case.start(case.sequences - 1) + case.tokens + case.further + 3;
                let cache = u64::from(case.sequences * args.kv_width) * u64::from(args.capacity) * 2;
                args.y = gpu.allocate(u64::from(all_rows * args.q_width) * 2, "y").unwrap();
                args.keys = gpu.allocate(cache, "keys").unwrap();
                args.values = gpu.allocate(cache, "values").unwrap();
                let turns: Vec<u64> = (0..model.head_dim / 2)
                    .map(|i| {
                        let radians = model.rope_theta.powf(-f64::from(2 * i) / f64::from(model.head_dim));
                        (radians / std::f64::consts::TAU * 2f64.powi(64)) as u64
                    })
                    .collect();
                args.turns = gpu.upload(&turns, "turns");
                let start: Vec<u32> = (0..case.sequences).map(|sequence| case.start(sequence)).collect();
                args.start = gpu.upload(&start, "start");
            }
            Stage::LmHead => {
                // The last row of each sequence.
                args.rows = case.sequences;
                args.x += u64::from((case.tokens - 1) * k) * 2;
                args.x_stride = case.tokens * k;
                args.logits = gpu.allocate(u64::from(args.rows * args.n) * 4, "logits").unwrap();
                args.chosen = gpu.allocate(u64::from(args.rows) * 4, "chosen").unwrap();
                args.best = gpu.upload(&vec![0u64; args.rows as usize], "best");
            }
            _ => {
                args.y = gpu.allocate(u64::from(all_rows * args.n) * 2, "y").unwrap();
                if norm.is_none() {
                    residual = normals(101, (all_rows * args.n) as usize, 1.0);
                }
            }
        }
        let workspace = workspace(&Driver::gpu(&gpu).clone(), case.linear_stage(), case.format, &args);
        args.partial = gpu.allocate(workspace.partial_bytes.max(16), "partial").unwrap();
        args.arrivals = gpu.upload(&vec![0u32; workspace.arrivals.max(1) as usize], "arrivals");
        Run { case, gpu, launch, args, workspace, weights, x, residual }
    }

    /// Runs the stage; what it chose.
    fn launch(&mut self) -> Vec<u32> {
        if !self.residual.is_empty() {
            self.gpu.write(self.args.y, bytemuck::cast_slice(&self.residual)).unwrap();
        }
        let launch = (self.launch)(
            &Driver::gpu(&self.gpu).clone(),
            self.case.linear_stage(),
            self.case.format,
            self.args,
        );
        self.gpu.launch(&launch).unwrap_or_else(|failure| panic!("{:?}: {failure}", self.case));
        self.chosen()
    }

    /// The same with nothing between two launches.
    fn launch_twice(&mut self) -> Vec<u32> {
        let launch = (self.launch)(
            &Driver::gpu(&self.gpu).clone(),
            self.case.linear_stage(),
            self.case.format,
            self.args,
        );
        for _ in 0..2 {
            self.gpu.launch(&launch).unwrap_or_else(|failure| panic!("{:?}: {failure}", self.case));
        }
        self.chosen()
    }

    fn chosen(&self) -> Vec<u32> {
        let arrivals = self.gpu.download::<u32>(self.args.arrivals, self.workspace.arrivals as usize);
        assert!(arrivals.iter().all(|&count| count == 0), "{:?}: {arrivals:?}", self.case);
        if self.case.stage != Stage::LmHead {
            return Vec::new();
        }
        let rows = self.args.rows as usize;
        assert_eq!(self.gpu.download::<u64>(self.args.best, rows), vec![0; rows]);
        self.gpu.download(self.args.chosen, rows)
    }

    /// Runs the stage; `[part of a token's row][element]`, for QKV the parts are q, k and v.
    fn values(&mut self) -> Vec<Vec<f64>> {
        self.launch();
        let (args, rows) = (&self.args, self.args.rows);
        let bf16 = |from: Address, first: u64, count: u32| {
            wide(&self.gpu.download::<u16>(from + 2 * first, count as usize))
        };
        match self.case.stage {
            Stage::Qkv => (0..rows)
                .zip(self.case.places())
                .flat_map(|(row, (sequence, position))| {
                    let position = u64::from(position);
                    let heads = args.kv_width / args.head_dim;
                    let cached = |cache: Address| {
                        let line =
                            |head| u64::from(sequence * heads + head) * u64::from(args.capacity) + position;
                        (0..heads)
                            .flat_map(|head| {
                                bf16(cache, line(head) * u64::from(args.head_dim), args.head_dim)
                            })
                            .collect()
                    };
                    let q = bf16(args.y, u64::from(row * args.q_width), args.q_width);
                    [q, cached(args.keys), cached(args.values)]
                })
                .collect(),
            Stage::LmHead => {
                let logits = self.gpu.download::<f32>(args.logits, (rows * args.n) as usize);
                logits
                    .chunks_exact(args.n as usize)
                    .map(|row| row.iter().map(|&x| f64::from(x)).collect())
                    .collect()
            }
            _ => (0..rows).map(|row| bf16(args.y, u64::from(row * args.n), args.n)).collect(),
        }
    }

    /// What `values` should be.
    fn expected(&self) -> Vec<Vec<f64>> {
        let (case, model) = (self.case, &self.case.model);
        let stages = Stages::new(model, &self.weights, Numerics::exact(Precision::BF16));
        let (x, residual) = (wide(&self.x), wide(&self.residual));
        let rows =
            |values: Vec<f64>, width: u32| values.chunks_exact(width as usize).map(<[f64]>::to_vec).collect();
        match case.stage {
            Stage::Qkv => {
                let positions: Vec<u32> = case.places().map(|(_, position)| position).collect();
                let layout = Qkv::of(model);
                let out = stages.qkv(0, &x, &positions);
                out.chunks_exact(layout.width())
                    .flat_map(|row| {
                        let (q, kv) = row.split_at(layout.q);
                        [q.to_vec(), kv[..layout.kv].to_vec(), kv[layout.kv..].to_vec()]
                    })
                    .collect()
            }
            Stage::OutProj => rows(stages.out_proj(0, &x, &residual), model.hidden),
            Stage::Down => rows(stages.down(0, &x, &residual), model.hidden),
            Stage::GateUp => rows(stages.gate_up(0, &x), model.ffn),
            _ => {
                let row = model.hidden as usize;
                let last = x.chunks_exact(row * case.tokens as usize);
                let last: Vec<f64> = last.flat_map(|rows| &rows[rows.len() - row..]).copied().collect();
                rows(stages.lm_head(&last), model.vocab)
            }
        }
    }
}
