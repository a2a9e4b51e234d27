//! Pictures as PNG, drawn from their SVG.
//!
//! Text is set in the fonts embedded here, those that the layout was measured with, so that a picture is the same on
//! every machine, also on one that has no fonts. Only what they lack (other scripts) is looked for on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{FontResolver, Options, Tree, fontdb};

use crate::error::{Failure, Result};
use crate::plot::size::Size;
use crate::plot::theme::{self, Scheme};

const FONTS: [&[u8]; 2] =
    [include_bytes!("fonts/DejaVuSans.ttf"), include_bytes!("fonts/DejaVuSans-Bold.ttf")];
/// Most pixels held at once. A larger picture is drawn in bands, so that its size costs no memory.
const BAND: u32 = 1 << 22;

/// Where characters that the embedded fonts lack come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// This machine's fonts.
    System,
    /// Nowhere: they are boxes. The picture is the same on every machine.
    None,
}

/// A figure as PNG. `svg` is drawn with [`crate::plot::theme::Theme::Fixed`] and this scheme.
///
/// # Errors
/// An SVG that is none, or that no picture can be made of.
pub fn png(svg: &str, scheme: Scheme, size: Size, fallback: Fallback) -> Result<Vec<u8>> {
    in_bands(svg, scheme, size, fallback, BAND)
}

fn in_bands(svg: &str, scheme: Scheme, size: Size, fallback: Fallback, band: u32) -> Result<Vec<u8>> {
    let tree = Tree::from_str(svg, &options(fallback)).map_err(|e| undrawable(&e))?;
    let (wide, high) = (f64::from(tree.size().width()), f64::from(tree.size().height()));
    let (width, height) = size.pixels(wide, high);
    let scale = (f64::from(width) / wide).min(f64::from(height) / high);
    // Where the proportions differ, the picture stands in the middle of its own ground.
    let left = (f64::from(width) - wide * scale) / 2.0;
    let top = (f64::from(height) - high * scale) / 2.0;
    let ground = colour(theme::GROUND.of(scheme));

    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut header = encoder.write_header().map_err(|e| undrawable(&e))?;
    let mut writer = header.stream_writer().map_err(|e| undrawable(&e))?;
    let rows = (band / width).clamp(1, height);
    let mut canvas = Pixmap::new(width, rows).ok_or_else(|| undrawable(&"too large"))?;
    for first in (0..height).step_by(rows as usize) {
        canvas.fill(ground);
        let place = Transform::from_row(
            scale as f32,
            0.0,
            0.0,
            scale as f32,
            left as f32,
            (top - f64::from(first)) as f32,
        );
        resvg::render(&tree, place, &mut canvas.as_mut());
        // Nothing is transparent: the ground covers all.
        let kept = width as usize * rows.min(height - first) as usize;
        let rgb: Vec<u8> =
            canvas.data().chunks_exact(4).take(kept).flat_map(|p| [p[0], p[1], p[2]]).collect();
        std::io::Write::write_all(&mut writer, &rgb).map_err(|e| undrawable(&e))?;
    }
    writer.finish().map_err(|e| undrawable(&e))?;
    header.finish().map_err(|e| undrawable(&e))?;
    Ok(bytes)
}

fn undrawable(e: &dyn std::fmt::Display) -> Failure {
    Failure::input(format!("the picture cannot be drawn: {e}")).hint("write it as SVG")
}

/// `#rrggbb`.
fn colour(hex: &str) -> Color {
    let part = |at| hex.get(at..at + 2).and_then(|h| u8::from_str_radix(h, 16).ok()).unwrap_or(255);
    Color::from_rgba8(part(1), part(3), part(5), 255)
}

fn options(fallback: Fallback) -> Options<'static> {
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    FONTS.iter().for_each(|font| fonts.load_font_data(font.to_vec()));
    let own: Vec<fontdb::ID> = fonts.faces().map(|face| face.id).collect();
    let (plain, bold) = (own.first().copied(), own.last().copied());
    // Finding a machine's fonts takes longer than drawing: it is done when one is needed.
    let loaded = AtomicBool::new(fallback == Fallback::None);
    let among = FontResolver::default_fallback_selector();
    options.font_resolver = FontResolver {
        select_font: Box::new(move |font, _| if font.weight() >= 600 { bold } else { plain }),
        select_fallback: Box::new(move |c, used, fonts| {
            if !loaded.swap(true, Ordering::Relaxed) {
                Arc::make_mut(fonts).load_system_fonts();
            }
            among(c, used, fonts)
        }),
    };
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_leave_no_seams() {
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"90\" height=\"60\"><clipPath id=\"a\">\
                   <rect x=\"5\" y=\"5\" width=\"80\" height=\"50\"/></clipPath><g clip-path=\"url(#a)\">\
                   <path d=\"M0 0L90 60\" stroke=\"#222222\"/><circle cx=\"40\" cy=\"30\" r=\"9.3\" fill=\"#0072b2\"/>\
                   </g><text x=\"4\" y=\"40\" font-size=\"17\" font-weight=\"bold\">text</text></svg>";
        let size = Size { width: 200, height: None };
        let draw = |band| {
            let bytes = in_bands(svg, Scheme::Light, size, Fallback::None, band).unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut pixels).unwrap();
            pixels
        };
        let whole = draw(BAND);
        assert!(whole.iter().any(|&v| v < 0x40), "nothing drawn");
        // The edge of a curve that a band cuts may differ in shade, but nothing is missing or elsewhere.
        for rows in [1, 7, 64] {
            let drawn = draw(200 * rows);
            let differ = |by| drawn.iter().zip(&whole).filter(|(a, b)| a.abs_diff(**b) > by).count();
            assert_eq!(differ(80), 0, "bands of {rows} rows");
            assert!(differ(2) * 200 < whole.len(), "bands of {rows} rows: {}", differ(2));
        }
    }
}
