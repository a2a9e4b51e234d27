//! Shared memory without the barrier that it needs: found, and the same kernel with the barrier runs.

use ptx_interpreter::FaultKind::{Race, Uninitialised};

use crate::lab::{Lab, assert_fault, kernel};

/// Runs one block of 64 threads that stores to `out`.
fn run(ptx: &str) -> Result<Vec<u32>, ptx_interpreter::Fault> {
    let mut lab = Lab::new();
    let out = lab.room("out", 256);
    lab.run(ptx, 1, 64, &[out])?;
    Ok(lab.read(out, 64))
}

/// Every thread writes its word, `between`, and reads the word of thread `%r3`.
fn exchange(partner: &str, between: &str) -> String {
    kernel(
        &["out"],
        &format!(
            "	.shared .align 4 .b8 words[256];
	mov.u32 %r0, words;
	mad.lo.u32 %r1, %t, 4, %r0;
	{partner}
	mad.lo.u32 %r4, %r3, 4, %r0;
	st.shared.u32 [%r1], %t;
	{between}
	ld.shared.u32 %r5, [%r4];
	mad.wide.u32 %l1, %t, 4, %out;
	st.global.u32 [%l1], %r5;"
        ),
    )
}

const READ: &str = "ld.shared.u32 %r5, [%r4];";

#[test]
fn a_read_of_another_warps_write_needs_a_block_barrier() {
    // The second warp reads what the first wrote.
    let partner = "and.b32 %r3, %t, 31;";
    for too_little in ["", "bar.warp.sync -1;", "membar.cta;"] {
        let ptx = exchange(partner, too_little);
        assert_fault(run(&ptx).map(|_| unreachable!()), Race, &ptx, READ, &["shared"]);
    }
    let expected: Vec<u32> = (0..64).map(|t| t & 31).collect();
    assert_eq!(run(&exchange(partner, "bar.sync 0;")).unwrap(), expected);
}

#[test]
fn a_read_of_another_lanes_write_needs_a_warp_barrier() {
    let partner = "xor.b32 %r3, %t, 1;";
    let ptx = exchange(partner, "");
    assert_fault(run(&ptx).map(|_| unreachable!()), Race, &ptx, READ, &["shared"]);
    let expected: Vec<u32> = (0..64).map(|t| t ^ 1).collect();
    assert_eq!(run(&exchange(partner, "bar.warp.sync 0xFFFFFFFF;")).unwrap(), expected);
    assert_eq!(run(&exchange(partner, "bar.sync 0;")).unwrap(), expected);
    // Its own word needs none.
    assert_eq!(run(&exchange("mov.u32 %r3, %t;", "")).unwrap(), (0..64).collect::<Vec<_>>());
}

/// What the first warp reads is not even there yet.
#[test]
fn a_read_of_what_a_later_warp_writes() {
    let ptx = exchange("xor.b32 %r3, %t, 32;", "");
    assert_fault(run(&ptx).map(|_| unreachable!()), Uninitialised, &ptx, READ, &["shared"]);
}

/// Rounds of write, barrier, read: without a second barrier the next round's write meets the last one's read.
fn rounds(partner: u32, after: &str) -> String {
    kernel(
        &["out"],
        &format!(
            "	.shared .align 4 .b8 words[256];
	mov.u32 %r0, words;
	mad.lo.u32 %r1, %t, 4, %r0;
	xor.b32 %r3, %t, {partner};
	mad.lo.u32 %r4, %r3, 4, %r0;
	mov.u32 %r6, 0;
	mov.u32 %r7, 0;
ROUND:
	add.u32 %r8, %t, %r6;
	st.shared.u32 [%r1], %r8;
	bar.sync 0;
	ld.shared.u32 %r5, [%r4];
	add.u32 %r7, %r7, %r5;
	{after}
	add.u32 %r6, %r6, 1;
	setp.lt.u32 %p1, %r6, 4;
	@%p1 bra ROUND;
	mad.wide.u32 %l1, %t, 4, %out;
	st.global.u32 [%l1], %r7;"
        ),
    )
}

#[test]
fn a_write_after_another_threads_read_needs_a_barrier() {
    for partner in [1, 16, 32] {
        let expected: Vec<u32> = (0..64).map(|t| 4 * (t ^ partner) + 6).collect();
        assert_eq!(run(&rounds(partner, "bar.sync 0;")).unwrap(), expected);
        let ptx = rounds(partner, "");
        let fault = run(&ptx).unwrap_err();
        assert_eq!(fault.kind, Race, "{fault}");
        // Within a warp the write comes second. Between warps it may be that the second warp's read does.
        let write = crate::lab::line_of(&ptx, "st.shared.u32 [%r1], %r8;");
        let read = crate::lab::line_of(&ptx, READ);
        assert!(fault.line == write || partner == 32 && fault.line == read, "line {}: {fault}", fault.line);
    }
    assert!(run(&rounds(1, "bar.warp.sync -1;")).is_ok());
    assert!(run(&rounds(32, "bar.warp.sync -1;")).is_err());
}

#[test]
fn two_threads_writes_to_one_word_need_a_barrier() {
    let text = |between: &str| {
        kernel(
            &["out"],
            &format!(
                "	.shared .align 4 .b8 words[4];
	setp.eq.u32 %p1, %t, 3;
	setp.eq.u32 %p2, %t, 40;
	@%p1 st.shared.u32 [words], 7;
	{between}
	@%p2 st.shared.u16 [words], 8;
	bar.sync 0;
	ld.shared.u32 %r1, [words];
	mad.wide.u32 %l1, %t, 4, %out;
	st.global.u32 [%l1], %r1;"
            ),
        )
    };
    assert_eq!(run(&text("bar.sync 0;")).unwrap(), [8; 64]);
    let ptx = text("");
    assert_fault(run(&ptx).map(|_| unreachable!()), Race, &ptx, "@%p2 st.shared.u16", &["shared"]);
}

/// Lanes of one instruction that write the same word: nobody can say which one stays.
#[test]
fn lanes_of_one_store_to_one_word() {
    let text = |value: &str| {
        kernel(
            &["out"],
            &format!(
                "	.shared .align 4 .b8 words[4];
	setp.lt.u32 %p1, %t, {value};
	@%p1 st.shared.u32 [words], %t;
	bar.sync 0;
	ld.shared.u32 %r1, [words];
	mad.wide.u32 %l1, %t, 4, %out;
	st.global.u32 [%l1], %r1;"
            ),
        )
    };
    assert_eq!(run(&text("1")).unwrap(), [0; 64]);
    let ptx = text("2");
    assert_fault(run(&ptx).map(|_| unreachable!()), Race, &ptx, "@%p1 st.shared.u32", &["shared"]);
}

/// Many threads read a word; one of the readers writes it. That it has read last does not hide the others.
#[test]
fn a_write_after_reads_of_several_threads() {
    let text = |between: &str| {
        kernel(
            &["out"],
            &format!(
                "	.shared .align 4 .b8 words[4];
	setp.eq.u32 %p1, %t, 0;
	@%p1 st.shared.u32 [words], 7;
	bar.sync 0;
	setp.eq.u32 %p2, %t, 5;
	setp.eq.u32 %p3, %t, 40;
	@%p2 ld.shared.u32 %r1, [words];
	@%p3 ld.shared.u32 %r1, [words];
	{between}
	@%p3 st.shared.u32 [words], 8;
	mad.wide.u32 %l1, %t, 4, %out;
	st.global.u32 [%l1], %t;"
            ),
        )
    };
    run(&text("bar.sync 0;")).unwrap();
    let ptx = text("");
    assert_fault(run(&ptx).map(|_| unreachable!()), Race, &ptx, "@%p3 st.shared.u32", &["shared"]);
    // The writer's own warp has met: that says nothing of the other.
    let ptx = text("bar.warp.sync -1;");
    assert_fault(run(&ptx).map(|_| unreachable!()), Race, &ptx, "@%p3 st.shared.u32", &["shared"]);
    // Within one warp, where the same lane has read before and after the other.
    let ptx = text("@%p2 ld.shared.u32 %r1, [words]; @%p3 ld.shared.u32 %r1, [words]; bar.warp.sync -1;")
        .replace("%t, 40", "%t, 6");
    run(&ptx).unwrap();
    let ptx = ptx.replace(" bar.warp.sync -1;", "");
    assert_fault(run(&ptx).map(|_| unreachable!()), Race, &ptx, "@%p3 st.shared.u32", &["shared"]);
}

/// Warps 0 and 1 meet at one barrier, 2 and 3 at another: that says nothing between 0 and 2.
#[test]
fn a_barrier_is_only_between_those_who_meet() {
    let text = |partner: u32| {
        kernel(
            &["out"],
            &format!(
                "	.shared .align 4 .b8 words[512];
	mov.u32 %r0, words;
	mad.lo.u32 %r1, %t, 4, %r0;
	st.shared.u32 [%r1], %t;
	shr.u32 %r6, %t, 6;
	add.u32 %r6, %r6, 1;
	bar.sync %r6, 64;
	and.b32 %r3, %t, {partner};
	mad.lo.u32 %r4, %r3, 4, %r0;
	ld.shared.u32 %r5, [%r4];
	mad.wide.u32 %l1, %t, 4, %out;
	st.global.u32 [%l1], %r5;"
            ),
        )
    };
    let mut lab = Lab::new();
    let out = lab.room("out", 512);
    lab.run(&text(0x5f), 1, 128, &[out]).unwrap();
    assert_eq!(lab.read::<u32>(out, 128), (0..128).map(|t| t & 0x5f).collect::<Vec<_>>());
    let ptx = text(0x3f);
    assert_fault(lab.run(&ptx, 1, 128, &[out]), Race, &ptx, READ, &["shared"]);
}

/// Waiting for copies is not enough when nobody waits for the threads that wait.
#[test]
fn copies_of_another_warp() {
    let text = |wait: &str, barrier: &str| {
        kernel(
            &["out"],
            &format!(
                "	.shared .align 16 .b8 words[256];
	mov.u32 %r0, words;
	mad.lo.u32 %r1, %t, 4, %r0;
	mad.wide.u32 %l1, %t, 4, %out;
	cp.async.ca.shared.global [%r1], [%l1], 4;
	cp.async.commit_group;
	{wait}
	{barrier}
	and.b32 %r3, %t, 31;
	mad.lo.u32 %r4, %r3, 4, %r0;
	ld.shared.u32 %r5, [%r4];
	st.global.u32 [%l1], %r5;"
            ),
        )
    };
    let mut lab = Lab::new();
    let out = lab.upload("out", &(0..64).collect::<Vec<u32>>());
    let (wait, barrier) = ("cp.async.wait_group 0;", "bar.sync 0;");
    lab.run(&text(wait, barrier), 1, 64, &[out]).unwrap();
    assert_eq!(lab.read::<u32>(out, 64), (0..64).map(|t| t & 31).collect::<Vec<_>>());
    for ptx in [text(wait, ""), text("", barrier), text("", "")] {
        assert_fault(lab.run(&ptx, 1, 64, &[out]), Race, &ptx, READ, &["shared"]);
    }
}

/// Different bytes of one word are different memory.
#[test]
fn neighbouring_bytes_are_apart() {
    let ptx = kernel(
        &["out"],
        "	.shared .align 4 .b8 bytes[64];
	mov.u32 %r0, bytes;
	add.u32 %r1, %r0, %t;
	st.shared.u8 [%r1], %t;
	ld.shared.u8 %r2, [%r1];
	mad.wide.u32 %l1, %t, 4, %out;
	st.global.u32 [%l1], %r2;",
    );
    assert_eq!(run(&ptx).unwrap(), (0..64).collect::<Vec<_>>());
}

/// A word that many read and nobody writes any more needs nothing between the reads.
#[test]
fn reads_do_not_race() {
    let ptx = exchange("mov.u32 %r3, 5;", "bar.sync 0; ld.shared.u32 %r6, [%r4]; ld.shared.u32 %r6, [%r1];");
    assert_eq!(run(&ptx).unwrap(), [5; 64]);
}

/// Plain reads beside atomics of others in the same phase.
#[test]
fn a_plain_read_beside_anothers_atomic() {
    let text = |between: &str| {
        kernel(
            &["out"],
            &format!(
                "	.shared .align 4 .b8 sum[4];
	setp.eq.u32 %p1, %t, 0;
	@%p1 st.shared.u32 [sum], 0;
	bar.sync 0;
	atom.shared.add.u32 %r2, [sum], 1;
	{between}
	ld.shared.u32 %r1, [sum];
	mad.wide.u32 %l1, %t, 4, %out;
	st.global.u32 [%l1], %r1;"
            ),
        )
    };
    assert_eq!(run(&text("bar.sync 0;")).unwrap(), [64; 64]);
    let ptx = text("");
    assert_fault(run(&ptx).map(|_| unreachable!()), Race, &ptx, "ld.shared.u32 %r1, [sum];", &["shared"]);
}

/// ldmatrix reads for the whole warp what its lanes wrote.
#[test]
fn ldmatrix_needs_a_barrier_too() {
    let text = |between: &str| {
        kernel(
            &["out"],
            &format!(
                "	.shared .align 16 .b8 rows[1024];
	mov.u32 %r0, rows;
	mad.lo.u32 %r1, %t, 16, %r0;
	st.shared.v4.u32 [%r1], {{%t, %t, %t, %t}};
	{between}
	and.b32 %r3, %t, 31;
	mad.lo.u32 %r2, %r3, 16, %r0;
	ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r4}}, [%r2];
	mad.wide.u32 %l1, %t, 4, %out;
	st.global.u32 [%l1], %r4;"
            ),
        )
    };
    let expected: Vec<u32> = (0..64).map(|t| t % 32 / 4).collect();
    assert_eq!(run(&text("bar.sync 0;")).unwrap(), expected);
    // Its own warp may write again, for no lane goes on before all have read; another warp may not.
    let again = text("bar.sync 0;").replace("{%r4}, [%r2];", "{%r4}, [%r2];\n\tst.shared.u32 [%r2], %r4;");
    let own = again.replace("and.b32 %r3, %t, 31;", "mov.u32 %r3, %t;");
    assert!(run(&own).is_ok());
    assert_eq!(run(&again).unwrap_err().kind, Race);
    for too_little in ["", "bar.warp.sync -1;"] {
        let ptx = text(too_little);
        assert_fault(run(&ptx).map(|_| unreachable!()), Race, &ptx, "ldmatrix.sync", &["shared"]);
    }
}
