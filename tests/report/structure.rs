//! The page's parts, and how large it gets.

use std::collections::BTreeSet;

use llmroof::plot::{self, Figure};
use llmroof::run::{Run, Status};
use scraper::Html;

use crate::{count, full, page, parsed, real, runs, select};

fn attributes(page: &Html, selector: &str, name: &str) -> Vec<String> {
    page.select(&select(selector)).map(|element| element.attr(name).unwrap().to_string()).collect()
}

fn text_of(page: &Html, selector: &str) -> String {
    page.select(&select(selector)).flat_map(|element| element.text()).collect()
}

#[test]
fn every_figure_is_there_or_says_why_not() {
    let run = real();
    let page = parsed(&page(std::slice::from_ref(&run)));
    let said = text_of(&page, ".pictures > p");
    for figure in Figure::ALL {
        let drawn = count(&page, &format!("figure[data-figure={}] svg", figure.name()));
        match plot::to_svg(std::slice::from_ref(&run), figure, plot::Look::default()) {
            Ok(_) => assert_eq!(drawn, 1, "{}", figure.name()),
            Err(failure) => {
                assert_eq!(drawn, 0);
                assert!(said.contains(&failure.what), "{said}");
            }
        }
    }
    assert!(count(&page, "figure") >= 2);
}

#[test]
fn the_table_has_every_point_and_the_marks_belong_to_points() {
    let runs = [runs::cpu(), runs::scaled_cpu("another", 90e9, 900e9)];
    let page = parsed(&page(&runs));
    let ids: BTreeSet<String> = runs
        .iter()
        .enumerate()
        .flat_map(|(r, run)| (0..run.points.len()).map(move |p| format!("{r}.{p}")))
        .collect();
    let rows = attributes(&page, "#points tbody tr", "data-points");
    assert_eq!(rows.iter().cloned().collect::<BTreeSet<_>>(), ids);
    assert_eq!(rows.len(), ids.len());
    let marked = attributes(&page, "svg [data-points]", "data-points");
    assert!(marked.len() > 20);
    for id in marked.iter().flat_map(|of| of.split(' ')) {
        assert!(ids.contains(id), "{id}");
    }
    // What belongs to a run as a whole can be switched off with it.
    assert_eq!(attributes(&page, "figure[data-figure=roofline] [data-run]", "data-run"), ["0", "1"]);
    assert_eq!(attributes(&page, "input[data-facet=run]", "value"), ["0", "1"]);
}

#[test]
fn tables_can_be_read_without_eyes() {
    let page = parsed(&page(&[real(), full()]));
    assert_eq!(count(&page, "table"), count(&page, "table > caption"));
    assert_eq!(count(&page, "th:not([scope=col]):not([scope=row])"), 0);
    assert_eq!(
        count(&page, "#points thead th"),
        count(&page, "#points thead th > button[type=button][data-sort]")
    );
    assert_eq!(count(&page, "#points tbody tr"), count(&page, "#points tbody th[scope=row]"));
    assert_eq!(count(&page, "[role=status][aria-live=polite]"), 1);
    assert_eq!(count(&page, "fieldset"), count(&page, "fieldset > legend"));
    assert_eq!(count(&page, "h1"), 1);
    assert_eq!(count(&page, "html[lang=en]"), 1);
    assert_eq!(count(&page, "noscript"), 1);
}

#[test]
fn ids_are_unique_and_links_lead_somewhere() {
    let page = parsed(&page(&[real(), full()]));
    let ids = attributes(&page, "[id]", "id");
    let unique: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len());
    for (selector, name) in [("a", "href"), ("[aria-labelledby]", "aria-labelledby")] {
        for target in attributes(&page, selector, name).iter().flat_map(|all| all.split(' ')) {
            let target = target.trim_start_matches('#').to_string();
            assert!(unique.contains(&target), "{target}");
        }
    }
}

#[test]
fn conditions_stand_beside_each_other_and_differences_are_marked() {
    let mut other = real();
    other.device.name = "Another".into();
    let page = parsed(&page(&[real(), other]));
    let differing = text_of(&page, ".facts tr.differs th");
    assert_eq!(differing, "device ≠");
}

#[test]
fn figures_of_invalid_points_are_not_shown() {
    let mut run = real();
    run.points[0].status = Status::Invalid;
    let time = llmroof::units::figures(run.points[0].seconds.median * 1e3);
    let page = parsed(&page(&[run]));
    let row = text_of(&page, "#points tbody tr:first-child");
    assert!(row.contains("INVALID") && !row.contains(&time), "{row}");
    assert!(text_of(&page, ".card:nth-child(2)").contains("invalid"));
}

#[test]
fn the_same_runs_give_the_same_bytes() {
    assert_eq!(page(&[real(), full()]), page(&[real(), full()]));
}

#[test]
fn a_default_run_is_a_small_page() {
    let page = page(&[real()]);
    assert!(page.len() < 300_000, "{} bytes", page.len());
}

/// A run of many steps.
fn many(points: usize) -> Run {
    let mut run = real();
    let step = run.points.iter().find(|p| p.phase.name() == "decode").unwrap().clone();
    run.points = (1..=points)
        .map(|n| {
            let mut point = step.clone();
            point.batch = n as u32;
            point.seconds.median *= 1.0 + n as f64 / 1e3;
            point
        })
        .collect();
    run
}

#[test]
fn of_very_many_points_the_page_says_what_it_leaves_out() {
    let text = page(&[many(10_000)]);
    let page = parsed(&text);
    assert_eq!(count(&page, "#points tbody tr"), 2000);
    assert!(text_of(&page, "#numbers .notice").contains("first 2000 of 10000 points"));
    // Sizes in ranges, not ten thousand boxes.
    assert!(count(&page, "input[data-facet=batch]") < 20);
    let json = text_of(&page, "#run-0");
    assert_eq!(Run::from_json(&json).unwrap().points.len(), 10_000);
}

#[test]
fn a_run_without_points_still_has_a_page() {
    let mut run = real();
    run.points.clear();
    run.ceilings.clear();
    let page = parsed(&page(&[run]));
    assert_eq!(count(&page, "figure"), 0);
    assert!(count(&page, "#conditions tbody tr") > 10);
}

#[test]
fn no_run_is_no_page() {
    assert!(llmroof::report::to_html(&[], llmroof::plot::Level::All).is_err());
}
