//! What a launch counts, against counts made by hand; always on one and on two host threads.

use std::collections::BTreeMap;

use ptx_interpreter::{MatrixWork, Profile};

use crate::lab::{Lab, entry, kernel, module, traffic};

/// The profile of a kernel with buffers `out` of zeros and `in` of ones, the same on one and on two host threads.
#[track_caller]
fn profile(ptx: &str, grid: u32, block: u32, bytes: usize) -> Profile {
    let [one, two] = [1, 2].map(|workers| {
        let mut lab = Lab::with_workers(workers);
        let pointers = [lab.upload("out", &vec![0u8; bytes]), lab.upload("in", &vec![1u8; bytes])];
        lab.run(ptx, grid, block, &pointers)
            .unwrap_or_else(|fault| panic!("line {}: {fault}\n{ptx}", fault.line))
    });
    assert_eq!(one, two, "on 1 and on 2 host threads");
    one
}

const POINTERS: &[&str] = &["out", "in"];

/// Instructions of [`kernel`] around the body: five for the indices, two for each pointer, `ret`.
const AROUND: u64 = 5 + 2 * 2 + 1;

fn instructions(body: &str, grid: u32, block: u32) -> u64 {
    profile(&kernel(POINTERS, body), grid, block, 256).thread_instructions
}

#[test]
fn instructions_of_straight_lines() {
    assert_eq!(instructions("", 1, 1), AROUND);
    assert_eq!(instructions("", 3, 50), 150 * AROUND);
    let line =
        "mov.u32 %r1, 1; add.u32 %r2, %r1, %t; mad.lo.u32 %r2, %r2, %r2, %r2; st.global.u32 [%out], %r2;";
    assert_eq!(instructions(line, 3, 50), 150 * (AROUND + 4));
    // A multiplication of constants is an instruction as well as any; declarations and labels are none.
    assert_eq!(instructions("{ .reg .b32 x; mov.u32 x, 5; HERE: mov.u32 x, 6; }", 1, 32), 32 * (AROUND + 2));
    assert_eq!(instructions("bar.sync 0; membar.gl; cp.async.commit_group;", 2, 64), 128 * (AROUND + 3));
}

#[test]
fn only_threads_that_execute_count() {
    // Predicated off: 24 of 32 do not add.
    let predicated = "setp.lt.u32 %p1, %t, 8; @%p1 add.u32 %r1, %t, 1;";
    assert_eq!(instructions(predicated, 1, 32), 32 * (AROUND + 1) + 8);
    // The 24 branch over two instructions.
    let branch = "setp.ge.u32 %p1, %t, 8; @%p1 bra END; add.u32 %r1, %t, 1; add.u32 %r1, %r1, 1; END:";
    assert_eq!(instructions(branch, 1, 32), 32 * (AROUND + 1) + 24 + 2 * 8);
    // Lane i goes round i + 1 times: two instructions and a branch that is taken i times.
    let rounds = "mov.u32 %r1, 0; AGAIN: setp.lt.u32 %p1, %r1, %t; add.u32 %r1, %r1, 1; @%p1 bra AGAIN;";
    let times: u64 = (1..=32).sum();
    assert_eq!(instructions(rounds, 1, 32), 32 * (AROUND + 1) + 2 * times + (times - 32));
}

#[test]
fn scalar_operations() {
    let count = |body: &str| profile(&kernel(POINTERS, body), 2, 40, 256).scalar_flops;
    let start = "mov.f32 %f1, 0f3F800000; mov.f32 %f2, %f1; mov.f64 %w1, 0d3FF0000000000000; setp.lt.u32 %p1, %t, 10;";
    assert_eq!(count(start), 0);
    for (body, each) in [
        ("add.f32 %f3, %f1, %f2;", 1),
        ("sub.f32 %f3, %f1, %f2;", 1),
        ("mul.f32 %f3, %f1, %f2;", 1),
        ("fma.rn.f32 %f3, %f1, %f2, %f1;", 2),
        ("add.f64 %w2, %w1, %w1; fma.rn.f64 %w2, %w1, %w1, %w1;", 3),
        ("max.f32 %f3, %f1, %f2; add.u32 %r1, %t, 1; mad.lo.u32 %r1, %r1, %r1, %r1;", 0),
    ] {
        assert_eq!(count(&format!("{start} {body}")), 80 * each, "{body}");
    }
    assert_eq!(count(&format!("{start} @%p1 fma.rn.f32 %f3, %f1, %f2, %f1;")), 2 * 10 * 2);
}

/// One product of 16x16 by 16x8, of which only some rows and columns are not zero.
#[test]
fn matrix_work_and_padding() {
    let text = |rows: u32, columns: u32, mark: &str| {
        kernel(
            POINTERS,
            &format!(
                "	// 1.0 twice, in rows below {rows} of A and columns below {columns} of B.
	shr.u32 %r1, %lane, 2;
	setp.lt.u32 %p1, %r1, {rows};
	add.u32 %r2, %r1, 8;
	setp.lt.u32 %p2, %r2, {rows};
	setp.lt.u32 %p3, %r1, {columns};
	selp.b32 %r3, 0x3F803F80, 0, %p1;
	selp.b32 %r4, 0x3F803F80, 0, %p2;
	selp.b32 %r5, 0x3F803F80, 0x80008000, %p3;
	mov.f32 %f1, 0f00000000;
	mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {{%f2, %f3, %f4, %f5}}, {{%r3, %r4, %r3, %r4}}, {{%r5, %r5}}, {{%f1, %f1, %f1, %f1}};{mark}"
            ),
        )
    };
    let whole = 2 * 16 * 8 * 16;
    let warps = 3 * 2;
    for (rows, columns) in [(16, 8), (0, 8), (16, 1), (5, 3), (9, 8), (1, 0)] {
        let work = profile(&text(rows, columns, ""), 3, 64, 16).matrix;
        let effective = warps * u64::from(2 * rows * columns) * 16;
        assert_eq!(work, MatrixWork { executed: warps * whole, effective }, "{rows} rows, {columns} columns");
    }
    let marked = profile(&text(5, 3, " //@ scores"), 3, 64, 16);
    let expected = MatrixWork { executed: warps * whole, effective: warps * 2 * 15 * 16 };
    assert_eq!(marked.matrix_by_mark, BTreeMap::from([("scores".to_string(), expected)]));
    assert_eq!(marked.matrix, expected);
}

/// The products of other shapes.
#[test]
fn matrix_work_of_shapes() {
    let count = |text: &str| {
        let start = "mov.u32 %r1, 0x01010101; mov.u32 %r2, 0; mov.f32 %f1, 0f00000000;";
        profile(&kernel(POINTERS, &format!("{start}\n{text}")), 1, 32, 16).matrix
    };
    let f32 = "{%f2, %f3, %f4, %f5}";
    let zeros = "{%f1, %f1, %f1, %f1}";
    let s32 = "{%r10, %r11, %r12, %r13}";
    for (text, executed) in [
        (
            format!(
                "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {f32}, {{%r1, %r1}}, {{%r1}}, {zeros};"
            ),
            16 * 8 * 8,
        ),
        (
            format!(
                "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {s32}, {{%r1, %r1}}, {{%r1}}, {{%r2, %r2, %r2, %r2}};"
            ),
            16 * 8 * 16,
        ),
        (
            format!(
                "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {s32}, {{%r1, %r1, %r1, %r1}}, {{%r1, %r1}}, {{%r2, %r2, %r2, %r2}};"
            ),
            16 * 8 * 32,
        ),
    ] {
        assert_eq!(count(&text), MatrixWork { executed: 2 * executed, effective: 2 * executed }, "{text}");
    }
}

/// What 64 threads do to `in` with a load of `%l1`, whose index is `index`.
fn loads(index: &str, scale: u32, load: &str) -> ptx_interpreter::Traffic {
    let body = format!("\t{index}\n\tmad.wide.u32 %l1, %r1, {scale}, %in;\n\t{load}");
    traffic(&profile(&kernel(POINTERS, &body), 1, 64, 8192), "in").clone()
}

#[test]
fn traffic_of_reads() {
    let own = "mov.u32 %r1, %t;";
    let v4 = "ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%l1];";
    // (pattern, read, read_by_warps, unique, sectors, width)
    for (what, index, scale, load, expected) in [
        ("coalesced words", own, 4, "ld.global.u32 %r2, [%l1];", (256, 256, 256, 8, 4)),
        ("coalesced quads", own, 16, v4, (1024, 1024, 1024, 32, 16)),
        ("bytes", own, 1, "ld.global.u8 %r2, [%l1];", (64, 64, 64, 2, 1)),
        // One word of every sector, of every other sector.
        ("strided by 32 bytes", own, 32, "ld.global.u32 %r2, [%l1];", (256, 256, 256, 64, 4)),
        ("strided by 64 bytes", own, 64, "ld.global.nc.u32 %r2, [%l1];", (256, 256, 256, 64, 4)),
        // All lanes the same 16 bytes: each of two warps asks for them once.
        ("broadcast", "mov.u32 %r1, 0;", 16, v4, (1024, 32, 16, 2, 16)),
        // Four lanes share a word.
        ("shared by four", "shr.u32 %r1, %t, 2;", 4, "ld.global.u32 %r2, [%l1];", (256, 64, 64, 2, 4)),
        // Both warps read the same 128 bytes.
        (
            "repeated by both warps",
            "and.b32 %r1, %t, 31;",
            4,
            "ld.global.u32 %r2, [%l1];",
            (256, 256, 128, 8, 4),
        ),
        // Shifted by a word: a warp's 128 bytes touch five sectors.
        ("not on a sector", own, 4, "ld.global.u32 %r2, [%l1+4];", (256, 256, 256, 10, 4)),
        // Twice the same: asked for twice, touched once.
        ("twice", own, 4, "ld.global.u32 %r2, [%l1]; ld.global.u32 %r2, [%l1];", (512, 512, 256, 16, 4)),
        // Two lanes share eight bytes.
        (
            "shared by two",
            "and.b32 %r1, %t, 62;",
            4,
            "ld.global.v2.u32 {%r2, %r3}, [%l1];",
            (512, 256, 256, 8, 8),
        ),
    ] {
        let got = loads(index, scale, load);
        let (read, by_warps, unique, sectors, width) = expected;
        assert_eq!(
            (got.read, got.read_by_warps, got.unique_read, got.sectors),
            (read, by_warps, unique, sectors),
            "{what}: bytes read, read by warps, unique; sectors"
        );
        assert_eq!(got.widths, BTreeMap::from([(width, read / u64::from(width))]), "{what}");
        assert_eq!((got.written, got.unique_written), (0, 0), "{what}");
    }
}

#[test]
fn traffic_of_writes_and_atomics() {
    let on_out = |body: &str| traffic(&profile(&kernel(POINTERS, body), 2, 64, 8192), "out").clone();
    let stores = on_out("mad.wide.u32 %l1, %i, 8, %out; st.global.u64 [%l1], %l1;");
    assert_eq!((stores.written, stores.unique_written, stores.sectors), (1024, 1024, 32));
    assert_eq!((stores.read, stores.read_by_warps, stores.unique_read), (0, 0, 0));
    assert_eq!(stores.widths, BTreeMap::from([(8, 128)]));
    // Both blocks write the same words.
    let twice = on_out("mad.wide.u32 %l1, %t, 4, %out; st.global.u32 [%l1], %t;");
    assert_eq!((twice.written, twice.unique_written, twice.sectors), (512, 256, 16));
    // Atomics read and write.
    for atomic in ["atom.global.add.u32 %r1, [%out], 1;", "red.global.add.u32 [%out], 1;"] {
        let counter = on_out(&format!("setp.eq.u32 %p1, %t, 5; @%p1 {atomic}"));
        assert_eq!(
            (counter.read, counter.written, counter.unique_read, counter.unique_written),
            (8, 8, 4, 4),
            "{atomic}"
        );
    }
}

#[test]
fn traffic_of_background_copies() {
    let body = "	.shared .align 16 .b8 store[1024];
	mov.u32 %r1, store;
	mad.lo.u32 %r1, %t, 16, %r1;
	mad.wide.u32 %l1, %t, 16, %in;
	setp.lt.u32 %p1, %t, 60;
	selp.u32 %r2, 16, 0, %p1;
	cp.async.cg.shared.global [%r1], [%l1], 16, %r2;
	cp.async.wait_all;";
    let profile = profile(&kernel(POINTERS, body), 3, 64, 2048);
    let from = traffic(&profile, "in");
    assert_eq!((from.read, from.read_by_warps, from.unique_read), (3 * 960, 3 * 960, 960));
    assert_eq!(from.sectors, 3 * 30);
    assert_eq!(profile.traffic.len(), 1, "the other buffer is not touched");
}

#[test]
fn buffers_by_name_then_address() {
    let ptx = module(
        "sm_80",
        &entry(
            "k",
            &["a", "b", "c"],
            "\tst.global.u32 [%a], 1;\n\tst.global.u32 [%b], 1;\n\tst.global.u32 [%c], 1;",
        ),
    );
    let mut lab = Lab::new();
    let pointers = ["x", "w", "w"].map(|name| lab.room(name, 4));
    let profile = lab.run(&ptx, 1, 1, &pointers).unwrap();
    let places: Vec<_> = profile.traffic.iter().map(|t| (t.name.as_str(), t.address)).collect();
    assert_eq!(places, [("w", pointers[1]), ("w", pointers[2]), ("x", pointers[0])]);
}

/// Instructions, passes and least passes of one access of shared memory by a warp whose lanes use index `%r1`; the
/// accesses that fill it are subtracted.
fn passes(index: &str, scale: u32, access: &str) -> (u64, u64, u64) {
    let run = |access: &str| {
        let body = format!(
            "	.shared .align 16 .b8 store[16384];
	mov.u32 %r0, store;
	mov.u32 %r2, 0; mov.u32 %r3, 0; mov.u32 %r4, 0; mov.u32 %r5, 0; mov.u64 %l2, 0;
	mad.lo.u32 %r6, %t, 16, %r0;
	mov.u32 %r7, 0;
FILL:
	st.shared.v4.u32 [%r6], {{%r2, %r3, %r4, %r5}};
	add.u32 %r6, %r6, 512;
	add.u32 %r7, %r7, 512;
	setp.lt.u32 %p1, %r7, 16384;
	@%p1 bra FILL;
	bar.warp.sync -1;
	{index}
	mad.lo.u32 %r1, %r1, {scale}, %r0;
	{access}"
        );
        let profile = profile(&kernel(POINTERS, &body), 1, 32, 16);
        (profile.shared_instructions, profile.shared_passes, profile.shared_passes_least)
    };
    let (with, without) = (run(access), run(""));
    // 16 KB in stores of 16 bytes by 32 lanes, four passes each.
    assert_eq!(without, (32, 128, 128));
    (with.0 - without.0, with.1 - without.1, with.2 - without.2)
}

#[test]
fn passes_over_the_banks() {
    let own = "mov.u32 %r1, %t;";
    let word = "ld.shared.u32 %r2, [%r1];";
    let v2 = "ld.shared.v2.u32 {%r2, %r3}, [%r1];";
    let v4 = "ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r1];";
    for (what, index, scale, access, expected) in [
        ("neighbours", own, 4, word, (1, 1, 1)),
        ("stores", "xor.b32 %r1, %t, 5;", 4, "st.shared.u32 [%r1], %r2;", (1, 1, 1)),
        ("every other word", own, 8, word, (1, 2, 1)),
        ("every eighth word", own, 32, word, (1, 8, 1)),
        ("one column of 32 words", own, 128, word, (1, 32, 1)),
        ("a padded column", own, 132, word, (1, 1, 1)),
        ("all the same word", "mov.u32 %r1, 7;", 4, word, (1, 1, 1)),
        ("two words of one bank", "and.b32 %r1, %t, 1;", 128, word, (1, 2, 1)),
        ("bytes of the same words", own, 1, "ld.shared.u8 %r2, [%r1];", (1, 1, 1)),
        ("halves two words apart", own, 8, "ld.shared.u16 %h1, [%r1];", (1, 2, 1)),
        ("8 bytes", own, 8, v2, (1, 2, 2)),
        ("8 bytes, one number", own, 8, "ld.shared.u64 %l2, [%r1];", (1, 2, 2)),
        ("8 bytes of 16", own, 16, v2, (1, 4, 2)),
        ("16 bytes", own, 16, v4, (1, 4, 4)),
        ("16 bytes of 32", own, 32, v4, (1, 8, 4)),
        // Rows of 128 bytes: the eight lanes of a quarter all want the same four banks.
        ("a column of 16-byte parts", own, 128, v4, (1, 32, 4)),
        ("16 bytes, all the same", "mov.u32 %r1, 0;", 16, v4, (1, 4, 4)),
        (
            "only the first eight lanes",
            "setp.lt.u32 %p2, %t, 8; mov.u32 %r1, %t;",
            16,
            "@%p2 ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r1];",
            (1, 1, 1),
        ),
        (
            "no lane",
            "setp.lt.u32 %p2, %t, 0; mov.u32 %r1, %t;",
            4,
            "@%p2 ld.shared.u32 %r2, [%r1];",
            (0, 0, 0),
        ),
    ] {
        assert_eq!(passes(index, scale, access), expected, "{what}: instructions, passes, least");
    }
}

#[test]
fn passes_of_ldmatrix() {
    let x4 = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2, %r3, %r4, %r5}, [%r1];";
    let x1 = "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1];";
    for (what, index, scale, access, expected) in [
        ("rows in a row", "mov.u32 %r1, %t;", 16, x4, (1, 4, 4)),
        ("rows in a row, one matrix", "mov.u32 %r1, %t;", 16, x1, (1, 1, 1)),
        // Rows of 128 bytes put a matrix's eight rows on the same banks ..
        ("not swizzled", "mov.u32 %r1, %t;", 128, x4, (1, 32, 4)),
        // .. rows of 64 bytes on two places ..
        ("rows of 64 bytes", "mov.u32 %r1, %t;", 64, x4, (1, 16, 4)),
        // .. which exchanging 16-byte parts by the row undoes, or padding.
        ("swizzled", "shl.b32 %r1, %t, 3; and.b32 %r8, %t, 7; xor.b32 %r1, %r1, %r8;", 16, x4, (1, 4, 4)),
        ("padded", "mov.u32 %r1, %t;", 144, x4, (1, 4, 4)),
    ] {
        assert_eq!(passes(index, scale, access), expected, "{what}: instructions, passes, least");
    }
}

#[test]
fn bytes_in_flight() {
    let load = |register: u32, at: u32| format!("ld.global.u32 %r{register}, [%l1+{at}]; ");
    let both = load(2, 0) + &load(3, 512);
    let quads: String = (0..4)
        .map(|n| format!("ld.global.v4.u32 {{%r{n}0, %r{n}1, %r{n}2, %r{n}3}}, [%in+{}]; ", 16 * n))
        .collect();
    let copy =
        |at: u32| format!("cp.async.cg.shared.global [%r1+{at}], [%l3+{at}], 16; cp.async.commit_group; ");
    for (what, body, expected) in [
        ("nothing", String::new(), 0),
        ("a word of each lane", load(2, 0), 128),
        ("two", both.clone(), 256),
        ("four quads", quads, 4 * 512),
        ("used before the next", load(2, 0) + "add.u32 %r9, %r2, 1; " + &load(3, 512), 128),
        ("overwritten before the next", load(2, 0) + "add.u32 %r2, %t, 1; " + &load(2, 512), 128),
        ("moved only", load(2, 0) + "mov.u32 %r9, %r2; " + &load(3, 512), 256),
        // They end in order: with the first used, the second is under way; with the second used, none is.
        ("the first used", both.clone() + "add.u32 %r9, %r2, 1; " + &load(4, 0) + &load(5, 0), 384),
        ("the second used", both.clone() + "add.u32 %r9, %r3, 1; " + &load(4, 0) + &load(5, 0), 256),
        ("by eight lanes", format!("setp.lt.u32 %p1, %lane, 8; @%p1 {}", load(2, 0)), 32),
        ("copies", copy(0) + &copy(512) + &copy(1024), 3 * 512),
        ("copies with a wait", copy(0) + &copy(512) + "cp.async.wait_group 1; " + &copy(1024), 2 * 512),
        ("copies and a load", copy(0) + &load(2, 0), 512 + 128),
        ("stores", "st.global.u32 [%l2], %t; st.global.u32 [%l2+512], %t;".to_string(), 0),
    ] {
        let start = "	.shared .align 16 .b8 store[2560];
	mov.u32 %r1, store;
	mad.lo.u32 %r1, %lane, 16, %r1;
	mad.wide.u32 %l1, %t, 4, %in;
	mad.wide.u32 %l2, %t, 4, %out;
	mad.wide.u32 %l3, %lane, 16, %in;
	setp.ge.u32 %p2, %t, 32;
	@%p2 ret;";
        // The most of any warp: the second one does nothing.
        assert_eq!(
            profile(&kernel(POINTERS, &format!("{start}\n\t{body}")), 2, 64, 2560).in_flight,
            expected,
            "{what}"
        );
    }
}

/// A grid large enough that both host threads have work; the sum of its parts is exact.
#[test]
fn many_blocks_on_several_host_threads() {
    let body = "	mad.wide.u32 %l1, %i, 4, %in;
	ld.global.u32 %r1, [%l1];
	mad.wide.u32 %l2, %i, 4, %out;
	st.global.u32 [%l2], %r1;
	ld.global.u32 %r2, [%in];";
    let profile = profile(&kernel(POINTERS, body), 500, 96, 4 * 48000);
    assert_eq!(profile.thread_instructions, 48000 * (AROUND + 5));
    let (from, to) = (traffic(&profile, "in"), traffic(&profile, "out"));
    assert_eq!((from.read, from.unique_read), (2 * 4 * 48000, 4 * 48000));
    assert_eq!(from.read_by_warps, 4 * 48000 + 4 * 1500);
    assert_eq!(from.sectors, 4 * 1500 + 1500);
    assert_eq!((to.written, to.unique_written, to.sectors), (4 * 48000, 4 * 48000, 4 * 1500));
}
