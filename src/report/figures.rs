//! Every figure that the runs have points for, with the panel that tells of the mark under the pointer.

use super::facets;
use super::html::Html;
use crate::plot::theme::Theme;
use crate::plot::{self, Figure, Level, Look};
use crate::run::Run;

/// The section.
pub(super) fn write(html: &mut Html, runs: &[Run], level: Level) {
    html.element("section", &[("id", "figures"), ("aria-labelledby", "figures-title")], |html| {
        html.leaf("h2", &[("id", "figures-title")], "Figures");
        facets::write(html, runs);
        html.element("div", &[("class", "with-panel")], |html| {
            html.element("div", &[("class", "pictures")], |html| {
                for figure in Figure::ALL {
                    html.line();
                    let look = Look { level, theme: Theme::Page };
                    match plot::to_svg(runs, figure, look) {
                        Ok(svg) => picture(html, figure, &svg),
                        Err(failure) => {
                            let why = format!("Not drawn: {}: {}.", figure.name(), failure.what);
                            html.leaf("p", &[("class", "quiet")], &why);
                        }
                    }
                }
            });
            panel(html);
        });
        html.line();
        html.element(
            "section",
            &[("id", "pins"), ("aria-labelledby", "pins-title"), ("hidden", "")],
            |html| {
                html.leaf("h3", &[("id", "pins-title"), ("tabindex", "-1")], "Pinned points");
                html.leaf("div", &[("class", "scroll")], "");
            },
        );
    });
}

fn picture(html: &mut Html, figure: Figure, svg: &str) {
    let name = figure.name();
    html.element("figure", &[("id", &format!("figure-{name}")), ("data-figure", name)], |html| {
        let label = format!("Figure: {name}");
        let attributes = [("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", &label)];
        html.element("div", &attributes, |html| html.trusted(svg));
        html.element("figcaption", &[], |html| {
            html.text("Terms: ");
            for (i, (term, text)) in terms(figure).iter().enumerate() {
                if i > 0 {
                    html.text(", ");
                }
                html.term(term, text);
            }
            html.text(".");
        });
    });
}

/// What of the method a figure's reader may want to look up.
fn terms(figure: Figure) -> &'static [(&'static str, &'static str)] {
    match figure {
        Figure::Roofline => &[
            ("intensity", "arithmetic intensity"),
            ("roof", "roofs"),
            ("ridge", "ridge"),
            ("share-of-roof", "% of roof"),
            ("interval", "95% intervals"),
        ],
        Figure::Stages => {
            &[("stage", "stages"), ("share", "share of step"), ("bubble", "bubble"), ("bound", "bound")]
        }
        _ => &[("rate", "tokens per second"), ("share-of-roof", "% of roof"), ("interval", "95% intervals")],
    }
}

fn panel(html: &mut Html) {
    html.element("aside", &[("id", "panel"), ("class", "scripted"), ("aria-label", "Details of a point")], |html| {
        html.element("div", &[("id", "details")], |html| {
            html.leaf("h3", &[], "Details");
            html.leaf(
                "p",
                &[],
                "Point at a mark or a row of the table. Click or press Enter to pin it; two pins are compared below \
                 the figures.",
            );
            html.leaf(
                "p",
                &[("class", "quiet")],
                "With the keyboard: Tab to a figure's mark, arrow keys from mark to mark, Enter to pin, Escape to \
                 leave.",
            );
        });
    });
}
