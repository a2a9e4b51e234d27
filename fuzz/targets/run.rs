//! Run files: what is accepted is the same after it was written, and every way to show it answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmroof::export::{Format, render};
use llmroof::plot::{Figure, Level, Look, to_svg};
use llmroof::run::Run;
use llmroof_fuzz::answered;

fuzz_target!(|text: &str| {
    let Some(run) = answered(Run::from_json(text)) else { return };
    let written = run.to_json().expect("accepted, so it can be written");
    assert_eq!(Run::from_json(&written).expect("written, so it can be read"), run);
    for format in [Format::Table, Format::Csv, Format::Markdown] {
        answered(render(&run, format));
    }
    answered(to_svg(&[run], Figure::Roofline, Look { level: Level::All, ..Look::default() }));
});
