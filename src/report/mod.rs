//! Runs as one HTML file that needs nothing else: figures, numbers, conditions, method and the run files themselves.
//!
//! All that is to be read is written here and can be read without a script. The script (`page/*.js`) adds pointing,
//! filters, comparison and sorting, with the figures of the embedded run files. What a run file says becomes text in
//! one place, `html.rs`, and the page's policy lets nothing run but that script (`assets.rs`).

mod assets;
mod conditions;
mod embedded;
mod facets;
mod figures;
mod headline;
mod html;
mod names;
mod numbers;

use crate::error::{Failure, Result};
use crate::plot::Level;
use crate::run::Run;
use html::Html;

/// The page of a run, or of several side by side. The same runs give the same bytes.
///
/// # Errors
/// No run, or a figure that JSON cannot hold.
pub fn to_html(runs: &[Run], level: Level) -> Result<String> {
    if runs.is_empty() {
        return Err(Failure::input("no run to show").hint("name one or more run files"));
    }
    for run in runs {
        run.validate()?;
    }
    let (style, script) = (assets::style(), assets::script());
    let policy = assets::policy(&style, &script);
    let data = embedded::all(runs)?;
    let mut html = Html::default();
    html.trusted("<!DOCTYPE html>\n");
    html.element("html", &[("lang", "en"), ("data-theme", "auto")], |html| {
        html.element("head", &[], |html| {
            html.void("meta", &[("charset", "utf-8")]);
            html.void("meta", &[("http-equiv", "Content-Security-Policy"), ("content", &policy)]);
            html.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
            html.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
            html.leaf("title", &[], &format!("{} · llmroof", names::subject(runs)));
            html.element("style", &[], |html| html.trusted(&style));
        });
        html.line();
        html.element("body", &[], |html| {
            body(html, runs, level, &data);
            html.element("script", &[], |html| html.trusted(&script));
            html.line();
        });
    });
    html.line();
    Ok(html.finish())
}

const SECTIONS: [(&str, &str); 5] = [
    ("figures", "Figures"),
    ("numbers", "Numbers"),
    ("conditions", "Conditions"),
    ("method", "Method"),
    ("data", "Run files"),
];

fn body(html: &mut Html, runs: &[Run], level: Level, data: &[embedded::Data]) {
    html.leaf("a", &[("class", "skip"), ("href", "#main")], "Skip to the results");
    html.element("header", &[("class", "bar")], |html| {
        html.leaf("span", &[("class", "brand")], "llmroof");
        html.element("nav", &[("aria-label", "Sections")], |html| {
            for (id, name) in SECTIONS {
                html.leaf("a", &[("href", &format!("#{id}"))], name);
            }
        });
        theme_switch(html);
    });
    html.line();
    html.element("main", &[("id", "main")], |html| {
        headline::write(html, runs);
        html.line();
        html.element("noscript", &[], |html| {
            html.leaf(
                "p",
                &[("class", "notice")],
                "Scripts are off: figures, numbers, conditions and method are all here; pointing at marks, filters, \
                 comparison and sorting are not.",
            );
        });
        figures::write(html, runs, level);
        html.line();
        numbers::write(html, runs);
        html.line();
        conditions::write(html, runs);
        html.line();
        html.trusted(assets::METHOD);
        html.line();
        embedded::write(html, runs, data);
    });
    html.line();
}

fn theme_switch(html: &mut Html) {
    html.element("fieldset", &[("class", "theme scripted")], |html| {
        html.leaf("legend", &[("class", "unseen")], "Colours");
        for (value, name) in [("auto", "Auto"), ("light", "Light"), ("dark", "Dark")] {
            html.element("label", &[], |html| {
                let checked = if value == "auto" { &[("checked", "")][..] } else { &[] };
                let fixed = [("type", "radio"), ("name", "theme"), ("value", value)];
                html.void("input", &[&fixed, checked].concat());
                html.leaf("span", &[], name);
            });
        }
    });
}
