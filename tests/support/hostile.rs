//! Run files whose texts try to become something else.

#![allow(dead_code)]

use std::collections::BTreeSet;

use llmroof::run::Run;
use serde_json::Value;

/// Stands in every text, to be found again.
pub const MARK: &str = "qzx";

/// What others might write into a run file.
pub fn payloads() -> Vec<String> {
    let mut all: Vec<String> = [
        "</text><script>alert(1)</script>",
        "</title><svg onload=alert(1)>",
        "</desc></svg><html>",
        "]]><script>alert(1)</script><![CDATA[",
        "<![CDATA[<b>]]>",
        "<!-- --><image href=\"x\"/><!--",
        "-->",
        "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]>&b;",
        "&lt;script&gt;",
        "&#60;script&#62;&#x3c;",
        "&nbsp;&unknown;&",
        "\" onload=\"alert(1)",
        "' onmouseover='alert(1)",
        "\"/><script/>",
        "\" style=\"fill:url(https://example.org)",
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "url(#llmroof-roofline-area)",
        "</style><style>*{fill:red}</style>",
        "}*{display:none}/*",
        "<a xlink:href=\"javascript:alert(1)\">x</a>",
        "<foreignObject><iframe src=x></foreignObject>",
        "<use href=\"#x\"/>",
        "\0\u{1}\u{8}\u{b}\u{c}\u{e}\u{1f}\u{7f}\u{80}\u{9f}",
        "\u{1b}[31m\u{1b}]0;title\u{7}",
        "\r\n\t\u{2028}\u{2029}\u{85}",
        "\u{202e}txet\u{202d}\u{2066}\u{2067}\u{2068}\u{2069}\u{200f}\u{061c}",
        "\u{fffe}\u{ffff}\u{1fffe}\u{10ffff}\u{feff}\u{fdd0}",
        "🚀👩‍👩‍👧‍👦🏳️‍🌈\u{e0001}",
        "%s%n{0}${x}{{7*7}}`id`$(id)",
    ]
    .map(String::from)
    .to_vec();
    // What spreadsheets and Markdown would make something of.
    all.extend(
        [
            "=1+1",
            "=cmd|' /C calc'!A0",
            "=HYPERLINK(\"https://example.org\",\"x\")",
            "+1+1",
            "-1+1",
            "@SUM(1+1)*cmd|' /C calc'!A0",
            "\t=1+1",
            "\r=1+1",
            "\n=1+1",
            "   =1+1",
            "\u{a0}=1+1",
            "\u{feff}=1+1",
            "\u{200b}=1+1",
            "\0=1+1",
            "＝1+1",
            "＋1+1",
            "－1+1",
            "＠SUM(1)",
            "\"=1+1\"",
            "\",=1+1,\"",
            ";=1+1",
            "x;=1+1;+2;-x;@y",
            "x\n=1+1",
            "x\r\n+1+1",
            "'=1+1",
            "%0A=1+1",
            "DDE(\"cmd\")",
            "a | b || c\n| d |",
            "|---|\n|x|",
            "[x](javascript:alert(1)) ![y](https://example.org/z.png)",
            "`code` ``` ~~~ *a* **b** _c_ __d__ ~~e~~",
            "# h\n\n- l\n1. n\n> q\n***\n===",
            "\\| \\` \\[ \\<b>",
        ]
        .map(String::from),
    );
    all.push(format!("e{}", "\u{301}\u{489}".repeat(1000)));
    all.push("long ".repeat(4000));
    all.push("W".repeat(20_000));
    all.push("<".repeat(2000));
    all
}

/// A run file and the places in it that take any text.
pub struct Places {
    document: Value,
    places: Vec<String>,
}

impl Places {
    pub fn of(run: &Run) -> Places {
        let document: Value = serde_json::from_str(&run.to_json().unwrap()).unwrap();
        let mut places = Vec::new();
        strings(&document, String::new(), &mut places);
        // All fields of one name at once: the points have the same ones.
        let kinds: BTreeSet<String> = places.iter().map(|place| kind(place)).collect();
        let takes = |wanted: &String| {
            let these = places.iter().filter(|place| kind(place) == *wanted);
            // Names of phases, types and the like are refused.
            Run::from_json(&with(&document, these, "a text").to_string()).is_ok()
        };
        let kinds: BTreeSet<String> = kinds.into_iter().filter(takes).collect();
        assert!(kinds.len() >= 12, "only {kinds:?} take text");
        places.retain(|place| kinds.contains(&kind(place)));
        Places { document, places }
    }

    /// The run with this text in all of them.
    pub fn with(&self, text: &str) -> Run {
        Run::from_json(&with(&self.document, self.places.iter(), text).to_string()).unwrap()
    }
}

fn with<'a>(document: &Value, places: impl Iterator<Item = &'a String>, text: &str) -> Value {
    let mut document = document.clone();
    for place in places {
        if let Some(Value::String(value)) = document.pointer_mut(place) {
            *value = text.to_string();
        }
    }
    document
}

fn kind(place: &str) -> String {
    place.split('/').filter(|part| part.parse::<usize>().is_err()).collect::<Vec<_>>().join("/")
}

fn strings(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::String(_) => places.push(at),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| strings(item, format!("{at}/{i}"), places));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| strings(field, format!("{at}/{name}"), places));
        }
        _ => {}
    }
}
