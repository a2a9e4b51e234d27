//! Branches, loops and where the lanes meet again.

use ptx_interpreter::FaultKind;

use crate::lab::{Lab, assert_fault, eval, kernel, line_of};

/// Number of Collatz steps: loops of very different lengths with an if/else inside.
#[test]
fn loops_of_different_lengths() {
    let rows: Vec<[u32; 1]> = (1..200).map(|n| [n]).collect();
    let got: Vec<u32> = eval(
        "mov.u32 %d, 0;
LOOP:
	setp.eq.u32 %p1, %a, 1;
	@%p1 bra DONE;
	and.b32 %r1, %a, 1;
	setp.eq.u32 %p2, %r1, 1;
	@%p2 bra ODD;
	shr.u32 %a, %a, 1;
	bra.uni NEXT;
ODD:
	mad.lo.u32 %a, %a, 3, 1;
NEXT:
	add.u32 %d, %d, 1;
	bra LOOP;
DONE:",
        &rows,
    );
    let steps = |mut n: u32| {
        let mut count = 0;
        while n != 1 {
            n = if n % 2 == 1 { 3 * n + 1 } else { n / 2 };
            count += 1;
        }
        count
    };
    assert_eq!(got, rows.iter().map(|r| steps(r[0])).collect::<Vec<_>>());
}

/// Sum over i < lane of (sum over j < i, j odd, of j): a loop in a loop, both as long as the lane says; and a
/// barrier of the warp inside the outer loop's body would find only the lanes that are still in it.
#[test]
fn nested_loops_meet_again() {
    let ptx = kernel(
        &["out"],
        "	mov.u32 %r1, 0;
	mov.u32 %r2, 0;
OUTER:
	setp.ge.u32 %p1, %r2, %lane;
	@%p1 bra END;
	mov.u32 %r3, 0;
INNER:
	setp.ge.u32 %p2, %r3, %r2;
	@%p2 bra INNER_END;
	and.b32 %r4, %r3, 1;
	setp.eq.u32 %p3, %r4, 0;
	@%p3 bra SKIP;
	add.u32 %r1, %r1, %r3;
SKIP:
	add.u32 %r3, %r3, 1;
	bra INNER;
INNER_END:
	// All that are still in the outer loop are here: those of higher lanes than the round.
	activemask.b32 %r5;
	popc.b32 %r6, %r5;
	add.u32 %r7, %r6, %r2;
	setp.ne.u32 %p4, %r7, 31;
	@%p4 trap;
	add.u32 %r2, %r2, 1;
	bra OUTER;
END:
	activemask.b32 %r5;
	mad.wide.u32 %l1, %t, 8, %out;
	st.global.v2.u32 [%l1], {%r1, %r5};",
    );
    let mut lab = Lab::new();
    let out = lab.room("out", 256);
    lab.run(&ptx, 1, 32, &[out]).unwrap();
    for (lane, got) in lab.read::<u32>(out, 64).chunks(2).enumerate() {
        let expected: usize = (0..lane).map(|i| (0..i).filter(|j| j % 2 == 1).sum::<usize>()).sum();
        assert_eq!(got, [expected as u32, u32::MAX], "lane {lane}");
    }
}

#[test]
fn if_else_of_if_else() {
    let rows: Vec<[u32; 1]> = (0..64).map(|n| [n]).collect();
    let got: Vec<u32> = eval(
        "and.b32 %r1, %a, 1;
	and.b32 %r2, %a, 2;
	setp.ne.u32 %p1, %r1, 0;
	setp.ne.u32 %p2, %r2, 0;
	mov.u32 %d, 0;
	@!%p1 bra EVEN;
	@%p2 bra ODD_HIGH;
	add.u32 %d, %d, 1;
	bra ODD_JOIN;
ODD_HIGH:
	add.u32 %d, %d, 2;
ODD_JOIN:
	add.u32 %d, %d, 10;
	bra JOIN;
EVEN:
	@!%p2 bra JOIN;
	add.u32 %d, %d, 3;
JOIN:
	activemask.b32 %r3;
	setp.eq.u32 %p3, %r3, 0xFFFFFFFF;
	@%p3 add.u32 %d, %d, 100;",
        &rows,
    );
    let expected: Vec<u32> = (0..64).map(|n| 100 + [0, 11, 3, 12][n % 4]).collect();
    assert_eq!(got, expected);
}

/// Some lanes return inside a divergent branch and inside a loop: the others go on and meet.
#[test]
fn lanes_that_return() {
    let ptx = kernel(
        &["out"],
        "	mad.wide.u32 %l1, %t, 4, %out;
	setp.lt.u32 %p1, %lane, 8;
	@!%p1 bra REST;
	setp.eq.u32 %p2, %lane, 3;
	@%p2 exit;
	mov.u32 %r1, 1;
	bra JOIN;
REST:
	mov.u32 %r1, 2;
	mov.u32 %r2, 20;
LOOP:
	setp.eq.u32 %p3, %lane, %r2;
	@%p3 ret;
	add.u32 %r2, %r2, 4;
	setp.lt.u32 %p4, %r2, 32;
	@%p4 bra LOOP;
JOIN:
	activemask.b32 %r3;
	shl.b32 %r3, %r3, 2;
	add.u32 %r3, %r3, %r1;
	st.global.u32 [%l1], %r3;",
    );
    let mut lab = Lab::new();
    let out = lab.upload("out", &[0u32; 32]);
    lab.run(&ptx, 1, 32, &[out]).unwrap();
    let left = |lane: u32| lane != 3 && ![20, 24, 28].contains(&lane);
    let mask: u32 = (0..32).filter(|lane| left(*lane)).map(|lane| 1 << lane).sum();
    let expected: Vec<u32> =
        (0..32).map(|lane| if left(lane) { (mask << 2) + if lane < 8 { 1 } else { 2 } } else { 0 }).collect();
    assert_eq!(lab.read::<u32>(out, 32), expected);
}

#[test]
fn branches_by_index() {
    let rows: Vec<[u32; 1]> = (0..64).map(|n| [n % 3]).collect();
    let got: Vec<u32> = eval(
        "TABLE: .branchtargets ZERO, ONE, TWO;
	brx.idx %a, TABLE;
ZERO:
	mov.u32 %d, 5;
	bra JOIN;
ONE:
	mov.u32 %d, 6;
TWO:
	mov.u32 %d, 7;
JOIN:
	activemask.b32 %r1;
	popc.b32 %r1, %r1;
	add.u32 %d, %d, %r1;",
        &rows,
    );
    assert_eq!(got, (0..64).map(|n| [37, 39, 39][n % 3]).collect::<Vec<_>>());
}

#[test]
fn predicated_instructions_only_where_they_hold() {
    let rows: Vec<[u32; 2]> = (0..40).map(|n| [n, 7]).collect();
    let got: Vec<u32> = eval(
        "setp.lt.u32 %p1, %a, 20;
	@%p1 add.u32 %b, %b, 100;
	@!%p1 mul.lo.u32 %b, %b, 2;
	setp.ge.and.u32 %p1, %a, 10, %p1;
	@%p1 mov.u32 %b, 1;
	mov.u32 %d, %b;",
        &rows,
    );
    let expected: Vec<u32> = (0..40)
        .map(|n| {
            if n < 10 {
                107
            } else if n < 20 {
                1
            } else {
                14
            }
        })
        .collect();
    assert_eq!(got, expected);
}

/// A scope has registers and labels of its own, as inline assembly does.
#[test]
fn scopes_hide_names() {
    let got: Vec<u32> = eval(
        "mov.u32 %r1, 1;
	{ .reg .b32 %r1; .reg .pred p; mov.u32 %r1, 50; setp.gt.u32 p, %a, 1; @p bra SKIP; add.u32 %a, %a, %r1; SKIP: }
	{ .reg .pred p; setp.gt.u32 p, %a, 1; @!p bra SKIP; add.u32 %a, %a, 1000; SKIP: }
	add.u32 %d, %a, %r1;",
        &[[0u32], [1], [2]],
    );
    assert_eq!(got, [1051, 1052, 1003]);
}

/// What compilers say beside the instructions, here with the lines of the source.
#[test]
fn notes_of_the_compiler_change_nothing() {
    let body = "	.pragma \"nounroll\";
	.loc 1 20 1
	/* a comment
	   of two lines */ mov.u32 %r1, 4; // bra NOWHERE;
	.loc 1 13 5
	$L__BB0_1: add.u32 %r1, %r1, 3;
	st.global.u32 [%out], %r1;";
    let ptx = kernel(&["out"], body) + "\t.file\t1 \"k.cu\"\n";
    let mut lab = Lab::new();
    let out = lab.room("out", 4);
    lab.run(&ptx, 1, 1, &[out]).unwrap_or_else(|fault| panic!("line {}: {fault}", fault.line));
    assert_eq!(lab.read::<u32>(out, 1), [7]);
}

#[test]
fn a_trap_stops_the_kernel() {
    let ptx = kernel(&["out"], "\tsetp.eq.u32 %p1, %i, 70;\n\t@%p1 trap;\n\tst.global.u32 [%out], 1;");
    let mut lab = Lab::new();
    let out = lab.room("out", 4);
    lab.run(&ptx, 1, 70, &[out]).unwrap();
    assert_fault(lab.run(&ptx, 1, 71, &[out]), FaultKind::Trap, &ptx, "@%p1 trap;", &["thread 70"]);
}

/// Every special register of every thread of a small grid.
#[test]
fn special_registers_over_three_dimensions() {
    let (grid, block) = ([2, 3, 2], [5, 2, 4]);
    let ptx = kernel(
        &["out"],
        "	mov.u32 %r1, %tid.x;
	mov.u32 %r2, %tid.y;
	mov.u32 %r3, %tid.z;
	mov.u32 %r4, %ctaid.x;
	mov.u32 %r5, %ctaid.y;
	mov.u32 %r6, %ctaid.z;
	mov.u32 %r11, %ntid.x;
	mov.u32 %r12, %ntid.y;
	mov.u32 %r13, %ntid.z;
	mov.u32 %r14, %nctaid.x;
	mov.u32 %r15, %nctaid.y;
	mov.u32 %r16, %nctaid.z;
	mov.u32 %r17, %warpid;
	mov.u32 %r18, %lanemask_lt;
	mov.u32 %r19, %lanemask_ge;
	// Place of the block, then of the thread.
	mad.lo.u32 %r21, %r6, %r15, %r5;
	mad.lo.u32 %r21, %r21, %r14, %r4;
	mad.lo.u32 %r22, %r3, %r12, %r2;
	mad.lo.u32 %r22, %r22, %r11, %r1;
	mul.lo.u32 %r23, %r11, %r12;
	mul.lo.u32 %r23, %r23, %r13;
	mad.lo.u32 %r24, %r21, %r23, %r22;
	mad.wide.u32 %l1, %r24, 64, %out;
	st.global.v4.u32 [%l1], {%r1, %r2, %r3, %r4};
	st.global.v4.u32 [%l1+16], {%r5, %r6, %r11, %r12};
	st.global.v4.u32 [%l1+32], {%r13, %r14, %r15, %r16};
	st.global.v4.u32 [%l1+48], {%lane, %r17, %r18, %r19};",
    );
    let mut lab = Lab::with_workers(2);
    let out = lab.room("out", 12 * 40 * 64);
    lab.launch(&ptx, "k", grid, block, 0, &[out]).unwrap();
    let got: Vec<u32> = lab.read(out, 12 * 40 * 16);
    let mut rows = got.chunks(16);
    for (cz, cy, cx) in places(grid) {
        for (n, (z, y, x)) in places(block).into_iter().enumerate() {
            let lane = n as u32 % 32;
            let below = (1u32 << lane) - 1;
            let expected = [x, y, z, cx, cy, cz, 5, 2, 4, 2, 3, 2, lane, n as u32 / 32, below, !below];
            assert_eq!(rows.next().unwrap(), expected, "block {cx} {cy} {cz} thread {x} {y} {z}");
        }
    }
}

/// All (z, y, x), x fastest.
fn places([x, y, z]: [u32; 3]) -> Vec<(u32, u32, u32)> {
    (0..z).flat_map(|z| (0..y).flat_map(move |y| (0..x).map(move |x| (z, y, x)))).collect()
}

#[test]
fn an_endless_loop_is_stopped() {
    let text = |step| {
        format!(
            "\tmov.u32 %r1, 0;\nLOOP:\n\tadd.u32 %r1, %r1, {step};\n\tsetp.lt.u32 %p1, %r1, 10;\n\t@%p1 bra LOOP;\n\tst.global.u32 [%out], %r1;"
        )
    };
    let mut lab = Lab::new();
    lab.machine.set_budget(10_000);
    let out = lab.room("out", 4);
    lab.run(&kernel(&["out"], &text(1)), 1, 32, &[out]).unwrap();
    let fault = lab.run(&kernel(&["out"], &text(0)), 1, 32, &[out]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Endless, "{fault}");
    let lines = line_of(&kernel(&["out"], &text(0)), "LOOP:");
    assert!((lines..lines + 5).contains(&fault.line), "line {}: {fault}", fault.line);
    // One lane that waits for another of its warp, which waits at the join.
    let ptx = kernel(
        &["out"],
        "SPIN:\n\tld.volatile.global.u32 %r1, [%out];\n\tsetp.ne.u32 %p1, %r1, 77;\n\t@%p1 bra SPIN;",
    );
    let result = lab.run(&ptx, 1, 32, &[out]);
    assert!(matches!(&result, Err(fault) if fault.kind == FaultKind::Endless), "{result:?}");
}
