//! Exchange between the lanes of a warp and the threads of a block.

use crate::lab::{Lab, eval, kernel};

/// Where lane `lane` takes its value from, and whether that is inside its segment: as PTX states it.
fn source(mode: &str, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let most = lane & segment | clamp & !segment;
    let least = lane & segment;
    let (from, inside) = match mode {
        "up" => (lane.wrapping_sub(b), lane as i32 - b as i32 >= most as i32),
        "down" => (lane + b, lane + b <= most),
        "bfly" => (lane ^ b, lane ^ b <= most),
        _ => (least | b & !segment, least | b & !segment <= most),
    };
    if inside { (from, true) } else { (lane, false) }
}

#[test]
fn shuffles_of_every_mode_and_width() {
    for mode in ["up", "down", "bfly", "idx"] {
        for width in [32, 16, 8, 4, 2] {
            // The operand that CUDA's __shfl_*_sync(width) gives.
            let c = (32 - width) << 8 | if mode == "up" { 0 } else { 31 };
            for b in [0, 1, 3, 5, 16, 31] {
                // With its lane's own distance in some lanes.
                let rows: Vec<[u32; 3]> =
                    (0..32).map(|lane| [1000 + lane, if b == 5 { lane * 7 } else { b }, c]).collect();
                let body = format!(
                    "shfl.sync.{mode}.b32 %d|%p1, %a, %b, %c, 0xFFFFFFFF; selp.u32 %r1, 0, 4096, %p1; or.b32 %d, %d, %r1;"
                );
                let got: Vec<u32> = eval(&body, &rows);
                for (lane, [_, b, c]) in rows.iter().enumerate() {
                    let (from, inside) = source(mode, lane as u32, *b, *c);
                    let expected = (1000 + from) | if inside { 0 } else { 4096 };
                    assert_eq!(got[lane], expected, "{mode} width {width} lane {lane} b {b}");
                }
            }
        }
    }
}

#[test]
fn shuffle_forms() {
    let lanes: Vec<[u32; 1]> = (0..32).map(|lane| [lane]).collect();
    // Immediates, and no predicate.
    let down: Vec<u32> = eval("shfl.sync.down.b32 %d, %a, 4, 31, -1;", &lanes);
    assert_eq!(down, (0..32).map(|lane| if lane < 28 { lane + 4 } else { lane }).collect::<Vec<_>>());
    // A clamp in the middle of the warp.
    let clamped: Vec<u32> = eval("shfl.sync.idx.b32 %d|%p1, %a, 9, 8, -1; @!%p1 mov.u32 %d, 99;", &lanes);
    assert_eq!(clamped, [99; 32]);
    // A sum over the warp.
    let sum: Vec<u32> = eval(
        &(0..5)
            .map(|n| format!("shfl.sync.bfly.b32 %r1, %a, {}, 31, -1; add.u32 %a, %a, %r1; ", 16 >> n))
            .chain(["mov.u32 %d, %a;".to_string()])
            .collect::<String>(),
        &lanes,
    );
    assert_eq!(sum, [496; 32]);
}

/// Half of the warp takes another path: there, masks name only its own lanes.
#[test]
fn votes_and_masks_under_divergence() {
    let ptx = kernel(
        &["out"],
        "	mad.wide.u32 %l1, %t, 16, %out;
	setp.lt.u32 %p1, %lane, 10;
	and.b32 %r9, %lane, 1;
	setp.eq.u32 %p2, %r9, 1;
	@%p1 bra FEW;
	activemask.b32 %r1;
	vote.sync.ballot.b32 %r2, %p2, 0xFFFFFC00;
	vote.sync.any.pred %p3, %p2, 0xFFFFFC00;
	setp.ge.u32 %p6, %lane, 10;
	vote.sync.all.pred %p4, %p6, 0xFFFFFC00;
	vote.sync.uni.pred %p5, %p2, 0xFFFFFC00;
	shfl.sync.idx.b32 %r3, %lane, 20, 31, 0xFFFFFC00;
	bra JOIN;
FEW:
	activemask.b32 %r1;
	vote.sync.ballot.b32 %r2, !%p2, 0x3FF;
	setp.gt.u32 %p6, %lane, 50;
	vote.sync.any.pred %p3, %p6, 0x3FF;
	vote.sync.all.pred %p4, %p2, 0x3FF;
	vote.sync.uni.pred %p5, %p6, 0x3FF;
	shfl.sync.idx.b32 %r3, %lane, 7, 31, 0x3FF;
JOIN:
	bar.warp.sync 0xFFFFFFFF;
	vote.sync.ballot.b32 %r4, %p1, 0xFFFFFFFF;
	selp.u32 %r5, 1, 0, %p3;
	selp.u32 %r6, 2, 0, %p4;
	selp.u32 %r7, 4, 0, %p5;
	or.b32 %r5, %r5, %r6;
	or.b32 %r5, %r5, %r7;
	shl.b32 %r3, %r3, 8;
	or.b32 %r5, %r5, %r3;
	st.global.v4.u32 [%l1], {%r1, %r2, %r4, %r5};",
    );
    let mut lab = Lab::new();
    let out = lab.room("out", 32 * 16);
    lab.run(&ptx, 1, 32, &[out]).unwrap();
    for (lane, got) in lab.read::<u32>(out, 128).chunks(4).enumerate() {
        let expected = if lane < 10 {
            // any: no; all odd: no; uniform: yes.
            [0x3ff, 0x155, 0x3ff, 7 << 8 | 4]
        } else {
            [0xffff_fc00, 0xaaaa_a800, 0x3ff, 20 << 8 | 3]
        };
        assert_eq!(got, expected, "lane {lane}");
    }
}

#[test]
fn reductions_over_a_warp() {
    let values: Vec<u32> = (0..32u32).map(|n| n.wrapping_mul(0x9e37_79b9)).collect();
    let rows: Vec<[u32; 1]> = values.iter().map(|v| [*v]).collect();
    let signed = || values.iter().map(|v| *v as i32);
    for (body, expected) in [
        ("redux.sync.add.u32", values.iter().fold(0u32, |a, b| a.wrapping_add(*b))),
        ("redux.sync.add.s32", values.iter().fold(0u32, |a, b| a.wrapping_add(*b))),
        ("redux.sync.min.u32", *values.iter().min().unwrap()),
        ("redux.sync.max.u32", *values.iter().max().unwrap()),
        ("redux.sync.min.s32", signed().min().unwrap() as u32),
        ("redux.sync.max.s32", signed().max().unwrap() as u32),
        ("redux.sync.and.b32", values[1..].iter().fold(u32::MAX, |a, b| a & b) & values[0]),
        ("redux.sync.or.b32", values.iter().fold(0, |a, b| a | b)),
        ("redux.sync.xor.b32", values.iter().fold(0, |a, b| a ^ b)),
    ] {
        let got: Vec<u32> = eval(&format!("{body} %d, %a, 0xFFFFFFFF;"), &rows);
        assert_eq!(got, [expected; 32], "{body}");
    }
    // The last warp of a block may have fewer lanes.
    let few: Vec<u32> = eval("redux.sync.add.u32 %d, %a, 0x1F;", &[[1u32], [2], [3], [4], [5]]);
    assert_eq!(few, [15; 5]);
}

/// Eight warps write, then all read what another warp wrote.
#[test]
fn a_barrier_joins_all_warps() {
    for barrier in
        ["bar.sync 0", "barrier.sync 0", "barrier.sync.aligned 3", "bar.cta.sync 0", "bar.sync 1, 256"]
    {
        let ptx = kernel(
            &["out"],
            &format!(
                "	.shared .align 4 .b8 words[1024];
	mov.u32 %r1, words;
	mad.lo.u32 %r2, %t, 4, %r1;
	st.shared.u32 [%r2], %i;
	{barrier};
	sub.u32 %r3, 255, %t;
	mad.lo.u32 %r4, %r3, 4, %r1;
	ld.shared.u32 %r5, [%r4];
	mad.wide.u32 %l1, %i, 4, %out;
	st.global.u32 [%l1], %r5;"
            ),
        );
        let mut lab = Lab::with_workers(2);
        let out = lab.room("out", 3 * 1024);
        lab.run(&ptx, 3, 256, &[out]).unwrap_or_else(|fault| panic!("{barrier}: {fault}"));
        let expected: Vec<u32> =
            (0..3).flat_map(|block| (0..256).rev().map(move |t| block * 256 + t)).collect();
        assert_eq!(lab.read::<u32>(out, 768), expected, "{barrier}");
    }
}

/// Two pairs of warps, each with a barrier of its own.
#[test]
fn barriers_of_part_of_a_block() {
    let ptx = kernel(
        &["out"],
        "	.shared .align 4 .b8 words[512];
	mov.u32 %r1, words;
	mad.lo.u32 %r2, %t, 4, %r1;
	shr.u32 %r6, %t, 6;
	add.u32 %r6, %r6, 1;
	mul.lo.u32 %r7, %t, %t;
	st.shared.u32 [%r2], %r7;
	bar.sync %r6, 64;
	xor.b32 %r3, %t, 32;
	mad.lo.u32 %r4, %r3, 4, %r1;
	ld.shared.u32 %r5, [%r4];
	mad.wide.u32 %l1, %t, 4, %out;
	st.global.u32 [%l1], %r5;",
    );
    let mut lab = Lab::new();
    let out = lab.room("out", 512);
    lab.run(&ptx, 1, 128, &[out]).unwrap();
    assert_eq!(lab.read::<u32>(out, 128), (0..128u32).map(|t| (t ^ 32) * (t ^ 32)).collect::<Vec<_>>());
}

/// The first warp says that it is there and goes on; the second waits for it.
#[test]
fn arriving_without_waiting() {
    let text = |arrive: &str| {
        kernel(
            &["out"],
            &format!(
                "	.shared .align 4 .b8 words[128];
	mov.u32 %r1, words;
	mad.lo.u32 %r2, %lane, 4, %r1;
	setp.ge.u32 %p1, %t, 32;
	@%p1 bra CONSUMER;
	mul.lo.u32 %r3, %t, 3;
	st.shared.u32 [%r2], %r3;
	{arrive} 1, 64;
	ret;
CONSUMER:
	bar.sync 1, 64;
	ld.shared.u32 %r4, [%r2];
	mad.wide.u32 %l1, %lane, 4, %out;
	st.global.u32 [%l1], %r4;"
            ),
        )
    };
    for arrive in ["bar.arrive", "barrier.arrive", "bar.sync"] {
        let mut lab = Lab::new();
        let out = lab.room("out", 128);
        lab.run(&text(arrive), 1, 64, &[out]).unwrap_or_else(|fault| panic!("{arrive}: {fault}"));
        assert_eq!(lab.read::<u32>(out, 32), (0..32).map(|t| 3 * t).collect::<Vec<_>>());
    }
}

/// Threads that have returned are not waited for.
#[test]
fn a_barrier_after_an_early_return() {
    for leave in ["ret", "exit", "bra END"] {
        let text = "	.shared .align 4 .b8 words[512];
	setp.ge.u32 %p1, %t, 100;
	@%p1 LEAVE;
	mov.u32 %r1, words;
	mad.lo.u32 %r2, %t, 4, %r1;
	st.shared.u32 [%r2], %t;
	bar.sync 0;
	sub.u32 %r3, 99, %t;
	mad.lo.u32 %r4, %r3, 4, %r1;
	ld.shared.u32 %r5, [%r4];
	mad.wide.u32 %l1, %t, 4, %out;
	st.global.u32 [%l1], %r5;
END:";
        let ptx = kernel(&["out"], &text.replace("LEAVE", leave));
        let mut lab = Lab::new();
        let out = lab.room("out", 400);
        lab.run(&ptx, 1, 128, &[out]).unwrap_or_else(|fault| panic!("{leave}: {fault}"));
        assert_eq!(lab.read::<u32>(out, 100), (0..100).rev().collect::<Vec<_>>());
    }
}
