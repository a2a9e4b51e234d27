//! What a picture is written as: the bytes of a file, of the kind that its ending says.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::{Failure, Result};
use crate::plot::size::Size;
use crate::plot::theme::Theme;

/// A kind of picture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Shapes and text.
    Svg,
    /// Pixels.
    Png,
}

impl Kind {
    /// The kind of a file by its ending.
    ///
    /// # Errors
    /// An ending that is of no picture, or of one that this program was built without.
    pub fn of(path: &Path) -> Result<Kind> {
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "svg" => Ok(Kind::Svg),
            "png" if cfg!(feature = "png") => Ok(Kind::Png),
            "png" => Err(Failure::input(format!("{}: this llmroof was built without PNG", path.display()))
                .hint("end the name in .svg, or build with the feature png, which is on by default")),
            _ => Err(Failure::input(format!("{}: no kind of picture has this ending", path.display()))
                .hint("end the name in .svg, .png or .html, or use - for SVG on stdout")),
        }
    }
}

/// How a figure becomes a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// As what.
    pub kind: Kind,
    /// In which theme it must be drawn.
    pub theme: Theme,
    /// In how many pixels; `None` is the usual size of the kind.
    pub size: Option<Size>,
}

impl Form {
    /// The form of a file; of stdout where there is none. Pixels cannot change with their reader's theme.
    ///
    /// # Errors
    /// As [`Kind::of`].
    pub fn of(target: Option<&Path>, theme: Theme, size: Option<Size>) -> Result<Form> {
        let kind = target.map_or(Ok(Kind::Svg), Kind::of)?;
        let theme = if kind == Kind::Png { Theme::Fixed(theme.scheme()) } else { theme };
        Ok(Form { kind, theme, size })
    }

    /// The bytes of a figure.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn encode(self, svg: String) -> Result<Vec<u8>> {
        match (self.kind, self.size) {
            (Kind::Svg, None) => Ok(svg.into_bytes()),
            (Kind::Svg, Some(size)) => Ok(size.resize(&svg).into_bytes()),
            (Kind::Png, size) => png(&svg, self.theme, size.unwrap_or_default()),
        }
    }
}

#[cfg(feature = "png")]
fn png(svg: &str, theme: Theme, size: Size) -> Result<Vec<u8>> {
    use crate::raster::{Fallback, png};
    png(svg, theme.scheme(), size, Fallback::System)
}

/// [`Kind::of`] gives no such kind.
#[cfg(not(feature = "png"))]
fn png(_svg: &str, _theme: Theme, _size: Size) -> Result<Vec<u8>> {
    Err(Failure::input("this llmroof was built without PNG"))
}
