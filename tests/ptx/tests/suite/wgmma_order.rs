//! What products of warpgroups need around them: every fence, wait and barrier once left out and once kept, all threads
//! there, and descriptors that fit.

use ptx_interpreter::FaultKind;

use crate::lab::assert_fault;
use crate::wgmma::{PLAIN, changed, launch};

/// `bad` instead of `from` is found at the line that holds `at`; `good` instead is fine.
#[track_caller]
fn assert_found(from: &str, bad: &str, good: &str, kind: FaultKind, at: &str, says: &[&str]) {
    let bad = changed(from, bad);
    assert_fault(launch(&bad, 128), kind, &bad, at, says);
    launch(&changed(from, good), 128).unwrap_or_else(|fault| panic!("{fault}"));
}

const FENCE: &str = "	wgmma.fence.sync.aligned;";
const COMMIT: &str = "	wgmma.commit_group.sync.aligned;";
const WAIT: &str = "	wgmma.wait_group.sync.aligned 0;";

#[test]
fn stores_need_a_proxy_fence_and_then_a_barrier() {
    let stores = "	fence.proxy.async;\n	bar.sync 0;";
    let says = ["reads shared byte", "no fence.proxy.async"];
    assert_found(stores, "	bar.sync 0;", stores, FaultKind::Race, "wgmma.mma_async", &says);
    let late = "	bar.sync 0;\n	fence.proxy.async;";
    let later = "	bar.sync 0;\n	fence.proxy.async.shared::cta;\n	bar.sync 0;";
    let says = ["no barrier after", "fence.proxy.async"];
    assert_found(stores, late, later, FaultKind::Race, "wgmma.mma_async", &says);
    let says = ["no barrier between"];
    assert_found(stores, "	fence.proxy.async;", stores, FaultKind::Race, "wgmma.mma_async", &says);
    // A store after the fence; another fence mends that, and fences that follow do no harm.
    let again = "	fence.proxy.async;\n	st.shared.u32 [%r3], %r2;\n	bar.sync 0;";
    let fenced = "	fence.proxy.async;\n	st.shared.u32 [%r3], %r2;\n	fence.proxy.async;\n	bar.sync 0;\n	fence.proxy.async;";
    assert_found(stores, again, fenced, FaultKind::Race, "wgmma.mma_async", &["no fence.proxy.async"]);
}

#[test]
fn asynchronous_copies_need_the_fence_after_their_wait() {
    let copy = "	ld.global.u32 %r2, [%l0];\n	mad.lo.u32 %r3, %r1, 4, %r0;\n	st.shared.u32 [%r3], %r2;";
    let by_copy = "	mad.lo.u32 %r3, %r1, 4, %r0;\n	cp.async.ca.shared.global [%r3], [%l0], 4;";
    let stores = "	fence.proxy.async;\n	bar.sync 0;";
    let text = |end: &str| changed(copy, by_copy).replacen(stores, end, 1);
    let bad = text("	fence.proxy.async;\n	cp.async.wait_all;\n	bar.sync 0;");
    assert_fault(launch(&bad, 128), FaultKind::Race, &bad, "wgmma.mma_async", &["no fence.proxy.async"]);
    launch(&text("	cp.async.wait_all;\n	fence.proxy.async;\n	bar.sync 0;"), 128).unwrap();
}

#[test]
fn accumulators_are_left_alone_until_waited_for() {
    let says = ["accumulator", "not waited for"];
    let race = FaultKind::Race;
    let read = format!("	add.u32 %r8, %r8, %d3;\n{WAIT}");
    let read_later = format!("{WAIT}\n	add.u32 %r8, %r8, %d3;");
    assert_found(WAIT, &read, &read_later, race, "add.u32 %r8, %r8, %d3;", &says);
    let write = format!("	mov.u32 %d0, 7;\n{WAIT}");
    let other = format!("	mov.u32 %r8, 7;\n{WAIT}");
    assert_found(WAIT, &write, &other, race, "mov.u32 %d0, 7;", &says);
    // Nothing waits for what is not committed.
    let reversed = format!("{WAIT}\n{COMMIT}");
    let kept = format!("{COMMIT}\n{WAIT}");
    assert_found(&kept, &reversed, &kept, race, "st.global.b32 [%l1+0], %d0;", &says);
}

#[test]
fn a_wait_leaves_the_last_groups_pending() {
    // A second group, of accumulators of its own.
    let second = PLAIN.instruction().replace("%d", "%r2");
    let set = "mov.u32 %r20, 0; mov.u32 %r21, 0; mov.u32 %r22, 0; mov.u32 %r23, 0;";
    let text = |pending: u32, reads: &str| {
        let text = changed(FENCE, &format!("	{set}\n{FENCE}"));
        let wait = format!("	wgmma.wait_group.sync.aligned {pending};\n	mov.u32 %r8, {reads};\n{WAIT}");
        text.replacen(WAIT, &format!("	{second}\n	wgmma.commit_group.sync.aligned; // second\n{wait}"), 1)
    };
    let bad = text(1, "%r20");
    assert_fault(launch(&bad, 128), FaultKind::Race, &bad, "mov.u32 %r8, %r20;", &["not waited for"]);
    launch(&text(1, "%d0"), 128).unwrap();
    launch(&text(0, "%r20"), 128).unwrap();
}

#[test]
fn accumulators_need_a_fence_after_other_instructions() {
    let says = ["no wgmma.fence since"];
    let race = FaultKind::Race;
    assert_found(FENCE, "", FENCE, race, "wgmma.mma_async", &says);
    let late = format!("{FENCE}\n	mov.b32 %d2, 0f3f800000;");
    let early = format!("	mov.b32 %d2, 0f3f800000;\n{FENCE}");
    assert_found(FENCE, &late, &early, race, "wgmma.mma_async", &says);
    // A product after a wait needs none, unless something has read the accumulators.
    let again = PLAIN.instruction().replace("%p1,", "%p1 ,");
    let end = format!("{COMMIT} // again\n	wgmma.wait_group.sync.aligned 0 ;");
    let read = format!("{WAIT}\n	add.u32 %r8, %r8, %d3;\n	{again}\n{end}");
    let unread = format!("{WAIT}\n	{again}\n{end}");
    assert_found(WAIT, &read, &unread, race, "%p1 ,", &says);
}

#[test]
fn matrices_are_left_alone_until_waited_for() {
    let race = FaultKind::Race;
    let store = "	@%p3 st.shared.u32 [%r0+8192], 0;";
    let of = |thread: u32| format!("	setp.eq.u32 %p3, %t, {thread};\n{store}");
    let says = ["writes shared byte 8192", "wgmma", "not waited for"];
    let before = format!("{}\n{WAIT}", of(0));
    let after = format!("{WAIT}\n	bar.sync 1;\n{}", of(0));
    assert_found(WAIT, &before, &after, race, store.trim(), &says);
    // Also behind a barrier; and where the writer has waited for its own product, but others may not have.
    let barrier = format!("	bar.sync 1;\n{}\n{WAIT}", of(0));
    assert_found(WAIT, &barrier, &after, race, store.trim(), &says);
    let own = format!("	bar.sync 1;\n{WAIT}\n{}", of(127));
    assert_found(WAIT, &own, &after, race, store.trim(), &["with no barrier between"]);
    // Rows of `a` are read by one warp: another one may not write them either.
    let own = own.replace("+8192", "");
    let store = store.replace("+8192", "");
    assert_found(WAIT, &own, &after, race, store.trim(), &["with no barrier between"]);
}

#[test]
fn all_threads_of_a_warpgroup_take_part() {
    let instruction = PLAIN.instruction();
    let some = |condition: &str| format!("	setp.{condition};\n	@%p2 {instruction}");
    let bad = some("lt.u32 %p2, %lane, 16");
    let all = some("lt.u32 %p2, %lane, 32");
    let divergence = FaultKind::Divergence;
    assert_found(&instruction, &bad, &all, divergence, "wgmma.mma_async", &["all lanes must be here"]);
    // The last warp leaves one out.
    let bad = some("lt.u32 %p2, %t, 96");
    assert_found(&instruction, &bad, &all, divergence, "wgmma.mma_async", &["this one has ended"]);
    // Warps of a warpgroup name different matrices, or lanes of a warp do.
    let from = format!("	{instruction}");
    let other = |shift: u32| {
        format!(
            "	shr.u32 %r5, %t, {shift}; and.b32 %r5, %r5, 1; shl.b32 %r5, %r5, 1; cvt.u64.u32 %l5, %r5; add.u64 %l11, %l11, %l5;\n{from}"
        )
    };
    assert_found(&from, &other(5), &other(7), divergence, "wgmma.mma_async", &["another warp"]);
    assert_found(&from, &other(4), &other(7), divergence, "wgmma.mma_async", &["descriptor of b"]);
    // So do the lanes' predicates.
    let mixed = format!("	setp.lt.u32 %p1, %lane, 5;\n{from}");
    assert_found(&from, &mixed, &from, divergence, "wgmma.mma_async", &["some lanes"]);
    // Three warps are no warpgroup.
    let text = PLAIN.text();
    assert_fault(launch(&text, 96), divergence, &text, "wgmma.mma_async", &["no four warps"]);
}

#[test]
fn descriptors_that_do_not_fit() {
    let from = "	add.u64 %l11, %l10, 512;";
    let plus = |bits: u64| format!("{from}\n	xor.b64 %l11, %l11, {bits};");
    let at = "wgmma.mma_async";
    // Modes 2 and 3 (mode 1 is set later), and a base offset.
    for bits in [2 << 62, 1 << 49] {
        assert_found(from, &plus(bits), from, FaultKind::Unknown, at, &["swizzle mode", "base offset"]);
    }
    // Behind the matrix, across a row's end, and not at the first of eight rows.
    assert_found(from, &plus(1 << 13), from, FaultKind::OutOfBounds, at, &["tile"]);
    assert_found(from, &plus(7), &plus(6), FaultKind::OutOfBounds, at, &["rows end"]);
    assert_found(from, &plus(8), &plus(2), FaultKind::Misaligned, at, &["multiples of 1024"]);
}
