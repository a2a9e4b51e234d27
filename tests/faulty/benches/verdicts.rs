//! How `compare` judges real runs of this machine's CPU: pairs of equal sides, and pairs of which one has a kernel that takes
//! a tenth longer.
//!
//! `cargo bench -p faulty --bench verdicts -- [--pairs N] [--turns N] [--slow N] [--threads N]`. Sides are measured in turns,
//! two trials at a time; the table says for each pair the verdict, and the ratio and interval of the step at batch 1.
//! Nothing is asserted: how noisy the machine is decides what can be told.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

struct Options {
    /// Pairs of equal sides.
    pairs: usize,
    /// Pairs with a slower kernel.
    slow: usize,
    /// Turns of each pair.
    turns: usize,
    threads: usize,
}

fn options() -> Options {
    let mut options = Options { pairs: 20, slow: 3, turns: 4, threads: 1 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let place = match name.as_str() {
            "--pairs" => &mut options.pairs,
            "--slow" => &mut options.slow,
            "--turns" => &mut options.turns,
            "--threads" => &mut options.threads,
            _ => continue,
        };
        if let Some(number) = arguments.next().and_then(|number| number.parse().ok()) {
            *place = number;
        }
    }
    options
}

fn measure(reports: &Path, slow: Option<&str>, threads: usize) {
    let threads = threads.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
    command.args(["measure", "--model", "llama-1b", "--device", "cpu", "--layers", "2", "--phase", "decode"]);
    command.args([
        "--batch",
        "1,8",
        "--context",
        "128",
        "--repeat",
        "2",
        "--budget",
        "6s",
        "--threads",
        &threads,
    ]);
    command.arg("--reports").arg(reports).envs(slow.map(|part| ("FAULTY_SLOW", part)));
    if let Err(e) = command.output() {
        eprintln!("measure: {e}");
    }
}

fn compare(base: &Path, new: &Path, by: &str) -> Option<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
    command.arg("compare").args([base, new]).args(["-o", "json", "--by", by]);
    serde_json::from_slice(&command.output().ok()?.stdout).ok()
}

/// One pair of sides, and what is said of it by time and by share of the roof.
fn pair(slow: Option<&str>, options: &Options) -> Option<[Value; 2]> {
    let folder = tempfile::tempdir().ok()?;
    let (base, new) = (folder.path().join("base"), folder.path().join("new"));
    for _ in 0..options.turns {
        measure(&base, None, options.threads);
        measure(&new, slow, options.threads);
    }
    Some([compare(&base, &new, "time")?, compare(&base, &new, "roof")?])
}

fn row(name: &str, comparison: &Value) {
    let pairs = comparison["pairs"].as_array().cloned().unwrap_or_default();
    let Some(step) = pairs.iter().find(|pair| pair["key"]["stage"].is_null()) else { return };
    let counts = &comparison["counts"];
    let spread = [&step["base"]["spread"], &step["new"]["spread"]].map(|s| s.as_f64().unwrap_or(f64::NAN));
    println!(
        "{name:<18} {:<12} slower {:>2} faster {:>2} same {:>2} open {:>2}   step {:.3} ({:.3} to {:.3}), spread {:.1}%",
        comparison["verdict"].as_str().unwrap_or("?"),
        counts["slower"],
        counts["faster"],
        counts["same"],
        counts["inconclusive"],
        step["ratio"].as_f64().unwrap_or(f64::NAN),
        step["interval"]["low"].as_f64().unwrap_or(f64::NAN),
        step["interval"]["high"].as_f64().unwrap_or(f64::NAN),
        spread[0].max(spread[1]) * 100.0
    );
}

fn main() {
    let options = options();
    let cases = std::iter::repeat_n(None, options.pairs)
        .chain(std::iter::repeat_n(Some("gate_up:10%"), options.slow));
    for (at, slow) in cases.enumerate() {
        let Some([time, roof]) = pair(slow, &options) else {
            println!("{at}: could not be measured");
            continue;
        };
        let name = if slow.is_some() { "gate_up +10%" } else { "equal" };
        row(&format!("{at:>2} {name}"), &time);
        row("   by roof", &roof);
        if slow.is_some() {
            for pair in time["pairs"].as_array().into_iter().flatten() {
                if pair["key"]["stage"] == "gate_up" {
                    println!(
                        "   gate_up batch {}: {}: {}",
                        pair["key"]["batch"], pair["verdict"], pair["reason"]
                    );
                }
            }
        }
    }
}
