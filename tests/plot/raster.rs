//! The figure as PNG, on a machine without any font.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use llmroof::plot::geometry::Outline;
use llmroof::plot::size::Size;
use llmroof::plot::theme::{Scheme, Theme};
use llmroof::plot::{Figure, Look, to_svg};
use llmroof::raster::{Fallback, png};
use llmroof::run::Run;

use crate::{labels, runs};

/// Red, green and blue of every pixel.
struct Pixels {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Pixels {
    fn of(bytes: &[u8]) -> Pixels {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        Pixels { width: info.width as usize, height: info.height as usize, rgb }
    }

    fn at(&self, x: usize, y: usize) -> &[u8] {
        let at = (y * self.width + x) * 3;
        &self.rgb[at..at + 3]
    }

    /// How many pixels differ from those of another picture in this box.
    fn differing(&self, other: &Pixels, outline: &Outline, scale: f64) -> usize {
        let corners = outline.corners();
        let range = |values: Vec<f64>, most: usize| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min) * scale;
            let high = values.iter().copied().fold(0.0, f64::max) * scale;
            low.max(0.0) as usize..(high.ceil() as usize).min(most)
        };
        let xs = range(corners.iter().map(|c| c.x).collect(), self.width);
        let ys = range(corners.iter().map(|c| c.y).collect(), self.height);
        ys.flat_map(|y| xs.clone().map(move |x| (x, y)))
            .filter(|&(x, y)| self.at(x, y) != other.at(x, y))
            .count()
    }
}

fn svg(run: &Run, scheme: Scheme) -> String {
    let look = Look { theme: Theme::Fixed(scheme), ..Look::default() };
    to_svg(std::slice::from_ref(run), Figure::Roofline, look).unwrap()
}

fn drawn(svg: &str, scheme: Scheme, size: Size) -> Pixels {
    Pixels::of(&png(svg, scheme, size, Fallback::None).unwrap())
}

/// The same picture without its text.
fn silent(svg: &str) -> String {
    svg.lines().filter(|line| !line.starts_with("<text")).collect()
}

/// A pixel for each unit of the coordinates, and two.
const SINGLE: Size = Size { width: 900, height: None };
const DOUBLE: Size = Size { width: 1800, height: None };

#[test]
fn text_is_there_where_no_font_is_installed() {
    let svg = svg(&runs::cpu(), Scheme::Light);
    let (full, bare) = (drawn(&svg, Scheme::Light, DOUBLE), drawn(&silent(&svg), Scheme::Light, DOUBLE));
    let texts = labels::texts(&svg);
    assert!(texts.len() > 30);
    for (text, outline) in texts {
        let letters = text.chars().filter(|c| c.is_alphanumeric()).count();
        let ink = full.differing(&bare, &outline, 2.0);
        assert!(ink > 15 * letters, "{text}: {ink} pixels");
    }
}

#[test]
fn every_sign_that_figures_use_is_in_the_fonts() {
    let draw = |text: &str, weight: &str| {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"100\" height=\"100\">\
             <text x=\"20\" y=\"70\" font-size=\"60\" font-weight=\"{weight}\">{text}</text></svg>"
        );
        drawn(&svg, Scheme::Light, Size { width: 100, height: None }).rgb
    };
    let mut signs = vec!['\u{fffd}', '−', 'é', 'ß', 'ő', 'Ω', 'µ', '≤', '≥', '²', '®', '™'];
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plot")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            // What a console shows is set in the console's font.
            if entry.file_name().to_string_lossy().starts_with("terminal") {
                continue;
            }
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let code = fs::read_to_string(entry.path()).unwrap();
            let code = code.split("#[cfg(test)]").next().unwrap();
            signs.extend(code.chars().filter(|c| !c.is_ascii()));
        }
    }
    signs.sort_unstable();
    signs.dedup();
    for weight in ["normal", "bold"] {
        let missing = draw("\u{e000}", weight);
        assert!(missing.iter().any(|&v| v < 0x40), "what is missing is a box");
        let lacking: Vec<&char> = signs.iter().filter(|c| draw(&c.to_string(), weight) == missing).collect();
        assert!(lacking.is_empty(), "{lacking:?} in {weight}");
    }
}

#[test]
fn the_same_run_gives_the_same_bytes_whatever_fonts_a_machine_has() {
    let svg = svg(&runs::a100(), Scheme::Light);
    let draw = |fallback| png(&svg, Scheme::Light, SINGLE, fallback).unwrap();
    assert_eq!(draw(Fallback::None), draw(Fallback::None));
    assert!(draw(Fallback::None) == draw(Fallback::System));
}

#[test]
fn corners_have_the_ground_of_the_scheme() {
    for (scheme, ground) in
        [(Scheme::Light, [0xff; 3]), (Scheme::Dark, [0x14, 0x18, 0x1f]), (Scheme::Print, [0xff; 3])]
    {
        // Both where the picture stands and beside it.
        for size in [SINGLE, Size { width: 1000, height: Some(200) }, Size { width: 100, height: Some(500) }]
        {
            let pixels = drawn(&svg(&runs::cpu(), scheme), scheme, size);
            let (right, low) = (pixels.width - 1, pixels.height - 1);
            for (x, y) in [(0, 0), (right, 0), (0, low), (right, low)] {
                assert_eq!(pixels.at(x, y), ground, "{scheme:?} {size:?} at {x}, {y}");
            }
            assert!(pixels.rgb.chunks(3).filter(|p| **p != ground).count() > 1000, "nothing drawn");
        }
    }
}

#[test]
fn what_no_font_has_is_drawn_as_boxes() {
    let mut run = runs::cpu();
    run.device.name = "東京都 جهاز 🚀 e\u{301}\u{301}\u{301}".into();
    let svg = svg(&run, Scheme::Light);
    for fallback in [Fallback::None, Fallback::System] {
        assert!(png(&svg, Scheme::Light, SINGLE, fallback).is_ok());
    }
}

#[test]
fn the_program_writes_pixels_of_the_wanted_size() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.json"), runs::cpu().to_json().unwrap()).unwrap();
    let draw = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmroof"));
        command.current_dir(folder.path()).args(["plot", "a.json", "-o", name]).args(arguments);
        command.assert().success().stderr(format!("wrote {name}\n"));
        let pixels = Pixels::of(&fs::read(folder.path().join(name)).unwrap());
        (pixels.width, pixels.height)
    };
    let (width, height) = draw("a.png", &[]);
    assert!(width == 1800 && (900..1800).contains(&height), "{width} {height}");
    assert_eq!(draw("b.PNG", &["--size", "640x480"]), (640, 480));
    assert_eq!(draw("c.png", &["--size", "900"]), (900, height / 2));
    draw("d.png", &["--theme", "dark", "--size", "100"]);
    let dark = Pixels::of(&fs::read(folder.path().join("d.png")).unwrap());
    assert_eq!(dark.at(0, 0), [0x14, 0x18, 0x1f]);
}
