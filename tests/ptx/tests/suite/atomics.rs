//! Atomics of every kind, by many threads of many blocks on several host threads.

use crate::lab::{Lab, Plain, kernel};

const BLOCKS: u32 = 24;
const THREADS: u32 = 96;
const ALL: u32 = BLOCKS * THREADS;

/// What thread `i` brings: of all magnitudes, half of them negative as signed numbers.
fn value(i: u32) -> u32 {
    i.wrapping_mul(0x9e37_79b9)
}

fn value64(i: u32) -> u64 {
    u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Runs `body` in all threads, on 1 and on 3 host threads; `%r1` holds the thread's value, `%l1` the one of 64 bits,
/// `%f1` and `%w1` the number 1 + i % 8. Gives the word at the start of `out` after it.
fn all<T: Plain + PartialEq + std::fmt::Debug>(initial: T, body: &str) -> T {
    let ptx = kernel(
        &["out"],
        &format!(
            "	mul.lo.u32 %r1, %i, 0x9E3779B9;
	cvt.u64.u32 %l1, %i;
	mul.lo.u64 %l1, %l1, 0x9E3779B97F4A7C15;
	and.b32 %r2, %i, 7;
	add.u32 %r2, %r2, 1;
	cvt.rn.f32.u32 %f1, %r2;
	cvt.rn.f64.u32 %w1, %r2;
	{body}"
        ),
    );
    let mut results = [1, 3].map(|workers| {
        let mut lab = Lab::with_workers(workers);
        let out = lab.upload("out", &[initial]);
        lab.run(&ptx, BLOCKS, THREADS, &[out]).unwrap_or_else(|fault| panic!("{body}: {fault}"));
        lab.read::<T>(out, 1)
    });
    assert_eq!(results[0], results[1], "{body} on 1 and on 3 host threads");
    std::mem::take(&mut results[0])[0]
}

#[test]
fn integer_atomics() {
    let values = || (0..ALL).map(value);
    let signed = || values().map(|v| v as i32);
    let sum = values().fold(0u32, u32::wrapping_add);
    for how in [
        "atom.global.add.u32 %r3, [%out], %r1;",
        "red.global.add.u32 [%out], %r1;",
        "atom.add.u32 %r3, [%out], %r1;",
        "red.relaxed.gpu.global.add.s32 [%out], %r1;",
        "atom.acq_rel.gpu.global.add.u32 %r3, [%out], %r1;",
    ] {
        assert_eq!(all(5u32, how), sum.wrapping_add(5), "{how}");
    }
    assert_eq!(all(u32::MAX, "atom.global.min.u32 %r3, [%out], %r1;"), values().min().unwrap());
    assert_eq!(all(0u32, "red.global.max.u32 [%out], %r1;"), values().max().unwrap());
    assert_eq!(all(0i32, "atom.global.min.s32 %r3, [%out], %r1;"), signed().min().unwrap());
    assert_eq!(all(0i32, "red.global.max.s32 [%out], %r1;"), signed().max().unwrap());
    assert_eq!(all(0u32, "red.global.xor.b32 [%out], %r1;"), values().fold(0, |a, b| a ^ b));
    assert_eq!(
        all(0u32, "and.b32 %r1, %r1, 0x10101; red.global.or.b32 [%out], %r1;"),
        values().fold(0, |a, b| a | b) & 0x10101
    );
    assert_eq!(
        all(u32::MAX, "or.b32 %r1, %r1, 0xFFFF; atom.global.and.b32 %r3, [%out], %r1;"),
        values().fold(u32::MAX, |a, b| a & (b | 0xffff))
    );

    let wide = || (0..ALL).map(value64);
    let sum = wide().fold(0u64, u64::wrapping_add);
    assert_eq!(all(5u64, "atom.global.add.u64 %l3, [%out], %l1;"), sum.wrapping_add(5));
    assert_eq!(all(5u64, "red.release.gpu.global.add.u64 [%out], %l1;"), sum.wrapping_add(5));
    assert_eq!(all(u64::MAX, "red.global.min.u64 [%out], %l1;"), wide().min().unwrap());
    assert_eq!(all(0u64, "atom.global.max.u64 %l3, [%out], %l1;"), wide().max().unwrap());
    assert_eq!(all(0i64, "atom.global.max.s64 %l3, [%out], %l1;"), wide().map(|v| v as i64).max().unwrap());
    assert_eq!(all(0u64, "red.global.xor.b64 [%out], %l1;"), wide().fold(0, |a, b| a ^ b));
}

/// Small whole numbers: their sum is exact in any order.
#[test]
fn floating_point_sums() {
    let sum: u32 = (0..ALL).map(|i| 1 + i % 8).sum();
    assert_eq!(all(0.5f32, "atom.global.add.f32 %f3, [%out], %f1;"), sum as f32 + 0.5);
    assert_eq!(all(0.5f32, "red.global.add.f32 [%out], %f1;"), sum as f32 + 0.5);
    assert_eq!(all(0.5f64, "red.global.add.f64 [%out], %w1;"), f64::from(sum) + 0.5);
    assert_eq!(all(0.5f64, "atom.relaxed.gpu.global.add.f64 %w3, [%out], %w1;"), f64::from(sum) + 0.5);
}

/// What each thread got back, sorted.
fn returned(initial: u32, body: &str) -> (Vec<u32>, u32) {
    let ptx = kernel(
        &["out", "old"],
        &format!("\tmad.wide.u32 %l1, %i, 4, %old;\n\t{body}\n\tst.global.u32 [%l1], %r3;"),
    );
    let mut lab = Lab::with_workers(3);
    let out = lab.upload("out", &[initial]);
    let old = lab.room("old", 4 * ALL as usize);
    lab.run(&ptx, BLOCKS, THREADS, &[out, old]).unwrap();
    let mut all: Vec<u32> = lab.read(old, ALL as usize);
    all.sort_unstable();
    (all, lab.read(out, 1)[0])
}

#[test]
fn each_thread_gets_the_value_before_its_own() {
    let everyone: Vec<u32> = (0..ALL).collect();
    assert_eq!(returned(0, "atom.global.add.u32 %r3, [%out], 1;"), (everyone.clone(), ALL));
    // Increments up to 9, then zero: each of 0..=9 is seen equally often.
    let (seen, last) = returned(0, "atom.global.inc.u32 %r3, [%out], 9;");
    let mut expected: Vec<u32> = (0..ALL).map(|i| i % 10).collect();
    expected.sort_unstable();
    assert_eq!((seen, last), (expected, ALL % 10));
    let (seen, last) = returned(0, "atom.acq_rel.gpu.global.inc.u32 %r3, [%out], 2303;");
    assert_eq!((seen, last), (everyone.clone(), 0), "a counter that is zero again after the last");
    // Decrements from 0 wrap to the limit: 0, 6, 5, .. 1, 0, 6, ..
    let (seen, last) = returned(0, "atom.global.dec.u32 %r3, [%out], 6;");
    let mut expected: Vec<u32> = (0..ALL).map(|i| (7 - i % 7) % 7).collect();
    expected.sort_unstable();
    assert_eq!((seen, last), (expected, (7 - ALL % 7) % 7));
    // A value above the limit also wraps.
    assert_eq!(
        returned(1 << 20, "setp.eq.u32 %p1, %i, 0; mov.u32 %r3, 7; @%p1 atom.global.dec.u32 %r3, [%out], 6;")
            .1,
        6
    );
    // Exchange: nothing is lost, nothing is there twice.
    let (mut seen, last) = returned(ALL, "atom.global.exch.b32 %r3, [%out], %i;");
    seen.push(last);
    seen.sort_unstable();
    assert_eq!(seen, (0..=ALL).collect::<Vec<_>>());
    // Additions made of compare-and-swap.
    let cas = "ld.volatile.global.u32 %r3, [%out];
RETRY:
	mov.u32 %r4, %r3;
	add.u32 %r5, %r4, 1;
	atom.global.cas.b32 %r3, [%out], %r4, %r5;
	setp.ne.u32 %p1, %r3, %r4;
	@%p1 bra RETRY;";
    assert_eq!(returned(0, cas), (everyone, ALL));
}

#[test]
fn exchange_and_compare_of_64_bits() {
    let last = all(7u64, "atom.global.cas.b64 %l3, [%out], 7, %l1; st.volatile.global.u64 [%out], 3;");
    assert_eq!(last, 3);
    let ptx = kernel(
        &["out"],
        "	ld.global.u64 %l1, [%out];
	atom.global.cas.b64 %l2, [%out], %l1, 0x1122334455667788;
	atom.global.cas.b64 %l3, [%out], %l1, 99;
	atom.global.exch.b64 %l4, [%out+8], 5;
	st.global.v2.u64 [%out+16], {%l2, %l3};
	st.global.u64 [%out+32], %l4;",
    );
    let mut lab = Lab::new();
    let out = lab.upload("out", &[1u64 << 40, 12, 0, 0, 0]);
    lab.run(&ptx, 1, 1, &[out]).unwrap();
    assert_eq!(lab.read::<u64>(out, 5), [0x1122_3344_5566_7788, 5, 1 << 40, 0x1122_3344_5566_7788, 12]);
}

/// The same in shared memory, where every block has its own.
#[test]
fn shared_memory_atomics() {
    let ptx = kernel(
        &["out"],
        "	.shared .align 8 .b8 words[48];
	mov.u32 %r1, words;
	setp.ge.u32 %p1, %t, 12;
	@%p1 bra READY;
	mad.lo.u32 %r2, %t, 4, %r1;
	st.shared.u32 [%r2], 0;
READY:
	bar.sync 0;
	cvt.rn.f32.u32 %f1, %t;
	cvt.u64.u32 %l1, %t;
	atom.shared.add.u32 %r3, [%r1], %t;
	red.shared.max.u32 [%r1+4], %i;
	atom.shared.inc.u32 %r3, [%r1+8], 9;
	red.shared.add.f32 [%r1+12], %f1;
	red.shared.add.u64 [%r1+16], %l1;
	atom.shared.or.b32 %r3, [%r1+24], %t;
	atom.shared.exch.b32 %r3, [%r1+28], 4;
	atom.shared.cas.b32 %r3, [%r1+32], 0, 9;
	red.shared.min.s32 [%r1+36], -5;
	add.u32 %r4, %r1, 40;
	cvt.u64.u32 %l2, %r4;
	cvta.shared.u64 %l2, %l2;
	atom.add.u32 %r3, [%l2], 2;
	bar.sync 0;
	@%p1 bra END;
	ld.shared.u32 %r5, [%r2];
	mad.lo.u32 %r6, %block, 12, %t;
	mad.wide.u32 %l3, %r6, 4, %out;
	st.global.u32 [%l3], %r5;
END:",
    );
    let mut lab = Lab::with_workers(2);
    let out = lab.room("out", 8 * 48);
    lab.run(&ptx, 8, THREADS, &[out]).unwrap();
    let sum = THREADS * (THREADS - 1) / 2;
    for (block, got) in lab.read::<u32>(out, 96).chunks(12).enumerate() {
        let most = block as u32 * THREADS + THREADS - 1;
        let expected = [
            sum,
            most,
            THREADS % 10,
            (sum as f32).to_bits(),
            sum,
            0,
            127,
            4,
            9,
            -5i32 as u32,
            2 * THREADS,
            0,
        ];
        assert_eq!(got, expected, "block {block}");
    }
}

/// The last block to arrive sees what all others wrote before they arrived.
#[test]
fn the_last_block_combines() {
    let ptx = kernel(
        &["out", "partial", "counter"],
        "	.shared .align 4 .b8 arrived[4];
	mad.wide.u32 %l1, %i, 4, %partial;
	st.global.u32 [%l1], %i;
	membar.gl;
	bar.sync 0;
	setp.ne.u32 %p1, %t, 0;
	@%p1 bra WAIT;
	mov.u32 %r9, %nctaid.x;
	sub.u32 %r9, %r9, 1;
	atom.acq_rel.gpu.global.inc.u32 %r1, [%counter], %r9;
	setp.eq.u32 %p2, %r1, %r9;
	selp.u32 %r2, 1, 0, %p2;
	st.shared.u32 [arrived], %r2;
WAIT:
	bar.sync 0;
	ld.shared.u32 %r3, [arrived];
	setp.eq.u32 %p3, %r3, 0;
	@%p3 ret;
	fence.acq_rel.gpu;
	mov.u32 %r4, 0;
	mov.u32 %r5, 0;
SUM:
	mad.lo.u32 %r6, %r4, 96, %t;
	mad.wide.u32 %l2, %r6, 4, %partial;
	ld.global.u32 %r7, [%l2];
	add.u32 %r5, %r5, %r7;
	add.u32 %r4, %r4, 1;
	setp.lt.u32 %p4, %r4, 24;
	@%p4 bra SUM;
	mad.wide.u32 %l3, %t, 4, %out;
	st.global.u32 [%l3], %r5;",
    );
    let mut lab = Lab::with_workers(3);
    let out = lab.room("out", 4 * THREADS as usize);
    let partial = lab.room("partial", 4 * ALL as usize);
    let counter = lab.upload("counter", &[0u32]);
    for _ in 0..5 {
        lab.run(&ptx, BLOCKS, THREADS, &[out, partial, counter]).unwrap();
        let expected: Vec<u32> = (0..THREADS).map(|t| (0..BLOCKS).map(|b| b * THREADS + t).sum()).collect();
        assert_eq!(lab.read::<u32>(out, THREADS as usize), expected);
        assert_eq!(lab.read::<u32>(counter, 1), [0]);
    }
}
