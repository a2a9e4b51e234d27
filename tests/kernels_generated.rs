//! What is generated from kernels/*.cu is up to date: the PTX that is embedded, and the table of what it takes.
//!
//! Hashes show it without any compiler. With the pinned compilers in target/cuda-tools everything is also made again
//! and compared byte for byte.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::{env, fs};

use generate_kernels::image::{check, entries};
use generate_kernels::occupancy::{architecture, blocks};
use generate_kernels::ptxas::{Usage, usages};
use generate_kernels::source::{Source, names, sources};
use generate_kernels::tools::Tools;
use generate_kernels::{COMMAND, compile, kernels, resources};
use llmroof::backend::cuda::image::images;

/// The rows of resources.csv, each as (column, value).
fn rows() -> Vec<Vec<(&'static str, String)>> {
    let text = fs::read_to_string(kernels().join("resources.csv")).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    assert_eq!(header, resources::HEADER);
    rows.lines()
        .map(|row| resources::HEADER.split(',').zip(row.split(',').map(str::to_owned)).collect())
        .collect()
}

fn value<'a>(row: &'a [(&'static str, String)], column: &str) -> &'a str {
    &row.iter().find(|(name, _)| *name == column).unwrap().1
}

/// The tools; without them a test that needs them has nothing to do, except in CI.
fn tools() -> Option<Tools> {
    let tools = Tools::installed();
    if tools.is_none() {
        let here = cfg!(all(target_os = "linux", target_arch = "x86_64"));
        assert!(
            !here || env::var("CI").as_deref() != Ok("true"),
            "the pinned compilers are not in target/cuda-tools: run `{COMMAND} tools` first"
        );
        eprintln!("skipped: no compilers in target/cuda-tools (`{COMMAND} tools` installs them)");
    }
    tools
}

#[test]
fn every_ptx_file_was_made_from_the_sources_as_they_are() {
    let mut expected = BTreeSet::new();
    for source in sources(&kernels()).unwrap() {
        for target in source.targets() {
            let name = source.ptx_name(target);
            let ptx = fs::read_to_string(kernels().join("ptx").join(&name))
                .unwrap_or_else(|error| panic!("{name}: {error}: run `{COMMAND}`"));
            check(&ptx, &source, target).unwrap();
            expected.insert(name.trim_end_matches(".ptx").to_owned());
        }
    }
    assert!(!expected.is_empty());
    let found: BTreeSet<String> = names(&kernels().join("ptx"), "ptx").unwrap().into_iter().collect();
    assert_eq!(found, expected, "a PTX file has no source: run `{COMMAND}`");
    // What is embedded is what is in the folder.
    let embedded: BTreeSet<String> =
        images().map(|image| format!("{}.{}", image.source, image.target)).collect();
    assert_eq!(embedded, expected);
}

#[test]
fn an_edit_of_a_source_a_header_or_the_ptx_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("a.cu", "#include \"b.cuh\"\n__global__ void k() {}\n");
    write("b.cuh", "  # include \"c.cuh\"\n");
    write("c.cuh", "typedef int number;\n");
    let read = || Source::read(folder.path(), "a").unwrap();
    let source = read();
    assert_eq!(source.headers.keys().collect::<Vec<_>>(), ["b.cuh", "c.cuh"]);
    let [sm_80, sm_90] = source.targets() else { panic!("two targets") };
    assert_ne!(source.hash(sm_80), source.hash(sm_90));
    let original = source.hash(sm_80);
    write("c.cuh", "typedef long number;\n");
    assert_ne!(read().hash(sm_80), original);
    write("c.cuh", "typedef int number;\n");
    assert_eq!(read().hash(sm_80), original);
    write("a.cu", "#include <cuda_bf16.h>\n");
    assert!(Source::read(folder.path(), "a").is_err(), "a header that is not ours");

    let source = Source::read(&kernels(), "fill").unwrap();
    let target = &source.targets()[0];
    let ptx = fs::read_to_string(kernels().join("ptx").join(source.ptx_name(target))).unwrap();
    check(&ptx, &source, target).unwrap();
    let edited = ptx.replacen("mov.u32", "mov.b32", 1);
    assert!(check(&edited, &source, target).unwrap_err().to_string().contains("was changed after"));
    let other = &source.targets()[1];
    assert!(check(&ptx, &source, other).unwrap_err().to_string().contains("other sources"));
}

#[test]
fn the_embedded_ptx_is_small_runs_on_driver_525_and_keeps_to_registers() {
    let mut sizes = Vec::new();
    for image in images() {
        let name = format!("{}.{}", image.source, image.target);
        sizes.push((image.compressed.len(), name.clone()));
        let ptx = image.ptx().unwrap();
        assert!(ptx.contains("\n.version 8.0\n"), "{name}: another PTX ISA");
        assert!(ptx.contains(&format!("\n.target {}\n", image.target)), "{name}: another target");
        assert!(!ptx.contains(".local"), "{name} uses local memory");
        assert!(!entries(&ptx).unwrap().is_empty(), "{name} has no kernel");
    }
    let bytes: usize = sizes.iter().map(|(bytes, _)| bytes).sum();
    // Products in four formats and attention over six kinds of caches, for two targets each.
    assert!(bytes > 0 && bytes < 6_000_000, "{bytes} bytes of PTX are embedded: {sizes:?}");
}

#[test]
fn every_kernel_is_in_the_table_and_none_spills() {
    let rows = rows();
    let mut expected = BTreeSet::new();
    for source in sources(&kernels()).unwrap() {
        for target in source.targets() {
            let ptx = fs::read_to_string(kernels().join("ptx").join(source.ptx_name(target))).unwrap();
            for entry in entries(&ptx).unwrap() {
                for architecture in target.architectures {
                    expected.insert([source.name.clone(), entry.kernel.clone(), (*architecture).to_owned()]);
                }
            }
        }
    }
    let found =
        |row: &Vec<_>| ["source", "kernel", "architecture"].map(|column| value(row, column).to_owned());
    assert_eq!(rows.iter().map(found).collect::<BTreeSet<_>>(), expected, "run `{COMMAND}`");
    let table = fs::read_to_string(kernels().join("resources.csv")).unwrap();
    assert_eq!(resources::spilling(&table).next(), None);
    let row = "gemm,gemm_qkv_64,sm_80,64,4,255,128,8,0,4,8";
    assert_eq!(resources::spilling(&format!("{table}{row}\n")).collect::<Vec<_>>(), [row]);
    for row in &rows {
        assert!(value(row, "blocks_per_sm").parse::<u32>().unwrap() >= 1, "{row:?}");
    }
}

#[test]
fn compiling_again_gives_the_same_bytes() {
    let Some(tools) = tools() else { return };
    let made = compile(&tools, &sources(&kernels()).unwrap()).unwrap();
    assert!(!made.is_empty());
    for (name, ptx) in made {
        let kept = fs::read_to_string(kernels().join("ptx").join(&name)).unwrap();
        assert!(ptx == kept, "{name} differs: run `{COMMAND}`");
    }
}

#[test]
fn assembling_again_gives_the_same_table() {
    let Some(tools) = tools() else { return };
    let sources = sources(&kernels()).unwrap();
    let table = resources::table(&tools, &sources, &kernels().join("ptx")).unwrap();
    let kept = fs::read_to_string(kernels().join("resources.csv")).unwrap();
    assert_eq!(table, kept, "run `{COMMAND}`");
}

#[test]
fn what_ptxas_says_is_read() {
    let text = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'one' for 'sm_80'
ptxas info    : Function properties for one
    24 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 96 registers, used 1 barriers, 24 bytes cumulative stack size, 1536 bytes smem, 384 bytes cmem[0]
ptxas info    : Compile time = 1.000 ms
";
    let expected =
        Usage { kernel: "one".into(), registers: 96, static_shared: 1536, spill_bytes: 20, stack_bytes: 24 };
    assert_eq!(usages(text).unwrap(), [expected]);
    assert!(usages("ptxas info : Compiling entry function 'one' for 'sm_80'\n").is_err());
}

#[test]
fn occupancy_is_what_the_scarcest_resource_allows() {
    let [a100, h100, rtx_3090] = ["sm_80", "sm_90", "sm_86"].map(|name| architecture(name).unwrap());
    // By threads, then by registers: 128 registers leave 16 warps, 255 leave 8 and 129 leave 12.
    assert_eq!(blocks(a100, 256, 32, 0), 8);
    assert_eq!(blocks(rtx_3090, 256, 32, 0), 6);
    assert_eq!(blocks(a100, 256, 128, 0), 2);
    assert_eq!(blocks(a100, 256, 255, 0), 1);
    assert_eq!(blocks(a100, 128, 129, 0), 3);
    assert_eq!(blocks(a100, 512, 255, 0), 0);
    // By blocks.
    assert_eq!([a100, rtx_3090].map(|on| blocks(on, 32, 16, 0)), [32, 16]);
    // By shared memory, of which every block takes 1 KiB more.
    assert_eq!(blocks(a100, 256, 32, 163 << 10), 1);
    assert_eq!([a100, h100].map(|on| blocks(on, 256, 32, 81 << 10)), [2, 2]);
    assert_eq!([a100, h100].map(|on| blocks(on, 256, 32, 75 << 10)), [2, 3]);
}
