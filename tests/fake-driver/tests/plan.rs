//! A whole model on memory that is not there: a decode step of Llama 3 8B as a graph.

mod common;

use std::ffi::c_void;
use std::ptr;

use common::{Program, begin, number, ok};
use cudarc::driver::sys::{CUfunction, CUfunction_attribute::*, CUresult, CUstreamCaptureMode::*};
use fake_driver::graph::*;
use fake_driver::launch::cuLaunchKernel;
use fake_driver::module::cuFuncSetAttribute;
use fake_driver::stream::*;

const LAYERS: usize = 32;
const CAPACITY: u32 = 2048;

/// Parameters of the linear stages, as the kernels take them.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Linear {
    x: u64,
    norm: u64,
    w: [u64; 3],
    y: u64,
    keys: u64,
    values: u64,
    turns: u64,
    start: u64,
    logits: u64,
    chosen: u64,
    best: u64,
    partial: u64,
    arrivals: u64,
    rows: u32,
    k: u32,
    n: u32,
    x_stride: u32,
    tokens: u32,
    head_dim: u32,
    q_width: u32,
    kv_width: u32,
    capacity: u32,
    splits: u32,
    eps: f32,
    sequences: u32,
    page_shift: u32,
    reserved: u32,
    s: [u64; 3],
    pages: u64,
    fresh: u64,
    key_scales: u64,
    value_scales: u64,
}

/// Parameters of attention.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Attention {
    q: u64,
    keys: u64,
    values: u64,
    out: u64,
    start: u64,
    partial: u64,
    arrivals: u64,
    sequences: u32,
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    capacity: u32,
    splits: u32,
    scale: f32,
    page_shift: u32,
    pages: u64,
    key_scales: u64,
    value_scales: u64,
}

struct Model {
    program: Program,
    layers: Vec<[u64; 9]>,
    head: u64,
    buffer: u64,
    start: u64,
}

impl Model {
    fn load() -> Model {
        let program = Program::new();
        let matrix = |rows: usize, columns: usize| program.allocate(2 * rows * columns);
        let cache = 8 * CAPACITY as usize;
        let layers = (0..LAYERS)
            .map(|_| {
                [
                    matrix(4096, 4096),
                    matrix(1024, 4096),
                    matrix(1024, 4096),
                    matrix(4096, 4096),
                    matrix(14_336, 4096),
                    matrix(14_336, 4096),
                    matrix(4096, 14_336),
                    matrix(cache, 128),
                    matrix(cache, 128),
                ]
            })
            .collect();
        let head = matrix(128_256, 4096);
        Model {
            layers,
            head,
            buffer: program.upload(&[0; 1 << 17]),
            start: program.upload(&999u32.to_le_bytes()),
            program,
        }
    }

    fn launch<P>(&self, function: CUfunction, threads: u32, shared: u32, parameter: &P) -> CUresult {
        let mut pointers = [ptr::from_ref(parameter).cast_mut().cast::<c_void>()];
        let (stream, parameters) = (self.program.stream, pointers.as_mut_ptr());
        // SAFETY: the parameter is what the kernel takes.
        unsafe {
            cuLaunchKernel(function, 264, 1, 1, threads, 1, 1, shared, stream, parameters, ptr::null_mut())
        }
    }

    /// Puts a step on the stream.
    fn step(&self) {
        let at = |name: &str| {
            let function = self.program.function("gemv.sm_90.ptx", name);
            // SAFETY: no pointers.
            ok(unsafe {
                cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 72_000)
            });
            function
        };
        let (qkv, residual) = (at("gemv_qkv_1"), at("gemv_residual_1"));
        let (gate_up, lm_head) = (at("gemv_gate_up_1"), at("gemv_lm_head_1"));
        let attention = self.program.function("attention_decode.sm_90.ptx", "attention_decode_128_8");
        let any = self.buffer;
        let common = Linear {
            x: any,
            y: any,
            turns: any,
            start: self.start,
            chosen: any,
            best: any,
            rows: 1,
            tokens: 1,
            head_dim: 128,
            q_width: 4096,
            kv_width: 1024,
            capacity: CAPACITY,
            ..Linear::default()
        };
        let linear = |function, w: [u64; 3], keys: [u64; 2], k: u32, n: u32| {
            let [keys, values] = keys;
            ok(self.launch(function, 256, 72_000, &Linear { w, keys, values, k, n, x_stride: k, ..common }));
        };
        for [q, k, v, o, gate, up, down, keys, values] in self.layers.iter().copied() {
            linear(qkv, [q, k, v], [keys, values], 4096, 6144);
            let arguments = Attention {
                q: any,
                keys,
                values,
                out: any,
                start: self.start,
                sequences: 1,
                tokens: 1,
                heads: 32,
                kv_heads: 8,
                capacity: CAPACITY,
                splits: 16,
                ..Attention::default()
            };
            ok(self.launch(attention, 192, 0, &arguments));
            linear(residual, [o, 0, 0], [0; 2], 4096, 4096);
            linear(gate_up, [gate, up, 0], [0; 2], 4096, 14_336);
            linear(residual, [down, 0, 0], [0; 2], 14_336, 4096);
        }
        linear(lm_head, [self.head, 0, 0], [0; 2], 4096, 128_256);
    }
}

#[test]
fn a_decode_step_takes_the_time_of_its_bytes() {
    let _turn = begin(&[]);
    let model = Model::load();
    let program = &model.program;
    let (mut graph, mut executable) = (ptr::null_mut(), ptr::null_mut());
    let (start, end) = (program.event(0), program.event(0));
    let steps = 300;
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        ok(cuStreamBeginCapture_v2(program.stream, CU_STREAM_CAPTURE_MODE_RELAXED));
        model.step();
        ok(cuStreamEndCapture(program.stream, &mut graph));
        ok(cuGraphInstantiateWithFlags(&mut executable, graph, 0));
        ok(program.record(start));
        for _ in 0..steps {
            ok(cuGraphLaunch(executable, program.stream));
        }
        ok(program.record(end));
    }
    let step = f64::from(program.elapsed(start, end).unwrap()) * 1e-3 / f64::from(steps);
    // 7.5 billion weights of 2 bytes without the embedding, keys and values of 1000 positions.
    let weights =
        2.0 * 32.0 * (4096.0 * 6144.0 + 4096.0 * 4096.0 + 3.0 * 4096.0 * 14_336.0) + 2.0 * 4096.0 * 128_256.0;
    let cache = 32.0 * 1000.0 * 2.0 * 1024.0 * 2.0;
    let ideal = (weights + cache) / (0.90 * 3350e9);
    let overhead = step - ideal;
    assert!((1.0e-6..2.0e-6).contains(&(overhead / 161.0)), "{step} s, of which {overhead} s overhead");
    // The least that a measured read ceiling leaves it.
    assert!(step > (weights + cache) / (0.93 * 3350e9));
}

#[test]
fn parameters_are_checked_although_nothing_executes() {
    let _turn = begin(&[]);
    let model = Model::load();
    ok(model.program.write(model.start, &2048u32.to_le_bytes()));
    // The cache has no room for position 2049.
    model.step();
    assert_eq!(number(model.program.synchronize()), 700);
}
