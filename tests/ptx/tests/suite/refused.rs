//! Launches that do not fit their kernel, and texts that are not known.

use ptx_interpreter::FaultKind::{self, Unknown};
use ptx_interpreter::Module;

use crate::lab::{Lab, entry, kernel, line_of, module, parse};

#[test]
fn launches_that_do_not_fit() {
    let text = |directive: &str, dynamic: bool| {
        let body = if dynamic {
            "\tmov.u32 %r1, dynamic;\n\tsetp.eq.u32 %p1, %t, 0;\n\t@%p1 st.shared.u32 [%r1], 1;"
        } else {
            ""
        };
        let text = entry("k", &["out"], body).replacen("\n{", &format!("\n{directive}\n{{"), 1);
        module("sm_80", &format!(".extern .shared .align 16 .b8 dynamic[];\n{text}"))
    };
    let mut lab = Lab::new();
    let out = lab.room("out", 4);
    let mut launch =
        |ptx: &str, kernel: &str, grid: [u32; 3], block: [u32; 3], shared: u32, parameters: &[u64]| {
            lab.launch(ptx, kernel, grid, block, shared, parameters)
                .map(|_| ())
                .map_err(|fault| (fault.kind, fault.message))
        };
    let plain = text("", true);
    let fits = Ok(());
    assert_eq!(launch(&plain, "k", [1; 3], [1024, 1, 1], 227 * 1024, &[out]), fits);
    assert_eq!(
        launch(&text(".maxntid 128, 1, 1\n.minnctapersm 2", true), "k", [1; 3], [128, 1, 1], 4, &[out]),
        fits
    );
    let most = ".maxntid 128, 1, 1";
    for (what, result) in [
        ("threads", launch(&plain, "k", [1; 3], [1025, 1, 1], 4, &[out])),
        ("threads in all", launch(&plain, "k", [1; 3], [32, 32, 2], 4, &[out])),
        ("no threads", launch(&plain, "k", [1; 3], [32, 0, 1], 4, &[out])),
        ("no blocks", launch(&plain, "k", [0, 1, 1], [32, 1, 1], 4, &[out])),
        ("more than maxntid", launch(&text(most, true), "k", [1; 3], [129, 1, 1], 4, &[out])),
        ("other than reqntid", launch(&text(".reqntid 128, 1, 1", true), "k", [1; 3], [64, 1, 1], 4, &[out])),
        ("shared memory", launch(&plain, "k", [1; 3], [32, 1, 1], 227 * 1024 + 4, &[out])),
        ("too few parameters", launch(&plain, "k", [1; 3], [32, 1, 1], 4, &[])),
        ("too many parameters", launch(&plain, "k", [1; 3], [32, 1, 1], 4, &[out, out])),
        ("no such kernel", launch(&plain, "other", [1; 3], [32, 1, 1], 4, &[out])),
    ] {
        let (kind, message) = result.expect_err(what);
        assert_eq!(kind, FaultKind::Launch, "{what}: {message}");
    }
}

/// The parser never guesses.
#[test]
fn unknown_text_is_named_with_its_line() {
    let good = "add.u32 %r1, %r2, %r3;";
    let text = |line: &str| {
        kernel(&["out"], &format!("\tmov.u32 %r2, 1;\n\tmov.u32 %r3, 1;\n\t{line}\n\tmov.u32 %r4, %r1;"))
    };
    parse(&text(good));
    for bad in [
        "frobnicate.u32 %r1, %r2;",
        "add.fuzzy.u32 %r1, %r2, %r3;",
        "add.u33 %r1, %r2, %r3;",
        "add.u32 %r1, %r2;",
        "add.u32 %r1, %r2, %r3, %r4;",
        "add.u32 %r1, %r2, %undeclared;",
        "add.u32 %r1, %r2, [%r3];",
        "shfl.sync.sideways.b32 %r1, %r2, 1, 31, -1;",
        "ld.global.L3::keep.u32 %r1, [%out];",
        "ld.shaped.u32 %r1, [%out];",
        "ld.global.v3.u32 {%r1, %r2, %r3}, [%out];",
        "ld.global.v2.u32 {%r1}, [%out];",
        "cvt.rnx.f32.s32 %f1, %r1;",
        "cvt.f32.s32 %f1, %r1;",
        "mul.u32 %r1, %r2, %r3;",
        "setp.lt.nand.u32 %p1, %r1, %r2, %p2;",
        "setp.approx.u32 %p1, %r1, %r2;",
        "fma.f32 %f1, %f2, %f3, %f1;",
        "mma.sync.aligned.m16n8k16.row.row.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r5, %r6, %r7, %r8}, {%r5, %r6}, {%f1, %f2, %f3, %f4};",
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r5, %r6, %r7}, {%r5, %r6}, {%f1, %f2, %f3, %f4};",
        "mma.sync.aligned.m16n8k16.row.col.satfinite.s32.s8.s8.s32 {%r5, %r6, %r7, %r8}, {%r5, %r6}, {%r5}, {%r5, %r6, %r7, %r8};",
        "min.xorsign.abs.f32 %f1, %f2, %f3;",
        "atom.global.add.noftz.f16 %h1, [%out], %h2;",
        "add.sat.u32 %r1, %r2, %r3;",
        "wgmma.fence.sync.aligned;",
        "mbarrier.init.shared.b64 [%r1], 1;",
        "bra NOWHERE;",
        "mov.u32 %r1, %tid.w2;",
        "bar.sync 16;",
        "cp.async.cg.shared.global [%r1], [%out], 8;",
        "lop3.b32 %r1, %r2, %r3, %r4, 256;",
    ] {
        let ptx = text(bad);
        let fault = Module::parse(&ptx).map(|_| ()).expect_err(bad);
        assert_eq!((fault.kind, fault.line), (Unknown, line_of(&ptx, bad)), "{bad}: {fault}");
    }
    // Of a file's other parts, too.
    for (good, bad) in [
        (".address_size 64", ".address_size 32"),
        (".version 8.0", ".version eight"),
        (".reg .b16 %h<20>;", ".reg .b17 %h<20>;"),
        (".visible .entry k(", ".visible .entree k("),
        (".param .u64 k_out", ".param .u64 k_out k_in"),
    ] {
        let ptx = text("add.u32 %r1, %r2, %r3;").replacen(good, bad, 1);
        let fault = Module::parse(&ptx).map(|_| ()).expect_err(bad);
        assert_eq!((fault.kind, fault.line), (Unknown, line_of(&ptx, bad)), "{bad}: {fault}");
    }
    // An end that is missing.
    let ptx = text(good);
    assert_eq!(Module::parse(ptx.trim_end().trim_end_matches('}')).unwrap_err().kind, Unknown);
}
