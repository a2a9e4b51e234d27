//! Copies in the background: what they bring, and that it is there after the wait and not before.

use ptx_interpreter::FaultKind;

use crate::lab::{Lab, assert_fault, kernel};

/// Each thread copies `bytes` with this instruction, then stores them from shared memory.
#[test]
fn every_size() {
    for (copy, bytes) in [
        ("cp.async.ca.shared.global [%r1], [%l1], 4;", 4),
        ("cp.async.ca.shared.global [%r1], [%l1], 8;", 8),
        ("cp.async.ca.shared.global [%r1], [%l1], 16;", 16),
        ("cp.async.cg.shared.global [%r1], [%l1], 16;", 16),
        ("cp.async.cg.shared.global.L2::128B [%r1], [%l1], 16;", 16),
        ("cp.async.cg.shared.global.L2::256B [%r1], [%l1], 16, 16;", 16),
        (
            "createpolicy.fractional.L2::evict_first.b64 %l9, 1.0; cp.async.cg.shared.global.L2::cache_hint [%r1], [%l1], 16, %l9;",
            16,
        ),
    ] {
        let ptx = kernel(
            &["out", "in"],
            &format!(
                "	.shared .align 16 .b8 store[1024];
	mov.u32 %r0, store;
	mad.lo.u32 %r1, %t, {bytes}, %r0;
	mad.wide.u32 %l1, %t, {bytes}, %in;
	mad.wide.u32 %l2, %t, {bytes}, %out;
	{copy}
	cp.async.wait_all;
	mov.u32 %r2, 0;
BYTE:
	add.u32 %r3, %r1, %r2;
	cvt.u64.u32 %l3, %r2;
	add.s64 %l3, %l3, %l2;
	ld.shared.u8 %r4, [%r3];
	st.global.u8 [%l3], %r4;
	add.u32 %r2, %r2, 1;
	setp.lt.u32 %p1, %r2, {bytes};
	@%p1 bra BYTE;"
            ),
        );
        let mut lab = Lab::new();
        let data: Vec<u8> = (0..64 * bytes).map(|n| (n * 37 + 5) as u8).collect();
        let input = lab.upload("in", &data);
        let out = lab.room("out", data.len());
        lab.run(&ptx, 1, 64, &[out, input]).unwrap_or_else(|fault| panic!("{copy}: {fault}"));
        assert_eq!(lab.read::<u8>(out, data.len()), data, "{copy}");
    }
}

/// With fewer source bytes than 16 the rest is zeros, and the rest of the source need not be there.
#[test]
fn zeros_for_what_is_not_copied() {
    let text = |size: &str| {
        kernel(
            &["out", "in"],
            &format!(
                "	.shared .align 16 .b8 store[128];
	mov.u32 %r0, store;
	mad.lo.u32 %r1, %t, 16, %r0;
	mad.wide.u32 %l1, %t, 16, %in;
	mad.wide.u32 %l2, %t, 16, %out;
	mul.lo.u32 %r2, %t, 4;
	sub.u32 %r2, 16, %r2;
	// What was there before is overwritten with zeros, too.
	st.shared.v4.u32 [%r1], {{%r1, %r1, %r1, %r1}};
	cp.async.cg.shared.global [%r1], [%l1], 16, {size};
	cp.async.commit_group;
	cp.async.wait_group 0;
	ld.shared.v4.u32 {{%r4, %r5, %r6, %r7}}, [%r1];
	st.global.v4.u32 [%l2], {{%r4, %r5, %r6, %r7}};"
            ),
        )
    };
    let mut lab = Lab::new();
    // Threads 0..5 copy 16, 12, 8, 4 and 0 bytes; the last source lies behind the end.
    let input = lab.upload("in", &(1..=16).collect::<Vec<u32>>());
    let out = lab.room("out", 80);
    let profile = lab.run(&text("%r2"), 1, 5, &[out, input]).unwrap();
    let expected = [1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(lab.read::<u32>(out, 20), expected);
    let input_traffic = crate::lab::traffic(&profile, "in");
    assert_eq!((input_traffic.read, input_traffic.unique_read), (40, 40));
    let ptx = text("16");
    assert_fault(lab.run(&ptx, 1, 5, &[out, input]), FaultKind::OutOfBounds, &ptx, "cp.async.cg", &["in"]);
}

/// Three stages in flight: rounds of 16 bytes a thread, summed from shared memory. `pending` groups may be under way
/// when a stage is read.
fn pipeline(pending: u32, barrier: &str) -> String {
    kernel(
        &["out", "in"],
        &format!(
            "	.shared .align 16 .b8 store[3072];
	mov.u32 %r0, store;
	mul.lo.u32 %r1, %t, 16;
	add.u32 %r2, %r0, %r1;
	mad.wide.u32 %l1, %t, 16, %in;
	mov.u32 %r10, 0;
	// Rounds 0 and 1 before the loop.
	cp.async.cg.shared.global [%r2], [%l1], 16;
	cp.async.commit_group;
	cp.async.cg.shared.global [%r2+1024], [%l1+1024], 16;
	cp.async.commit_group;
	mov.u32 %r3, 0;
ROUND:
	cp.async.wait_group {pending};
	{barrier}
	// Round r + 2 into stage (r + 2) % 3, if there is one.
	add.u32 %r4, %r3, 2;
	setp.lt.u32 %p1, %r4, 8;
	@!%p1 bra NO_MORE;
	rem.u32 %r5, %r4, 3;
	mad.lo.u32 %r5, %r5, 1024, %r2;
	mad.wide.u32 %l2, %r4, 1024, %l1;
	cp.async.cg.shared.global [%r5], [%l2], 16;
NO_MORE:
	cp.async.commit_group;
	// What the lane opposite brought in round r.
	rem.u32 %r6, %r3, 3;
	xor.b32 %r7, %r1, 496;
	mad.lo.u32 %r6, %r6, 1024, %r0;
	add.u32 %r6, %r6, %r7;
	ld.shared.u32 %r8, [%r6+4];
	add.u32 %r10, %r10, %r8;
	add.u32 %r3, %r3, 1;
	setp.lt.u32 %p2, %r3, 8;
	@%p2 bra ROUND;
	mad.wide.u32 %l3, %t, 4, %out;
	st.global.u32 [%l3], %r10;"
        ),
    )
}

#[test]
fn a_pipeline_of_groups() {
    let mut lab = Lab::new();
    let data: Vec<u32> = (0..8 * 256u32).map(|n| n * n).collect();
    let input = lab.upload("in", &data);
    let out = lab.room("out", 256);
    lab.run(&pipeline(1, "bar.sync 0;"), 1, 64, &[out, input]).unwrap();
    let expected: Vec<u32> = (0..64)
        .map(|t| (0..8).map(|r| data[r * 256 + (t ^ 31) * 4 + 1]).fold(0u32, u32::wrapping_add))
        .collect();
    assert_eq!(lab.read::<u32>(out, 64), expected);

    // One group more under way: the round that is read has perhaps not arrived.
    let ptx = pipeline(2, "bar.sync 0;");
    assert_fault(
        lab.run(&ptx, 1, 64, &[out, input]),
        FaultKind::Race,
        &ptx,
        "ld.shared.u32 %r8",
        &["shared"],
    );
    // No barrier: a thread's wait says nothing about the copies of others.
    let ptx = pipeline(1, "");
    assert_fault(
        lab.run(&ptx, 1, 64, &[out, input]),
        FaultKind::Race,
        &ptx,
        "ld.shared.u32 %r8",
        &["shared"],
    );
}

/// The thread that issued the copy must not touch its target either: not read it, not write it.
#[test]
fn the_target_is_pending_until_the_wait() {
    let text = |before: &str, after: &str| {
        kernel(
            &["out", "in"],
            &format!(
                "	.shared .align 16 .b8 store[16];
	mov.u32 %r1, store;
	cp.async.ca.shared.global [%r1], [%in], 8;
	cp.async.commit_group;
	{before}
	cp.async.wait_group 0;
	{after}
	st.global.u32 [%out], %r2;"
            ),
        )
    };
    let mut lab = Lab::new();
    let input = lab.upload("in", &[3u32, 4]);
    let out = lab.room("out", 4);
    let (load, store) = ("ld.shared.u32 %r2, [%r1+4];", "st.shared.u32 [%r1], 5;");
    lab.run(&text("", load), 1, 1, &[out, input]).unwrap();
    assert_eq!(lab.read::<u32>(out, 1), [4]);
    let ptx = text(load, "");
    assert_fault(lab.run(&ptx, 1, 1, &[out, input]), FaultKind::Race, &ptx, load, &["shared"]);
    let ptx = text(store, load);
    assert_fault(lab.run(&ptx, 1, 1, &[out, input]), FaultKind::Race, &ptx, store, &["shared"]);
    // Beside the target nothing is pending.
    lab.run(&text("st.shared.u32 [%r1+8], 5;", load), 1, 1, &[out, input]).unwrap();
}

/// A copy that no group holds is not waited for by wait_group.
#[test]
fn a_copy_that_was_not_committed() {
    let text = |wait: &str| {
        kernel(
            &["out", "in"],
            &format!(
                "	.shared .align 16 .b8 store[16];
	mov.u32 %r1, store;
	cp.async.ca.shared.global [%r1], [%in], 4;
	{wait}
	ld.shared.u32 %r2, [%r1];
	st.global.u32 [%out], %r2;"
            ),
        )
    };
    let mut lab = Lab::new();
    let input = lab.upload("in", &[3u32]);
    let out = lab.room("out", 4);
    lab.run(&text("cp.async.wait_all;"), 1, 1, &[out, input]).unwrap();
    assert_eq!(lab.read::<u32>(out, 1), [3]);
    lab.run(&text("cp.async.commit_group; cp.async.wait_group 0;"), 1, 1, &[out, input]).unwrap();
    let ptx = text("cp.async.wait_group 0;");
    assert_fault(lab.run(&ptx, 1, 1, &[out, input]), FaultKind::Race, &ptx, "ld.shared.u32", &["shared"]);
}
