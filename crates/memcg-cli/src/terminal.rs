//! Drawing on a terminal: its size, colour, and pictures that replace each other.
//!
//! Text is cut to the terminal's width before colour is added, so that a line is a line and a
//! picture's height is known.

#![forbid(unsafe_code)]

use crate::sys;
pub use memcg_term::output::can_draw;
use std::fmt::Write as _;
use std::io::IsTerminal;
use unicode_width::UnicodeWidthChar;

/// Columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// How a line is shown where colour is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// A table's header.
    Head,
    /// Something near its limit.
    Warm,
}

/// One line of a picture, without newline or control sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub text: String,
    /// How it is shown.
    pub tone: Tone,
}

impl Line {
    /// A plain line.
    pub fn plain(text: impl Into<String>) -> Line {
        Line {
            text: text.into(),
            tone: Tone::Plain,
        }
    }

    fn push_to(&self, out: &mut String, colour: bool) {
        let code = match self.tone {
            Tone::Head if colour => "1",
            Tone::Warm if colour => "33",
            Tone::Plain | Tone::Head | Tone::Warm => return out.push_str(&self.text),
        };
        let _ = write!(out, "\x1b[{code}m{}\x1b[0m", self.text);
    }
}

/// Whether colour is wanted on `stream`: it is a terminal that knows it, and `NO_COLOR` is not set.
pub fn colour(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    can_draw(stream) && !refused
}

/// The size of the terminal behind file descriptor `fd`, or the classic 80 by 24.
pub fn size(fd: i32) -> Size {
    sys::terminal::size(fd)
        .filter(|(columns, rows)| *columns > 0 && *rows > 0)
        .map_or(
            Size {
                columns: 80,
                rows: 24,
            },
            |(columns, rows)| Size {
                columns: columns.into(),
                rows: rows.into(),
            },
        )
}

/// The lines as text, each with a newline.
pub fn text(lines: &[Line], colour: bool) -> String {
    let mut out = String::new();
    for line in lines {
        line.push_to(&mut out, colour);
        out.push('\n');
    }
    out
}

/// Cuts a picture to a terminal: lines to its width, and to its height by dropping lines before the
/// last (a footer).
pub fn fit(mut lines: Vec<Line>, size: Size) -> Vec<Line> {
    // The cursor rests on the line below the picture, so one row is not ours.
    let room = size.rows.saturating_sub(1).max(3);
    if lines.len() > room {
        let footer = lines.pop();
        let hidden = lines.len() - (room - 2);
        lines.truncate(room - 2);
        lines.push(Line::plain(format!("… {hidden} more lines")));
        lines.extend(footer);
    }
    for line in &mut lines {
        let mut room = size.columns;
        let cut = line.text.char_indices().find(|(_, c)| {
            let width = c.width().unwrap_or(0);
            room.checked_sub(width).map(|left| room = left).is_none()
        });
        if let Some((end, _)) = cut {
            line.text.truncate(end);
        }
    }
    lines
}

/// Control text that goes back over the last `height` lines and clears them.
pub fn erase(height: usize) -> String {
    if height == 0 {
        String::new()
    } else {
        format!("\r\x1b[{height}A\x1b[J")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(n: usize) -> Vec<Line> {
        (0..n).map(|i| Line::plain(format!("line {i}"))).collect()
    }

    #[test]
    fn a_picture_that_fits_is_left_alone() {
        assert_eq!(
            fit(
                lines(5),
                Size {
                    columns: 80,
                    rows: 24
                }
            ),
            lines(5)
        );
    }

    #[test]
    fn a_picture_too_high_keeps_its_footer_and_says_what_is_hidden() {
        let cut = fit(
            lines(30),
            Size {
                columns: 80,
                rows: 11,
            },
        );
        assert_eq!(cut.len(), 10);
        assert_eq!(cut[7].text, "line 7");
        assert_eq!(cut[8].text, "… 21 more lines");
        assert_eq!(cut[9].text, "line 29");
    }

    #[test]
    fn lines_are_cut_by_the_columns_characters_take() {
        let cut = |columns| {
            let texts = vec![Line::plain("äöüß"), Line::plain("日本")];
            let cut = fit(texts, Size { columns, rows: 24 });
            cut.into_iter().map(|line| line.text).collect::<Vec<_>>()
        };
        assert_eq!(cut(2), ["äö", "日"]);
        assert_eq!(cut(3), ["äöü", "日"]);
        assert_eq!(cut(4), ["äöüß", "日本"]);
    }

    #[test]
    fn without_colour_there_are_no_control_sequences() {
        let line = Line {
            text: "GROUP".into(),
            tone: Tone::Head,
        };
        assert_eq!(text(std::slice::from_ref(&line), false), "GROUP\n");
        assert_eq!(text(&[line], true), "\x1b[1mGROUP\x1b[0m\n");
    }
}
