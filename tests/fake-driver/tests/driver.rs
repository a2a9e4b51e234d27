//! The driver API: what a small program sees of it.

mod common;

use std::ptr;

use common::{Embed, Program, Stream, begin, embedding, number, ok};
use cudarc::driver::sys::{CUresult, CUstreamCaptureMode::*};
use fake_driver::context::*;
use fake_driver::event::*;
use fake_driver::graph::*;
use fake_driver::memory::*;
use fake_driver::module::*;
use fake_driver::stream::*;

#[test]
fn a_kernel_computes() {
    let _turn = begin(&[]);
    let program = Program::new();
    let (function, embed, expected) = embedding(&program);
    ok(program.launch(function, [3, 1, 1], 0, &embed));
    ok(program.synchronize());
    assert_eq!(program.read(embed.residual, expected.len()).unwrap(), expected);
}

#[test]
fn a_graph_does_what_direct_launches_do() {
    let _turn = begin(&[]);
    let program = Program::new();
    let (function, embed, expected) = embedding(&program);
    let (mut graph, mut executable, mut nodes) = (ptr::null_mut(), ptr::null_mut(), 0);
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        ok(cuStreamBeginCapture_v2(program.stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
        ok(program.launch(function, [3, 1, 1], 0, &embed));
        ok(cuMemsetD8Async(embed.tokens, 0, 12, program.stream));
        ok(cuStreamEndCapture(program.stream, &mut graph));
        ok(cuGraphGetNodes(graph, ptr::null_mut(), &mut nodes));
        assert_eq!(nodes, 2);
        // Nothing has run so far: nothing has written there.
        assert!(program.read(embed.residual, 4).is_err());
        ok(cuGraphInstantiateWithFlags(&mut executable, graph, 0));
        ok(cuGraphDestroy(graph));
        ok(cuGraphLaunch(executable, program.stream));
        assert_eq!(program.read(embed.residual, expected.len()).unwrap(), expected);
        // Its last node has set all tokens to 0.
        ok(cuGraphLaunch(executable, program.stream));
        let first: Vec<u8> = common::row(0, 64).chain(common::row(0, 64)).collect();
        assert_eq!(program.read(embed.residual, 256).unwrap(), first);
        ok(cuGraphExecDestroy(executable));
        assert_eq!(number(cuGraphLaunch(executable, program.stream)), 1);
    }
}

#[test]
fn what_a_capture_does_not_allow_is_refused_and_breaks_it() {
    let _turn = begin(&[]);
    let program = Program::new();
    let (function, embed, _) = embedding(&program);
    let event = program.event(0);
    let mut graph = ptr::null_mut();
    let mut address = 0;
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        ok(program.record(event));
        let attempts: [(&str, &dyn Fn() -> CUresult); 6] = [
            ("allocation", &|| cuMemAlloc_v2(&raw const address as *mut u64, 64)),
            ("synchronisation", &|| program.synchronize()),
            ("of the context", &|| cuCtxSynchronize()),
            ("copy", &|| program.write(embed.tokens, &[0; 4])),
            ("query", &|| cuEventQuery(event)),
            ("another context's work", &|| cuStreamWaitEvent(program.stream, event, 0)),
        ];
        for (what, attempt) in attempts {
            ok(cuStreamBeginCapture_v2(program.stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
            let code = number(attempt());
            assert!(matches!(code, 900 | 905), "{what}: {code}");
            assert_eq!(number(program.launch(function, [3, 1, 1], 0, &embed)), 901, "{what}");
            assert_eq!(number(cuStreamEndCapture(program.stream, &mut graph)), 901, "{what}");
            ok(program.launch(function, [3, 1, 1], 0, &embed));
            ok(program.synchronize());
        }
        // A relaxed capture lets others be.
        ok(cuStreamBeginCapture_v2(program.stream, CU_STREAM_CAPTURE_MODE_RELAXED));
        ok(cuMemAlloc_v2(&mut address, 64));
        ok(program.record(event));
        assert_eq!(number(cuEventSynchronize(event)), 907);
        ok(cuStreamEndCapture(program.stream, &mut graph));
        assert_eq!(number(cuStreamBeginCapture_v2(ptr::null_mut(), CU_STREAM_CAPTURE_MODE_GLOBAL)), 900);
        assert_eq!(number(cuStreamEndCapture(program.stream, &mut graph)), 401);
    }
}

#[test]
fn a_wild_pointer_comes_to_light_later_and_ends_everything() {
    let _turn = begin(&[]);
    let program = Program::new();
    let (function, embed, _) = embedding(&program);
    ok(program.launch(function, [3, 1, 1], 0, &Embed { residual: embed.residual + 256, ..embed }));
    assert_eq!(number(program.synchronize()), 700);
    let mut address = 0;
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        assert_eq!(number(cuMemAlloc_v2(&mut address, 64)), 700);
        assert_eq!(number(cuMemFree_v2(embed.table)), 700);
        assert_eq!(number(program.launch(function, [3, 1, 1], 0, &embed)), 700);
        assert_eq!(number(cuDevicePrimaryCtxRelease_v2(0)), 0);
    }
}

#[test]
fn what_was_given_back_is_not_used_again() {
    let _turn = begin(&[]);
    let program = Program::new();
    let (function, embed, _) = embedding(&program);
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        ok(cuMemFree_v2(embed.table));
        assert_eq!(number(cuMemFree_v2(embed.table)), 1);
        assert_eq!(number(cuMemFree_v2(embed.residual + 16)), 1);
        assert_eq!(number(program.write(embed.table, &[0; 4])), 1);
        ok(program.launch(function, [3, 1, 1], 0, &embed));
        assert_eq!(number(cuCtxSynchronize()), 700);
    }
}

#[test]
fn handles_and_contexts_are_looked_at() {
    let _turn = begin(&[]);
    let mut address = 0;
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        assert_eq!(number(cuMemAlloc_v2(&mut address, 64)), 3);
        ok(cuInit(0));
        assert_eq!(number(cuMemAlloc_v2(&mut address, 64)), 201);
        let program = Program::new();
        assert_eq!(number(cuMemAlloc_v2(&mut address, 0)), 1);
        assert_eq!(number(cuStreamSynchronize(0x1234 as _)), 400);
        assert_eq!(number(cuEventDestroy_v2(0x1234 as _)), 400);
        assert_eq!(number(cuCtxSetCurrent(0x1234 as _)), 201);
        let event = program.event(2);
        ok(cuEventDestroy_v2(event));
        assert_eq!(number(cuEventDestroy_v2(event)), 400);
        let held = program.allocate(64);
        ok(cuDevicePrimaryCtxRelease_v2(0));
        assert_eq!(number(cuMemFree_v2(held)), 709);
        // The next one begins empty.
        let program = Program::new();
        assert_eq!(number(cuMemFree_v2(held)), 1);
        ok(program.synchronize());
    }
}

#[test]
fn events_keep_virtual_time() {
    let _turn = begin(&[]);
    let program = Program::new();
    let function = program.function("ceilings.sm_90.ptx", "read_memory");
    let bytes = 512 << 20;
    let from = program.allocate(bytes);
    let stream = Stream { from, to: 0, sum: 0, lines: bytes as u64 / 16, tiles: 0 };
    let events: Vec<_> = (0..5).map(|_| program.event(0)).collect();
    assert_eq!(number(program.elapsed(events[0], events[1]).unwrap_err()), 400);
    for event in &events {
        ok(program.record(*event));
        ok(program.launch(function, [528, 1, 1], 0, &stream));
    }
    for pair in events.windows(2) {
        let milliseconds = f64::from(program.elapsed(pair[0], pair[1]).unwrap());
        // 0.93 of 3350 GB/s, and some microseconds for the launch.
        let rate = bytes as f64 / milliseconds * 1e3;
        assert!((0.90..0.935).contains(&(rate / 3350e9)), "{rate}");
        assert!(
            (milliseconds * 2e3).fract().min(1.0 - (milliseconds * 2e3).fract()) < 1e-2,
            "{milliseconds}"
        );
    }
    assert!(program.elapsed(events[4], events[0]).unwrap() < 0.0);
    let untimed = program.event(2);
    ok(program.record(untimed));
    assert_eq!(number(program.elapsed(events[0], untimed).unwrap_err()), 400);
}

#[test]
fn time_is_the_same_in_every_run_and_slows_down_on_demand() {
    let run = |variables: &[(&str, &str)]| {
        let _turn = begin(variables);
        let program = Program::new();
        let (function, embed, _) = embedding(&program);
        let (start, end) = (program.event(0), program.event(0));
        ok(program.record(start));
        for _ in 0..50 {
            ok(program.launch(function, [3, 1, 1], 0, &embed));
        }
        ok(program.record(end));
        program.elapsed(start, end).unwrap()
    };
    let once = run(&[]);
    assert!(once > 0.1);
    assert_eq!(run(&[]), once);
    let slow = run(&[("FAKE_DRIVER_SLOWDOWN", "100")]);
    assert!((slow / once / 100.0 - 1.0).abs() < 0.02, "{slow} {once}");
}

#[test]
fn dynamic_shared_memory_has_to_be_asked_for() {
    use cudarc::driver::sys::CUfunction_attribute::*;
    let _turn = begin(&[("FAKE_DRIVER_GPUS", "a100")]);
    let program = Program::new();
    let function = program.function("gemv.sm_80.ptx", "gemv_qkv_1");
    // The size of its `struct Linear`. What it holds is of no account: all that is looked at here comes before.
    let parameter = [0u8; 240];
    let attribute = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    let mut value = 0;
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        assert_eq!(number(program.launch(function, [1, 1, 1], 78_000, &parameter)), 1);
        ok(cuFuncSetAttribute(function, attribute, 78_000));
        ok(cuFuncGetAttribute(&mut value, attribute, function));
        assert_eq!(value, 78_000);
        ok(program.launch(function, [1, 1, 1], 78_000, &parameter));
        assert_eq!(number(program.launch(function, [1, 1, 1], 78_016, &parameter)), 1);
        // An A100 has 163 KB for a block, of which the kernel itself takes some.
        assert_eq!(number(cuFuncSetAttribute(function, attribute, 163 << 10)), 1);
        assert_eq!(number(program.launch(function, [0, 1, 1], 0, &parameter)), 1);
        ok(cuFuncGetAttribute(&mut value, CU_FUNC_ATTRIBUTE_NUM_REGS, function));
        assert!(value > 32);
    }
}

#[test]
fn devices_have_addresses_of_their_own() {
    let _turn = begin(&[("FAKE_DRIVER_GPUS", "h100,a100")]);
    let first = Program::on(0);
    let on_first = first.allocate(1024);
    let second = Program::on(1);
    let on_second = second.allocate(1024);
    assert_ne!(on_first, on_second);
    assert_eq!(number(second.write(on_first, &[1; 16])), 1);
    ok(second.write(on_second, &[1; 16]));
    // SAFETY: the fake looks handles up; pointers are to locals.
    assert_eq!(number(unsafe { cuStreamSynchronize(first.stream) }), 400);
    // SAFETY: the context is live.
    unsafe { ok(cuCtxSetCurrent(first.context)) };
    ok(first.synchronize());
}

/// Parameters of `fill_normals`.
#[repr(C)]
struct Fill {
    to: u64,
    count: u64,
    state: u64,
    mean: f32,
    deviation: f32,
}

#[test]
fn large_fills_are_normals_too_and_copies_copy() {
    let _turn = begin(&[]);
    let program = Program::new();
    let fill = program.function("fill.sm_90.ptx", "fill_normals");
    let copy = program.function("ceilings.sm_90.ptx", "copy_memory");
    // The first is interpreted, the second is not.
    for count in [1usize << 14, (1 << 20) + 8] {
        let to = program.allocate(2 * count);
        let other = program.allocate(2 * count);
        let parameter = Fill { to, count: count as u64, state: 3, mean: 0.5, deviation: 2.0 };
        ok(program.launch(fill, [64, 1, 1], 0, &parameter));
        let stream = Stream { from: to, to: other, sum: 0, lines: count as u64 / 8, tiles: 0 };
        ok(program.launch(copy, [64, 1, 1], 0, &stream));
        let bytes = program.read(other, 2 * count).unwrap();
        assert_eq!(bytes, program.read(to, 2 * count).unwrap());
        let value = |pair: &[u8; 2]| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(*pair)) << 16));
        let values: Vec<f64> = bytes.as_chunks::<2>().0.iter().map(value).collect();
        assert!(values.iter().all(|value| *value != 0.0));
        let mean = values.iter().sum::<f64>() / count as f64;
        let deviation =
            (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64).sqrt();
        assert!((mean - 0.5).abs() < 0.06 && (deviation / 2.0 - 1.0).abs() < 0.05, "{mean} {deviation}");
    }
}

#[test]
fn with_pacing_the_host_waits_for_virtual_time() {
    let _turn = begin(&[("FAKE_DRIVER_PACE", "1"), ("FAKE_DRIVER_SLOWDOWN", "1000")]);
    let program = Program::new();
    let (function, embed, _) = embedding(&program);
    let (start, end) = (program.event(0), program.event(0));
    let began = std::time::Instant::now();
    ok(program.synchronize());
    ok(program.record(start));
    for _ in 0..10 {
        ok(program.launch(function, [3, 1, 1], 0, &embed));
    }
    ok(program.record(end));
    ok(program.synchronize());
    let elapsed = program.elapsed(start, end).unwrap();
    assert!(elapsed > 20.0);
    // However busy the machine is, it cannot be less.
    assert!(began.elapsed().as_secs_f32() * 1e3 >= elapsed * 0.99);
}
