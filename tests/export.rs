//! Formats and files of results. The snapshots are what users see: read their difference before accepting it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use llmroof::device::DeviceProfile;
use llmroof::error::Code;
use llmroof::export::{Format, file, render};
use llmroof::model::DType;
use llmroof::predict::{explain, predict};
use llmroof::profiles::Catalog;
use llmroof::request::Sweeps;
use llmroof::roofline::{Ceiling, CeilingKind, CeilingSource};
use llmroof::run::{Conditions, Gpu, Host, Kernel, Origin, PointTrial, Run, RunStatus, Status, Timing};
use llmroof::units::si;
use llmroof::workload::Phase;
use proptest::prelude::*;

fn sweeps() -> Sweeps {
    Sweeps {
        phases: vec![Phase::Prefill, Phase::Decode],
        batches: vec![1, 32],
        prompts: vec![1000],
        contexts: Vec::new(),
        speculate: vec![],
        mix: Vec::new(),
        kv_pages: Vec::new(),
        generate: 100,
        precisions: vec![llmroof::model::Precision::BF16],
        ranks: vec![1],
    }
}

fn run() -> Run {
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
    let (model, device) = (catalog.model("llama-8b").unwrap(), catalog.device("a100-sxm4-80gb").unwrap());
    predict(&model, device, &sweeps(), origin).unwrap()
}

/// The prediction dressed up as a measurement, for the columns and lines that only those have.
fn measured() -> Run {
    let mut run = run();
    run.status = RunStatus::Partial;
    run.notes = vec!["the budget ended before the plan".into()];
    for ceiling in &mut run.ceilings {
        ceiling.source = CeilingSource::Measured;
        ceiling.low = Some(ceiling.rate * 0.95);
    }
    for point in &mut run.points {
        let median = point.seconds.median;
        point.status = Status::Ok;
        point.layers_measured = 3;
        point.seconds = Timing::of(&[vec![median * 0.99, median, median * 1.01]]).unwrap();
        point.trials = vec![PointTrial {
            trial: 0,
            seconds: median,
            fraction_of_roof: Some(point.fraction_of_roof),
            roof_bytes_per_second: None,
            roof_flops_per_second: None,
            bubble_seconds: None,
            sm_clock_hz: None,
            throttled_samples: None,
        }];
        if point.stage.is_none() {
            point.bubble_seconds = Some(median * 0.01);
            point.joules_per_token = Some(0.5);
        }
    }
    run.points[0].status = Status::Partial;
    run.points[0].notes.push("three samples only".into());
    run
}

/// The same dressed up as from a GPU with sensors.
fn on_a_gpu() -> Run {
    let mut run = measured();
    run.status = RunStatus::Complete;
    run.device.kind = "cuda".into();
    run.device.id = Some("GPU-8f2a1c04-0000-1111-2222-333344445555".into());
    let bf16 = run.ceilings.iter().find(|c| c.dtype == Some(DType::Bf16)).unwrap().clone();
    let sustained = Ceiling { kind: CeilingKind::ComputeSustained, rate: 0.8 * bf16.rate, ..bf16 };
    run.ceilings.push(sustained);
    for point in run.points.iter_mut().filter(|point| point.stage.is_none()) {
        point.wall_seconds = Some(point.seconds.median * 1.02);
        point.witnessed_bytes = Some(point.bytes * 1.03);
        point.tensor_activity = Some(0.05);
        point.sm_clock_hz = Some(1.41e9);
        point.throttled_samples = Some(0);
        point.gemm = (point.phase == Phase::Prefill).then(|| "cublaslt 12.8.4".into());
    }
    let kernel = |target: &str, local_bytes| Kernel {
        name: "gemm".into(),
        target: target.into(),
        registers: 168,
        local_bytes,
        shared_bytes: 0,
    };
    run.conditions = Some(Conditions {
        instruction_set: "sm_80".into(),
        threads: None,
        pinned_cpus: Vec::new(),
        huge_page_share: None,
        foreign_load: None,
        energy_source: Some("the GPU's energy counter".into()),
        seed: 1,
        weights_from: "random".into(),
        budget_seconds: 25.0,
        wall_seconds: 24.0,
        gpu: Some(Gpu {
            driver: Some("570.86.15".into()),
            cuda: "12.8".into(),
            pci: "00000000:3b:00.0".into(),
            capability: "8.0".into(),
            multiprocessors: 108,
            ecc: Some(true),
            power_limit_watts: Some(400.0),
            idle_watts: Some(62.5),
            kernels: vec![kernel("sm_80", 0), kernel("sm_80", 32)],
            graph_node_seconds: Some(1.1e-6),
            graph_launch_seconds: Some(4.2e-6),
            ..Gpu::default()
        }),
    });
    run
}

fn explanation() -> String {
    let catalog = Catalog::load(None).unwrap();
    let cards: Vec<&DeviceProfile> = catalog.devices().collect();
    explain(&run(), catalog.device("a100-sxm4-80gb").unwrap(), &sweeps(), &cards).unwrap()
}

#[test]
fn table_of_a_prediction() {
    insta::assert_snapshot!(render(&run(), Format::Table).unwrap());
}

#[test]
fn table_of_a_measurement() {
    insta::assert_snapshot!(render(&measured(), Format::Table).unwrap());
}

#[test]
fn table_of_a_measurement_on_a_gpu() {
    insta::assert_snapshot!(render(&on_a_gpu(), Format::Table).unwrap());
}

#[test]
fn markdown_of_a_prediction() {
    insta::assert_snapshot!(render(&run(), Format::Markdown).unwrap());
}

#[test]
fn csv_of_a_prediction() {
    insta::assert_snapshot!(render(&run(), Format::Csv).unwrap());
}

#[test]
fn explanation_of_a_prediction() {
    insta::assert_snapshot!(explanation());
}

#[test]
fn nothing_for_people_is_wider_than_110_columns() {
    let table = |run: &Run| render(run, Format::Table).unwrap();
    let texts = [table(&run()), table(&measured()), table(&on_a_gpu()), explanation()];
    for line in texts.iter().flat_map(|text| text.lines()) {
        assert!(line.chars().count() <= 110, "{line}");
    }
}

#[test]
fn json_is_the_run_file() {
    let text = render(&run(), Format::Json).unwrap();
    assert_eq!(Run::from_json(&text).unwrap(), run());
}

#[test]
fn csv_holds_every_point_in_base_units() {
    let run = run();
    let text = render(&run, Format::Csv).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(|r| r.unwrap()).collect();
    assert_eq!(rows.len(), run.points.len());
    for (row, point) in rows.iter().zip(&run.points) {
        let field = |name: &str| row[headers.iter().position(|h| h == name).unwrap()].to_string();
        assert_eq!(field("bytes").parse(), Ok(point.bytes));
        assert_eq!(field("seconds_median").parse(), Ok(point.seconds.median));
        assert_eq!(field("stage"), point.stage.map_or("", |s| s.name()));
    }
}

#[test]
fn a_run_without_points_is_written_too() {
    let mut empty = run();
    empty.points.clear();
    empty.request = None;
    for format in [Format::Table, Format::Json, Format::Csv, Format::Markdown] {
        assert!(render(&empty, format).unwrap().ends_with('\n'));
    }
}

#[test]
fn endings_name_formats() {
    let format = |path: &str| file::format_of(Path::new(path)).ok();
    assert_eq!(format("a/b.json"), Some(Format::Json));
    assert_eq!(format("b.CSV"), Some(Format::Csv));
    assert_eq!(format("b.md"), Some(Format::Markdown));
    assert_eq!(format("b.txt"), Some(Format::Table));
    assert_eq!(format("b.svg"), None);
    assert_eq!(format("json"), None);
}

#[test]
fn files_are_replaced_whole_and_leave_nothing_beside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.json");
    file::check_writable(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "checking leaves nothing");
    file::write_atomic(&path, b"old").unwrap();
    file::check_writable(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old", "checking changes nothing");
    file::write_atomic(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_cannot_be_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_path_buf(), folder.path().join("missing/run.json"), "/dev/null".into()] {
        let failures =
            [file::check_writable(&path).unwrap_err(), file::write_atomic(&path, b"x").unwrap_err()];
        for failure in failures {
            assert_eq!(failure.code, Code::BadInput);
            let said = failure.to_string();
            assert!(said.contains(path.to_str().unwrap()) && said.contains("hint:"), "{said}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
    fs::write(&real, "old").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    file::write_atomic(&link, b"new").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&real).unwrap(), b"new");
}

#[test]
fn run_files_are_named_by_time_model_and_device() {
    assert_eq!(file::run_file_name(&run()), "20260102T030405Z-llama-8b-a100-sxm4-80gb-predicted.json");
    let mut other = measured();
    other.device.profile = None;
    other.device.name = "AMD EPYC 9B14 (2 cores) / x".into();
    assert_eq!(file::run_file_name(&other), "20260102T030405Z-llama-8b-amd-epyc-9b14-2-cores-x.json");
    assert_eq!(
        file::run_file_name(&on_a_gpu()),
        "20260102T030405Z-llama-8b-a100-sxm4-80gb-8f2a1c04.json",
        "two equal GPUs are measured within a second"
    );
}

proptest! {
    /// Three figures and a prefix lose at most half a unit in the third figure.
    #[test]
    fn si_is_the_value_to_three_figures(mantissa in 1.0f64..10.0, exponent in -6i32..18) {
        let value = mantissa * 10f64.powi(exponent);
        let text = si(value, "B");
        let (number, unit) = text.split_once(' ').unwrap();
        let power = ["uB", "mB", "B", "kB", "MB", "GB", "TB", "PB", "EB"].iter().position(|&u| u == unit).unwrap();
        let factor = 10f64.powi(3 * power as i32 - 6);
        let number: f64 = number.parse().unwrap();
        prop_assert!((number * factor / value - 1.0).abs() <= 0.00501, "{value} is {text}");
        prop_assert!((1.0..1000.0).contains(&number), "{value} is {text}");
    }
}

/// The row of a table or the record of a CSV as its cells.
fn cells(text: &str, begins: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.trim_start_matches(['|', ' ', '·']).starts_with(begins));
    let line = line.unwrap_or_else(|| panic!("no line begins with {begins:?}:\n{text}"));
    line.split(['|', ' ', '·']).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}

#[test]
fn an_invalid_point_has_no_figures_where_people_read_them() {
    let mut run = measured();
    run.status = RunStatus::Invalid;
    let is_qkv = |p: &&mut llmroof::run::Point| {
        p.phase == Phase::Prefill && p.stage.is_some_and(|s| s.name() == "qkv")
    };
    run.points.iter_mut().find(is_qkv).unwrap().status = Status::Invalid;
    for format in [Format::Table, Format::Markdown] {
        let text = render(&run, format).unwrap();
        assert!(text.contains("INVALID: "), "{text}");
        let row = cells(&text, "qkv");
        assert_eq!(row[..2], ["qkv", "1"]);
        assert!(row[2..].iter().all(|cell| ["-", "INVALID"].contains(&cell.as_str())), "{row:?}");
        assert_eq!(row.iter().filter(|cell| *cell == "INVALID").count(), 1, "{row:?}");
        assert!(cells(&text, "gate_up")[2].parse::<f64>().is_ok(), "the others keep theirs: {text}");
        // One part is not known, so neither is what is left of the step; decode's bubble is.
        let bubbles = text.lines().filter(|line| line.contains("(bubble)")).count();
        assert_eq!(bubbles, 1, "{text}");
    }
    let text = render(&run, Format::Csv).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let at = |name: &str| header.iter().position(|column| column == name).unwrap();
    let invalid = records.iter().find(|record| &record[at("status")] == "invalid").unwrap();
    for name in [
        "seconds_median",
        "bytes_per_second",
        "flops_per_second",
        "fraction_of_roof",
        "share_of_step",
        "bound",
    ] {
        assert_eq!(&invalid[at(name)], "", "{name}");
    }
    assert!(!invalid[at("bytes")].is_empty(), "the ledger needs no clock");
    let step = records.iter().find(|r| &r[at("phase")] == "prefill" && r[at("stage")].is_empty()).unwrap();
    assert_eq!(&step[at("bubble_seconds")], "");
    assert!(!step[at("seconds_median")].is_empty());
    // The file keeps the samples, for whoever looks for the mistake.
    assert!(render(&run, Format::Json).unwrap().contains("\"invalid\""));
    assert_eq!(Run::from_json(&render(&run, Format::Json).unwrap()).unwrap().points, run.points);
}

#[test]
fn a_request_is_not_put_together_from_an_invalid_point() {
    let mut run = measured();
    assert!(sweeps().request(&run.points).is_some());
    run.points[0].status = Status::Invalid;
    assert!(run.points[0].stage.is_none());
    assert_eq!(sweeps().request(&run.points), None);
}

/// What github-action-benchmark and Bencher read, and what they must not.
#[test]
fn trackers_get_the_steps_that_can_be_believed() {
    let mut run = measured();
    let invalid = run.points.iter().position(|point| point.stage.is_none()).unwrap();
    run.points[invalid].status = Status::Invalid;
    let steps: Vec<_> =
        run.points.iter().filter(|p| p.stage.is_none() && p.status == Status::Ok).cloned().collect();
    assert!(!steps.is_empty());

    let text = render(&run, Format::GithubActionBenchmark).unwrap();
    let entries: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(entries.len(), steps.len());
    for (entry, step) in entries.iter().zip(&steps) {
        assert_eq!(entry["value"].as_f64(), step.tokens_per_second);
        assert_eq!(entry["unit"], "tokens/s");
        assert!(entry["name"].as_str().unwrap().starts_with("llama-8b, decode batch "), "{entry}");
    }

    let text = render(&run, Format::Bmf).unwrap();
    let benchmarks: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(benchmarks.len(), steps.len());
    for (measures, step) in benchmarks.values().zip(&steps) {
        assert_eq!(measures["latency"]["value"].as_f64(), Some(step.seconds.median * 1e9));
        let throughput = |bound: &str| measures["throughput"][bound].as_f64().unwrap();
        assert!(throughput("lower_value") < throughput("value"));
        assert!(throughput("value") < throughput("upper_value"));
    }
    let predicted = render(&self::run(), Format::Bmf).unwrap();
    assert!(predicted.contains("(predicted)"));

    assert_eq!(file::format_of(Path::new("a.benchmark.json")).unwrap(), Format::GithubActionBenchmark);
    assert_eq!(file::format_of(Path::new("a.bmf.json")).unwrap(), Format::Bmf);
    assert_eq!(file::format_of(Path::new("bmf.json")).unwrap(), Format::Json);
}
