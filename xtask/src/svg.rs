//! Text of a terminal as an SVG picture, readable on a light page and on a dark one.
//!
//! Every word group of a line (what two blanks separate) is placed at its column, so tables line up
//! whatever monospaced font the reader has.
//!
//! Invariants: the same lines give the same bytes. Everything is inside the picture.
//! Depends on: nothing.
//! Never: loads a font, a style sheet or an image.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

/// The size of the text and what follows from it, in pixels. A monospaced character is 0.6 of its
/// size wide.
const FONT: f64 = 14.0;
const CELL: f64 = FONT * 0.602;
const LINE: f64 = 20.0;
const MARGIN: f64 = 18.0;

/// How a line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// What somebody typed.
    Typed,
    /// A table's header.
    Head,
    /// Less important than the rest.
    Faint,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Tone::Plain => "p",
            Tone::Typed => "t",
            Tone::Head => "h",
            Tone::Faint => "f",
        }
    }
}

/// A picture of `lines`; `title` is for readers who cannot see it.
pub fn picture(title: &str, lines: &[(Tone, &str)]) -> String {
    let columns = lines.iter().map(|(_, text)| text.chars().count()).max();
    let width = (2.0 * MARGIN + columns.unwrap_or(0) as f64 * CELL).ceil();
    let height = (2.0 * MARGIN + lines.len() as f64 * LINE).ceil();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>{}</title>\n{STYLE}\
         <rect class=\"b\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n",
        escape(title),
        width - 1.0,
        height - 1.0
    );
    for (i, (tone, text)) in lines.iter().enumerate() {
        let y = MARGIN + (i as f64 + 0.75) * LINE;
        for (column, words) in pieces(text) {
            let x = MARGIN + column as f64 * CELL;
            let _ = writeln!(
                svg,
                "<text class=\"{}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
                tone.class(),
                escape(words)
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

const STYLE: &str = "\
<style>
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }
.b { fill: #f6f8fa; stroke: #d0d7de; }
.p { fill: #1f2328; }
.t { fill: #0550ae; font-weight: bold; }
.h { fill: #1f2328; font-weight: bold; }
.f { fill: #59636e; }
@media (prefers-color-scheme: dark) {
.b { fill: #161b22; stroke: #30363d; }
.p { fill: #e6edf3; }
.t { fill: #79c0ff; }
.h { fill: #e6edf3; }
.f { fill: #9198a1; }
}
</style>
";

/// The groups of words of a line, each with the column it begins in.
fn pieces(line: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut column = 0;
    let mut rest = line;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        (column, rest) = (column + blanks, &rest[blanks..]);
        let end = rest.find("  ").unwrap_or(rest.len());
        let words = rest[..end].trim_end_matches(' ');
        if !words.is_empty() {
            found.push((column, words));
        }
        column += rest[..end].chars().count();
        rest = &rest[end..];
    }
    found
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_at_their_columns() {
        assert_eq!(
            pieces("  a b  12.0M   -"),
            [(2, "a b"), (7, "12.0M"), (15, "-")]
        );
        assert_eq!(pieces("é  x"), [(0, "é"), (3, "x")]);
        assert_eq!(pieces(""), []);
        assert_eq!(pieces("   "), []);
    }

    #[test]
    fn the_picture_is_as_wide_as_its_longest_line_and_breaks_on_nothing() {
        let lines = [
            (Tone::Typed, "$ a <b> & \"c\""),
            (Tone::Plain, "12345678901234567890"),
        ];
        let svg = picture("a & b", &lines);
        assert!(svg.contains("width=\"205\" height=\"76\""), "{svg}");
        assert!(
            svg.contains(">$ a &lt;b&gt; &amp; &quot;c&quot;</text>"),
            "{svg}"
        );
        assert!(svg.contains("<title>a &amp; b</title>"), "{svg}");
        assert!(svg.contains("prefers-color-scheme: dark"), "{svg}");
        assert_eq!(svg, picture("a & b", &lines));
    }
}
