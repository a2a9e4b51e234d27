//! Run files come from others: whatever a text in one says, it stays text in tables, CSV, Markdown and JUnit.

#![allow(clippy::unwrap_used)]

#[path = "support/hostile.rs"]
mod hostile;
#[path = "plot/runs.rs"]
#[allow(dead_code)]
mod runs;

use hostile::{Places, payloads};
use llmroof::compare::{Options, compare};
use llmroof::export::comparison::{ComparisonFormat, render_comparison};
use llmroof::export::{Cell, Column, Format, Listing, render, render_listing};
use llmroof::run::Run;

/// Two decode steps with their stages.
const POINTS: usize = 16;

/// A run with notes, as a measurement has them.
fn run() -> Run {
    let mut run = runs::cpu();
    run.notes = vec!["note".into()];
    run.points.truncate(POINTS);
    run.points.iter_mut().for_each(|p| p.notes = vec!["note".into()]);
    run
}

/// The run, its comparison with itself and a list in this format, with this text everywhere.
fn texts(places: &Places, payload: &str, format: Format, compared: ComparisonFormat) -> [String; 3] {
    let bad = places.with(payload);
    let comparison =
        compare(std::slice::from_ref(&bad), std::slice::from_ref(&bad), &Options::default()).unwrap();
    let column = |name| Column { name, title: name };
    let listing = Listing {
        title: payload.into(),
        columns: vec![column("a"), column("b")],
        rows: vec![vec![Cell::text(payload), Cell::number(-1.5, "-1.5")]],
        notes: vec![payload.into()],
        document: None,
    };
    [
        render(&bad, format).unwrap(),
        render_comparison(&comparison, compared, true).unwrap(),
        render_listing(&listing, format).unwrap(),
    ]
}

/// What a spreadsheet makes of a cell: whether it computes it.
fn is_computed(cell: &str) -> bool {
    let unseen = |c: char| c.is_whitespace() || c.is_control() || "\"\u{feff}\u{200b}".contains(c);
    let bare = cell.trim_start_matches(unseen);
    bare.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) && cell.trim().parse::<f64>().is_err()
}

#[test]
fn no_cell_of_a_csv_is_a_formula() {
    let places = Places::of(&run());
    for payload in payloads() {
        let all = texts(&places, &payload, Format::Csv, ComparisonFormat::Csv);
        for text in &all {
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let width = reader.headers().unwrap().len();
            let mut rows = 0;
            for row in reader.records().map(Result::unwrap) {
                assert_eq!(row.len(), width, "{payload:.60?}");
                rows += 1;
                for cell in &row {
                    assert!(!cell.starts_with(['\t', '\r', '\n']), "{cell:?}");
                    for part in cell.split([';', '\t', '\r', '\n']) {
                        assert!(!is_computed(part), "{part:?} of {cell:?}");
                    }
                }
            }
            assert!(rows == POINTS || rows == 1, "{rows} rows for {payload:.60?}");
        }
        // Numbers stay numbers.
        assert!(all[2].contains(",-1.5"), "{}", all[2]);
    }
}

/// Whether a sign stands in the text without a backslash before it.
fn is_open(text: &str, sign: char) -> bool {
    let mut escaped = false;
    text.chars().any(|c| {
        let open = c == sign && !escaped;
        escaped = c == '\\' && !escaped;
        open
    })
}

/// Lines by what they begin with, as a parser of blocks would see them.
fn shape(markdown: &str) -> Vec<String> {
    let start = |line: &str| match line.strip_prefix('|') {
        Some(row) => {
            let mut escaped = false;
            let bars = row.chars().filter(|&c| {
                let open = c == '|' && !escaped;
                escaped = c == '\\' && !escaped;
                open
            });
            format!("row of {}", bars.count())
        }
        None => line.chars().take(2).collect(),
    };
    markdown.lines().map(start).collect()
}

#[test]
fn no_text_changes_what_markdown_is_made_of() {
    let places = Places::of(&run());
    let plain = texts(&places, "plain", Format::Markdown, ComparisonFormat::Markdown);
    for payload in payloads() {
        let all = texts(&places, &payload, Format::Markdown, ComparisonFormat::Markdown);
        for (text, plain) in all.iter().zip(&plain) {
            for sign in ['<', '`', '[', ']', '&'] {
                // The one alert is ours.
                let ours = text.replace("> [!WARNING]\n", "").replace("<0.001", "");
                assert!(!is_open(&ours, sign), "{sign} for {payload:.60?}");
            }
            let control = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}');
            assert!(!text.contains(control), "{payload:.60?}");
            // As many lines, each of the kind it was; what begins with the text itself is escaped.
            assert_eq!(shape(text), shape(plain), "{payload:.60?}\n{text:.2000}");
        }
    }
}

#[test]
fn no_text_controls_the_terminal_that_a_table_is_printed_in() {
    let places = Places::of(&run());
    for payload in payloads() {
        for text in texts(&places, &payload, Format::Table, ComparisonFormat::Table) {
            let control = |c: char| {
                (c.is_control() && c != '\n')
                    || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            assert!(!text.contains(control), "{payload:.60?}");
        }
    }
}

#[test]
fn a_junit_report_stays_one() {
    let places = Places::of(&run());
    for payload in payloads() {
        let [_, report, _] = texts(&places, &payload, Format::Markdown, ComparisonFormat::Junit);
        let document = roxmltree::Document::parse(&report).unwrap_or_else(|e| panic!("{payload:.60?}: {e}"));
        let elements = document.descendants().filter(roxmltree::Node::is_element);
        let known = [
            "testsuites",
            "testsuite",
            "properties",
            "property",
            "testcase",
            "failure",
            "skipped",
            "system-out",
            "system-err",
        ];
        let mut cases = 0;
        for element in elements {
            let name = element.tag_name().name();
            assert!(known.contains(&name), "{name} for {payload:.60?}");
            cases += usize::from(name == "testcase");
        }
        assert_eq!(cases, POINTS, "{payload:.60?}");
    }
}
