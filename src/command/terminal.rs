//! What the terminal on stdout can show.

use std::env;
use std::io::IsTerminal;

use terminal_size::{Height, Width};

use crate::plot::terminal::Screen;

/// The screen that stdout goes to: of 80 columns and 24 lines where it goes elsewhere. `COLUMNS` counts more than what
/// the terminal says, and a file or pipe gets no colours.
pub fn screen() -> Screen {
    let stdout = std::io::stdout();
    let size = terminal_size::terminal_size_of(&stdout).map(|(Width(w), Height(h))| (w, h));
    let (width, height) = size.filter(|(w, h)| *w > 0 && *h > 0).unwrap_or((80, 24));
    let set = |name| env::var_os(name).and_then(|value| value.into_string().ok()).filter(|v| !v.is_empty());
    Screen {
        width: set("COLUMNS")
            .and_then(|columns| columns.trim().parse().ok())
            .filter(|c| *c > 0)
            .unwrap_or(width),
        height,
        unicode: is_utf8(["LC_ALL", "LC_CTYPE", "LANG"].map(set)),
        colour: stdout.is_terminal()
            && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && set("TERM").is_none_or(|kind| kind != "dumb"),
    }
}

/// Whether these values of `LC_ALL`, `LC_CTYPE` and `LANG` mean UTF-8: the first that is set counts.
fn is_utf8(locale: [Option<String>; 3]) -> bool {
    match locale.into_iter().flatten().next() {
        Some(name) => {
            let name = name.to_ascii_lowercase();
            name.ends_with("utf-8")
                || name.ends_with("utf8")
                || name.contains("utf-8@")
                || name.contains("utf8@")
        }
        // Elsewhere the locale is not in the environment.
        None => !cfg!(unix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_that_is_set_decides() {
        let of = |names: [&str; 3]| is_utf8(names.map(|n| Some(n.to_string()).filter(|n| !n.is_empty())));
        assert!(of(["", "", "de_DE.UTF-8"]) && of(["C.utf8", "", "C"]) && of(["", "en_GB.UTF-8@euro", "C"]));
        assert!(
            !of(["C", "en_US.UTF-8", "en_US.UTF-8"])
                && !of(["", "", "de_DE.ISO-8859-1"])
                && !of(["POSIX", "", ""])
        );
    }
}
