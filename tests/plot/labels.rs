//! No label on another, and none outside of the picture, whatever is drawn.

use llmroof::model::DType;
use llmroof::plot::geometry::{Outline, at};
use llmroof::plot::svg::{Anchor, Text};
use llmroof::plot::{Figure, Level, Look, theme, to_svg};
use llmroof::roofline::{CeilingKind, Roofline};
use llmroof::run::{Run, Status};
use llmroof::units::{BytesPerSec, FlopsPerSec};
use llmroof::workload::Workload;

use crate::roofline;
use crate::runs::{self, Random, measured};

/// The value of an attribute in the text of an element.
fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split_once(&format!(" {name}=\""))?.1.split_once('"').map(|(value, _)| value)
}

/// All texts of a picture with the boxes they need.
pub fn texts(svg: &str) -> Vec<(String, Outline)> {
    let number = |element: &str, name| attribute(element, name).unwrap().parse::<f64>().unwrap();
    svg.split("<text")
        .skip(1)
        .map(|rest| {
            let (element, rest) = rest.split_once('>').unwrap();
            let words = rest.split_once("</text>").unwrap().0;
            let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
                .iter()
                .fold(words.to_string(), |text, (from, to)| text.replace(from, to));
            let angle = attribute(element, "transform")
                .map_or(0.0, |t| t.trim_start_matches("rotate(").split_once(' ').unwrap().0.parse().unwrap());
            let text = Text {
                text: plain,
                at: at(number(element, "x"), number(element, "y")),
                anchor: match attribute(element, "text-anchor").unwrap() {
                    "start" => Anchor::Start,
                    "middle" => Anchor::Middle,
                    _ => Anchor::End,
                },
                angle,
                size: number(element, "font-size"),
                bold: element.contains("font-weight"),
                colour: theme::QUIET,
            };
            (text.text.clone(), text.outline())
        })
        .collect()
}

fn check(name: &str, svg: &str) {
    let height: f64 = attribute(svg, "height").unwrap().parse().unwrap();
    let texts = texts(svg);
    for (i, (text, outline)) in texts.iter().enumerate() {
        assert!(
            outline.within(at(0.0, 0.0), at(theme::WIDTH, height)),
            "{name}: {text:?} leaves the picture: {outline:?}"
        );
        for (other, other_outline) in &texts[i + 1..] {
            // Coordinates are written to a tenth of a pixel: boxes that touch may share that much.
            let smaller = shrunk(outline);
            assert!(
                !smaller.meets(&shrunk(other_outline)),
                "{name}: {text:?} lies on {other:?}: {outline:?} {other_outline:?}"
            );
        }
    }
}

fn shrunk(outline: &Outline) -> Outline {
    let corners = outline.corners();
    let n = corners.len() as f64;
    let middle =
        at(corners.iter().map(|c| c.x).sum::<f64>() / n, corners.iter().map(|c| c.y).sum::<f64>() / n);
    let inwards = |from: f64, to: f64| from + 0.1 * (to - from).signum();
    Outline::new(corners.iter().map(|c| at(inwards(c.x, middle.x), inwards(c.y, middle.y))).collect())
}

/// A run of arbitrary speed with arbitrary names, clustered or spread points and all kinds of roofs.
fn arbitrary(seed: u64) -> Run {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    random.share();
    let names = [
        "CPU",
        "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz with a name that goes on and on for no good reason at all",
        "東京都千代田区霞が関の計算機センターにある非常に長い名前の装置、もっと長くもっと長くもっと長く続く名前",
        "NVIDIA H100 80GB HBM3",
        "معالج مركزي طويل الاسم جداً من مركز الحوسبة الوطني في المدينة الكبيرة",
        "מעבד עם שם ארוך מאוד",
    ];
    let name = |random: &mut Random| names[(random.share() * names.len() as f64) as usize];
    let mut run = runs::empty(name(&mut random));
    run.model.name = name(&mut random).to_string();
    let bandwidth = 10f64.powf(random.between(9.0, 13.0));
    let peak = bandwidth * 10f64.powf(random.between(0.3, 3.0));
    let roof = Roofline { bandwidth: BytesPerSec(bandwidth), peak: FlopsPerSec(peak) };
    if random.share() < 0.8 {
        run.ceilings.push(measured(CeilingKind::MemoryRead, None, bandwidth));
        run.ceilings.push(measured(CeilingKind::Compute, Some(DType::Bf16), peak));
    }
    for (dtype, times) in [(DType::F32, 0.5), (DType::Fp8, 2.0), (DType::Int8, 2.01)] {
        if random.share() < 0.4 {
            run.ceilings.push(measured(CeilingKind::Compute, Some(dtype), peak * times));
        }
    }
    if random.share() < 0.4 {
        let rate = peak * random.between(0.5, 0.999);
        run.ceilings.push(measured(CeilingKind::ComputeSustained, Some(DType::Bf16), rate));
    }
    if random.share() < 0.5 {
        run.ceilings.push(measured(CeilingKind::CacheRead, None, bandwidth * random.between(1.05, 9.0)));
    }
    let low = 10f64.powf(random.between(-2.5, -0.05));
    let passes = (random.share() * 6.0) as u32;
    let mut batch = 1;
    for _ in 0..passes {
        let work = Workload::decode(&run.model, batch, 1050);
        run.points.extend(runs::pass(&work, roof, Status::Ok, || random.between(low, 1.0)));
        batch += 1 + (random.share() * 20.0) as u32;
    }
    for tokens in [1000, 37, 8000] {
        if random.share() < 0.5 {
            let work = Workload::prefill(&run.model, 1, tokens);
            run.points.extend(runs::pass(&work, roof, Status::Ok, || random.between(low, 1.0)));
        }
    }
    run
}

/// Draws every figure that these runs have points for and checks it; returns how many there were.
fn check_all(name: &str, runs: &[Run], level: Level) -> usize {
    let mut drawn = 0;
    for figure in Figure::ALL {
        if let Ok(svg) = to_svg(runs, figure, Look { level, ..Look::default() }) {
            check(&format!("{name} {level:?} {figure:?}"), &svg);
            drawn += 1;
        }
    }
    drawn
}

#[test]
fn no_label_lies_on_another_or_leaves_the_picture() {
    let mut drawn = 0;
    for seed in 0..200 {
        let level = [Level::All, Level::Phase, Level::Stage][seed as usize % 3];
        drawn += check_all(&format!("run {seed}"), &[arbitrary(seed)], level);
    }
    assert!(drawn > 400, "only {drawn} figures");
}

#[test]
fn no_label_of_an_overlay_lies_on_another_or_leaves_the_picture() {
    for seed in 0..24 {
        let runs: Vec<Run> = (0..2 + seed % 5).map(|i| arbitrary(1000 + 7 * seed + i)).collect();
        let level = if seed % 2 == 0 { Level::Phase } else { Level::All };
        assert!(check_all(&format!("overlay {seed}"), &runs, level) > 0);
    }
}

#[test]
fn no_label_of_a_context_sweep_lies_on_another() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let roof = Roofline { bandwidth: BytesPerSec(45e9), peak: FlopsPerSec(470e9) };
        let mut run = runs::cpu();
        run.points.clear();
        for batch in [1, 3, 16] {
            for context in [16, 128, 130, 1000, 8000] {
                let work = Workload::decode(&run.model, batch, context);
                run.points.extend(runs::pass(&work, roof, Status::Ok, || random.between(0.4, 1.0)));
            }
        }
        let svg = to_svg(&[run], Figure::Context, Look::default()).unwrap();
        check(&format!("contexts {seed}"), &svg);
    }
}

#[test]
fn every_step_of_an_ordinary_run_is_labelled() {
    let svg = roofline(&[runs::cpu()], Level::All).unwrap();
    let labels: Vec<String> = texts(&svg).into_iter().map(|(text, _)| text).collect();
    for wanted in
        ["decode, batch 1: ", "batch 2: ", "batch 32: ", "prefill: ", "gate_up ", "ridge ", "DRAM ", "bf16 "]
    {
        assert!(labels.iter().any(|l| l.starts_with(wanted)), "{wanted} in {labels:?}");
    }
}
