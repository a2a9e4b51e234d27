//! The page's style sheet and script: files of `page/`, put together as text, and the policy that lets these run and
//! nothing else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::plot::theme::{self, Scheme};

const STYLES: [&str; 5] = [
    include_str!("page/base.css"),
    include_str!("page/figures.css"),
    include_str!("page/controls.css"),
    include_str!("page/tables.css"),
    include_str!("page/print.css"),
];

/// In the order of use: what each has is seen by those after it.
const SCRIPTS: [&str; 8] = [
    include_str!("page/data.js"),
    include_str!("page/format.js"),
    include_str!("page/facts.js"),
    include_str!("page/marks.js"),
    include_str!("page/filter.js"),
    include_str!("page/pins.js"),
    include_str!("page/table.js"),
    include_str!("page/start.js"),
];

/// The method, which is the same for every run.
pub(super) const METHOD: &str = include_str!("page/method.html");

/// The style sheet: the colours of the pictures in every scheme, then the page's own rules.
pub(super) fn style() -> String {
    let colours = theme::colours();
    let of = |scheme| theme::variables(&colours, scheme);
    let runs: String = theme::RUNS
        .iter()
        .enumerate()
        .map(|(i, hue)| {
            format!(".hue-{i}{{--hue:var(--{});--hue-text:var(--{})}}", hue.main.name, hue.text.name)
        })
        .collect();
    // The reader's choice counts on screens; paper is always light.
    let scheme = format!(
        ":root{{color-scheme:light;{light}}}\n\
         @media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\n\
         @media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}\n\
         @media print{{:root{{color-scheme:light;{print}}}}}\n{classes}\n{runs}\n",
        light = of(Scheme::Light),
        dark = of(Scheme::Dark),
        print = of(Scheme::Print),
        classes = theme::classes(&colours),
    );
    unix(&(scheme + &STYLES.concat()))
}

/// The script, with nothing in the page's global scope.
pub(super) fn script() -> String {
    unix(&format!("(() => {{\n\"use strict\";\n{}}})();\n", SCRIPTS.concat()))
}

/// A browser hashes what its parser made of the text, and that has no carriage returns.
fn unix(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// What the page may do: apply this style sheet, run this script, and nothing else. Text is never parsed as markup.
pub(super) fn policy(style: &str, script: &str) -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'",
        hash(script),
        hash(style)
    )
}
