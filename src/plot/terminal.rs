//! A picture of characters for a console: cells that are written once, and the text that they become.

use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};

use super::text;

/// What a console can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Characters in a line.
    pub width: u16,
    /// Lines.
    pub height: u16,
    /// Whether it shows more than ASCII.
    pub unicode: bool,
    /// Whether it shows colours.
    pub colour: bool,
}

impl Screen {
    /// The same, as large as a picture can be: what is narrower cuts text, what is larger gains nothing.
    pub fn bounded(self) -> Screen {
        Screen { width: self.width.clamp(24, 300), height: self.height.clamp(12, 100), ..self }
    }
}

/// Cells of a screen.
pub(super) struct Cells {
    /// The cells themselves, for what draws into them.
    pub buffer: Buffer,
    screen: Screen,
}

impl Cells {
    /// An empty screen of so many lines.
    pub fn new(screen: Screen, lines: u16) -> Cells {
        Cells { buffer: Buffer::empty(Rect::new(0, 0, screen.width, lines)), screen }
    }

    /// Whether these cells are on the screen and nothing stands there.
    pub fn is_free(&self, x: i32, y: i32, width: usize) -> bool {
        (0..width as i32).all(|i| self.symbol(x + i, y) == Some(" "))
    }

    /// What stands in a cell of the screen.
    pub fn symbol(&self, x: i32, y: i32) -> Option<&str> {
        let at = (u16::try_from(x).ok()?, u16::try_from(y).ok()?);
        self.buffer.cell(at).map(Cell::symbol)
    }

    /// Writes a text, cut where the screen ends.
    pub fn put(&mut self, x: u16, y: u16, words: &str, style: Style) {
        let most = self.screen.width.saturating_sub(x);
        if most > 0 && y < self.buffer.area.height {
            let words = text::clean(words);
            let words = if self.screen.unicode { words } else { plain(&words) };
            self.buffer.set_stringn(x, y, words, usize::from(most), style);
        }
    }

    /// Cells that the text needs.
    pub fn width(&self, words: &str) -> usize {
        let words = text::clean(words);
        let words = if self.screen.unicode { words } else { plain(&words) };
        ratatui_core::text::Span::raw(words).width()
    }

    /// Lines drawn in dots, as ASCII where the screen has no dots.
    pub fn settle(&mut self) {
        if !self.screen.unicode {
            for cell in &mut self.buffer.content {
                if let Some(sign) = cell.symbol().chars().next().and_then(dots) {
                    cell.set_char(sign);
                }
            }
        }
    }

    /// The lines, without spaces at their ends.
    pub fn finish(&self) -> String {
        let width = usize::from(self.screen.width);
        self.buffer.content.chunks(width).map(|cells| line(cells, self.screen.colour) + "\n").collect()
    }
}

/// One line, with the codes of its colours where they are wanted.
fn line(cells: &[Cell], colour: bool) -> String {
    let kept = cells.iter().rposition(|c| c.symbol() != " ").map_or(0, |last| last + 1);
    let mut out = String::new();
    let mut now = (Color::Reset, Modifier::empty());
    let mut skip = 0;
    for cell in &cells[..kept] {
        // A wide character covers the cell after it.
        if skip > 0 {
            skip -= 1;
            continue;
        }
        skip = ratatui_core::text::Span::raw(cell.symbol()).width().saturating_sub(1);
        let wanted = if cell.symbol() == " " { now } else { (cell.fg, cell.modifier) };
        if colour && wanted != now {
            out += &code(wanted);
            now = wanted;
        }
        out += cell.symbol();
    }
    if now != (Color::Reset, Modifier::empty()) {
        out += "\u{1b}[0m";
    }
    out
}

fn code((fg, modifier): (Color, Modifier)) -> String {
    if (fg, modifier) == (Color::Reset, Modifier::empty()) {
        return "\u{1b}[0m".into();
    }
    let number = match fg {
        Color::Red => "31",
        Color::Green => "32",
        Color::Yellow => "33",
        Color::Blue => "34",
        Color::Magenta => "35",
        Color::Cyan => "36",
        Color::DarkGray => "90",
        _ => "39",
    };
    let bold = if modifier.contains(Modifier::BOLD) { ";1" } else { "" };
    format!("\u{1b}[0{bold};{number}m")
}

/// What stands for the signs of figures in ASCII; a question mark for others.
fn plain(words: &str) -> String {
    words
        .chars()
        .map(|c| match c {
            c if c.is_ascii() => c.to_string(),
            '×' => "x".into(),
            '·' => "-".into(),
            '–' | '—' | '−' => "-".into(),
            '…' => "...".into(),
            '←' => "<-".into(),
            '→' => "->".into(),
            'µ' | 'μ' => "u".into(),
            '≤' => "<=".into(),
            '≥' => ">=".into(),
            '│' | '┤' => "|".into(),
            '─' | '┬' => "-".into(),
            '└' => "+".into(),
            '²' => "2".into(),
            _ => "?".into(),
        })
        .collect()
}

/// The ASCII sign that is nearest to the dots of a braille cell.
fn dots(braille: char) -> Option<char> {
    let bits = (braille as u32).checked_sub(0x2800).filter(|bits| *bits < 0x100)?;
    // From the top to the bottom, left and right.
    const ROWS: [u32; 4] = [0x01 | 0x08, 0x02 | 0x10, 0x04 | 0x20, 0x40 | 0x80];
    const LEFT: u32 = 0x01 | 0x02 | 0x04 | 0x40;
    let rows: Vec<usize> = (0..4).filter(|&row| bits & ROWS[row] != 0).collect();
    let (first, last) = (*rows.first()?, *rows.last()?);
    let upright = bits & LEFT == 0 || bits & !LEFT == 0;
    Some(match (first + last, last - first) {
        (_, 2..) if upright => ':',
        (_, 3..) => '/',
        (0..=1, _) => '\'',
        (5.., _) => '.',
        _ => '-',
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_become_the_sign_at_their_height() {
        let signs: Vec<Option<char>> = ['⠉', '⠒', '⠤', '⣀', '⡠', '⠔', '⡜', '⡇', 'x'].map(dots).to_vec();
        let wanted = "'--..-/:".chars().map(Some).chain([None]).collect::<Vec<_>>();
        assert_eq!(signs, wanted);
    }

    #[test]
    fn lines_end_at_their_last_sign_and_in_no_colour() {
        let screen = Screen { width: 10, height: 1, unicode: true, colour: true };
        let mut cells = Cells::new(screen, 1);
        cells.put(1, 0, "ab\u{1b}[2Jcdefghijkl", Style::new().fg(Color::Cyan));
        assert_eq!(cells.finish(), " \u{1b}[0;36mab\u{fffd}[2Jcde\u{1b}[0m\n");
    }
}
