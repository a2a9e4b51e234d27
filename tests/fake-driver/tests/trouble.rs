//! Faults on demand, memory that is not there, PTX that does not fit.

mod common;

use std::ffi::CString;
use std::ptr;
use std::time::Duration;

use common::{Embed, Program, begin, embedding, number, ok, ptx};
use cudarc::driver::sys::{CUjit_option, CUstreamCaptureMode::*};
use fake_driver::context::*;
use fake_driver::event::*;
use fake_driver::graph::*;
use fake_driver::memory::*;
use fake_driver::module::*;
use fake_driver::stream::*;

#[test]
fn the_nth_call_fails() {
    let _turn = begin(&[("FAKE_DRIVER_FAULT", "cuMemAlloc_v2=2@3;cuLaunchKernel/embed=719@2")]);
    let program = Program::new();
    let mut address = 0;
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        let codes: Vec<u32> = (0..4).map(|_| number(cuMemAlloc_v2(&mut address, 64))).collect();
        assert_eq!(codes, [0, 0, 2, 0]);
    }
    let (function, embed, _) = embedding(&program);
    ok(program.launch(function, [3, 1, 1], 0, &embed));
    assert_eq!(number(program.launch(function, [3, 1, 1], 0, &embed)), 719);
    // And with it the context is lost.
    assert_eq!(number(program.synchronize()), 719);
}

#[test]
fn initialisation_and_context_fail() {
    for (fault, code) in [("cuInit=803", 803), ("cuInit=804", 804), ("cuInit=100", 100)] {
        let _turn = begin(&[("FAKE_DRIVER_FAULT", fault)]);
        // SAFETY: the fake looks handles up; pointers are to locals.
        assert_eq!(number(unsafe { cuInit(0) }), code);
    }
    let _turn = begin(&[("FAKE_DRIVER_FAULT", "cuDevicePrimaryCtxRetain=46")]);
    let mut context = ptr::null_mut();
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        ok(cuInit(0));
        assert_eq!(number(cuDevicePrimaryCtxRetain(&mut context, 0)), 46);
    }
    let _turn = {
        drop(_turn);
        begin(&[("FAKE_DRIVER_GPUS", "")])
    };
    // SAFETY: the fake looks handles up; pointers are to locals.
    assert_eq!(number(unsafe { cuInit(0) }), 100);
}

#[test]
fn the_nth_kernel_stores_a_wrong_number() {
    let _turn = begin(&[("FAKE_DRIVER_FAULT", "corrupt/embed@2")]);
    let program = Program::new();
    let (function, embed, expected) = embedding(&program);
    let mut wrong = expected.clone();
    wrong[1] ^= 0x40;
    for stored in [&expected, &wrong, &expected] {
        ok(program.launch(function, [3, 1, 1], 0, &embed));
        ok(program.synchronize());
        assert_eq!(&program.read(embed.residual, expected.len()).unwrap(), stored);
    }
}

/// A graph of one `embed`.
fn graph(program: &Program) -> cudarc::driver::sys::CUgraphExec {
    let (function, embed, _) = embedding(program);
    let (mut graph, mut executable) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        ok(cuStreamBeginCapture_v2(program.stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
        ok(program.launch(function, [3, 1, 1], 0, &embed));
        ok(cuStreamEndCapture(program.stream, &mut graph));
        ok(cuGraphInstantiateWithFlags(&mut executable, graph, 0));
    }
    executable
}

#[test]
fn faults_of_graphs_come_at_once_or_later() {
    let _turn = begin(&[("FAKE_DRIVER_FAULT", "cuGraphLaunch=719@3")]);
    let program = Program::new();
    let executable = graph(&program);
    let codes: Vec<u32> =
        // SAFETY: the fake looks handles up; pointers are to locals.
        (0..3).map(|_| number(unsafe { cuGraphLaunch(executable, program.stream) })).collect();
    assert_eq!(codes, [0, 0, 719]);
    drop(_turn);

    for rule in ["async=700@2", "async/embed=700@2;async/other=1@1"] {
        let _turn = begin(&[("FAKE_DRIVER_FAULT", rule)]);
        let program = Program::new();
        let executable = graph(&program);
        // SAFETY: the fake looks handles up; pointers are to locals.
        unsafe {
            ok(cuGraphLaunch(executable, program.stream));
            ok(program.synchronize());
            ok(cuGraphLaunch(executable, program.stream));
            let event = program.event(0);
            ok(program.record(event));
            assert_eq!(number(cuEventQuery(event)), 700);
            assert_eq!(number(cuGraphLaunch(executable, program.stream)), 700);
        }
    }
}

#[test]
fn a_hanging_device_is_never_ready() {
    let _turn = begin(&[("FAKE_DRIVER_FAULT", "hang@2")]);
    let program = Program::new();
    let executable = graph(&program);
    let event = program.event(0);
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        ok(cuGraphLaunch(executable, program.stream));
        ok(program.record(event));
        ok(cuEventQuery(event));
        ok(cuGraphLaunch(executable, program.stream));
        ok(program.record(event));
        for _ in 0..3 {
            assert_eq!(number(cuEventQuery(event)), 600);
            assert_eq!(number(cuStreamQuery(program.stream)), 600);
        }
    }
    // A call that waits does not come back, and does not keep others from asking.
    let (context, waits) = (program.context as usize, event as usize);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // SAFETY: the fake looks handles up.
        unsafe {
            ok(cuCtxSetCurrent(context as _));
            sender.send("waits").unwrap();
            cuEventSynchronize(waits as _);
        }
        sender.send("came back").unwrap();
    });
    assert_eq!(receiver.recv(), Ok("waits"));
    assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err());
    // SAFETY: the fake looks handles up.
    assert_eq!(number(unsafe { cuEventQuery(event) }), 600);
}

/// Pages of this process that are in memory.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn memory_beyond_the_threshold_is_only_reserved() {
    let _turn = begin(&[]);
    let program = Program::new();
    let before = resident();
    let (mut free, mut total, mut address) = (0, 0, 0);
    let (function, embed, _) = embedding(&program);
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        ok(cuMemGetInfo_v2(&mut free, &mut total));
        let large: Vec<u64> = (0..30).map(|_| program.allocate(2 << 30)).collect();
        let mut left = 0;
        ok(cuMemGetInfo_v2(&mut left, &mut total));
        assert_eq!(free - left, 60 << 30);
        assert_eq!(number(cuMemAlloc_v2(&mut address, 40 << 30)), 2);
        ok(program.write(large[20] + (1 << 30), &[5; 1 << 16]));
        assert_eq!(program.read(large[20], 16).unwrap(), [0; 16]);
        assert_eq!(number(program.write(large[20] + (2 << 30) - 8, &[5; 16])), 1);
        // Launches are looked at and take their time, and write nothing.
        ok(program.launch(function, [3, 1, 1], 0, &embed));
        ok(program.synchronize());
        assert_eq!(program.read(embed.residual, 4).unwrap(), [0; 4]);
        let far = Embed { residual: large[29] + (2 << 30) - 256, ..embed };
        ok(program.launch(function, [3, 1, 1], 0, &far));
        assert_eq!(number(program.synchronize()), 700);
    }
    assert!(resident() - before < 64 << 20, "{} MB", (resident() - before) >> 20);
}

#[test]
fn all_executes_again_when_what_was_reserved_is_gone() {
    let _turn = begin(&[("FAKE_DRIVER_RESERVE_ABOVE", "1000000")]);
    let program = Program::new();
    let (function, embed, expected) = embedding(&program);
    let large = program.allocate(8 << 20);
    assert!(program.read(embed.residual, 4).is_err());
    ok(program.launch(function, [3, 1, 1], 0, &embed));
    assert_eq!(program.read(embed.residual, expected.len()).unwrap(), vec![0; expected.len()]);
    // SAFETY: the fake looks handles up; pointers are to locals.
    ok(unsafe { cuMemFree_v2(large) });
    ok(program.launch(function, [3, 1, 1], 0, &embed));
    assert_eq!(program.read(embed.residual, expected.len()).unwrap(), expected);
}

/// Loads a PTX text: the result and the error log.
fn load(text: &str) -> (u32, String) {
    let text = CString::new(text).unwrap();
    let mut module = ptr::null_mut();
    let mut log = [0u8; 512];
    let mut options =
        [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast(), log.len() as *mut std::ffi::c_void];
    // SAFETY: the fake looks handles up; pointers are to locals.
    let code = unsafe {
        cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr())
    };
    let length = values[1] as usize;
    (number(code), String::from_utf8_lossy(&log[..length]).into_owned())
}

#[test]
fn ptx_that_does_not_fit_is_refused_with_a_log() {
    let good = ptx("elementwise.sm_80.ptx");
    {
        let _turn = begin(&[("FAKE_DRIVER_GPUS", "a100")]);
        let _program = Program::new();
        assert_eq!(load(&good), (0, String::new()));
        let (code, log) = load(&good.replacen("ret;", "retreat;", 1));
        assert!(code == 218 && log.contains("ptxas") && log.contains("line"), "{code} {log}");
        let (code, log) = load(&ptx("elementwise.sm_90.ptx"));
        assert!(code == 218 && log.contains("sm_90"), "{code} {log}");
        assert_eq!(load("\u{7f}ELF").0, 200);
    }
    {
        let _turn = begin(&[("FAKE_DRIVER_GPUS", "old")]);
        let _program = Program::new();
        assert_eq!(load(&good).0, 218);
    }
    let _turn = begin(&[("FAKE_DRIVER_VERSION", "11040")]);
    let _program = Program::new();
    let (code, log) = load(&good);
    assert!(code == 222 && log.contains("8.0"), "{code} {log}");
}

#[test]
fn graphs_do_not_outlive_their_context() {
    let _turn = begin(&[]);
    let program = Program::new();
    let executable = graph(&program);
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        ok(cuDevicePrimaryCtxRelease_v2(0));
        let program = Program::new();
        assert_eq!(number(cuGraphLaunch(executable, program.stream)), 1);
    }
}

#[test]
fn graphs_can_be_executed_a_number_of_times_and_timed_from_then_on() {
    let _turn = begin(&[("FAKE_DRIVER_EXECUTE", "1")]);
    let program = Program::new();
    let (function, embed, expected) = embedding(&program);
    let (mut graph, mut executable) = (ptr::null_mut(), ptr::null_mut());
    let (start, end) = (program.event(0), program.event(0));
    // SAFETY: the fake looks handles up; pointers are to locals.
    unsafe {
        ok(cuStreamBeginCapture_v2(program.stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
        ok(program.launch(function, [3, 1, 1], 0, &embed));
        ok(cuStreamEndCapture(program.stream, &mut graph));
        ok(cuGraphInstantiateWithFlags(&mut executable, graph, 0));
        ok(cuGraphLaunch(executable, program.stream));
        assert_eq!(program.read(embed.residual, expected.len()).unwrap(), expected);
        ok(cuMemsetD8_v2(embed.residual, 0, expected.len()));
        ok(program.record(start));
        ok(cuGraphLaunch(executable, program.stream));
        ok(program.record(end));
        assert!(program.elapsed(start, end).unwrap() > 0.0);
        assert_eq!(program.read(embed.residual, expected.len()).unwrap(), vec![0; expected.len()]);
        // What is launched by itself always computes.
        ok(program.launch(function, [3, 1, 1], 0, &embed));
        assert_eq!(program.read(embed.residual, expected.len()).unwrap(), expected);
    }
}
