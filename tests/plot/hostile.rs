//! Run files come from others: no text in one becomes part of a picture's structure.

use std::collections::BTreeSet;

use llmroof::model::DType;
use llmroof::plot::theme::{Scheme, Theme};
use llmroof::plot::{Figure, Look, to_svg};
use llmroof::roofline::{Ceiling, CeilingKind, CeilingSource};
use llmroof::run::Run;
use roxmltree::{Document, Node};

use crate::hostile_text::{MARK, Places, payloads};
use crate::runs;

/// What a picture may be made of.
const ELEMENTS: [&str; 13] = [
    "svg", "title", "desc", "style", "g", "clipPath", "rect", "circle", "path", "polygon", "polyline",
    "text", "tspan",
];
/// Attributes whose values are figures, colours and names that the program has written.
const ATTRIBUTES: [&str; 29] = [
    "data-run",
    "width",
    "height",
    "viewBox",
    "role",
    "aria-labelledby",
    "font-family",
    "id",
    "x",
    "y",
    "cx",
    "cy",
    "r",
    "d",
    "points",
    "transform",
    "text-anchor",
    "font-size",
    "font-weight",
    "fill",
    "stroke",
    "stroke-width",
    "stroke-dasharray",
    "stroke-linejoin",
    "clip-path",
    "class",
    "data-points",
    "aria-label",
    "opacity",
];

/// A run with a text in each field that may have one, and a datasheet's roofs beside its own.
fn full() -> Run {
    let mut run = runs::cpu();
    run.notes = vec!["note".into()];
    run.device.id = Some("id".into());
    run.device.profile = Some("profile".into());
    run.points.iter_mut().for_each(|p| p.notes = vec!["note".into()]);
    for (kind, dtype, rate) in
        [(CeilingKind::MemoryRead, None, 50e9), (CeilingKind::Compute, Some(DType::Bf16), 600e9)]
    {
        let source = CeilingSource::Datasheet;
        run.ceilings.push(Ceiling {
            kind,
            dtype,
            rate,
            source,
            citation: "sheet".into(),
            ..runs::measured(kind, dtype, rate)
        });
    }
    run
}

fn names(document: &Document) -> BTreeSet<String> {
    document.descendants().filter(Node::is_element).map(|n| n.tag_name().name().to_string()).collect()
}

fn check(svg: &str, harmless: &BTreeSet<String>, what: &str) {
    assert!(svg.len() < 4 << 20, "{what}: {} bytes", svg.len());
    let document = Document::parse(svg).unwrap_or_else(|e| panic!("{what}: {e}"));
    for node in document.descendants() {
        assert!(!node.is_comment() && !node.is_pi(), "{what}");
        if node.is_element() {
            let name = node.tag_name().name();
            assert!(ELEMENTS.contains(&name), "{what}: <{name}>");
            assert_eq!(node.tag_name().namespace(), Some("http://www.w3.org/2000/svg"), "{what}");
            if name == "style" {
                assert!(!node.text().unwrap().contains(MARK), "{what}: a text in the style sheet");
            }
        }
        for attribute in node.attributes() {
            let name = attribute.name();
            assert!(ATTRIBUTES.contains(&name) && attribute.namespace().is_none(), "{what}: {name}");
            let free = ["class", "data-points", "aria-label"].contains(&name);
            assert!(free || !attribute.value().contains(MARK), "{what}: {name}={}", attribute.value());
        }
        if node.is_text() {
            let unseen = |c: char| {
                matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
                    || (c.is_control() && c != '\n')
            };
            assert!(!node.text().unwrap().contains(unseen), "{what}: control characters");
        }
    }
    assert_eq!(names(&document), *harmless, "{what}");
}

#[test]
fn no_text_of_a_run_file_becomes_structure() {
    let run = full();
    for figure in Figure::ALL {
        for theme in [Theme::Auto, Theme::Fixed(Scheme::Dark), Theme::Page] {
            let look = Look { theme, ..Look::default() };
            let Ok(plain) = to_svg(std::slice::from_ref(&run), figure, look) else { continue };
            let harmless = names(&Document::parse(&plain).unwrap());
            check(&plain, &harmless, "a harmless run");
        }
    }
    let known = |runs: usize, figure| {
        let plain = to_svg(&vec![run.clone(); runs], figure, Look::default()).ok()?;
        Some(names(&Document::parse(&plain).unwrap()))
    };
    let alone = Figure::ALL.map(|figure| (figure, known(1, figure)));
    let both = known(2, Figure::Roofline);
    let places = Places::of(&run);
    for (i, payload) in payloads().iter().enumerate() {
        let bad = places.with(&format!("{MARK}{payload}"));
        assert!(bad.device.name.contains(MARK) && bad.model.name.contains(MARK));
        for (figure, harmless) in &alone {
            let Some(harmless) = harmless else { continue };
            let svg = to_svg(std::slice::from_ref(&bad), *figure, Look::default()).unwrap();
            check(&svg, harmless, &format!("payload {i} in {figure:?}"));
        }
        let svg = to_svg(&[bad, run.clone()], Figure::Roofline, Look::default()).unwrap();
        check(&svg, both.as_ref().unwrap(), &format!("payload {i} in an overlay"));
    }
}
