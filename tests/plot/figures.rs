use llmroof::plot::{Level, to_svg};

use crate::runs;

#[test]
fn write_pictures() {
    let svg = |name: &str, runs: &[llmroof::run::Run], level| {
        let start = std::time::Instant::now();
        let text = to_svg(runs, level).unwrap();
        println!("{name} {:?} {}", start.elapsed(), text.len());
        std::fs::write(format!("/tmp/plot/{name}.svg"), text).unwrap();
    };
    svg("cpu", &[runs::cpu()], Level::All);
    svg("a100", &[runs::a100()], Level::All);
    svg("overlay", &[runs::cpu(), runs::scaled_cpu("Intel Xeon Platinum 8481C", 23e9, 610e9)], Level::All);
    svg("mixed", &[runs::cpu(), runs::a100()], Level::Phase);
    svg("phase", &[runs::cpu()], Level::Phase);
    svg("stage", &[runs::cpu()], Level::Stage);
}
