//! Writes HTML: elements that always close, and text that is always escaped.

use crate::plot::text;

/// A page, or a part of one, as it grows. Strings become text or attribute values here and nowhere else; names of
/// elements and attributes are literals of this program.
#[derive(Debug, Default)]
pub(super) struct Html {
    out: String,
}

/// Names and values.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

impl Html {
    fn start(&mut self, tag: &'static str, attributes: Attributes) {
        self.out.push('<');
        self.out.push_str(tag);
        for (name, value) in attributes {
            self.out.push(' ');
            self.out.push_str(name);
            if !value.is_empty() {
                self.out.push_str("=\"");
                self.out.push_str(&text::escape(value));
                self.out.push('"');
            }
        }
        self.out.push('>');
    }

    /// An element with what `fill` puts into it.
    pub fn element(&mut self, tag: &'static str, attributes: Attributes, fill: impl FnOnce(&mut Html)) {
        self.start(tag, attributes);
        fill(self);
        self.out.push_str("</");
        self.out.push_str(tag);
        self.out.push('>');
    }

    /// An element that holds text alone.
    pub fn leaf(&mut self, tag: &'static str, attributes: Attributes, text: &str) {
        self.element(tag, attributes, |html| html.text(text));
    }

    /// An element that has no content and no end.
    pub fn void(&mut self, tag: &'static str, attributes: Attributes) {
        self.start(tag, attributes);
    }

    /// Text.
    pub fn text(&mut self, text: &str) {
        self.out.push_str(&text::escape(text));
    }

    /// A new line in the source, for those who read it.
    pub fn line(&mut self) {
        self.out.push('\n');
    }

    /// A link to a term of the method.
    pub fn term(&mut self, term: &str, text: &str) {
        self.leaf("a", &[("class", "term"), ("href", &format!("#term-{term}"))], text);
    }

    /// Markup of this program: files of `page/`, pictures of `plot`, and JSON without `<`.
    pub fn trusted(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.out
    }
}
