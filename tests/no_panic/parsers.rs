//! Texts: what is accepted can be used, and is the same after it was written and read again.

use llmroof::checkpoint::Expected;
use llmroof::claims::{claims, machines};
use llmroof::device::DeviceProfile;
use llmroof::export::{Format, render};
use llmroof::model::ModelSpec;
use llmroof::plot::{Figure, Look, to_svg};
use llmroof::predict::predict;
use llmroof::request::Sweeps;
use llmroof::run::{Host, Origin, Run};
use llmroof::sweep::Sweep;
use llmroof::workload::Phase;

use super::cases::{Verdict, answered, each};
use super::random::Random;
use super::seeds::{self, Seed};
use super::support::tests;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn same<T: PartialEq + std::fmt::Debug>(read: &T, again: &T) -> Result<(), String> {
    if read == again { Ok(()) } else { Err(format!("{read:?} became {again:?}")) }
}

fn fixture(path: &str) -> String {
    std::fs::read_to_string(tests("fixtures/valid").join(path)).unwrap()
}

/// What `predict` makes of an accepted model or device is a run like any other, or bad input.
fn predicted(model: &ModelSpec, device: &DeviceProfile, show: bool) -> Result<(), String> {
    let sweeps = Sweeps {
        phases: vec![Phase::Prefill, Phase::Decode],
        batches: vec![1, u32::MAX],
        prompts: vec![16.min(model.max_position)],
        contexts: vec![model.max_position],
        speculate: vec![],
        mix: Vec::new(),
        kv_pages: Vec::new(),
        generate: 1,
        precisions: vec![llmroof::model::Precision::BF16],
        ranks: vec![1],
    };
    let host = Host {
        os: "test".into(),
        arch: "x86_64".into(),
        cpu: "test".into(),
        physical_cores: None,
        logical_cores: 1,
        memory_bytes: 1e9,
    };
    let origin = Origin { argv: Vec::new(), created: "2026-01-01T00:00:00Z".into(), host };
    match answered(predict(model, device, &sweeps, origin))? {
        Some(run) if show => shown(&run),
        _ => Ok(()),
    }
}

/// One in a hundred or so: drawing takes a hundred times as long as reading.
fn some(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) < 3
}

/// Every way to show a run answers.
fn shown(run: &Run) -> Result<(), String> {
    for format in [Format::Table, Format::Csv, Format::Markdown] {
        answered(render(run, format))?;
    }
    let card = DeviceProfile::from_toml(&fixture("device/card.toml")).unwrap();
    answered(claims(&run.model, &card, &[&card], &machines(std::slice::from_ref(run))))?;
    let svg = answered(to_svg(std::slice::from_ref(run), Figure::Roofline, Look::default()))?;
    let number = |text: &str| svg.as_deref().is_some_and(|svg| svg.contains(text));
    if number("\"NaN") || number("\"inf") {
        return Err("the picture has coordinates that are none".into());
    }
    Ok(())
}

#[test]
fn config_json() {
    let seeds = seeds::all("config");
    let card = DeviceProfile::from_toml(&fixture("device/card.toml")).unwrap();
    each(
        "config.json",
        |random| seeds::one(&seeds, random).damaged(random),
        |bytes| {
            let Some(spec) = answered(ModelSpec::from_config_json(&text(bytes), "x"))? else {
                return Ok(false);
            };
            answered(spec.validate())?.ok_or("accepted, but not valid")?;
            if !spec.parameters().is_finite() {
                return Err("cannot be counted".into());
            }
            let written = toml::to_string(&spec).map_err(|e| e.to_string())?;
            same(&spec, &answered(ModelSpec::from_toml(&written))?.ok_or("not read again")?)?;
            predicted(&spec, &card, some(bytes))?;
            Ok(true)
        },
    );
}

#[test]
fn model_toml() {
    let seeds = seeds::all("model");
    let card = DeviceProfile::from_toml(&fixture("device/card.toml")).unwrap();
    each(
        "model profile",
        |random| seeds::one(&seeds, random).damaged(random),
        |bytes| {
            let Some(spec) = answered(ModelSpec::from_toml(&text(bytes)))? else { return Ok(false) };
            let written = toml::to_string(&spec).map_err(|e| e.to_string())?;
            same(&spec, &answered(ModelSpec::from_toml(&written))?.ok_or("not read again")?)?;
            predicted(&spec, &card, some(bytes))?;
            Ok(true)
        },
    );
}

#[test]
fn device_toml() {
    let seeds = seeds::all("device");
    let small = ModelSpec::from_toml(&fixture("model/small.toml")).unwrap();
    each(
        "device profile",
        |random| seeds::one(&seeds, random).damaged(random),
        |bytes| {
            let Some(device) = answered(DeviceProfile::from_toml(&text(bytes)))? else { return Ok(false) };
            let written = toml::to_string(&device).map_err(|e| e.to_string())?;
            same(&device, &answered(DeviceProfile::from_toml(&written))?.ok_or("not read again")?)?;
            predicted(&small, &device, some(bytes))?;
            Ok(true)
        },
    );
}

#[test]
fn run_json() {
    let seeds = seeds::all("run");
    each("run file", |random| seeds::one(&seeds, random).damaged(random), |bytes| run(bytes));
}

fn run(bytes: &[u8]) -> Verdict {
    let Some(run) = answered(Run::from_json(&text(bytes)))? else { return Ok(false) };
    let written = answered(run.to_json())?.ok_or("accepted, but cannot be written")?;
    same(&run, &answered(Run::from_json(&written))?.ok_or("not read again")?)?;
    if some(bytes) {
        shown(&run)?;
    }
    Ok(true)
}

#[test]
fn expected_json() {
    let spec = ModelSpec::from_config_json(&fixture("checkpoint/single/config.json"), "x").unwrap();
    let seed = Seed::json("checkpoint/single/expected.json");
    each(
        "expected.json",
        |random| seed.damaged(random),
        |bytes| Ok(answered(Expected::from_json(&text(bytes), &spec))?.is_some()),
    );
}

/// Texts of the signs that a grammar has, or damaged ones of its valid texts.
fn word(random: &mut Random, valid: &[&str], signs: &str) -> String {
    if random.once_in(2) {
        let signs: Vec<char> = signs.chars().collect();
        return (0..random.below(24)).map(|_| *random.pick(&signs)).collect();
    }
    let valid = random.pick(valid).as_bytes();
    text(&super::text::damaged(valid, random))
}

#[test]
fn sweep() {
    const VALID: [&str; 5] = ["1,2,4,8,16,32", "1-256*2", "8-64+8", "4294967295", "1-4294967295*65536,7"];
    each(
        "sweep",
        |random| word(random, &VALID, "0123456789,*+- \n\u{2028}x"),
        |text| match text.parse::<Sweep>() {
            Ok(Sweep(values)) => {
                let written = values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
                same(&Sweep(values), &written.parse()?)?;
                Ok(true)
            }
            Err(message) if message.lines().count() > 1 => Err(message),
            Err(_) => Ok(false),
        },
    );
}

#[test]
fn duration() {
    const VALID: [&str; 6] = ["60s", "5m", "0.5", "1e3", "86400", "1440m"];
    let mut command = super::command_line::built();
    let command = std::cell::RefCell::new(&mut command);
    each(
        "duration",
        |random| word(random, &VALID, "0123456789.eEsmNainf+-"),
        |text| {
            let arguments = ["llmroof", "measure", &format!("--budget={text}")].map(std::ffi::OsString::from);
            super::command_line::read(&mut command.borrow_mut(), &arguments)
        },
    );
}

#[test]
fn nested_without_end() {
    let nested = |open: &str| open.repeat(100_000);
    for text in
        [nested("["), nested("{\"a\":"), format!("a = {}", nested("[")), format!("{} = 1", nested("a."))]
    {
        assert!(Run::from_json(&text).is_err());
        assert!(ModelSpec::from_config_json(&text, "x").is_err());
        assert!(ModelSpec::from_toml(&text).is_err());
        assert!(DeviceProfile::from_toml(&text).is_err());
    }
}
