//! The colours of a picture stay apart for every kind of colour vision, and what is written can be read.

use llmroof::plot::theme::{self, Colour, Scheme};
use palette::color_difference::{Ciede2000, Wcag21RelativeContrast};
use palette::{FromColor, Lab, LinSrgb, Srgb};

const SCHEMES: [Scheme; 3] = [Scheme::Light, Scheme::Dark, Scheme::Print];

fn rgb(colour: Colour, scheme: Scheme) -> Srgb<f64> {
    colour.of(scheme).parse::<Srgb<u8>>().unwrap().into_format()
}

/// How people see a colour: with all three cones, or without the long, the middle or the short ones. Matrices for
/// linear RGB from Machado, Oliveira and Fernandes (2009), "A physiologically-based model for simulation of color
/// vision deficiency", severity 1.0.
const VISION: [(&str, [[f64; 3]; 3]); 4] = [
    ("normal", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    (
        "protanopia",
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    ),
    (
        "deuteranopia",
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ),
    (
        "tritanopia",
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ),
];

fn seen(colour: Srgb<f64>, vision: &[[f64; 3]; 3]) -> Lab<palette::white_point::D65, f64> {
    let linear: LinSrgb<f64> = colour.into_linear();
    let [r, g, b] = vision
        .map(|row| (row[0] * linear.red + row[1] * linear.green + row[2] * linear.blue).clamp(0.0, 1.0));
    Lab::from_color(LinSrgb::new(r, g, b))
}

#[test]
fn the_hues_of_runs_stay_apart_for_every_kind_of_colour_vision() {
    for scheme in SCHEMES {
        for (name, vision) in &VISION {
            for (i, a) in theme::RUNS.iter().enumerate() {
                for b in &theme::RUNS[i + 1..] {
                    let difference =
                        seen(rgb(a.main, scheme), vision).difference(seen(rgb(b.main, scheme), vision));
                    // 2.3 is just noticeable side by side; lines across a picture need several times that.
                    assert!(
                        difference >= 10.0,
                        "{scheme:?}, {name}: {} and {} differ by {difference:.1}",
                        a.main.name,
                        b.main.name
                    );
                }
            }
        }
    }
}

/// WCAG 2.1: 4.5 for text, 3 for what carries meaning.
#[test]
fn text_and_marks_can_be_read_on_their_ground() {
    let hues = || std::iter::once(theme::INK).chain(theme::RUNS);
    for scheme in SCHEMES {
        for ground in [theme::GROUND, theme::MEMORY_ZONE, theme::COMPUTE_ZONE] {
            let on_ground = |colour: Colour, least: f64| {
                let contrast = rgb(colour, scheme).relative_contrast(rgb(ground, scheme));
                let (colour, ground) = (colour.name, ground.name);
                assert!(contrast >= least, "{scheme:?}: {colour} on {ground} has {contrast:.2}");
            };
            hues().for_each(|hue| on_ground(hue.text, 4.5));
            hues().for_each(|hue| on_ground(hue.main, 3.0));
            on_ground(theme::QUIET, 4.5);
            on_ground(theme::FRAME, 3.0);
        }
    }
}

#[test]
fn the_full_and_the_light_part_of_a_bar_differ_for_everyone() {
    for scheme in SCHEMES {
        for hue in theme::RUNS {
            for (name, vision) in &VISION {
                let difference =
                    seen(rgb(hue.main, scheme), vision).difference(seen(rgb(hue.soft, scheme), vision));
                assert!(difference >= 20.0, "{scheme:?}, {name}: {} {difference:.1}", hue.main.name);
            }
        }
    }
}
