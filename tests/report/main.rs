//! The HTML report as a text: its structure, its policy, and that nothing a run file says comes alive in it.
//! `tests/browser` uses it in a browser.

#![allow(clippy::unwrap_used)]

mod hostile;
#[path = "../support/hostile.rs"]
mod hostile_text;
mod policy;
mod program;
mod structure;

#[path = "../plot/runs.rs"]
#[allow(dead_code)]
mod runs;

use std::collections::BTreeMap;

use llmroof::plot::Level;
use llmroof::report::to_html;
use llmroof::run::{Gpu, Kernel, Process, Reading, Run, Trial};
use scraper::{Html, Selector};

/// The page of these runs.
fn page(runs: &[Run]) -> String {
    to_html(runs, Level::All).unwrap()
}

/// What an HTML parser makes of a page.
fn parsed(page: &str) -> Html {
    Html::parse_document(page)
}

fn select(selector: &str) -> Selector {
    Selector::parse(selector).unwrap()
}

/// How many elements a selector finds.
fn count(page: &Html, selector: &str) -> usize {
    page.select(&select(selector)).count()
}

/// The run that comes with the project.
fn real() -> Run {
    let path = "reports/amd-epyc-2-cores/20261123T151520Z-llama-8b-amd-epyc.json";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    Run::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A run in which every optional string says something.
fn full() -> Run {
    let mut run = runs::cpu();
    run.schema_version = llmroof::run::SCHEMA_VERSION;
    let say = || Some("some words".to_string());
    run.notes = vec!["some words".into(); 2];
    run.argv = vec!["some words".into(); 2];
    (run.device.id, run.device.profile) = (say(), say());
    let conditions = run.conditions.as_mut().unwrap();
    conditions.energy_source = say();
    conditions.gpu = Some(Gpu {
        driver: say(),
        cuda: "12.8".into(),
        pci: "some words".into(),
        capability: "9.0".into(),
        ecc: Some(true),
        mig: Some(false),
        power_limit_watts: Some(700.0),
        power_limit_default_watts: Some(650.0),
        sm_clock_limit_hz: Some(1.98e9),
        kernels: vec![Kernel {
            name: "some words".into(),
            target: "some words".into(),
            registers: 64,
            local_bytes: 0,
            shared_bytes: 0,
        }],
        readings: vec![Reading { throttle_reasons: Some(vec!["some words".into()]), ..Reading::default() }],
        unavailable: BTreeMap::from([("idle_watts".into(), "some words".into())]),
        ..Gpu::default()
    });
    run.processes = vec![Process {
        argv: vec!["some words".into()],
        created: "2026-11-23T12:52:07Z".into(),
        budget_seconds: 60.0,
        wall_seconds: 58.0,
        foreign_load: None,
    }];
    run.trials = vec![Trial { started: "2026-11-23T12:52:08.000Z".into(), process: 0 }];
    for point in &mut run.points {
        (point.notes, point.gemm) = (vec!["some words".into()], say());
    }
    run.validate().unwrap();
    run
}
