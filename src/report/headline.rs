//! The top of the page: what was run where, and the few numbers that most readers came for.

use super::html::Html;
use super::names;
use crate::model::{DType, Precision};
use crate::plot::caption;
use crate::plot::theme::{self, Colour, Hue};
use crate::roofline::{CeilingKind, CeilingSource};
use crate::run::{Point, Run, RunStatus};
use crate::units::{Seconds, figures, percent};
use crate::workload::Phase;

/// One number with what belongs to it.
struct Card {
    term: &'static str,
    title: String,
    value: String,
    unit: String,
    side: String,
    share: Option<(f64, Colour)>,
}

/// The title and a row of cards for each run.
pub(super) fn write(html: &mut Html, runs: &[Run]) {
    html.element("section", &[("class", "headline"), ("aria-labelledby", "title")], |html| {
        html.leaf("h1", &[("id", "title")], &names::subject(runs));
        for (i, run) in runs.iter().enumerate() {
            html.line();
            html.element("div", &[("class", "run"), ("data-run", &i.to_string())], |html| {
                if runs.len() > 1 {
                    html.element("h2", &[("class", "run-name")], |html| {
                        html.leaf("span", &[("class", &names::hue(i))], &names::letter(i));
                        html.text(&format!(" {} on {}", run.model.name, run.device.name));
                    });
                }
                html.leaf("p", &[("class", "lead")], &lead(run));
                if let Some(said) = said(run) {
                    html.leaf("p", &[("class", "notice")], said);
                }
                html.element("dl", &[("class", "cards")], |html| {
                    let own = (runs.len() > 1).then(|| theme::RUNS[i % theme::RUNS.len()]);
                    cards(run, own).iter().for_each(|card| write_card(html, card));
                });
                if let Some(request) = request(run) {
                    html.leaf("p", &[("class", "quiet")], &request);
                }
            });
        }
    });
}

fn lead(run: &Run) -> String {
    let types = run.points.first().map(|p| format!(" in {}", names::types_in_words(p))).unwrap_or_default();
    let precision = run.points.first().map_or(Precision::BF16, Point::precision);
    let mut parts = vec![
        format!("{} billion parameters{types}", figures(run.model.parameters() * 1e-9)),
        format!("{} streamed in each decode step", run.model.streamed_bytes(precision).human()),
    ];
    if let Some(point) = run.points.iter().find(|p| p.layers_measured < p.layers_total) {
        parts.push(format!(
            "{} of {} layers measured, scaled to all",
            point.layers_measured, point.layers_total
        ));
    }
    parts.push(caption::date(&run.created));
    parts.join(" · ")
}

fn said(run: &Run) -> Option<&'static str> {
    match run.status {
        RunStatus::Complete => None,
        RunStatus::Partial => {
            Some("This run is partial: it was interrupted or its time was up. The notes say what is missing.")
        }
        RunStatus::Predicted => {
            Some("Nothing here was measured: the times are what the datasheet's roofs allow at best.")
        }
        RunStatus::Invalid => Some(
            "Something in this run cannot be true. Points that are not to be believed are shown without figures.",
        ),
    }
}

/// The step of a phase that stands for it: the smallest batch, the first of these.
fn first_step(run: &Run, phase: Phase) -> Option<&Point> {
    run.points.iter().filter(|p| p.is_plain(phase) && p.stage.is_none()).min_by_key(|p| (p.ranks, p.batch))
}

/// The cards of a run, in its own hue where there are several.
fn cards(run: &Run, own: Option<Hue>) -> Vec<Card> {
    let mut cards = Vec::new();
    for (phase, hue) in [(Phase::Decode, theme::BLUE), (Phase::Prefill, theme::VERMILLION)] {
        cards.extend(first_step(run, phase).map(|point| step(run, point, own.unwrap_or(hue).main)));
    }
    let roof = |kind, dtype| {
        let of = |source| run.ceiling(kind, dtype, source);
        of(CeilingSource::Measured).or(of(CeilingSource::Datasheet))
    };
    let source = |kind, dtype| match (
        run.ceiling(kind, dtype, CeilingSource::Measured),
        run.ceiling(kind, dtype, CeilingSource::Datasheet),
    ) {
        (Some(measured), Some(datasheet)) => {
            format!("measured, {} of the datasheet", percent(measured.rate / datasheet.rate))
        }
        (Some(_), None) => "measured".into(),
        _ => "from the datasheet".to_string(),
    };
    let dtype = Some(run.points.first().map_or(DType::Bf16, |point| point.activations));
    let all = [(CeilingKind::MemoryRead, None, "Memory roof"), (CeilingKind::Compute, dtype, "Compute roof")];
    for (kind, dtype, title) in all {
        if let Some(ceiling) = roof(kind, dtype) {
            let title = dtype.map_or(title.to_string(), |dtype| format!("{title}, {dtype}"));
            let (value, unit) = split(&crate::units::si(ceiling.rate, kind.unit()));
            let side = source(kind, dtype);
            cards.push(Card { term: "roof", title, value, unit, side, share: None });
        }
    }
    if let Some(roofline) = run.roofline() {
        let (value, unit) = split(&roofline.ridge().human());
        let side = "less is bound by memory".into();
        cards.push(Card { term: "ridge", title: "Ridge".into(), value, unit, side, share: None });
    }
    cards
}

fn step(run: &Run, point: &Point, colour: Colour) -> Card {
    let decoded = |p: &&Point| p.is_plain(Phase::Decode);
    let title = match point.phase {
        Phase::Decode if run.points.iter().filter(decoded).any(|p| p.context != point.context) => {
            format!("Decode, batch {}, context {}", point.batch, point.context)
        }
        Phase::Decode => format!("Decode, batch {}", point.batch),
        Phase::Prefill if point.batch == 1 => format!("Prefill, {} tokens", point.tokens),
        Phase::Prefill => format!("Prefill, {} × {} tokens", point.batch, point.tokens),
        Phase::Mixed => format!("Mixed, batch {}", point.batch),
    };
    let title = title + &point.of_ranks();
    if point.is_invalid() {
        let side = "not to be believed".to_string();
        return Card {
            term: "status",
            title,
            value: "invalid".into(),
            unit: String::new(),
            side,
            share: None,
        };
    }
    Card {
        term: "share-of-roof",
        title,
        value: point.tokens_per_second.map_or("not known".into(), figures),
        unit: match point.all_reduce_from {
            Some(from) => format!("tokens/s, all-reduces {}", from.name()),
            None => "tokens/s".into(),
        },
        side: format!(
            "{} of roof · {} a step",
            percent(point.fraction_of_roof),
            Seconds(point.seconds.median).human()
        ),
        share: Some((point.fraction_of_roof, colour)),
    }
}

/// `57.7 GB/s` as number and unit.
fn split(text: &str) -> (String, String) {
    let (value, unit) = text.split_once(' ').unwrap_or((text, ""));
    (value.into(), unit.into())
}

fn write_card(html: &mut Html, card: &Card) {
    html.element("div", &[("class", "card")], |html| {
        html.element("dt", &[], |html| html.term(card.term, &card.title));
        html.element("dd", &[("class", "value")], |html| {
            html.text(&card.value);
            html.text(" ");
            html.leaf("span", &[("class", "unit")], &card.unit);
        });
        html.element("dd", &[("class", "side")], |html| html.text(&card.side));
        if let Some((share, colour)) = card.share {
            gauge(html, share, colour);
        }
    });
}

/// A bar as long as the share of the roof.
fn gauge(html: &mut Html, share: f64, colour: Colour) {
    let width = format!("{:.1}", 100.0 * share.clamp(0.0, 1.0));
    let view = [
        ("viewBox", "0 0 100 4"),
        ("preserveAspectRatio", "none"),
        ("class", "gauge"),
        ("aria-hidden", "true"),
    ];
    html.element("dd", &[("class", "meter")], |html| {
        html.element("svg", &view, |html| {
            html.leaf("rect", &[("width", "100"), ("height", "4"), ("class", "f-grid")], "");
            let class = format!("f-{}", colour.name);
            html.leaf("rect", &[("width", &width), ("height", "4"), ("class", &class)], "");
        });
    });
}

fn request(run: &Run) -> Option<String> {
    let r = run.request.as_ref()?;
    Some(format!(
        "A request of {} prompt and {} generated tokens, batch 1{}{}: first token after {}, then {} a token; {} in \
         all, {} of it prefill.",
        r.prompt,
        r.generate,
        if run.status == RunStatus::Predicted { ", at 100% of the roofs" } else { "" },
        match run.all_reduces_from(r.ranks) {
            Some(from) => format!(", {} ranks, all-reduces {from}", r.ranks),
            None => String::new(),
        },
        Seconds(r.time_to_first_token_seconds).human(),
        Seconds(r.time_per_output_token_seconds).human(),
        Seconds(r.total_seconds).human(),
        percent(r.prefill_share),
    ))
}
