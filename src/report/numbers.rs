//! The table: the same numbers as the figures, for those who read rather than look.

use super::html::Html;
use super::names;
use crate::run::{Point, Run, Status};
use crate::units::{figures, percent};

/// More rows than this slow a browser down more than they help a reader.
const MOST_ROWS: usize = 2000;
/// More notes on points than this nobody reads here.
const MOST_NOTES: usize = 200;

/// A column: how the script sorts by it, its heading, its term in the method.
struct Column {
    key: &'static str,
    title: String,
    term: &'static str,
    /// Numbers stand to the right.
    number: bool,
    cell: Box<dyn Fn(&Point) -> String>,
}

fn column(
    key: &'static str,
    title: &str,
    term: &'static str,
    cell: impl Fn(&Point) -> String + 'static,
) -> Column {
    Column { key, title: title.into(), term, number: true, cell: Box::new(cell) }
}

fn words(
    key: &'static str,
    title: &str,
    term: &'static str,
    cell: impl Fn(&Point) -> String + 'static,
) -> Column {
    Column { number: false, ..column(key, title, term, cell) }
}

/// The cell of a figure, which an invalid point has none of.
fn believed(cell: impl Fn(&Point) -> String) -> impl Fn(&Point) -> String {
    move |point| if point.is_invalid() { "–".into() } else { cell(point) }
}

/// Those columns in which there is something to tell apart or to read.
fn columns(runs: &[Run]) -> Vec<Column> {
    let points = || runs.iter().flat_map(|run| &run.points);
    let several = |of: fn(&Point) -> String| {
        let first = points().next().map(of);
        points().any(|point| Some(of(point)) != first)
    };
    let fastest = points().filter(|p| !p.is_invalid()).map(|p| p.flops_per_second).fold(0.0, f64::max);
    let (unit, per_flop) = if fastest >= 1e13 { ("TFLOP/s", 1e-12) } else { ("GFLOP/s", 1e-9) };

    let mut all = vec![column("batch", "batch", "work", |p| p.batch.to_string())];
    if several(|p| p.tokens.to_string()) {
        all.push(column("tokens", "tokens", "work", |p| p.tokens.to_string()));
    }
    all.push(column("context", "context", "work", |p| p.context.to_string()));
    if several(names::types) {
        all.push(words("types", "types", "work", names::types_in_words));
    }
    if points().any(|p| p.ranks > 1) {
        all.push(words("ranks", "ranks", "ranks", names::ranks));
    }
    let rate = |p: &Point| p.tokens_per_second.map_or(String::new(), figures);
    all.extend([
        column("rate", "tok/s", "rate", believed(rate)),
        column("ms", "ms", "time", believed(|p| milliseconds(p.seconds.median))),
    ]);
    if points().any(|p| p.seconds.count > 0) {
        all.extend([
            column("interval", "±", "interval", believed(|p| percent(p.seconds.relative_interval()))),
            column("samples", "samples", "sample", |p| p.seconds.count.to_string()),
        ]);
    }
    all.extend([
        column("share", "share", "share", believed(|p| percent(p.share_of_step))),
        column("bandwidth", "GB/s", "bytes", believed(|p| figures(p.bytes_per_second * 1e-9))),
        column("arithmetic", unit, "flops", believed(move |p| figures(p.flops_per_second * per_flop))),
        column("intensity", "FLOP/B", "intensity", |p| figures(p.intensity)),
        column("roof", "of roof", "share-of-roof", believed(|p| percent(p.fraction_of_roof))),
        words("bound", "bound", "bound", bound),
    ]);
    if points().any(|p| p.joules_per_token.is_some()) {
        let cell = |p: &Point| p.joules_per_token.map_or(String::new(), figures);
        all.push(column("energy", "J/token", "energy", believed(cell)));
    }
    all
}

fn milliseconds(seconds: f64) -> String {
    if seconds < 1e-6 { "<0.001".into() } else { figures(seconds * 1e3) }
}

fn bound(point: &Point) -> String {
    match point.status {
        Status::Ok | Status::Predicted => point.bound.name().into(),
        Status::Partial => format!("{} *", point.bound.name()),
        Status::Invalid => "INVALID".into(),
    }
}

/// The section.
pub(super) fn write(html: &mut Html, runs: &[Run]) {
    let total: usize = runs.iter().map(|run| run.points.len()).sum();
    html.element("section", &[("id", "numbers"), ("aria-labelledby", "numbers-title")], |html| {
        html.leaf("h2", &[("id", "numbers-title")], "Numbers");
        html.element("p", &[("class", "quiet")], |html| {
            html.text("Times are medians; ± is the 95% interval of the median. A heading's question mark leads to what ");
            html.text("it means. Rows that the filters leave out are not listed.");
        });
        if total > MOST_ROWS {
            let said = format!(
                "The table lists the first {MOST_ROWS} of {total} points; all of them are in the embedded run files, \
                 where filters, figures and details find them."
            );
            html.leaf("p", &[("class", "notice")], &said);
        }
        let label =
            [("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-labelledby", "table-caption")];
        html.element("div", &label, |html| table(html, runs));
        if runs.iter().flat_map(|run| &run.points).any(|p| p.status == Status::Partial) {
            html.leaf("p", &[("class", "quiet")], "* fewer samples than the stopping rule asks for");
        }
        notes(html, runs);
    });
}

fn table(html: &mut Html, runs: &[Run]) {
    let columns = columns(runs);
    let several = runs.len() > 1;
    html.element("table", &[("id", "points")], |html| {
        html.leaf(
            "caption",
            &[("id", "table-caption")],
            "Every step and its stages, in the order of measurement",
        );
        html.element("thead", &[], |html| {
            html.element("tr", &[], |html| {
                heading(html, "work", "step or stage", "work", false);
                if several {
                    heading(html, "run", "run", "work", false);
                }
                for column in &columns {
                    heading(html, column.key, &column.title, column.term, column.number);
                }
            });
        });
        html.line();
        html.element("tbody", &[], |html| {
            let points = runs
                .iter()
                .enumerate()
                .flat_map(|(r, run)| run.points.iter().enumerate().map(move |(p, point)| (r, p, point)));
            for (r, p, point) in points.take(MOST_ROWS) {
                row(html, &columns, several, (r, p), point);
                html.line();
            }
        });
    });
}

fn heading(html: &mut Html, key: &'static str, title: &str, term: &str, number: bool) {
    let class: &[(&'static str, &str)] = if number { &[("class", "n")] } else { &[] };
    html.element("th", &[&[("scope", "col")], class].concat(), |html| {
        html.leaf("button", &[("type", "button"), ("data-sort", key)], title);
        let target = format!("#term-{term}");
        let label = format!("What {title} means");
        html.leaf("a", &[("class", "help"), ("href", &target), ("aria-label", &label)], "?");
    });
}

fn row(html: &mut Html, columns: &[Column], several: bool, (r, p): (usize, usize), point: &Point) {
    let id = format!("{r}.{p}");
    let class = if point.stage.is_none() { "step" } else { "stage" };
    html.element("tr", &[("class", class), ("data-points", &id)], |html| {
        html.leaf("th", &[("scope", "row")], &names::work(point));
        if several {
            html.element("td", &[], |html| {
                html.leaf("span", &[("class", &names::hue(r))], &names::letter(r))
            });
        }
        for column in columns {
            let class: &[(&'static str, &str)] = if column.number { &[("class", "n")] } else { &[] };
            html.leaf("td", class, &(column.cell)(point));
        }
    });
}

/// What a reader must know of single points.
fn notes(html: &mut Html, runs: &[Run]) {
    let all: Vec<(usize, &Point, &String)> = runs
        .iter()
        .enumerate()
        .flat_map(|(r, run)| run.points.iter().map(move |point| (r, point)))
        .flat_map(|(r, point)| point.notes.iter().map(move |note| (r, point, note)))
        .collect();
    if all.is_empty() {
        return;
    }
    html.leaf("h3", &[], "Notes on points");
    html.element("ul", &[("class", "notes")], |html| {
        for (r, point, note) in all.iter().take(MOST_NOTES) {
            let run = if runs.len() > 1 { format!("{}, ", names::letter(*r)) } else { String::new() };
            html.leaf("li", &[], &format!("{run}{}: {note}", names::point(point)));
        }
    });
    if all.len() > MOST_NOTES {
        let said = format!("{MOST_NOTES} of {} notes; a point's details show its own.", all.len());
        html.leaf("p", &[("class", "quiet")], &said);
    }
}
