//! What can go wrong and end the program: each in one line on stderr that says what and what to do, with the exit code
//! that the documentation promises, and with what had been measured until then. None panics, none hangs.
//!
//! `cargo test --test gpu faults -- --nocapture` prints every one of them with its line.

use crate::fake::FakeDriver;
use crate::program::{each, measure, noted, quick, runs, start};
use llmroof::run::RunStatus;

/// What is run when it goes wrong.
#[derive(Clone, Copy)]
enum Command {
    /// `verify --device cuda:0`, with these options instead.
    Verify(&'static [&'static str]),
    /// [`measure`], with these options besides.
    Measure(&'static [&'static str]),
}
use Command::{Measure, Verify};

/// Something that goes wrong.
struct Fault {
    name: &'static str,
    fake: FakeDriver,
    command: Command,
    code: i32,
    /// What the line says, among other things.
    words: &'static [&'static str],
    /// Something had been measured.
    kept: bool,
}

/// A fault of the driver, by the fake's rule, that ends a command with 4.
fn fault(name: &'static str, command: Command, rule: &'static str, words: &'static [&'static str]) -> Fault {
    fault_of(quick("h100").fault(rule), name, command, words)
}

/// The same of a machine that was set up otherwise.
fn fault_of(fake: FakeDriver, name: &'static str, command: Command, words: &'static [&'static str]) -> Fault {
    Fault { name, fake, command, code: 4, words, kept: false }
}

impl Fault {
    /// With another exit code.
    fn code(self, code: i32) -> Fault {
        Fault { code, ..self }
    }

    /// What was measured before is kept.
    fn kept(self) -> Fault {
        Fault { kept: true, ..self }
    }

    fn check(self) {
        let Fault { name, fake, command, code, words, kept } = self;
        let reports = tempfile::tempdir().unwrap();
        let ended = match command {
            Verify(options) => {
                let device: &[&str] =
                    if options.contains(&"--device") { &[] } else { &["--device", "cuda:0"] };
                start(&mut fake.llmroof(&[&["verify"], device, options].concat())).end()
            }
            Measure(options) => measure(&fake, reports.path(), options),
        };
        assert_eq!(ended.code, Some(code), "{name}: {ended:?}");
        let lines: Vec<&str> = ended.err.lines().filter(|line| !line.starts_with("run file: ")).collect();
        let [line] = lines[..] else { panic!("{name}: {ended:?}") };
        println!("{name}: exit {code}, {line}");
        assert!(line.starts_with("error: ") && line.contains(". hint: "), "{name}: {line}");
        for word in words {
            assert!(line.contains(word), "{name}: {line:?} lacks {word:?}");
        }
        let runs = runs(reports.path());
        assert_eq!(runs.len(), usize::from(kept), "{name}: run files");
        assert_eq!(ended.out.starts_with("PARTIAL: "), kept, "{name}: {ended:?}");
        for run in runs {
            assert_eq!(run.status, RunStatus::Partial, "{name}");
            assert!(!run.points.is_empty(), "{name}: nothing was kept");
            assert!(noted(&run.notes, &["failed midway"]), "{name}: {:?}", run.notes);
        }
    }
}

fn all_end_in_one_line(faults: Vec<Fault>) {
    each(faults, Fault::check);
}

#[test]
fn drivers_that_do_not_start() {
    const V: Command = Verify(&[]);
    let new = FakeDriver::new;
    let mut faults = vec![
        fault_of(new().without("cuda"), "no library", V, &["libcuda.so.1 was not found", "install"]),
        fault_of(new().set("FAKE_DRIVER_VERSION", 11_040), "driver too old", V, &["CUDA 11.4", "driver 525"]),
        fault_of(new().gpus(""), "no device", V, &["shows no device (CUDA error 100)", "nvidia-smi"]),
        fault_of(
            new().set("CUDA_VISIBLE_DEVICES", ""),
            "every device hidden",
            V,
            &["no device", "CUDA_VISIBLE_DEVICES"],
        ),
        fault_of(new().gpus("old"), "GPU too old", V, &["7.0", "need 8.0", "Ampere"]),
        fault_of(
            new(),
            "fewer GPUs than that",
            Verify(&["--device", "cuda:7"]),
            &["cuda:7", "here are: cuda:0"],
        ),
        fault_of(
            new(),
            "no GPU of that UUID",
            Verify(&["--device", "GPU-00000000-1111-2222-3333-444444444444"]),
            &["0000000011112222", "here are: cuda:0"],
        ),
        fault("module not loaded", V, "cuInit=3", &["not initialised", "modprobe nvidia"]),
        fault("the toolkit's stub", V, "cuInit=34", &["stub", "LD_LIBRARY_PATH"]),
        fault("device lost at the start", V, "cuInit=101", &["not there or not usable", "dmesg"]),
        fault("fabric manager not running", V, "cuInit=802", &["not ready", "fabricmanager"]),
        fault("library and module do not match", V, "cuInit=803", &["different versions", "reboot"]),
        fault(
            "compatibility library on a card of another kind",
            V,
            "cuInit=804",
            &["compatibility", "cuda-compat"],
        ),
        fault("driver fails at the start", V, "cuInit=999", &["starting the NVIDIA driver", "999"]),
        fault("devices cannot be counted", V, "cuDeviceGetCount=999", &["counting the GPUs"]),
        fault("properties cannot be asked for", V, "cuDeviceTotalMem_v2=101", &["properties", "not there"]),
        fault(
            "busy or prohibited",
            V,
            "cuDevicePrimaryCtxRetain=46",
            &["opening the NVIDIA H100", "busy", "compute mode"],
        ),
        fault(
            "no memory for a context",
            V,
            "cuDevicePrimaryCtxRetain=2",
            &["opening", "out of memory", "who else"],
        ),
        fault("context fails", V, "cuDevicePrimaryCtxRetain=999", &["opening", "999", "dmesg"]),
        fault("context gone", V, "cuCtxSetCurrent=201", &["context is gone"]),
        fault("no memory for a stream", V, "cuStreamCreate=2", &["creating a stream", "out of memory"]),
        fault("no memory for an event", V, "cuEventCreate=2", &["creating an event", "out of memory"]),
    ];
    for symbol in ["cuInit", "cuLaunchKernelEx", "cuGraphInstantiateWithFlags", "cuDriverGetVersion"] {
        let fake = new().without_symbol(symbol);
        faults.push(Fault { name: symbol, ..fault_of(fake, "", V, &["too old", "driver 525"]) });
    }
    all_end_in_one_line(faults);
}

#[test]
fn kernels_that_are_not_taken() {
    const V: Command = Verify(&[]);
    let refused = |name, rule, words| fault(name, V, rule, words);
    all_end_in_one_line(vec![
        refused("kernels not taken", "cuModuleLoadDataEx=200", &["does not take the kernels", "(sm_90)"]),
        refused("kernels of another GPU", "cuModuleLoadDataEx=209", &["not for this GPU"]),
        refused("PTX refused", "cuModuleLoadDataEx=218", &["refused the kernels' PTX", "newer driver"]),
        refused(
            "no PTX compiler",
            "cuModuleLoadDataEx=221",
            &["no PTX compiler", "libnvidia-ptxjitcompiler"],
        ),
        refused("PTX too new", "cuModuleLoadDataEx=222", &["too old for the kernels' PTX", "525"]),
        refused("PTX compiler disabled", "cuModuleLoadDataEx=223", &["disabled", "CUDA_DISABLE_PTX_JIT"]),
        refused("no memory for kernels", "cuModuleLoadDataEx=2@3", &["loading the kernels", "out of memory"]),
        refused("kernel missing", "cuModuleGetFunction=500", &["loading the kernel embed", "500"]),
        refused("attribute refused", "cuFuncSetAttribute=1", &["carve-out of embed", "bug report"]),
    ]);
}

#[test]
fn memory_that_runs_out() {
    const M: Command = Measure(&[]);
    let out = &["allocating", "the GPU is out of memory", "are free"];
    let small = |bytes: u64| quick("h100").set("FAKE_DRIVER_MEMORY", bytes);
    all_end_in_one_line(vec![
        fault("no memory at the first allocation", M, "cuMemAlloc_v2=2@1", out),
        fault("no memory at the fifth allocation", M, "cuMemAlloc_v2=2@5", out),
        fault("no memory at the fortieth allocation", M, "cuMemAlloc_v2=2@40+", out),
        fault("no memory for the second pass", M, "cuMemAlloc_v2=2@600+", out).kept(),
        fault("memory cannot be asked for", M, "cuMemGetInfo_v2=999@2", &["999", "dmesg"]),
        fault_of(
            small(600 << 20),
            "a batch that does not fit",
            Measure(&["--batch", "1,100000"]),
            &["tiny-tied-hd64 with 1 of 3 layers needs", "are available", "smaller batches"],
        ),
        fault_of(
            small(600 << 20),
            "all layers, which do not fit",
            Measure(&["--batch", "1,100000", "--layers", "all"]),
            &["with 3 of 3 layers needs", "--layers auto"],
        ),
    ]);
}

/// The launches that the verification takes come first, then those of the measurement. Between its passes ceilings are
/// measured: a fault that is to come in a decode counts launches of a kernel that no ceiling has.
#[test]
fn launches_that_fail() {
    const M: Command = Measure(&[]);
    let mut faults = vec![
        fault("launch refused", M, "cuLaunchKernelEx=1@30", &["launching ", "bug report"]),
        fault("too many resources", M, "cuLaunchKernelEx=701@30", &["registers or shared memory"]),
        fault("illegal address", M, "cuLaunchKernelEx=700@30", &["outside its memory", "compute-sanitizer"]),
        fault("illegal address, later", M, "async=700@60", &["outside its memory", "CUDA error 700"]),
        fault(
            "illegal address in a graph, later",
            M,
            "async/gemv_lm_head_1=700@1000",
            &["decode of batch", "700"],
        )
        .kept(),
        fault("failure in a graph, later", M, "async/gemv_lm_head_1=719@1000", &["decode of batch", "719"])
            .kept(),
        fault(
            "ECC error in a graph, later",
            M,
            "async/gemv_lm_head_1=214@1000",
            &["ECC", "nvidia-smi -q -d ECC"],
        )
        .kept(),
        fault("copying to the GPU", M, "cuMemcpyHtoDAsync_v2=719@3", &["to the GPU", "719"]),
        fault("copying from the GPU", M, "cuMemcpyDtoHAsync_v2=719@3", &["from the GPU", "719"]),
        fault("clearing memory", M, "cuMemsetD8Async=719@3", &["clearing memory"]),
        fault("giving memory back", M, "cuMemFree_v2=700@3", &["giving memory back"]),
        fault("link between GPUs", M, "cuStreamQuery=220@20", &["NVLink"]),
        fault("waiting", M, "cuEventQuery=719@5", &["719"]),
        fault("events not recorded", M, "cuEventRecord=999@20", &["recording an event"]),
        fault("no time from events", M, "cuEventElapsedTime=400@5", &["clock", "bug report"]),
        fault("no recording", M, "cuStreamBeginCapture_v2=900@1", &["recording the graph", "newer driver"]),
        fault(
            "recording spoilt",
            M,
            "cuStreamEndCapture=901@3",
            &["recording the graph of decode of batch 1"],
        ),
        fault(
            "no graph",
            M,
            "cuGraphInstantiateWithFlags=2@1",
            &["instantiating the graph", "out of memory"],
        ),
        fault("no graph of a later pass", M, "cuGraphInstantiateWithFlags=2@100+", &["instantiating"]).kept(),
        fault("graph not uploaded", M, "cuGraphUpload=2@3", &["uploading the graph of"]),
        fault("hang", Measure(&["--timeout", "1s"]), "hang@1", &["within 1 s", "--timeout"]),
        fault("hang midway", Measure(&["--timeout", "1s"]), "hang@300", &["within 1 s", "dmesg"]).kept(),
        fault(
            "GPU lost midway, to NVML too",
            M,
            "cuGraphLaunch=999@300+;cuStreamQuery=999@1500+;nvml*=15@100+",
            &["999", "dmesg"],
        )
        .kept(),
    ];
    for (name, rule, words) in [
        ("illegal address in a graph", "cuGraphLaunch=700@300", "outside its memory"),
        ("timeout of the system", "cuGraphLaunch=702@300", "longer than the system allows"),
        ("device assertion", "cuGraphLaunch=714@300", "a kernel failed"),
        ("launch failure", "cuGraphLaunch=719@300", "launch failed"),
        ("ECC error", "cuGraphLaunch=214@300", "uncorrectable memory error"),
        ("graph refused", "cuGraphLaunch=1@300", "does not take what it was given"),
        ("graph with too many resources", "cuGraphLaunch=701@300", "registers or shared memory"),
        ("driver fails midway", "cuGraphLaunch=999@300", "a reason it does not know"),
    ] {
        let words: &'static [&'static str] = vec!["launching the graph of", words].leak();
        faults.push(fault(name, M, rule, words).kept());
    }
    all_end_in_one_line(faults);
}

/// What computes wrongly is not timed.
#[test]
fn results_that_are_wrong() {
    let failed = &["verification failed", "relative error", "the kernels do not compute a Llama"];
    let wrong = |name, rule| fault(name, Measure(&[]), rule, failed).code(5);
    all_end_in_one_line(vec![
        wrong("one wrong number", "corrupt@30"),
        wrong("a kernel that is always wrong", "corrupt/gemv_residual_1@1+"),
        // The verification takes four such launches, the next two are the pass one by one and as a graph. On a slice
        // everything is executed: see `quick`.
        fault_of(
            quick("mig").fault("corrupt/gemv_lm_head_1@6"),
            "a wrong token in a graph",
            Measure(&[]),
            &["decode of batch 1: as a graph the kernels choose other tokens", "llmroof verify"],
        )
        .code(5),
    ]);
    let fake = quick("a100").fault("corrupt@40");
    let ended = start(&mut fake.llmroof(&["verify", "--device", "cuda:0"])).end();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.out.contains("FAIL") && ended.error().contains("verification failed"), "{ended:?}");
}

#[test]
fn cublaslt_that_does_not_work() {
    let with = |rule: &str| quick("h100").with("cublaslt").fault(rule);
    const ASKED: Command = Measure(&["--gemm", "cublaslt", "--prompt", "100"]);
    const AUTO: Command = Measure(&["--gemm", "auto", "--prompt", "100"]);
    all_end_in_one_line(vec![
        fault("cuBLASLt not there", ASKED, "", &["libcublasLt.so.12 or .13 was not found", "--gemm own"]),
        fault_of(with("cublasLtCreate=1"), "cuBLASLt does not start", ASKED, &["does not start", "status 1"]),
        fault_of(with("cublasLtMatmul=13"), "cuBLASLt fails", ASKED, &["failed to launch", "status 13"]),
        fault_of(with("cublasLtMatmul=13@20+"), "cuBLASLt fails midway", AUTO, &["status 13", "--gemm own"])
            .kept(),
        fault_of(
            with("cublasLtMatmulAlgoGetHeuristic=15"),
            "cuBLASLt has no algorithm",
            ASKED,
            &["a product of", "not supported", "--gemm own"],
        ),
    ]);
}
