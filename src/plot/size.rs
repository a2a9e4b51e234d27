//! How many pixels a picture has, whatever it is drawn in: [`Size`] as the command line has it.

use std::str::FromStr;

/// Fewer pixels could not be read, more would not fit into other programs.
const PIXELS: std::ops::RangeInclusive<u32> = 100..=16_384;

/// Pixels of a picture. It is scaled to fit and keeps its proportions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Across.
    pub width: u32,
    /// Down; what the picture's proportions give where it is not said.
    pub height: Option<u32>,
}

impl Default for Size {
    fn default() -> Self {
        Size { width: 1800, height: None }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let number = |text: &str| -> Result<u32, String> {
            let value =
                Some(text).filter(|t| t.bytes().all(|b| b.is_ascii_digit())).and_then(|t| t.parse().ok());
            value.filter(|pixels| PIXELS.contains(pixels)).ok_or_else(|| {
                format!("write pixels as 1800 or 1800x1200, each from {} to {}", PIXELS.start(), PIXELS.end())
            })
        };
        match text.split_once('x') {
            None => Ok(Size { width: number(text)?, height: None }),
            Some((width, height)) => Ok(Size { width: number(width)?, height: Some(number(height)?) }),
        }
    }
}

impl Size {
    /// The pixels for a picture of these proportions. A very high one becomes narrower than was asked for.
    pub fn pixels(self, width: f64, height: f64) -> (u32, u32) {
        if let Some(height) = self.height {
            return (self.width, height);
        }
        let most = f64::from(*PIXELS.end());
        let scale = (f64::from(self.width) / width).min(most / height);
        let whole = |value: f64| (value * scale).round().clamp(1.0, most) as u32;
        (whole(width), whole(height))
    }

    /// The picture that `svg` is, shown in this size; its coordinates stay.
    pub fn resize(self, svg: &str) -> String {
        let sized = || {
            let (before, rest) = svg.split_once(" width=\"")?;
            let (width, rest) = rest.split_once("\" height=\"")?;
            let (height, after) = rest.split_once('"')?;
            let (width, height) = self.pixels(width.parse().ok()?, height.parse().ok()?);
            Some(format!("{before} width=\"{width}\" height=\"{height}\"{after}"))
        };
        sized().unwrap_or_else(|| svg.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_bounded() {
        assert_eq!("1800".parse(), Ok(Size { width: 1800, height: None }));
        assert_eq!("100x16384".parse(), Ok(Size { width: 100, height: Some(16_384) }));
        for wrong in [
            "",
            "x",
            "99",
            "16385",
            "800x",
            "x600",
            "800x99",
            "800x600x3",
            "+800",
            "8e2",
            "-800",
            "99999999999",
        ] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn proportions_are_kept_unless_both_are_given() {
        let wide = Size { width: 1800, height: None };
        assert_eq!(wide.pixels(900.0, 640.0), (1800, 1280));
        assert_eq!(wide.pixels(900.0, 90_000.0), (164, 16_384));
        assert_eq!(Size { height: Some(300), ..wide }.pixels(900.0, 640.0), (1800, 300));
        let svg = "<svg width=\"900\" height=\"640\" viewBox=\"0 0 900 640\"><rect width=\"900\" height=\"640\"/></svg>";
        assert_eq!(
            wide.resize(svg),
            "<svg width=\"1800\" height=\"1280\" viewBox=\"0 0 900 640\"><rect width=\"900\" height=\"640\"/></svg>"
        );
    }
}
