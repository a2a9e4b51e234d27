//! Loads and stores of every width and place: what is copied, what is extended, what stays untouched.

use ptx_interpreter::{FaultKind, Launch};

use crate::lab::{Lab, Plain, assert_fault, entry, kernel, module, parse};

/// Bytes that differ from their neighbours, signs included.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n * 167 + 13) as u8).collect()
}

/// Copies `in` to `out`, `width` bytes a thread, with these two instructions.
#[track_caller]
fn copies(load: &str, registers: &str, store: &str, width: usize) {
    let ptx = kernel(
        &["out", "in"],
        &format!(
            "	mul.wide.u32 %l0, %t, {width};
	add.s64 %l1, %in, %l0;
	add.s64 %l2, %out, %l0;
	{load} {registers}, [%l1];
	{store} [%l2], {registers};"
        ),
    );
    let mut lab = Lab::new();
    let data = bytes(40 * width);
    let out = lab.room("out", data.len());
    let input = lab.upload("in", &data);
    lab.run(&ptx, 1, 40, &[out, input]).unwrap_or_else(|fault| panic!("{load} {store}: {fault}"));
    assert_eq!(lab.read::<u8>(out, data.len()), data, "{load} {store}");
}

#[test]
fn every_width() {
    copies("ld.global.u8", "%h1", "st.global.u8", 1);
    copies("ld.global.b8", "%r1", "st.global.b8", 1);
    copies("ld.global.u16", "%h1", "st.global.u16", 2);
    copies("ld.global.b16", "%h1", "st.global.b16", 2);
    copies("ld.global.u32", "%r1", "st.global.u32", 4);
    copies("ld.global.f32", "%f1", "st.global.f32", 4);
    copies("ld.global.u64", "%l5", "st.global.u64", 8);
    copies("ld.global.f64", "%w1", "st.global.f64", 8);
    copies("ld.global.v2.u8", "{%h1, %h2}", "st.global.v2.u8", 2);
    copies("ld.global.v4.u8", "{%h1, %h2, %h3, %h4}", "st.global.v4.u8", 4);
    copies("ld.global.v2.u16", "{%h1, %h2}", "st.global.v2.u16", 4);
    copies("ld.global.v4.u16", "{%h1, %h2, %h3, %h4}", "st.global.v4.b16", 8);
    copies("ld.global.v2.u32", "{%r1, %r2}", "st.global.v2.u32", 8);
    copies("ld.global.v4.u32", "{%r1, %r2, %r3, %r4}", "st.global.v4.b32", 16);
    copies("ld.global.v4.f32", "{%f1, %f2, %f3, %f4}", "st.global.v4.f32", 16);
    copies("ld.global.v2.u64", "{%l5, %l6}", "st.global.v2.u64", 16);
    copies("ld.global.v2.f64", "{%w1, %w2}", "st.global.v2.f64", 16);
}

#[test]
fn every_qualifier() {
    let v4 = "{%r1, %r2, %r3, %r4}";
    copies("ld.global.nc.v4.u32", v4, "st.global.wb.v4.u32", 16);
    copies("ld.global.nc.L1::no_allocate.v4.u32", v4, "st.global.cg.v4.u32", 16);
    copies("ld.global.nc.L1::no_allocate.L2::128B.v4.u32", v4, "st.global.cs.v4.u32", 16);
    copies("ld.global.L1::evict_last.L2::256B.v4.u32", v4, "st.global.L1::no_allocate.v4.u32", 16);
    copies("ld.global.L1::evict_first.L2::64B.v4.u32", v4, "st.global.L1::evict_first.v4.u32", 16);
    for cache in ["ca", "cg", "cs", "lu", "cv"] {
        copies(&format!("ld.global.{cache}.u32"), "%r1", "st.global.wt.u32", 4);
    }
    copies("ld.volatile.global.u32", "%r1", "st.volatile.global.u32", 4);
    copies("ld.relaxed.gpu.global.u32", "%r1", "st.relaxed.gpu.global.u32", 4);
    copies("ld.acquire.gpu.global.u32", "%r1", "st.release.gpu.global.u32", 4);
    copies("ld.acquire.sys.global.u64", "%l5", "st.release.cta.global.u64", 8);
    copies("ld.relaxed.cta.global.f32", "%f1", "st.relaxed.sys.global.f32", 4);
    // Through generic addresses.
    copies("ld.u32", "%r1", "st.u32", 4);
    copies("ld.v4.u32", v4, "st.v4.u32", 16);
}

/// One load into a wider register, by a thread for each value.
fn extended<T: Plain, O: Plain>(load: &str, values: &[T]) -> Vec<O> {
    let (register, store) = match O::BYTES {
        2 => ("%h1", "st.global.u16"),
        4 => ("%r1", "st.global.u32"),
        _ => ("%l5", "st.global.u64"),
    };
    let ptx = kernel(
        &["out", "in"],
        &format!(
            "	mad.wide.u32 %l1, %t, {}, %in;
	mad.wide.u32 %l2, %t, {}, %out;
	{load} {register}, [%l1];
	{store} [%l2], {register};",
            T::BYTES,
            O::BYTES
        ),
    );
    let mut lab = Lab::new();
    let out = lab.room("out", values.len() * O::BYTES);
    let input = lab.upload("in", values);
    lab.run(&ptx, 1, values.len() as u32, &[out, input]).unwrap();
    lab.read(out, values.len())
}

#[test]
fn narrow_loads_extend() {
    let small = [0x7fu8, 0x80, 0xff, 0];
    assert_eq!(extended::<_, u32>("ld.global.u8", &small), [0x7f, 0x80, 0xff, 0]);
    assert_eq!(extended::<_, i32>("ld.global.s8", &small), [127, -128, -1, 0]);
    assert_eq!(extended::<_, i16>("ld.global.s8", &small), [127, -128, -1, 0]);
    assert_eq!(extended::<_, u16>("ld.global.u8", &small), [0x7f, 0x80, 0xff, 0]);
    assert_eq!(extended::<_, i64>("ld.global.s8", &small), [127, -128, -1, 0]);
    let medium = [0x7fffu16, 0x8000, 0xffff];
    assert_eq!(extended::<_, u32>("ld.global.u16", &medium), [0x7fff, 0x8000, 0xffff]);
    assert_eq!(extended::<_, i32>("ld.global.s16", &medium), [32767, -32768, -1]);
    assert_eq!(extended::<_, i64>("ld.global.s16", &medium), [32767, -32768, -1]);
    let wide = [0x7fff_ffffu32, 0x8000_0000];
    assert_eq!(extended::<_, i64>("ld.global.s32", &wide), [0x7fff_ffff, -0x8000_0000]);
    assert_eq!(extended::<_, u64>("ld.global.u32", &wide), [0x7fff_ffff, 0x8000_0000]);
}

#[test]
fn narrow_stores_leave_their_neighbours() {
    let ptx = kernel(
        &["out"],
        "	mov.u32 %r1, 0xAABBCCDD;
	mov.u64 %l1, 0x1122334455667788;
	st.global.u8 [%out+1], %r1;
	st.global.u16 [%out+4], %r1;
	st.global.u32 [%out+8], %l1;",
    );
    let mut lab = Lab::new();
    let out = lab.upload("out", &[0u8; 16]);
    lab.run(&ptx, 1, 1, &[out]).unwrap();
    assert_eq!(
        lab.read::<u8>(out, 16),
        [0, 0xdd, 0, 0, 0xdd, 0xcc, 0, 0, 0x88, 0x77, 0x66, 0x55, 0, 0, 0, 0]
    );
}

#[test]
fn shared_memory_static_dynamic_and_generic() {
    // 32 words of static memory, then whatever the launch gives.
    let ptx = module(
        "sm_80",
        &format!(
            ".extern .shared .align 16 .b8 dynamic[];\n{}",
            entry(
                "k",
                &["out"],
                "	.shared .align 4 .b8 fixed[128];
	mov.u32 %r1, fixed;
	mad.lo.u32 %r2, %t, 4, %r1;
	mul.lo.u32 %r3, %t, 3;
	st.shared.u32 [%r2], %r3;
	mov.u32 %r4, dynamic;
	mad.lo.u32 %r5, %t, 16, %r4;
	add.u32 %r6, %r3, 1;
	st.shared.v4.u32 [%r5], {%t, %r3, %r6, %t};
	bar.sync 0;
	// The neighbour's, the static one by a generic address.
	xor.b32 %r7, %t, 1;
	mov.u64 %l1, fixed;
	cvta.shared.u64 %l2, %l1;
	mad.wide.u32 %l3, %r7, 4, %l2;
	ld.u32 %r8, [%l3];
	mad.lo.u32 %r9, %r7, 16, %r4;
	ld.shared.v2.u32 {%r10, %r11}, [%r9+8];
	cvta.to.shared.u64 %l4, %l3;
	ld.shared.u32 %r12, [%l4];
	mad.wide.u32 %l5, %t, 16, %out;
	st.global.v4.u32 [%l5], {%r8, %r10, %r11, %r12};"
            )
        ),
    );
    let mut lab = Lab::new();
    let out = lab.room("out", 32 * 16);
    lab.launch(&ptx, "k", [1; 3], [32, 1, 1], 512, &[out]).unwrap();
    let got: Vec<u32> = lab.read(out, 128);
    let expected: Vec<u32> = (0..32u32).map(|t| t ^ 1).flat_map(|n| [3 * n, 3 * n + 1, n, 3 * n]).collect();
    assert_eq!(got, expected);
    // 16 bytes less, and the last thread is outside.
    let result = lab.launch(&ptx, "k", [1; 3], [32, 1, 1], 496, &[out]);
    assert_fault(result, FaultKind::OutOfBounds, &ptx, "st.shared.v4.u32", &["shared"]);
}

#[test]
fn spaces_of_generic_addresses() {
    let ptx = kernel(
        &["out"],
        "	.shared .align 4 .b8 fixed[8];
	.local .align 4 .b8 own[8];
	mov.u64 %l1, fixed;
	cvta.shared.u64 %l1, %l1;
	mov.u64 %l2, own;
	cvta.local.u64 %l2, %l2;
	isspacep.shared %p1, %l1;
	isspacep.global %p2, %l1;
	isspacep.local %p3, %l2;
	isspacep.shared %p4, %l2;
	isspacep.global %p5, %out;
	isspacep.local %p6, %out;
	selp.u32 %r1, 1, 0, %p1;
	selp.u32 %r2, 1, 0, %p2;
	selp.u32 %r3, 1, 0, %p3;
	selp.u32 %r4, 1, 0, %p4;
	selp.u32 %r5, 1, 0, %p5;
	selp.u32 %r6, 1, 0, %p6;
	st.global.v2.u32 [%out], {%r1, %r2};
	st.global.v2.u32 [%out+8], {%r3, %r4};
	st.global.v2.u32 [%out+16], {%r5, %r6};",
    );
    let mut lab = Lab::new();
    let out = lab.room("out", 24);
    lab.run(&ptx, 1, 1, &[out]).unwrap();
    assert_eq!(lab.read::<u32>(out, 6), [1, 0, 1, 0, 1, 0]);
}

#[test]
fn local_memory_is_each_threads_own() {
    let ptx = kernel(
        &["out"],
        "	.local .align 16 .b8 own[64];
	mov.u64 %l1, own;
	and.b32 %r1, %t, 15;
	mad.wide.u32 %l2, %r1, 4, %l1;
	st.local.u32 [%l2], %t;
	cvta.local.u64 %l3, %l2;
	ld.u32 %r2, [%l3];
	mad.wide.u32 %l4, %t, 4, %out;
	st.global.u32 [%l4], %r2;",
    );
    let mut lab = Lab::new();
    let out = lab.room("out", 64 * 4);
    let profile = lab.run(&ptx, 1, 64, &[out]).unwrap();
    assert_eq!(lab.read::<u32>(out, 64), (0..64).collect::<Vec<_>>());
    assert_eq!(profile.local_bytes, 64 * 8);
}

#[test]
fn module_variables_have_their_initial_values() {
    let ptx = module(
        "sm_80",
        &format!(
            ".visible .global .align 4 .u32 words[4] = {{1, 0xFFFFFFFE, 3}};
.global .align 4 .f32 half = 0f3F000000;
.global .align 1 .b8 letters[5] = {{104, 101, 108, 108, 111}};
.global .align 8 .u64 counter;
.global .align 4 .f32 third[2] = {{0f3EAAAAAB, 0f3F2AAAAB}};
{}",
            entry(
                "k",
                &["out"],
                "	mov.u64 %l1, words;
	ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%l1];
	st.global.v4.u32 [%out], {%r1, %r2, %r3, %r4};
	ld.global.f32 %f1, [half];
	st.global.f32 [%out+16], %f1;
	ld.global.u8 %r5, [letters+4];
	st.global.u32 [%out+20], %r5;
	ld.global.f32 %f2, [third+4];
	st.global.f32 [%out+24], %f2;
	mov.u64 %l2, counter;
	atom.global.add.u64 %l3, [%l2], 1;
	cvt.u32.u64 %r6, %l3;
	st.global.u32 [%out+28], %r6;"
            )
        ),
    );
    let mut lab = Lab::new();
    let out = lab.room("out", 32);
    lab.run(&ptx, 1, 1, &[out]).unwrap();
    // What is not initialised in the text is zero.
    let third = (2f32 / 3.0).to_bits();
    assert_eq!(lab.read::<u32>(out, 8), [1, 0xffff_fffe, 3, 0, 0.5f32.to_bits(), 111, third, 0]);
}

/// They live as long as the module: a second launch finds what the first left.
#[test]
fn module_variables_persist() {
    let text = entry("k", &["out"], "\tatom.global.add.u32 %r1, [counter], 1;\n\tst.global.u32 [%out], %r1;");
    let module = parse(&module("sm_80", &format!(".global .align 4 .u32 counter = 5;\n{text}")));
    let mut lab = Lab::new();
    let out = lab.room("out", 4);
    let parameters = out.to_le_bytes();
    let launch =
        Launch { kernel: "k", grid: [1; 3], block: [1; 3], shared: 0, early: false, parameters: &parameters };
    for expected in [5, 6, 7] {
        lab.machine.launch(&module, &launch).unwrap();
        assert_eq!(lab.read::<u32>(out, 1), [expected]);
    }
}

/// A struct by value, read at offsets, by vectors, and through its address, as NVRTC does.
#[test]
fn parameters_of_a_struct() {
    let ptx = module(
        "sm_80",
        ".visible .entry k(
	.param .align 8 .b8 k_param_0[40]
)
{
	.reg .b16 %h<3>;
	.reg .b32 %r<8>;
	.reg .b64 %l<8>;
	mov.b64 %l1, k_param_0;
	ld.param.u64 %l2, [k_param_0];
	cvta.to.global.u64 %l3, %l2;
	ld.param.v2.u32 {%r1, %r2}, [k_param_0+8];
	ld.param.s8 %r3, [k_param_0+16];
	ld.param.u16 %h1, [k_param_0+18];
	cvt.u32.u16 %r4, %h1;
	ld.param.u32 %r5, [%l1+20];
	ld.param.f32 %r6, [%l1+36];
	st.global.v2.u32 [%l3], {%r1, %r2};
	st.global.v4.u32 [%l3+16], {%r3, %r4, %r5, %r6};
	ret;
}
",
    );
    let mut lab = Lab::new();
    let out = lab.upload("out", &[0u32; 8]);
    let mut parameters = out.to_le_bytes().to_vec();
    [7u32, 9].iter().for_each(|v| v.put(&mut parameters));
    parameters.extend([0xfe, 0, 0x34, 0x12]);
    77u32.put(&mut parameters);
    parameters.extend([0xcc; 12]);
    2.5f32.put(&mut parameters);
    let launch =
        Launch { kernel: "k", grid: [1; 3], block: [1; 3], shared: 0, early: false, parameters: &parameters };
    lab.machine.launch(&parse(&ptx), &launch).unwrap();
    assert_eq!(lab.read::<u32>(out, 8), [7, 9, 0, 0, -2i32 as u32, 0x1234, 77, 2.5f32.to_bits()]);
}

#[test]
fn several_parameters_have_their_own_alignment() {
    let ptx = module(
        "sm_80",
        ".visible .entry k(
	.param .u8 k_param_0,
	.param .u32 k_param_1,
	.param .u64 k_param_2
)
{
	.reg .b32 %r<4>;
	.reg .b64 %l<4>;
	ld.param.u8 %r1, [k_param_0];
	ld.param.u32 %r2, [k_param_1];
	ld.param.u64 %l1, [k_param_2];
	st.global.v2.u32 [%l1], {%r1, %r2};
	ret;
}
",
    );
    let mut lab = Lab::new();
    let out = lab.room("out", 8);
    let mut parameters = vec![5, 0, 0, 0];
    6u32.put(&mut parameters);
    out.put(&mut parameters);
    let launch =
        Launch { kernel: "k", grid: [1; 3], block: [1; 3], shared: 0, early: false, parameters: &parameters };
    lab.machine.launch(&parse(&ptx), &launch).unwrap();
    assert_eq!(lab.read::<u32>(out, 2), [5, 6]);
}

#[test]
fn a_module_has_several_kernels() {
    let text = [
        entry("first", &["out"], "\tst.global.u32 [%out], 1;"),
        entry("second", &["out"], "\tst.global.u32 [%out], 2;"),
    ];
    let ptx = module("sm_90", &text.concat());
    assert_eq!(parse(&ptx).kernels(), ["first", "second"]);
    let mut lab = Lab::new();
    let out = lab.room("out", 4);
    for (kernel, expected) in [("second", 2), ("first", 1)] {
        lab.launch(&ptx, kernel, [1; 3], [1; 3], 0, &[out]).unwrap();
        assert_eq!(lab.read::<u32>(out, 1), [expected]);
    }
}

/// Offsets beyond 2^32; memory that nobody touches costs nothing.
#[test]
fn an_allocation_of_many_gigabytes() {
    let ptx = kernel(
        &["out"],
        "	mul.wide.u32 %l1, %i, 0x10000000;
	add.s64 %l1, %l1, %out;
	st.global.u32 [%l1+0xFFFFFFC], %i;
	ld.global.u32 %r1, [%l1+0xFFFFFFC];
	add.u32 %r1, %r1, 100;
	st.global.u32 [%l1], %r1;",
    );
    let mut lab = Lab::new();
    let out = lab.room("out", 40 << 28);
    let profile = lab.run(&ptx, 1, 40, &[out]).unwrap();
    assert_eq!(crate::lab::traffic(&profile, "out").unique_written, 40 * 8);
    for i in 0..40u32 {
        let part = out + (u64::from(i) << 28);
        assert_eq!(
            (lab.read::<u32>(part, 1), lab.read::<u32>(part + (1 << 28) - 4, 1)),
            (vec![100 + i], vec![i])
        );
    }
    assert_fault(
        lab.run(&ptx, 1, 41, &[out]),
        FaultKind::OutOfBounds,
        &ptx,
        "st.global.u32 [%l1+0xFFFFFFC]",
        &["thread 40"],
    );
}

/// The host's own accesses.
#[test]
fn the_host_reads_and_writes_inside_allocations() {
    let mut lab = Lab::new();
    let a = lab.room("a", 100);
    assert_eq!(a % 256, 0);
    lab.machine.write(a + 90, &[1; 10]).unwrap();
    assert_eq!(lab.read::<u8>(a + 90, 10), [1; 10]);
    assert_eq!(lab.machine.write(a + 91, &[1; 10]).unwrap_err().kind, FaultKind::OutOfBounds);
    assert_eq!(lab.machine.read(a + 89, &mut [0; 2]).unwrap_err().kind, FaultKind::Uninitialised);
    assert_eq!(lab.machine.read(a + 95, &mut [0; 6]).unwrap_err().kind, FaultKind::OutOfBounds);
    lab.machine.free(a).unwrap();
    assert_eq!(lab.machine.read(a + 90, &mut [0; 1]).unwrap_err().kind, FaultKind::OutOfBounds);
    assert!(lab.machine.free(a).is_err());
}
