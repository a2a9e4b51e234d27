//! How long drawing takes: each figure of the newest run in `reports/`, and of a run of 10,000 points.
//!
//! `cargo bench --bench plot -- [RUN]`. Figures are medians of the clock on the wall with their quartiles, and want a
//! machine that does nothing else.

use std::hint::black_box;
use std::time::{Duration, Instant};

use llmroof::plot::{Figure, Look, to_svg};
use llmroof::run::{Point, Run};

fn main() {
    let named = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    let path = named.or_else(newest).expect("a run file in reports/, or name one");
    let run = Run::from_json(&std::fs::read_to_string(&path).expect("readable")).expect("a run file");
    println!("{path}: {} points", run.points.len());
    let many = Run { points: many(&run, 10_000), ..run.clone() };
    for (name, run) in [("default", &run), ("10,000 points", &many)] {
        for figure in Figure::ALL {
            let draw = || to_svg(std::slice::from_ref(run), figure, Look::default());
            let Ok(svg) = draw() else { continue };
            let (low, median, high) = timed(|| drop(black_box(draw())));
            let figure = figure.name();
            let kilobytes = svg.len() as f64 / 1e3;
            println!("{name:14} {figure:10} {median:8.1} ms ({low:.1} to {high:.1})  {kilobytes:7.1} kB");
        }
    }
}

fn newest() -> Option<String> {
    let mut found: Vec<_> = std::fs::read_dir("reports")
        .ok()?
        .flatten()
        .flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten())
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    // Their names begin with the time.
    found.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Some(found.pop()?.display().to_string())
}

/// The run's own points over and over, each time of a larger batch and somewhat slower.
fn many(run: &Run, points: usize) -> Vec<Point> {
    let rounds = 1 + points / run.points.len();
    let copies = (0..rounds).flat_map(|round| {
        run.points.iter().map(move |point| {
            let slower = 1.0 + round as f64 / 97.0;
            let mut point = point.clone();
            point.batch += 64 * round as u32;
            point.intensity *= slower;
            point.flops_per_second /= slower;
            point.fraction_of_roof /= slower;
            point
        })
    });
    copies.take(points).collect()
}

/// Quartiles and median in milliseconds.
fn timed(mut work: impl FnMut()) -> (f64, f64, f64) {
    let mut times = Vec::new();
    let end = Instant::now() + Duration::from_secs(3);
    while times.len() < 5 || (times.len() < 100 && Instant::now() < end) {
        let start = Instant::now();
        work();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 4], times[times.len() / 2], times[3 * times.len() / 4])
}
