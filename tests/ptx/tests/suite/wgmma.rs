//! Products of warpgroups: values against a plain triple loop, with the layouts written out here once more.

use ptx_interpreter::{Fault, FaultKind, Module, Profile};

use crate::half::{BF16, F16};
use crate::lab::{Lab, entry, line_of, module};

/// Bytes of a row that an instruction takes, and bytes of a row in shared memory.
const TAKEN: usize = 32;
const ROW: usize = 128;
/// Where `b` begins in shared memory, behind 64 rows of `a`.
const B: usize = 64 * ROW;

/// Types of a product by their name in the instruction.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Types {
    name: &'static str,
    bytes: usize,
    /// Immediates behind the predicate.
    immediates: &'static str,
}

const BF16_TYPES: Types = Types { name: "f32.bf16.bf16", bytes: 2, immediates: ", 1, 1, 0, 0" };
const F16_TYPES: Types = Types { name: "f32.f16.f16", bytes: 2, immediates: ", 1, 1, 0, 0" };
const E4M3_TYPES: Types = Types { name: "f32.e4m3.e4m3", bytes: 1, immediates: ", 1, 1" };
const S8_TYPES: Types = Types { name: "s32.s8.s8", bytes: 1, immediates: "" };

/// Value of e4m3 bits: 1 sign, 4 exponent, 3 fraction bits.
fn e4m3(bits: u8) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 3 & 15), f64::from(bits & 7) / 8.0);
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f64::NAN,
        (0, _) => fraction * 2f64.powi(-6),
        _ => (1.0 + fraction) * 2f64.powi(exponent - 7),
    };
    if bits >= 128 { -magnitude } else { magnitude }
}

/// Bytes of a value that the type holds.
fn encode(types: Types, value: f64) -> Vec<u8> {
    match types.name {
        "f32.bf16.bf16" => BF16.nearest(value).unwrap().to_le_bytes().into(),
        "f32.f16.f16" => F16.nearest(value).unwrap().to_le_bytes().into(),
        "f32.e4m3.e4m3" => vec![(0..=255).find(|&bits| e4m3(bits) == value).unwrap()],
        _ => vec![value as i32 as u8],
    }
}

/// How matrices lie in shared memory: where byte `byte` of row `row` is, and the descriptor's fields for that.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Layout {
    /// Rows of 128 bytes; the 16-byte pieces of row r change places with piece ^ r % 8.
    Swizzled,
    /// As `Swizzled`, but every piece in its place: what the instruction does not expect.
    Straight,
    /// Blocks of 8 rows of 16 bytes, the two blocks of the same rows side by side.
    Blocks,
    /// Such blocks, all those of the first 16 bytes first.
    Columns,
}

impl Layout {
    fn place(self, rows: usize, row: usize, byte: usize) -> usize {
        let (piece, rest) = (byte / 16, byte % 16);
        match self {
            Layout::Swizzled => ROW * row + 16 * (piece ^ (row % 8)) + rest,
            Layout::Straight => ROW * row + byte,
            Layout::Blocks => row / 8 * 256 + piece * 128 + row % 8 * 16 + rest,
            Layout::Columns => piece * rows * 16 + row / 8 * 128 + row % 8 * 16 + rest,
        }
    }

    /// Without the address.
    fn descriptor(self, rows: usize) -> u64 {
        let fields = |mode: u64, leading: usize, stride: usize| {
            mode << 62 | (stride as u64 / 16) << 32 | (leading as u64 / 16) << 16
        };
        match self {
            Layout::Swizzled | Layout::Straight => fields(1, 16, 1024),
            Layout::Blocks => fields(0, 128, 256),
            Layout::Columns => fields(0, rows * 16, 128),
        }
    }
}

/// A kernel of one or more warpgroups that bring `a` and `b` into shared memory and multiply them once.
#[derive(Clone, Copy)]
pub struct Product {
    types: Types,
    n: usize,
    layout: Layout,
}

/// The smallest product of bf16.
pub const PLAIN: Product = Product { types: BF16_TYPES, n: 8, layout: Layout::Swizzled };

impl Product {
    fn k(&self) -> usize {
        TAKEN / self.types.bytes
    }

    /// The product itself.
    pub fn instruction(&self) -> String {
        let Product { types, n, .. } = self;
        let list: Vec<_> = (0..n / 2).map(|i| format!("%d{i}")).collect();
        format!(
            "wgmma.mma_async.sync.aligned.m64n{n}k{}.{} {{{}}}, %l10, %l11, %p1{};",
            self.k(),
            types.name,
            list.join(", "),
            types.immediates
        )
    }

    /// Adds to accumulators that are 2, or the bits of 2.0.
    pub fn text(&self) -> String {
        let Product { types, n, layout } = self;
        let words = (B + n * ROW) / 4;
        let two = if types.name.starts_with("s32") { "2" } else { "0f40000000" };
        let accumulators = n / 2;
        let set: String = (0..accumulators).map(|i| format!("\tmov.b32 %d{i}, {two};\n")).collect();
        let keep: String =
            (0..accumulators).map(|i| format!("\tst.global.b32 [%l1+{}], %d{i};\n", 4 * i)).collect();
        let body = format!(
            "	.shared .align 1024 .b8 tile[{}];
	.reg .b32 %d<{accumulators}>;
	mov.u32 %r0, tile;
	mov.u32 %r1, %t;
	mov.u32 %r9, %ntid.x;
COPY:
	mad.wide.u32 %l0, %r1, 4, %image;
	ld.global.u32 %r2, [%l0];
	mad.lo.u32 %r3, %r1, 4, %r0;
	st.shared.u32 [%r3], %r2;
	add.u32 %r1, %r1, %r9;
	setp.lt.u32 %p0, %r1, {words};
	@%p0 bra COPY;
	fence.proxy.async;
	bar.sync 0;
	shr.u32 %r4, %r0, 4;
	cvt.u64.u32 %l10, %r4;
	add.u64 %l11, %l10, {};
	or.b64 %l10, %l10, {};
	or.b64 %l11, %l11, {};
	setp.eq.u32 %p1, 0, 0;
{set}	wgmma.fence.sync.aligned;
	{}
	wgmma.commit_group.sync.aligned;
	wgmma.wait_group.sync.aligned 0;
	mad.wide.u32 %l1, %i, {}, %out;
{keep}	// the end",
            4 * words,
            B / 16,
            layout.descriptor(64),
            layout.descriptor(*n),
            self.instruction(),
            2 * n
        );
        module("sm_90a", &entry("k", &["out", "image"], &body))
    }

    /// Shared memory with both matrices, given by row and then column of what the instruction takes.
    fn image(&self, a: &[f64], b: &[f64]) -> Vec<u8> {
        let mut image = vec![0; B + self.n * ROW];
        for (start, rows, values) in [(0, 64, a), (B, self.n, b)] {
            for (at, value) in values.iter().enumerate() {
                let (row, column) = (at / self.k(), at % self.k());
                for (i, byte) in encode(self.types, *value).into_iter().enumerate() {
                    image[start + self.layout.place(rows, row, column * self.types.bytes + i)] = byte;
                }
            }
        }
        image
    }

    /// The rows and columns that the fragments of 128 threads make.
    fn product(&self, fragments: &[u32]) -> Vec<f64> {
        let mut values = vec![f64::NAN; 64 * self.n];
        for thread in 0..128 {
            let (warp, g, t) = (thread / 32, thread % 32 / 4, thread % 4);
            for i in 0..self.n / 2 {
                // Pairs of columns; the second pair of four accumulators is eight rows below.
                let row = 16 * warp + g + if i % 4 < 2 { 0 } else { 8 };
                let column = 8 * (i / 4) + 2 * t + i % 2;
                let bits = fragments[thread * self.n / 2 + i];
                let float = !self.types.name.starts_with("s32");
                values[row * self.n + column] =
                    if float { f64::from(f32::from_bits(bits)) } else { f64::from(bits as i32) };
            }
        }
        values
    }

    fn run(&self, text: &str, a: &[f64], b: &[f64]) -> (Vec<f64>, Profile) {
        let mut lab = Lab::new();
        let image = lab.upload("image", &self.image(a, b));
        let out = lab.room("out", 128 * 2 * self.n);
        let profile = lab.run(text, 1, 128, &[out, image]).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
        (self.product(&lab.read(out, 64 * self.n)), profile)
    }

    /// What it should give: `2 + a b^T` with the product times `sign`.
    fn expected(&self, a: &[f64], b: &[f64], old: f64, sign: f64) -> Vec<f64> {
        let k = self.k();
        let mut values = Vec::new();
        for row in 0..64 {
            for column in 0..self.n {
                let mut sum = 0.0;
                for i in 0..k {
                    sum += a[row * k + i] * b[column * k + i];
                }
                values.push(old + sign * sum);
            }
        }
        values
    }

    /// Whole numbers from -7 to 7 but not 0: exact in every type, and so are their sums.
    fn factors(&self) -> (Vec<f64>, Vec<f64>) {
        let value = |i: usize| {
            let number = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let magnitude = (number % 7 + 1) as f64;
            if number & 1024 == 0 { magnitude } else { -magnitude }
        };
        let a = (0..64 * self.k()).map(value).collect();
        (a, (0..self.n * self.k()).map(|i| value(i + 100_000)).collect())
    }
}

/// Runs a changed text with any contents.
pub fn launch(text: &str, threads: u32) -> Result<Profile, Fault> {
    let (a, b) = PLAIN.factors();
    let mut lab = Lab::new();
    let image = lab.upload("image", &PLAIN.image(&a, &b));
    let out = lab.room("out", 4096);
    lab.run(text, 1, threads, &[out, image])
}

/// The plain kernel with a part of its text changed.
#[track_caller]
pub fn changed(from: &str, to: &str) -> String {
    let text = PLAIN.text();
    assert_eq!(text.matches(from).count(), 1, "{from:?}");
    text.replacen(from, to, 1)
}

#[test]
fn products_of_every_type_shape_and_layout() {
    for types in [BF16_TYPES, F16_TYPES, E4M3_TYPES, S8_TYPES] {
        for n in [8, 24, 64, 256] {
            for layout in [Layout::Swizzled, Layout::Blocks, Layout::Columns] {
                let product = Product { types, n, layout };
                let (a, b) = product.factors();
                let (got, profile) = product.run(&product.text(), &a, &b);
                assert_eq!(got, product.expected(&a, &b, 2.0, 1.0), "{types:?} {n} {layout:?}");
                let flops = (2 * 64 * n * product.k()) as u64;
                assert_eq!((profile.matrix.executed, profile.matrix.effective), (flops, flops));
            }
        }
    }
}

#[test]
fn rows_that_are_not_swizzled_give_something_else() {
    let straight = Product { layout: Layout::Straight, ..PLAIN };
    let (a, b) = straight.factors();
    let (got, _) = straight.run(&straight.text(), &a, &b);
    let expected = straight.expected(&a, &b, 2.0, 1.0);
    // Row 0 of every eight lies where it should: with column 0 it is right.
    let wrong = got.iter().zip(&expected).filter(|(got, expected)| got != expected).count();
    assert!(wrong > expected.len() / 2, "{wrong}");
    assert_eq!(got[0], expected[0]);
}

#[test]
fn the_predicate_and_the_scales() {
    let (a, b) = PLAIN.factors();
    let run = |from: &str, to: &str| PLAIN.run(&changed(from, to), &a, &b).0;
    let expected = |old, sign| PLAIN.expected(&a, &b, old, sign);
    assert_eq!(run("setp.eq.u32 %p1, 0, 0;", "setp.ne.u32 %p1, 0, 0;"), expected(0.0, 1.0));
    assert_eq!(run("%p1, 1, 1, 0, 0;", "%p1, -1, 1, 0, 0;"), expected(2.0, -1.0));
    assert_eq!(run("%p1, 1, 1, 0, 0;", "%p1, 1, -1, 0, 0;"), expected(2.0, -1.0));
    assert_eq!(run("%p1, 1, 1, 0, 0;", "%p1, -1, -1, 0, 0;"), expected(2.0, 1.0));
}

/// Rows of 128 bytes hold four times what an instruction takes: the start moves by 32 bytes, and what is swapped goes
/// by the address.
#[test]
fn instructions_follow_each_other_along_the_rows() {
    let instruction = PLAIN.instruction();
    let next = "add.u64 %l10, %l10, 2; add.u64 %l11, %l11, 2;";
    let four = [instruction.as_str(); 4].join(&format!("\n	{next}\n	"));
    let text = changed(&instruction, &four);
    let whole = |rows: usize, seed: usize| -> Vec<f64> {
        (0..rows * 64).map(|i| ((i * 31 + seed + i / 64 * 7) % 13) as f64 - 6.0).collect()
    };
    let (a, b) = (whole(64, 1), whole(8, 5));
    let mut image = vec![0; B + 8 * ROW];
    for (start, values) in [(0, &a), (B, &b)] {
        for (at, value) in values.iter().enumerate() {
            for (i, byte) in encode(BF16_TYPES, *value).into_iter().enumerate() {
                let (row, byte_of_row) = (at / 64, at % 64 * 2 + i);
                image[start + Layout::Swizzled.place(64, row, byte_of_row)] = byte;
            }
        }
    }
    let mut lab = Lab::new();
    let image = lab.upload("image", &image);
    let out = lab.room("out", 2048);
    let profile = lab.run(&text, 1, 128, &[out, image]).unwrap();
    let got = PLAIN.product(&lab.read(out, 512));
    for (at, got) in got.iter().enumerate() {
        let (row, column) = (at / 8, at % 8);
        let sum: f64 = (0..64).map(|i| a[row * 64 + i] * b[column * 64 + i]).sum();
        assert_eq!(*got, 2.0 + sum, "{row} {column}");
    }
    assert_eq!(profile.matrix.executed, 4 * 2 * 64 * 8 * 16);
}

#[test]
fn bytes_without_sign() {
    let product = Product { types: Types { name: "s32.u8.s8", ..S8_TYPES }, ..PLAIN };
    let (a, b) = product.factors();
    let a: Vec<f64> = a.iter().map(|x| x + 200.0).collect();
    let (got, _) = product.run(&product.text(), &a, &b);
    assert_eq!(got, product.expected(&a, &b, 2.0, 1.0));
}

#[test]
fn every_value_of_e4m3() {
    let product = Product { types: E4M3_TYPES, n: 32, layout: Layout::Blocks };
    // Each row of `a` times the unit matrix: 16 rows have every value but the two NaNs.
    let number = |i: usize| e4m3(i as u8);
    let a: Vec<f64> = (0..2048).map(|i| if number(i).is_nan() { 0.0 } else { number(i) }).collect();
    let b: Vec<f64> = (0..1024).map(|i| if i / 32 == i % 32 { 1.0 } else { 0.0 }).collect();
    let text = product.text().replace("setp.eq.u32 %p1, 0, 0;", "setp.ne.u32 %p1, 0, 0;");
    let (got, profile) = product.run(&text, &a, &b);
    assert_eq!(got, a);
    // Of the 2048 numbers 8 times 4 are zeros; each other one meets a single one in the unit matrix.
    let zeros = a.iter().filter(|x| **x == 0.0).count() as u64;
    assert_eq!(zeros, 32);
    assert_eq!((profile.matrix.executed, profile.matrix.effective), (2 * 64 * 32 * 32, 2 * (2048 - zeros)));
}

#[test]
fn a_mark_attributes_the_work() {
    let instruction = PLAIN.instruction();
    let text = changed(&instruction, &format!("{instruction} //@ scores"));
    let profile = launch(&text, 256).unwrap();
    // Two warpgroups.
    assert_eq!(profile.matrix.executed, 2 * 2 * 64 * 8 * 16);
    assert_eq!(profile.matrix_by_mark["scores"], profile.matrix);
}

#[test]
fn forms_that_are_not_known() {
    let good = PLAIN.instruction();
    for (from, to) in [
        ("n8k16", "n9k16"),
        ("n8k16", "n264k16"),
        ("n8k16", "n8k8"),
        ("n8k16", "n16k16"),
        ("f32.bf16.bf16", "f16.bf16.bf16"),
        ("f32.bf16.bf16", "f32.bf16.f16"),
        ("1, 1, 0, 0", "1, 1, 0, 1"),
        ("1, 1, 0, 0", "1, 1, 1, 0"),
        ("1, 1, 0, 0", "1, 2, 0, 0"),
        ("1, 1, 0, 0", "1, 1"),
        ("%l10", "{%r1, %r2, %r3, %r4}"),
    ] {
        let bad = good.replacen(from, to, 1);
        let text = changed(&good, &bad);
        let fault = Module::parse(&text).map(|_| ()).expect_err(&bad);
        assert_eq!((fault.kind, fault.line), (FaultKind::Unknown, line_of(&text, &bad)), "{bad}");
    }
    // Other targets have none of it.
    for target in ["sm_80", "sm_90", "sm_100"] {
        let text = PLAIN.text().replace("sm_90a", target);
        let fault = Module::parse(&text).map(|_| ()).expect_err(target);
        assert_eq!((fault.kind, fault.line), (FaultKind::Unknown, line_of(&text, "fence.proxy.async;")));
    }
}
