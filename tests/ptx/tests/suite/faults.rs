//! Planted bugs of all kinds but shared-memory races: each is found at its line, and the corrected kernel runs.

use ptx_interpreter::FaultKind::{Divergence, Misaligned, OutOfBounds, Race, Uninitialised};
use ptx_interpreter::{Fault, Launch};

use crate::lab::{Lab, assert_fault, entry, kernel, line_of, module, parse};

/// Each of 64 threads reads `in` by `load` from `%l1`, its own word there, and writes `%r1` by `store` to `%l2`.
fn copy(load: &str, store: &str) -> String {
    kernel(
        &["out", "in"],
        &format!("\tmad.wide.u32 %l1, %t, 4, %in;\n\tmad.wide.u32 %l2, %t, 4, %out;\n\t{load}\n\t{store}"),
    )
}

#[test]
fn off_by_one() {
    let (load, store) = ("ld.global.u32 %r1, [%l1];", "st.global.u32 [%l2], %r1;");
    let mut lab = Lab::new();
    let input = lab.upload("in", &(0..64).collect::<Vec<u32>>());
    let out = lab.room("out", 256);
    lab.run(&copy(load, store), 1, 64, &[out, input]).unwrap();
    for (load, store, at, name) in [
        ("ld.global.u32 %r1, [%l1+4];", store, "ld.global", "in"),
        ("ld.global.u32 %r1, [%l1+-4];", store, "ld.global", "in"),
        (load, "st.global.u32 [%l2+4], %r1;", "st.global", "out"),
        (load, "st.global.u32 [%l2+-4], %r1;", "st.global", "out"),
        (load, "red.global.add.u32 [%l2+4], %r1;", "red.global", "out"),
        (load, "st.global.u8 [%l2+256], %r1;", "st.global", "out"),
        ("ld.u32 %r1, [%l1+4];", store, "ld.u32", "in"),
        ("mov.u64 %l1, 0; ld.global.u32 %r1, [%l1];", store, "ld.global", ""),
        ("mov.u64 %l1, 0x123456789000; ld.global.u32 %r1, [%l1];", store, "ld.global", ""),
    ] {
        let ptx = copy(load, store);
        lab.machine.write(out, &[0; 256]).unwrap();
        let fault = lab.run(&ptx, 1, 64, &[out, input]).expect_err(load);
        assert_eq!(fault.kind, OutOfBounds, "{fault}");
        assert_eq!(fault.line, line_of(&ptx, at), "{fault}");
        assert!(
            fault.message.contains(name) && fault.message.contains("k: block (0, 0, 0) thread"),
            "{fault}"
        );
    }
}

/// 24 bytes: the second 16-byte access goes over the end, though it starts inside.
#[test]
fn a_vector_across_the_end() {
    let text = |load: &str, store: &str| {
        kernel(
            &["out", "in"],
            &format!("\tmov.b64 {{%r1, %r2}}, %in;\n\tmov.b64 {{%r3, %r4}}, %in;\n\t{load}\n\t{store}"),
        )
    };
    let mut lab = Lab::new();
    let input = lab.upload("in", &[7u32; 6]);
    let out = lab.upload("out", &[0u32; 6]);
    let (load, store) = (
        "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%in+OFFSET];",
        "st.global.v4.u32 [%out+OFFSET], {%r1, %r2, %r3, %r4};",
    );
    let at = |text: &str, offset: &str| text.replace("OFFSET", offset);
    lab.run(&text(&at(load, "0"), &at(store, "0")), 1, 1, &[out, input]).unwrap();
    let ptx = text(&at(load, "16"), "");
    assert_fault(lab.run(&ptx, 1, 1, &[out, input]), OutOfBounds, &ptx, &at(load, "16"), &["in"]);
    let ptx = text("", &at(store, "16"));
    assert_fault(lab.run(&ptx, 1, 1, &[out, input]), OutOfBounds, &ptx, &at(store, "16"), &["out"]);
    assert_eq!(lab.read::<u32>(out, 6), [7, 7, 7, 7, 0, 0], "nothing of the faulty store is done");
}

#[test]
fn memory_given_back() {
    let ptx = copy("ld.global.u32 %r1, [%l1];", "st.global.u32 [%l2], %r1;");
    let mut lab = Lab::new();
    let input = lab.upload("in", &[0u32; 64]);
    let out = lab.room("out", 256);
    lab.run(&ptx, 1, 64, &[out, input]).unwrap();
    lab.machine.free(input).unwrap();
    let next = lab.upload("next", &[0u32; 64]);
    assert_ne!(next, input, "addresses are not used again at once");
    assert_fault(lab.run(&ptx, 1, 64, &[out, input]), OutOfBounds, &ptx, "ld.global.u32", &["in"]);
    lab.run(&ptx, 1, 64, &[out, next]).unwrap();
}

#[test]
fn shared_memory_beyond_its_end() {
    let text = |offset: u32| {
        kernel(
            &["out"],
            &format!(
                "	.shared .align 4 .b8 words[256];
	mov.u32 %r0, words;
	mad.lo.u32 %r1, %t, 4, %r0;
	st.shared.u32 [%r1+{offset}], %t;
	st.global.u32 [%out], %t;"
            ),
        )
    };
    let mut lab = Lab::new();
    let out = lab.room("out", 4);
    lab.run(&text(0), 1, 64, &[out]).unwrap();
    let ptx = text(4);
    assert_fault(lab.run(&ptx, 1, 64, &[out]), OutOfBounds, &ptx, "st.shared.u32", &["shared"]);
}

#[test]
fn misaligned_accesses() {
    let mut lab = Lab::new();
    let input = lab.upload("in", &[0u32; 70]);
    let out = lab.upload("out", &[0u32; 70]);
    for (good, bad) in [
        (
            "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%in+16];",
            "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%in+8];",
        ),
        ("ld.global.v2.u32 {%r1, %r2}, [%in+8];", "ld.global.v2.u32 {%r1, %r2}, [%in+4];"),
        ("ld.global.u64 %l3, [%in+8];", "ld.global.u64 %l3, [%in+4];"),
        ("ld.global.u16 %r1, [%in+2];", "ld.global.u16 %r1, [%in+1];"),
        ("st.global.u32 [%out+4], %t;", "st.global.u32 [%out+2], %t;"),
        ("atom.global.add.u32 %r1, [%out+4], 1;", "atom.global.add.u32 %r1, [%out+1], 1;"),
        ("st.shared.v4.u32 [words+16], {%t, %t, %t, %t};", "st.shared.v4.u32 [words+4], {%t, %t, %t, %t};"),
        (
            "cp.async.cg.shared.global [words], [%in+16], 16;",
            "cp.async.cg.shared.global [words], [%in+8], 16;",
        ),
        (
            "cp.async.cg.shared.global [words+16], [%in], 16;",
            "cp.async.cg.shared.global [words+8], [%in], 16;",
        ),
    ] {
        let text =
            |body: &str| kernel(&["out", "in"], &format!("\t.shared .align 16 .b8 words[64];\n\t{body}"));
        lab.run(&text(good), 1, 1, &[out, input]).unwrap_or_else(|fault| panic!("{good}: {fault}"));
        let ptx = text(bad);
        assert_fault(lab.run(&ptx, 1, 1, &[out, input]), Misaligned, &ptx, bad, &[]);
    }
}

#[test]
fn reads_of_what_nobody_wrote() {
    let text = |before: &str, read: &str| {
        kernel(
            &["out", "in"],
            &format!(
                "	.shared .align 16 .b8 words[64];
	.local .align 8 .b8 own[16];
	{before}
	{read}
	st.global.u32 [%out], %r1;"
            ),
        )
    };
    for (read, write) in [
        ("ld.global.u32 %r1, [%in];", "st.global.u32 [%in], 1;"),
        ("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%in];", "st.global.v2.u64 [%in], {%l1, %l1};"),
        ("ld.global.u8 %r1, [%in+3];", "st.global.u32 [%in], 1;"),
        ("atom.global.add.u32 %r1, [%in], 1;", "st.global.u32 [%in], 1;"),
        ("ld.shared.u32 %r1, [words];", "st.shared.u32 [words], 1;"),
        ("ld.shared.v2.u32 {%r1, %r2}, [words+8];", "st.shared.u64 [words+8], %l1;"),
        ("atom.shared.add.u32 %r1, [words], 1;", "st.shared.u32 [words], 1;"),
        ("ld.local.u32 %r1, [own];", "st.local.u64 [own], %l1;"),
        ("cp.async.ca.shared.global [words], [%in], 4;", "st.global.u32 [%in], 1;"),
    ] {
        for worker in [1, 2] {
            let mut lab = Lab::with_workers(worker);
            let input = lab.room("in", 16);
            let out = lab.room("out", 4);
            let ptx = text("mov.u64 %l1, 0; mov.u32 %r1, 0;", read);
            assert_fault(lab.run(&ptx, 1, 1, &[out, input]), Uninitialised, &ptx, read, &[]);
            let fixed = text(&format!("mov.u64 %l1, 0; mov.u32 %r1, 0; {write}"), read);
            lab.run(&fixed, 1, 1, &[out, input]).unwrap_or_else(|fault| panic!("{read}: {fault}"));
        }
    }
}

/// Arrays in shared memory that follow each other: beyond the first is not inside the second.
#[test]
fn from_one_shared_array_into_the_next() {
    let text = |offset: u32| {
        kernel(
            &["out"],
            &format!(
                "	.shared .align 4 .b8 first[256];
	.shared .align 4 .b8 second[256];
	mov.u32 %r0, first;
	mad.lo.u32 %r1, %t, 4, %r0;
	st.shared.u32 [%r1+{offset}], %t;
	mov.u32 %r2, second;
	mad.lo.u32 %r3, %t, 4, %r2;
	st.shared.u32 [%r3], %t;
	st.global.u32 [%out], %t;"
            ),
        )
    };
    let mut lab = Lab::new();
    let out = lab.room("out", 4);
    lab.run(&text(0), 1, 64, &[out]).unwrap();
    let ptx = text(4);
    assert_fault(lab.run(&ptx, 1, 64, &[out]), OutOfBounds, &ptx, "[%r1+4], %t;", &["thread 63", "first"]);
}

/// `ld.global.nc` promises that nobody writes there while the kernel runs.
#[test]
fn a_read_only_load_of_what_the_kernel_wrote() {
    let text = |load: &str| {
        kernel(
            &["out", "in"],
            &format!(
                "\tst.global.u32 [%in], 3;\n\tbar.sync 0;\n\t{load} %r1, [%in];\n\tst.global.u32 [%out], %r1;"
            ),
        )
    };
    let mut lab = Lab::new();
    let pointers = [lab.room("out", 4), lab.upload("in", &[0u32])];
    lab.run(&text("ld.global.u32"), 1, 1, &pointers).unwrap();
    let ptx = text("ld.global.nc.u32");
    assert_fault(lab.run(&ptx, 1, 1, &pointers), Race, &ptx, "ld.global.nc.u32", &["in"]);
    // In the next launch it is there.
    let reads = kernel(&["out", "in"], "\tld.global.nc.u32 %r1, [%in];\n\tst.global.u32 [%out], %r1;");
    lab.run(&reads, 1, 1, &pointers).unwrap();
}

/// Three bytes of four are not four.
#[test]
fn a_word_of_which_one_byte_is_missing() {
    let ptx = copy("ld.global.u32 %r1, [%l1];", "st.global.u32 [%l2], %r1;");
    let mut lab = Lab::new();
    let input = lab.room("in", 256);
    let out = lab.room("out", 256);
    lab.machine.write(input, &[1; 203]).unwrap();
    lab.machine.write(input + 204, &[1; 52]).unwrap();
    let result = lab.run(&ptx, 1, 64, &[out, input]);
    assert_fault(result, Uninitialised, &ptx, "ld.global.u32 %r1", &["in", "thread 50"]);
    lab.machine.write(input + 203, &[1]).unwrap();
    lab.run(&ptx, 1, 64, &[out, input]).unwrap();

    let text = |last: &str| {
        kernel(
            &["out"],
            &format!(
                "	.shared .align 4 .b8 word[4];
	st.shared.u16 [word], 0x1234;
	st.shared.u8 [word+3], 0x56;
	{last}
	ld.shared.u32 %r1, [word];
	st.global.u32 [%out], %r1;"
            ),
        )
    };
    let out = lab.room("out", 4);
    let ptx = text("");
    assert_fault(lab.run(&ptx, 1, 1, &[out]), Uninitialised, &ptx, "ld.shared.u32 %r1", &["shared"]);
    lab.run(&text("st.shared.u8 [word+2], 0;"), 1, 1, &[out]).unwrap();
    assert_eq!(lab.read::<u32>(out, 1), [0x5600_1234]);
}

/// A block does not find what another block left in shared memory.
#[test]
fn shared_memory_is_new_for_every_block() {
    let ptx = kernel(
        &["out"],
        "	.shared .align 4 .b8 word[4];
	setp.eq.u32 %p1, %block, 0;
	@%p1 st.shared.u32 [word], 1;
	ld.shared.u32 %r1, [word];
	st.global.u32 [%out], %r1;",
    );
    let mut lab = Lab::new();
    let out = lab.room("out", 4);
    lab.run(&ptx, 1, 1, &[out]).unwrap();
    assert_fault(lab.run(&ptx, 2, 1, &[out]), Uninitialised, &ptx, "ld.shared.u32 %r1", &["block (1"]);
}

/// The even lanes do something, alone.
fn half_of_a_warp(alone: &str, together: &str) -> String {
    kernel(
        &["out"],
        &format!(
            "	.shared .align 16 .b8 rows[512];
	mov.u32 %r0, rows;
	mad.lo.u32 %r2, %t, 16, %r0;
	st.shared.v4.u32 [%r2], {{%t, %t, %t, %t}};
	bar.warp.sync -1;
	mov.u32 %r5, 0; mov.u32 %r6, 0; mov.u32 %r7, 0; mov.u32 %r8, 0;
	mov.f32 %f1, 0f00000000; mov.f32 %f2, %f1; mov.f32 %f3, %f1; mov.f32 %f4, %f1;
	and.b32 %r1, %t, 1;
	setp.eq.u32 %p1, %r1, 1;
	@%p1 bra JOIN;
	{alone}
JOIN:
	{together}
	st.global.u32 [%out], %r1;"
        ),
    )
}

#[test]
fn lanes_missing_at_warp_wide_instructions() {
    let mut lab = Lab::new();
    let out = lab.room("out", 4);
    for instruction in [
        "shfl.sync.bfly.b32 %r3, %t, 1, 31, 0xFFFFFFFF;",
        "vote.sync.ballot.b32 %r3, %p1, 0xFFFFFFFF;",
        "redux.sync.add.u32 %r3, %t, 0xFFFFFFFF;",
        "bar.warp.sync 0xFFFFFFFF;",
        "bar.sync 0;",
        "barrier.sync 0;",
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r5, %r6, %r7, %r8}, [%r2];",
        "movmatrix.sync.aligned.m8n8.trans.b16 %r3, %t;",
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r5, %r6, %r7, %r8}, {%r5, %r6}, {%f1, %f2, %f3, %f4};",
    ] {
        let good = half_of_a_warp("", instruction);
        lab.run(&good, 1, 32, &[out]).unwrap_or_else(|fault| panic!("{instruction}: {fault}"));
        let bad = half_of_a_warp(instruction, "");
        assert_fault(lab.run(&bad, 1, 32, &[out]), Divergence, &bad, instruction, &[]);
    }
    // A mask that names the lanes that are there.
    for instruction in ["shfl.sync.bfly.b32 %r3, %t, 2, 31, 0x55555555;", "bar.warp.sync 0x55555555;"] {
        lab.run(&half_of_a_warp(instruction, ""), 1, 32, &[out])
            .unwrap_or_else(|fault| panic!("{instruction}: {fault}"));
    }
    // A lane that is not in its own mask.
    let bad = half_of_a_warp("", "shfl.sync.bfly.b32 %r3, %t, 2, 31, 0x55555555;");
    assert_fault(lab.run(&bad, 1, 32, &[out]), Divergence, &bad, "shfl.sync", &[]);
    // A value from a lane that is not there.
    let bad = half_of_a_warp("shfl.sync.bfly.b32 %r3, %t, 1, 31, 0x55555555;", "");
    assert_fault(lab.run(&bad, 1, 32, &[out]), Divergence, &bad, "shfl.sync", &[]);
    // A predicate is a branch.
    let bad = half_of_a_warp("", "@%p1 shfl.sync.bfly.b32 %r3, %t, 2, 31, -1;");
    assert_fault(lab.run(&bad, 1, 32, &[out]), Divergence, &bad, "shfl.sync", &[]);
}

/// Two warps wait at different barriers: for ever.
#[test]
fn warps_at_different_barriers() {
    let text = |other: u32| {
        kernel(
            &["out"],
            &format!(
                "	setp.ge.u32 %p1, %t, 32;
	@%p1 bra SECOND;
	bar.sync 0;
	bra JOIN;
SECOND:
	bar.sync {other};
JOIN:
	st.global.u32 [%out], %t;"
            ),
        )
    };
    let mut lab = Lab::new();
    let out = lab.room("out", 4);
    lab.run(&text(0), 1, 64, &[out]).unwrap();
    let fault = lab.run(&text(1), 1, 64, &[out]).unwrap_err();
    assert_eq!(fault.kind, Divergence, "{fault}");
}

/// `first` writes `middle`; `second`, launched early, reads it, and `in` that nobody writes.
#[test]
fn an_early_launch_must_wait_for_its_inputs() {
    let first = module("sm_90", &entry("k", &["middle"], "\tst.global.u32 [%middle], 5;"));
    let second = |before: &str, after: &str| {
        let body = format!(
            "\tmov.u32 %r1, 1;\n\t{before}\n\tgriddepcontrol.wait;\n\t{after}\n\tst.global.u32 [%out], %r1;"
        );
        module("sm_90", &entry("k", &["out", "middle", "in"], &body))
    };
    let mut lab = Lab::new();
    let [out, middle] = ["out", "middle"].map(|name| lab.room(name, 4));
    let input = lab.upload("in", &[9u32]);
    let mut both = |second: &str, early: bool, synchronised: bool| -> Result<_, Fault> {
        lab.run(&first, 1, 1, &[middle])?;
        if synchronised {
            lab.read::<u32>(middle, 1);
        }
        let parameters: Vec<u8> = [out, middle, input].iter().flat_map(|p| p.to_le_bytes()).collect();
        let launch =
            Launch { kernel: "k", grid: [1; 3], block: [1; 3], shared: 0, early, parameters: &parameters };
        lab.machine.launch(&parse(second), &launch)
    };
    let (read, weights, write) =
        ("ld.global.u32 %r1, [%middle];", "ld.global.u32 %r1, [%in];", "st.global.u32 [%out], 3;");
    both(&second("", read), true, false).unwrap();
    both(&second(weights, read), true, false).unwrap();
    both(&second("griddepcontrol.launch_dependents;", read), true, false).unwrap();
    let ptx = second(read, "");
    assert_fault(both(&ptx, true, false), Race, &ptx, read, &["middle"]);
    both(&ptx, false, false).unwrap();
    both(&ptx, true, true).unwrap();
    for write in [write, "red.global.add.u32 [%in], 1;", "atom.global.exch.b32 %r2, [%in], 1;"] {
        let ptx = second(write, read);
        assert_fault(both(&ptx, true, false), Race, &ptx, write, &[]);
        both(&ptx, false, false).unwrap();
    }
    // The wait on one path only.
    let skipped = second("bra END; END:", read).replace("\tgriddepcontrol.wait;\n", "");
    assert_fault(both(&skipped, true, false), Race, &skipped, read, &["middle"]);
}

/// The message says which of many threads it was.
#[test]
fn the_place_is_named() {
    let ptx = kernel(
        &["out"],
        "	mov.u32 %r1, %tid.y;
	mov.u32 %r2, %ctaid.y;
	setp.eq.u32 %p1, %t, 3;
	setp.eq.and.u32 %p1, %r1, 2, %p1;
	setp.eq.and.u32 %p1, %r2, 4, %p1;
	setp.eq.and.u32 %p1, %block, 1, %p1;
	@%p1 st.global.u32 [%out+40], %r1;",
    );
    let mut lab = Lab::with_workers(2);
    let out = lab.room("results", 40);
    let result = lab.launch(&ptx, "k", [2, 5, 1], [8, 4, 1], 0, &[out]);
    assert_fault(
        result,
        OutOfBounds,
        &ptx,
        "@%p1 st.global.u32 [%out+40], %r1;",
        &["results", "block (1, 4, 0)", "thread (3, 2, 0)", "40"],
    );
}
