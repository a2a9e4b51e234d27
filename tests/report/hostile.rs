//! Run files come from anywhere. Whatever their strings say stays text.

use std::collections::BTreeSet;

use llmroof::run::Run;
use scraper::{ElementRef, Node};

use crate::hostile_text::Places;
use crate::{full, page, parsed, select};

/// Ways out of text, attributes, scripts, styles, comments, SVG and JSON.
const PAYLOADS: [&str; 34] = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</SCRIPT ><img src=x onerror=alert(1)>",
    "<!--<script>",
    "--><img src=x onerror=alert(1)>",
    "<![CDATA[<svg onload=alert(1)>]]>",
    "]]><svg onload=alert(1)>",
    "\"><img src=x onerror=alert(1)>",
    "'><img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)",
    "' onfocus='alert(1)' autofocus='",
    "` onclick=`alert(1)",
    " onload=alert(1) x=",
    "</title><script>alert(1)</script>",
    "</desc><script>alert(1)</script>",
    "</svg><iframe src=javascript:alert(1)>",
    "</style><style>*{display:none}</style>",
    "</textarea></noscript><object data=x>",
    "</noscript><meta http-equiv=refresh content=0>",
    "<base href=//example.org>",
    "<link rel=stylesheet href=//example.org>",
    "<a href=javascript:alert(1)>x</a>",
    "javascript:alert(1)",
    "<foreignObject><body onload=alert(1)>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<form action=//example.org><input type=submit>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "<\u{0}script>alert(1)</script>",
    "<scr\u{200b}ipt>\u{202e}alert(1)</script>",
    "\u{ff1c}script\u{ff1e}alert(1)",
    "line\nbreak\r\n<td>\t</td></tr></table>",
    "../../etc/passwd\u{2028}<plaintext>",
];

/// The run with these words wherever any may stand, and as the name of a field that a GPU lacks.
fn saying(places: &Places, words: &str) -> Run {
    let mut run = places.with(words);
    let gpu = run.conditions.as_mut().unwrap().gpu.as_mut().unwrap();
    gpu.unavailable.insert(words.into(), words.into());
    run
}

/// An element as its name with the names of its attributes.
fn shape(element: ElementRef) -> String {
    let mut attributes: Vec<&str> = element.value().attrs().map(|(name, _)| name).collect();
    attributes.sort_unstable();
    format!("{} {}", element.value().name(), attributes.join(" "))
}

/// The elements of a page. Of a picture only which there are: longer words take more lines, and other places.
fn shapes(page: &str) -> (Vec<String>, BTreeSet<String>) {
    let page = parsed(page);
    let (mut outside, mut inside) = (Vec::new(), BTreeSet::new());
    for element in page.root_element().descendants().filter_map(ElementRef::wrap) {
        let picture = |node: ElementRef| node.value().name() == "svg";
        if element.ancestors().filter_map(ElementRef::wrap).any(picture) {
            inside.insert(shape(element));
        } else {
            outside.push(shape(element));
        }
    }
    (outside, inside)
}

#[test]
fn no_string_of_a_run_becomes_markup() {
    let places = Places::of(&full());
    let harmless = saying(&places, "harmless words");
    let said = serde_json::to_value(&harmless).unwrap();
    for expected in
        ["/device/name", "/model/name", "/notes/0", "/argv/0", "/points/0/notes/0", "/ceilings/0/citation"]
    {
        assert_eq!(said.pointer(expected).unwrap(), "harmless words", "{expected}");
    }
    let (outside, inside) = shapes(&page(&[harmless.clone(), harmless]));
    for payload in PAYLOADS {
        let hostile = saying(&places, payload);
        let text = page(&[hostile.clone(), hostile.clone()]);
        let (its_outside, its_inside) = shapes(&text);
        assert_eq!(its_outside, outside, "{payload:?}");
        let more: Vec<&String> = its_inside.difference(&inside).collect();
        assert!(more.is_empty(), "{payload:?} adds {more:?}");

        let page = parsed(&text);
        for element in page.root_element().descendants().filter_map(ElementRef::wrap) {
            for (name, value) in element.value().attrs() {
                assert!(!name.starts_with("on") && name != "style" && name != "src", "{payload:?}: {name}");
                assert!(name != "href" || value.starts_with('#'), "{payload:?}: {value}");
            }
        }
        let comment = page.tree.values().find(|node| matches!(node, Node::Comment(_)));
        assert!(comment.is_none(), "{payload:?}: {comment:?}");
        // The data are the run, whatever it says.
        for id in ["#run-0", "#run-1"] {
            let json: String = page.select(&select(id)).next().unwrap().text().collect();
            assert_eq!(Run::from_json(&json).unwrap(), hostile, "{payload:?}");
        }
    }
}

#[test]
fn words_are_shown_as_they_are() {
    let mut run = full();
    run.device.name = "<b>&amp; \"GPU\"</b>".into();
    let text = page(&[run]);
    let page = parsed(&text);
    let title: String = page.select(&select("h1")).next().unwrap().text().collect();
    assert_eq!(title, "llama-8b on <b>&amp; \"GPU\"</b>");
}
