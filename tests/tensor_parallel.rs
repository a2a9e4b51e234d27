//! `--tp`: one rank's shard is run, and all-reduces are modelled over a link. How fast anything is, is never asserted.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use llmroof::backend::weights::{FirstShard, Tensor, WeightSource};
use llmroof::checkpoint::Checkpoint;
use llmroof::model::{ModelSpec, Precision};
use llmroof::predict::predict;
use llmroof::profiles::Catalog;
use llmroof::request::Sweeps;
use llmroof::run::{AllReduceFrom, Host, Origin, Point, Run, Status};
use llmroof::units::{Bytes, Seconds};
use llmroof::workload::{Phase, Stage, Workload};
use serde_json::{Value, json};
use support::tests;

/// Every measurement takes all cores: one at a time.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn llmroof(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llmroof")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A model of four KV heads that is measured in a moment. Half of its feed-forward layer is no multiple of 128.
fn config(folder: &Path) -> String {
    let path = folder.join("config.json");
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": 512, "intermediate_size": 1152, "num_hidden_layers": 2, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 640, "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false,
    });
    std::fs::write(&path, config.to_string()).unwrap();
    path.to_str().unwrap().into()
}

fn run_file(reports: &Path) -> PathBuf {
    let files: Vec<PathBuf> =
        std::fs::read_dir(reports).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

fn read(path: &Path) -> Run {
    Run::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn step(run: &Run, phase: Phase, batch: u32, ranks: u32) -> &Point {
    let step = |p: &&Point| p.stage.is_none() && (p.phase, p.batch, p.ranks) == (phase, batch, ranks);
    let mut all = run.points.iter().filter(step);
    let found = all.next().unwrap_or_else(|| panic!("{phase} of batch {batch} on {ranks} ranks"));
    assert!(all.next().is_none(), "twice");
    found
}

fn predicted(model: &str, device: &str, sweeps: &Sweeps) -> Run {
    let catalog = Catalog::load(None).unwrap();
    let host = Host {
        os: "test".into(),
        arch: "x86_64".into(),
        cpu: "test".into(),
        physical_cores: None,
        logical_cores: 1,
        memory_bytes: 1e9,
    };
    let origin = Origin { argv: vec!["llmroof".into()], created: "2026-01-02T03:04:05Z".into(), host };
    predict(&catalog.model(model).unwrap(), catalog.device(device).unwrap(), sweeps, origin).unwrap()
}

fn sweeps(ranks: &[u32]) -> Sweeps {
    Sweeps {
        phases: vec![Phase::Prefill, Phase::Decode],
        batches: vec![1, 32],
        prompts: vec![1000],
        contexts: Vec::new(),
        speculate: vec![],
        mix: Vec::new(),
        kv_pages: Vec::new(),
        generate: 100,
        precisions: vec![Precision::BF16],
        ranks: ranks.to_vec(),
    }
}

/// Two of hidden x rows x 2 bytes a layer, by hand, over NVLink 4 of 450 GB/s with 6 us each; and the argmax.
#[test]
fn the_all_reduces_are_those_of_the_formula() {
    let run = predicted("llama-8b", "h200-sxm", &sweeps(&[1, 2, 8]));
    for (ranks, factor) in [(2, 1.0), (8, 1.75)] {
        for (phase, batch, rows) in
            [(Phase::Decode, 1, 1.0), (Phase::Decode, 32, 32.0), (Phase::Prefill, 1, 1000.0)]
        {
            let point = step(&run, phase, batch, ranks);
            let each = 6.0e-6 + factor * rows * 4096.0 * 2.0 / 450e9;
            let argmax = 6.0e-6 + factor * f64::from(batch) * 8.0 / 450e9;
            let wanted = 64.0 * each + argmax;
            let got = point.all_reduce_seconds.unwrap();
            assert!((got / wanted - 1.0).abs() < 1e-12, "{ranks} ranks, {phase} {batch}: {got} for {wanted}");
            assert_eq!(point.all_reduce_from, Some(AllReduceFrom::Modelled));
            assert_eq!(point.status, Status::Predicted);
            let rate = rows / (point.seconds.median + got);
            assert!((point.tokens_per_second.unwrap() / rate - 1.0).abs() < 1e-12);
        }
    }
    let alone = step(&run, Phase::Decode, 1, 1);
    assert_eq!((alone.all_reduce_seconds, alone.all_reduce_from), (None, None));
    assert_eq!(alone.tokens_per_second, Some(1.0 / alone.seconds.median));
    assert!(run.points.iter().all(|p| p.stage.is_none() || p.all_reduce_seconds.is_none()));
    assert!(run.notes.iter().any(|note| note.contains("modelled over the link of h200-sxm, not measured")));
}

#[test]
fn one_rank_needs_no_all_reduce_and_several_are_added_up() {
    let model = Catalog::load(None).unwrap().model("llama-8b").unwrap();
    let one = Workload::decode(&model, 4, 100);
    assert!(one.all_reduces().is_empty());
    assert_eq!(one.all_reduce_seconds(|_, _| Some(Seconds(1.0))), None);
    let four = Workload { ranks: 4, model: model.shard(4).unwrap(), ..one };
    // Counted by a link on which a byte takes a second.
    let by_bytes =
        four.all_reduce_seconds(|ranks, Bytes(bytes)| (ranks == 4).then_some(Seconds(bytes))).unwrap();
    assert_eq!(by_bytes.0, 2.0 * 32.0 * 4.0 * 4096.0 * 2.0 + 4.0 * 8.0);
    assert_eq!(four.all_reduce_seconds(|_, _| None), None);
}

/// What the ranks do together is what one would do alone: all FLOPs, all bytes of matrices and cache.
#[test]
fn the_costs_of_all_ranks_are_those_of_the_model() {
    let catalog = Catalog::load(None).unwrap();
    for name in ["llama-8b", "llama-70b"] {
        let model = catalog.model(name).unwrap();
        for ranks in [2, 4, 8] {
            for whole in [Workload::prefill(&model, 1, 100), Workload::decode(&model, 8, 500)] {
                let part = Workload { ranks, model: model.shard(ranks).unwrap(), ..whole.clone() };
                let n = f64::from(ranks);
                for stage in Stage::ALL {
                    let (all, one) = (whole.cost(stage), part.cost(stage));
                    assert_eq!(n * one.flops.0, all.flops.0, "{name} {stage} on {ranks}");
                    assert_eq!(n * one.kv_bytes.0, all.kv_bytes.0, "{name} {stage} on {ranks}");
                    let norms = match stage {
                        Stage::Qkv | Stage::GateUp => f64::from(model.layers * model.hidden) * 2.0,
                        Stage::LmHead => f64::from(model.hidden) * 2.0,
                        // The look-up of rows is every rank's.
                        Stage::Embed => all.weight_bytes.0,
                        _ => 0.0,
                    };
                    assert_eq!(
                        n * (one.weight_bytes.0 - norms),
                        all.weight_bytes.0 - norms,
                        "{name} {stage}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_bridge_of_two_cards_says_nothing_of_four() {
    let run = predicted("llama-8b", "h100-nvl", &sweeps(&[2, 4]));
    assert!(step(&run, Phase::Decode, 1, 2).tokens_per_second.is_some());
    let four = step(&run, Phase::Decode, 1, 4);
    assert_eq!((four.tokens_per_second, four.all_reduce_seconds), (None, None));
    assert!(
        run.notes
            .iter()
            .any(|note| note.contains("of 4 ranks are not known") && note.contains("joins 2 cards"))
    );
    let request = run.request.unwrap();
    assert_eq!(request.ranks, 2, "that of the fewest");
    assert!(
        request.time_to_first_token_seconds
            > step(&predicted("llama-8b", "h100-nvl", &sweeps(&[2])), Phase::Prefill, 1, 2).seconds.median
    );
    assert!(predicted("llama-8b", "h100-nvl", &sweeps(&[4])).request.is_none());
}

/// The first rank's weights are the first rows, and of out_proj and down the first columns.
#[test]
fn a_checkpoints_first_shard_is_the_beginning_of_its_matrices() {
    let checkpoint = Checkpoint::open(&tests("golden/tiny-tied-hd64")).unwrap();
    let whole = checkpoint.spec();
    let shard: ModelSpec = whole.shard(2).unwrap();
    let first = FirstShard { of: &checkpoint, model: whole };
    for tensor in Tensor::ALL {
        let (rows, columns) = tensor.shape(&shard);
        let all = tensor.shape(whole).1 as usize;
        assert_eq!(columns as usize * 2 == all, matches!(tensor, Tensor::O | Tensor::Down), "{tensor:?}");
        for row in [0, rows - 1] {
            let (mut part, mut full) = (vec![0; columns as usize], vec![0; all]);
            first.row(tensor, 1, row, &mut part);
            checkpoint.row(tensor, 1, row, &mut full);
            assert_eq!(part, full[..columns as usize], "{tensor:?} row {row}");
        }
    }
}

#[test]
fn shards_are_measured_and_all_reduces_modelled() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let model = config(folder.path());
    let reports = folder.path().join("reports");
    let csv = folder.path().join("points.csv");
    let out = llmroof(&[
        "measure",
        "--model",
        &model,
        "--device",
        "cpu",
        "--threads",
        "1",
        "--tp",
        "1,2,4",
        "--link",
        "h200-sxm",
        "--weights",
        "bf16,int8",
        "--phase",
        "decode",
        "--batch",
        "2",
        "--context",
        "50",
        "--layers",
        "all",
        "--budget",
        "8s",
        "--reports",
        reports.to_str().unwrap(),
    ]);
    // A point above its roof is this machine's speed changing meanwhile, no matter here.
    assert!(matches!(out.status.code(), Some(0 | 5)), "{}", text(&out.stderr));
    let path = run_file(&reports);
    let table = complete(&path);
    let json = std::fs::read_to_string(&path).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../schema/run.schema.json")).unwrap();
    jsonschema::validate(&schema, &serde_json::from_str(&json).unwrap()).unwrap();

    let run = read(&path);
    assert_eq!((run.model.heads, run.model.vocab), (8, 640), "the run's model is the whole one");
    let plan = run.plan.as_ref().unwrap();
    assert_eq!((plan.ranks.as_slice(), plan.link.as_deref()), (&[1, 2, 4][..], Some("h200-sxm")));
    // A step and its stages on each of three numbers of ranks in two types, none of them twice.
    let steps: Vec<&Point> = run.points.iter().filter(|p| p.stage.is_none()).collect();
    assert_eq!(steps.len(), 3 * 2);
    for (i, point) in run.points.iter().enumerate() {
        assert!(run.points[..i].iter().all(|other| other.key() != point.key()), "{:?} twice", point.key());
    }
    for point in steps {
        let precision = point.precision();
        let shard = run.model.shard(point.ranks).unwrap();
        let work = Workload {
            precision,
            ranks: point.ranks,
            model: shard.clone(),
            ..Workload::decode(&run.model, point.batch, 50)
        };
        assert_eq!(point.bytes, work.total().bytes().0, "bytes are those of one rank");
        assert_eq!(point.resident_bytes, shard.resident_bytes(precision).0);
        let stages: f64 = run
            .points
            .iter()
            .filter(|p| p.stage.is_some() && p.shares_pass_with(point))
            .map(|stage| stage.flops)
            .sum();
        assert_eq!(point.flops, stages, "the stages of these ranks alone");
        assert_eq!(point.all_reduce_from.is_some(), point.ranks > 1);
        let seconds = point.seconds.median + point.all_reduce_seconds.unwrap_or(0.0);
        let rate = f64::from(point.batch) / seconds;
        assert!((point.tokens_per_second.unwrap() / rate - 1.0).abs() < 1e-12);
    }
    let modelled =
        |note: &String| note.contains("all-reduces are modelled over the link of h200-sxm, not measured");
    assert!(run.notes.iter().any(modelled), "{:?}", run.notes);

    // Lines are broken anywhere.
    let table = table.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "x of ideal 4, all-reduces",
        "of the step, modelled",
        "of several ranks one's shard is measured",
        "that of the all-reduces: † modelled",
    ] {
        assert!(table.contains(said), "{said:?} is not in\n{table}");
    }
    let file = path.to_str().unwrap();
    let shown = llmroof(&["measure", "--resume", file, "--export", csv.to_str().unwrap()]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    let rows = std::fs::read_to_string(&csv).unwrap();
    let head: Vec<&str> = rows.lines().next().unwrap().split(',').collect();
    let column = |name: &str| head.iter().position(|&column| column == name).unwrap();
    let (ranks, from) = (column("ranks"), column("all_reduce_from"));
    assert!(rows.lines().any(|row| {
        let cells: Vec<&str> = row.split(',').collect();
        (cells[ranks], cells[from]) == ("4", "modelled")
    }));

    // Another process goes on with the same ranks over the same link, and keeps them apart.
    let more = llmroof(&["measure", "--append", file, "--budget", "8s"]);
    assert!(matches!(more.status.code(), Some(0 | 5)), "{}", text(&more.stderr));
    complete(&path);
    let appended = read(&path);
    assert_eq!(appended.points.len(), run.points.len());
    for point in appended.points.iter().filter(|point| point.stage.is_none()) {
        assert_eq!(point.trials.len(), 2, "{:?}", point.key());
        let before = run.points.iter().find(|before| before.key() == point.key()).unwrap();
        assert_eq!(point.all_reduce_seconds, before.all_reduce_seconds);
    }
    for option in [["--tp", "2"], ["--link", "h200-sxm"]] {
        let out = llmroof(&["measure", "--append", file, option[0], option[1]]);
        assert_eq!(out.status.code(), Some(2), "{option:?}");
    }

    // Every figure and the report are drawn of it.
    let html = folder.path().join("page.html");
    for args in [["--figure", "all"], ["--output", html.to_str().unwrap()]] {
        let out = llmroof(&["plot", file, args[0], args[1]]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    }
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("data-facet=\"ranks\"") && page.contains("4, all-reduces modelled"));
}

/// Has what a busy machine's budget left out measured; the last attempt says that nothing is missing, and its table is
/// returned.
fn complete(path: &Path) -> String {
    for _ in 0..10 {
        let out = llmroof(&["measure", "--resume", path.to_str().unwrap(), "--budget", "6s"]);
        if text(&out.stderr).contains("nothing is missing") {
            return text(&out.stdout);
        }
        assert!(matches!(out.status.code(), Some(0 | 5)), "{}", text(&out.stderr));
    }
    panic!("ten budgets were not enough");
}

#[test]
fn without_a_link_the_rate_of_several_ranks_is_not_known() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let reports = folder.path().to_str().unwrap();
    let small = tests("golden/tiny-tied-hd64");
    let out = llmroof(&[
        "measure",
        "--checkpoint",
        small.to_str().unwrap(),
        "--device",
        "cpu",
        "--threads",
        "1",
        "--tp",
        "2",
        "--phase",
        "decode",
        "--batch",
        "1",
        "--context",
        "50",
        "--budget",
        "3s",
        "--reports",
        reports,
    ]);
    assert!(matches!(out.status.code(), Some(0 | 5)), "{}", text(&out.stderr));
    let run = read(&run_file(folder.path()));
    let point = step(&run, Phase::Decode, 1, 2);
    assert_eq!(
        (point.tokens_per_second, point.all_reduce_seconds, point.all_reduce_from),
        (None, None, None)
    );
    assert!(run.notes.iter().any(|note| note.contains("--link PROFILE names one")), "{:?}", run.notes);
    assert!(text(&out.stdout).contains("not known"), "{}", text(&out.stdout));
}

#[test]
fn ranks_that_do_not_divide_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let model = config(folder.path());
    let refused = |command: &str, more: &[&str], words: &[&str]| {
        let mut args = vec![command, "--model", &model, "--prompt", "100"];
        args.extend(if command == "predict" { ["--device", "h200-sxm"] } else { ["--device", "cpu"] });
        args.extend(more);
        let out = llmroof(&args);
        let stderr = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        assert!(stderr.contains(". hint: ") && out.stdout.is_empty(), "{args:?}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{args:?}: {stderr:?} lacks {word:?}");
        }
    };
    for command in ["measure", "predict"] {
        refused(command, &["--tp", "8"], &["--tp 8: more ranks than", "KV heads, 4", "1,2,4"]);
        refused(command, &["--tp", "1,3"], &["--tp 3: 4 KV heads", "do not divide into 3", "1,2,4"]);
        refused(command, &["--tp", "0"], &["--tp", "0 is not allowed"]);
        refused(command, &["--tp", "two"], &["--tp", "no number"]);
        refused(
            command,
            &["--tp", "1,2", "--weights", "int4"],
            &["--tp 2: --weights int4 has groups of 128 columns", "matrix of 576", "int8 or bf16"],
        );
        refused(command, &["--tp", "2", "--link", "h200"], &["unknown device", "h200-sxm"]);
    }
    refused("predict", &["--tp", "2", "--explain"], &["--explain", "--tp begins at 2"]);
    // A profile of the user's without a link.
    let profile = include_str!("../profiles/devices/h200-sxm.toml");
    let profile = profile.split("[link]").next().unwrap().replace("\"h200-sxm\"", "\"alone\"");
    let profiles = folder.path().join("profiles");
    std::fs::create_dir_all(profiles.join("devices")).unwrap();
    std::fs::write(profiles.join("devices/alone.toml"), profile).unwrap();
    let profiles = profiles.to_str().unwrap();
    refused(
        "measure",
        &["--tp", "2", "--link", "alone", "--profiles", profiles],
        &["the profile alone has no link", "h200-sxm"],
    );
}

#[test]
fn runs_of_other_ranks_are_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<String> = [1, 2]
        .into_iter()
        .map(|ranks| {
            let path = folder.path().join(format!("{ranks}.json"));
            std::fs::write(&path, predicted("llama-8b", "h200-sxm", &sweeps(&[ranks])).to_json().unwrap())
                .unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect();
    let out = llmroof(&["compare", &paths[0], &paths[1], "--output", "csv"]);
    assert_ne!(out.status.code(), Some(0), "nothing of one is in the other");
    assert!(text(&out.stderr).contains("2 ranks"), "{}", text(&out.stderr));
}

#[test]
fn a_table_of_several_ranks() {
    let only_decode = Sweeps { phases: vec![Phase::Decode], ..sweeps(&[1, 2, 8]) };
    let run = predicted("llama-8b", "h200-sxm", &only_decode);
    let table = llmroof::export::render(&run, llmroof::export::Format::Table).unwrap();
    insta::assert_snapshot!("table_of_several_ranks", table);
}
