//! Fragments and products, from the PTX ISA's formulas: `g` is lane / 4 and `t` is lane % 4.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::half::{BF16, F16, Format};
use crate::lab::{Lab, entry, module};

/// Loads the operands' registers of every lane, multiplies, stores the result's registers.
///
/// `out`, `a`, `b` and `c` hold the registers of lane 0, then those of lane 1, and so on.
fn multiply(instruction: &str, registers: [usize; 4], a: &[u32], b: &[u32], c: &[u32]) -> Vec<u32> {
    let [nd, na, nb, nc] = registers;
    let list = |from: usize, count: usize| (from..from + count).map(|r| format!("%r{r}")).collect::<Vec<_>>();
    let mut body = String::new();
    for (name, from, count) in [("a", 10, na), ("b", 20, nb), ("c", 30, nc)] {
        body += &format!("\tmad.wide.u32 %l1, %lane, {}, %{name};\n", 4 * count);
        for (n, register) in list(from, count).iter().enumerate() {
            body += &format!("\tld.global.u32 {register}, [%l1+{}];\n", 4 * n);
        }
    }
    body += &format!(
        "\t{instruction} {{{}}}, {{{}}}, {{{}}}, {{{}}};\n\tmad.wide.u32 %l1, %lane, {}, %out;\n",
        list(40, nd).join(", "),
        list(10, na).join(", "),
        list(20, nb).join(", "),
        list(30, nc).join(", "),
        4 * nd
    );
    for (n, register) in list(40, nd).iter().enumerate() {
        body += &format!("\tst.global.u32 [%l1+{}], {register};\n", 4 * n);
    }
    let ptx = module("sm_80", &entry("k", &["out", "a", "b", "c"], &body));
    let mut lab = Lab::new();
    let out = lab.room("out", 128 * nd);
    let pointers = [out, lab.upload("a", a), lab.upload("b", b), lab.upload("c", c)];
    lab.run(&ptx, 1, 32, &pointers).unwrap_or_else(|fault| panic!("{instruction}: {fault}"));
    lab.read(out, 32 * nd)
}

/// Row and column of A's element `i` of a lane, for elements of `bits` bits. A lane's register holds 32 / bits
/// neighbours of one row; the second register is eight rows below, the next two are at the second half of the columns.
fn place_in_a(lane: usize, i: usize, bits: usize) -> (usize, usize) {
    let (g, t, each) = (lane / 4, lane % 4, 32 / bits);
    let register = i / each;
    (g + 8 * (register % 2), t * each + i % each + 4 * each * (register / 2))
}

/// Row and column of B's element: as A's, but rows and columns change places, and there are 8 columns.
fn place_in_b(lane: usize, i: usize, bits: usize) -> (usize, usize) {
    let (g, t, each) = (lane / 4, lane % 4, 32 / bits);
    (t * each + i % each + 4 * each * (i / each), g)
}

/// Row and column of C's and D's element.
fn place_in_c(lane: usize, i: usize) -> (usize, usize) {
    (lane / 4 + 8 * (i / 2), lane % 4 * 2 + i % 2)
}

/// Registers of all lanes from the elements' bits; `at` gives the bits of element `i` of a lane.
fn packed(elements: usize, bits: usize, at: impl Fn(usize, usize) -> u32) -> Vec<u32> {
    let each = 32 / bits;
    let register = |lane, first| (0..each).map(|n| at(lane, first + n) << (n * bits)).sum();
    (0..32)
        .flat_map(|lane| (0..elements / each).map(move |r| (lane, r * each)))
        .map(|(lane, f)| register(lane, f))
        .collect()
}

/// Sum over k of a[row][k] b[k][column], with what is added to it.
fn product(k: usize, a: &[f64], b: &[f64], c: &[f64]) -> Vec<f64> {
    let mut d = c.to_vec();
    for row in 0..16 {
        for column in 0..8 {
            for n in 0..k {
                d[row * 8 + column] += a[row * k + n] * b[n * 8 + column];
            }
        }
    }
    d
}

/// f32 accumulators.
fn half_product(name: &str, format: &Format, k: usize, a: &[f64], b: &[f64], c: &[f64]) -> Vec<f64> {
    let bits = |x: f64| u32::from(format.nearest(x).unwrap());
    let a_registers = packed(k / 2, 16, |lane, i| {
        let (row, column) = place_in_a(lane, i, 16);
        bits(a[row * k + column])
    });
    let b_registers = packed(k / 4, 16, |lane, i| {
        let (row, column) = place_in_b(lane, i, 16);
        bits(b[row * 8 + column])
    });
    let c_registers = packed(4, 32, |lane, i| {
        let (row, column) = place_in_c(lane, i);
        (c[row * 8 + column] as f32).to_bits()
    });
    let instruction = format!("mma.sync.aligned.m16n8k{k}.row.col.f32.{name}.{name}.f32");
    let got = multiply(&instruction, [4, k / 4, k / 8, 4], &a_registers, &b_registers, &c_registers);
    let mut d = vec![f64::NAN; 128];
    for lane in 0..32 {
        for i in 0..4 {
            let (row, column) = place_in_c(lane, i);
            d[row * 8 + column] = f32::from_bits(got[lane * 4 + i]).into();
        }
    }
    d
}

/// Small whole numbers: exact in every format.
fn whole(count: usize) -> impl Strategy<Value = Vec<f64>> {
    vec((-9i32..10).prop_map(f64::from), count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_of_halves(a in whole(256), b in whole(128), c in whole(128)) {
        for k in [8, 16] {
            let (a, b) = (&a[..16 * k], &b[..8 * k]);
            prop_assert_eq!(half_product("bf16", &BF16, k, a, b, &c), product(k, a, b, &c));
            prop_assert_eq!(half_product("f16", &F16, k, a, b, &c), product(k, a, b, &c));
        }
    }

    /// Any values: within what the order of 16 additions can change.
    #[test]
    fn products_of_any_bf16(a in vec(-2.0..2.0f64, 256), b in vec(-2.0..2.0f64, 128), c in vec(-2.0..2.0f64, 128)) {
        let rounded = |of: Vec<f64>| of.iter().map(|x| BF16.value(BF16.nearest(*x).unwrap())).collect::<Vec<_>>();
        let (a, b, c) = (rounded(a), rounded(b), rounded(c));
        let got = half_product("bf16", &BF16, 16, &a, &b, &c);
        for (got, expected) in got.iter().zip(product(16, &a, &b, &c)) {
            prop_assert!((got - expected).abs() < 66.0 * 2f64.powi(-23), "{got} {expected}");
        }
    }

    /// f16 accumulators: two to a register.
    #[test]
    fn products_in_f16(a in whole(256), b in whole(128), c in whole(128)) {
        let bits = |x: f64| u32::from(F16.nearest(x).unwrap());
        for k in [8, 16] {
            let (a, b) = (&a[..16 * k], &b[..8 * k]);
            let c_registers = packed(4, 16, |lane, i| { let (r, n) = place_in_c(lane, i); bits(c[r * 8 + n]) });
            let got = multiply(
                &format!("mma.sync.aligned.m16n8k{k}.row.col.f16.f16.f16.f16"),
                [2, k / 4, k / 8, 2],
                &packed(k / 2, 16, |lane, i| { let (r, n) = place_in_a(lane, i, 16); bits(a[r * k + n]) }),
                &packed(k / 4, 16, |lane, i| { let (r, n) = place_in_b(lane, i, 16); bits(b[r * 8 + n]) }),
                &c_registers,
            );
            let d = product(k, a, b, &c);
            let expected = packed(4, 16, |lane, i| { let (r, n) = place_in_c(lane, i); bits(d[r * 8 + n]) });
            // Zeros may have either sign.
            let values = |of: &[u32]| of.iter().flat_map(|w| [F16.value(*w as u16), F16.value((w >> 16) as u16)]).collect::<Vec<_>>();
            prop_assert_eq!(values(&got), values(&expected));
        }
    }

    #[test]
    fn products_of_bytes(a in vec(any::<u8>(), 512), b in vec(any::<u8>(), 256), c in vec(-100_000i32..100_000, 128)) {
        let value = |kind: &str, x: u8| if kind == "s8" { f64::from(x as i8) } else { f64::from(x) };
        for k in [16, 32] {
            let (a, b) = (&a[..16 * k], &b[..8 * k]);
            for (ta, tb) in [("s8", "s8"), ("u8", "u8"), ("u8", "s8"), ("s8", "u8")] {
                let got = multiply(
                    &format!("mma.sync.aligned.m16n8k{k}.row.col.s32.{ta}.{tb}.s32"),
                    [4, k / 8, k / 16, 4],
                    &packed(k / 2, 8, |lane, i| { let (r, n) = place_in_a(lane, i, 8); a[r * k + n].into() }),
                    &packed(k / 4, 8, |lane, i| { let (r, n) = place_in_b(lane, i, 8); b[r * 8 + n].into() }),
                    &packed(4, 32, |lane, i| { let (r, n) = place_in_c(lane, i); c[r * 8 + n] as u32 }),
                );
                let (x, y): (Vec<_>, Vec<_>) = (a.iter().map(|v| value(ta, *v)).collect(), b.iter().map(|v| value(tb, *v)).collect());
                let d = product(k, &x, &y, &c.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
                let expected = packed(4, 32, |lane, i| { let (r, n) = place_in_c(lane, i); d[r * 8 + n] as i32 as u32 });
                prop_assert_eq!(got, expected, "{} {} {}", k, ta, tb);
            }
        }
    }
}

#[test]
fn products_carry_infinities() {
    let (mut a, b, c) = (vec![0.0; 256], vec![1.0; 128], vec![0.0; 128]);
    a[3 * 16 + 5] = f64::INFINITY;
    a[4 * 16 + 5] = f64::INFINITY;
    a[4 * 16 + 6] = f64::NEG_INFINITY;
    let d = half_product("bf16", &BF16, 16, &a, &b, &c);
    assert!(d[3 * 8..4 * 8].iter().all(|x| *x == f64::INFINITY), "{d:?}");
    assert!(d[4 * 8..5 * 8].iter().all(|x| x.is_nan()), "{d:?}");
    assert!(d[5 * 8..].iter().all(|x| *x == 0.0), "{d:?}");
}

/// Where row `row` of matrix `matrix` lies: rows far from each other and in no order, so that only the addresses count.
fn row_address(matrix: u32, row: u32) -> u32 {
    (matrix * 8 + (row * 5 + matrix) % 8) * 48
}

/// Element of matrix, row and column.
fn element(matrix: u32, row: u32, column: u32) -> u32 {
    matrix * 1000 + row * 100 + column
}

/// Shared memory holds each element where `row_address` says; `%r1` is the address of the row that the lane names.
fn with_matrices(body: &str) -> String {
    let text = format!(
        "	.shared .align 16 .b8 store[1536];
	mov.u32 %r0, store;
	// Lane i stores row i % 8 of matrix i / 8, and names it.
	and.b32 %r2, %lane, 7;
	shr.u32 %r3, %lane, 3;
	mad.lo.u32 %r4, %r2, 5, %r3;
	and.b32 %r4, %r4, 7;
	mad.lo.u32 %r4, %r3, 8, %r4;
	mad.lo.u32 %r1, %r4, 48, %r0;
	mul.lo.u32 %r5, %r3, 1000;
	mad.lo.u32 %r5, %r2, 100, %r5;
	mov.u32 %r6, 0;
FILL:
	shl.b32 %r7, %r6, 1;
	add.u32 %r8, %r1, %r7;
	add.u32 %r9, %r5, %r6;
	st.shared.u16 [%r8], %r9;
	add.u32 %r6, %r6, 1;
	setp.lt.u32 %p1, %r6, 8;
	@%p1 bra FILL;
	bar.warp.sync -1;
{body}"
    );
    module("sm_90", &entry("k", &["out"], &text))
}

#[test]
fn ldmatrix_gives_each_lane_its_part() {
    assert_eq!(row_address(1, 2), (8 + 3) * 48);
    for count in [1u32, 2, 4] {
        for trans in ["", ".trans"] {
            let registers: Vec<_> = (20..20 + count).map(|r| format!("%r{r}")).collect();
            // Only the first 8, 16 or 32 lanes' addresses count: the others' lead nowhere.
            let mut body = format!(
                "	setp.ge.u32 %p2, %lane, {};
	@%p2 mov.u32 %r1, 0xFFFFFF00;
	ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{}}}, [%r1];
	mad.wide.u32 %l1, %lane, {}, %out;
",
                8 * count,
                registers.join(", "),
                4 * count
            );
            for (n, register) in registers.iter().enumerate() {
                body += &format!("\tst.global.u32 [%l1+{}], {register};\n", 4 * n);
            }
            let mut lab = Lab::new();
            let out = lab.room("out", 128 * count as usize);
            lab.run(&with_matrices(&body), 1, 32, &[out])
                .unwrap_or_else(|fault| panic!("x{count}{trans}: {fault}"));
            let got: Vec<u32> = lab.read(out, 32 * count as usize);
            for lane in 0..32 {
                for matrix in 0..count {
                    let (g, t) = (lane / 4, lane % 4);
                    let pair = [0, 1].map(|n| {
                        if trans.is_empty() {
                            element(matrix, g, 2 * t + n)
                        } else {
                            element(matrix, 2 * t + n, g)
                        }
                    });
                    let expected = pair[1] << 16 | pair[0];
                    assert_eq!(
                        got[(lane * count + matrix) as usize],
                        expected,
                        "x{count}{trans} lane {lane} matrix {matrix}"
                    );
                }
            }
        }
    }
}

#[test]
fn ldmatrix_rows_may_be_the_same() {
    let body = "	ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r20}, [%r0+16];
	mad.wide.u32 %l1, %lane, 4, %out;
	st.global.u32 [%l1], %r20;";
    // 16 bytes after the start of a row nothing is stored.
    let mut lab = Lab::new();
    let out = lab.room("out", 128);
    let fault = lab.run(&with_matrices(body), 1, 32, &[out]).unwrap_err();
    assert_eq!(fault.kind, ptx_interpreter::FaultKind::Uninitialised, "{fault}");
    lab.run(&with_matrices(&body.replace("+16", "")), 1, 32, &[out]).unwrap();
    let row: Vec<u32> = (0..32u32).map(|lane| ((2 * (lane % 4) + 1) << 16) | (2 * (lane % 4))).collect();
    assert_eq!(lab.read::<u32>(out, 32), row);
}

#[test]
fn movmatrix_transposes() {
    let text = "	shl.b32 %r1, %lane, 1;
	add.u32 %r2, %r1, 1;
	shl.b32 %r2, %r2, 16;
	or.b32 %r1, %r1, %r2;
	movmatrix.sync.aligned.m8n8.trans.b16 %r3, %r1;
	mad.wide.u32 %l1, %lane, 4, %out;
	st.global.u32 [%l1], %r3;";
    let mut lab = Lab::new();
    let out = lab.room("out", 128);
    lab.run(&module("sm_80", &entry("k", &["out"], text)), 1, 32, &[out]).unwrap();
    // Element (row, column) is row * 8 + column.
    let expected: Vec<u32> = (0..32u32)
        .map(|lane| (lane / 4, lane % 4))
        .map(|(g, t)| ((2 * t + 1) * 8 + g) << 16 | (2 * t * 8 + g))
        .collect();
    assert_eq!(lab.read::<u32>(out, 32), expected);
}

/// What ldmatrix reads, stmatrix writes back to the same rows.
#[test]
fn stmatrix_is_the_inverse_of_ldmatrix() {
    for trans in ["", ".trans"] {
        let body = format!(
            "	ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r20, %r21, %r22, %r23}}, [%r1];
	bar.warp.sync -1;
	xor.b32 %r24, %r20, %r20;
	st.shared.v4.u32 [%r1], {{%r24, %r24, %r24, %r24}};
	bar.warp.sync -1;
	stmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 [%r1], {{%r20, %r21, %r22, %r23}};
	bar.warp.sync -1;
	mad.wide.u32 %l1, %lane, 16, %out;
	ld.shared.v4.u32 {{%r20, %r21, %r22, %r23}}, [%r1];
	st.global.v4.u32 [%l1], {{%r20, %r21, %r22, %r23}};"
        );
        let mut lab = Lab::new();
        let out = lab.room("out", 512);
        lab.run(&with_matrices(&body), 1, 32, &[out]).unwrap();
        let expected: Vec<u16> = (0..256).map(|n| element(n / 64, n / 8 % 8, n % 8) as u16).collect();
        assert_eq!(lab.read::<u16>(out, 256), expected, "{trans}");
    }
}
