use crate::noise::{Among, Noise};
use crate::synthetic::{Case, Turns};
use llmroof::compare::{Options, PairVerdict};

#[test]
fn speed() {
    let case = Case::new(Noise::Normal, 0.05);
    let mut runs = case.runs();
    case.fill(&mut runs, 1);
    let _ = llmroof::compare::compare(&runs[..1], &runs[1..], &Options::default());
    let start = std::time::Instant::now();
    for seed in 0..300 {
        case.fill(&mut runs, seed);
    }
    println!("fill {:?}", start.elapsed() / 300);
    let start = std::time::Instant::now();
    for _ in 0..300 {
        let _ = std::hint::black_box(llmroof::compare::compare(&runs[..1], &runs[1..], &Options::default()));
    }
    println!("compare {:?}", start.elapsed() / 300);
    let start = std::time::Instant::now();
    for _ in 0..300 {
        for t in &runs[0].trials {
            std::hint::black_box(t.started.parse::<jiff::Timestamp>().unwrap());
        }
    }
    println!("parse {:?}", start.elapsed() / 300);
    let start = std::time::Instant::now();
    for _ in 0..300 {
        for p in &runs[0].points {
            std::hint::black_box(p.key());
        }
    }
    println!("keys {:?}", start.elapsed() / 300);
    println!(
        "{}",
        llmroof::compare::compare(&runs[..1], &runs[1..], &Options::default()).unwrap().pairs[3].reason
    );
    println!(
        "{:#?}",
        llmroof::compare::compare(&runs[..1], &runs[1..], &Options::default()).unwrap().warning
    );
}

#[test]
fn explore() {
    let n: u64 = std::env::var("N").map_or(300, |n| n.parse().unwrap());
    let start = std::time::Instant::now();
    for turns in [Turns::Alternate, Turns::After, Turns::Halves] {
        for among in [Among::Own, Among::Half, Among::Shared] {
            for noise in
                [Noise::Normal, Noise::LogNormal, Noise::Outliers, Noise::TwoHumped, Noise::Drift, Noise::Ar1]
            {
                let mut line = format!("{turns:?} {among:?} {noise:?}:");
                for cv in [0.002, 0.005, 0.01, 0.02, 0.05, 0.1] {
                    let case = Case { turns, among, ..Case::new(noise, cv) };
                    let alarms = case.simulate(n, &Options::default(), |c| {
                        (c.counts.slower + c.counts.faster > 0, c.counts.same)
                    });
                    let share = alarms.iter().filter(|a| a.0).count() as f64 / n as f64;
                    let same = alarms.iter().map(|a| a.1).sum::<u32>() as f64 / n as f64 / 40.0;
                    line += &format!(" {:.2}%({:.2})", share * 100.0, same);
                }
                line += " power1%:";
                for (t, change, cv) in [
                    (0.02, 1.05, 0.01),
                    (0.03, 1.05, 0.01),
                    (0.02, 1.1, 0.01),
                    (0.02, 1.05, 0.005),
                    (0.02, 1.1, 0.02),
                ] {
                    let case = Case { turns, among, change: Some((7, change)), ..Case::new(noise, cv) };
                    let found = case.simulate(n, &Options { threshold: t, ..Options::default() }, |c| {
                        c.pairs[7].verdict == PairVerdict::Slower
                    });
                    line += &format!(" {:.3}", found.iter().filter(|&&f| f).count() as f64 / n as f64);
                }
                println!("{line}");
            }
        }
    }
    println!("{:?}", start.elapsed());
}
