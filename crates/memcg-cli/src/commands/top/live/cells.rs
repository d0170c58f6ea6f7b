//! The pieces a row is made of.

use super::columns::GAP;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Appends a cell of exactly `width`, and the gap before it.
pub fn push(spans: &mut Vec<Span<'static>>, text: &str, width: usize, left: bool, style: Style) {
    let text = cut(text, width);
    let blanks = " ".repeat(width - Span::raw(&text).width());
    let gap = if spans.is_empty() { 0 } else { GAP };
    let before = " ".repeat(gap) + if left { "" } else { &blanks };
    spans.push(Span::raw(before));
    spans.push(Span::styled(text, style));
    if left {
        spans.push(Span::raw(blanks));
    }
}

/// The text within `width` columns of the screen; what is cut off is an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if Span::raw(&kept).width() >= width {
            kept.pop();
            break;
        }
    }
    kept + "…"
}

/// The line the user is at, to the edge of the screen.
pub fn fill(mut line: Line<'static>, width: usize) -> Line<'static> {
    let blanks = width.saturating_sub(line.width());
    line.push_span(Span::raw(" ".repeat(blanks)));
    line.style(SELECTED)
}

/// The part as a bar of `width` characters, in eighths.
pub fn bar(part: f64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let all = (part.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let mut bar = "█".repeat(all / 8);
    if !all.is_multiple_of(8) {
        bar.push(EIGHTHS[all % 8]);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_in_eighths_and_end_at_the_whole() {
        assert_eq!(bar(0.0, 5), "");
        assert_eq!(bar(0.5, 5), "██▌");
        assert_eq!(bar(1.0, 5), "█████");
        assert_eq!(bar(7.5, 5), "█████");
    }

    #[test]
    fn what_is_cut_fits_and_says_that_it_is_cut() {
        assert_eq!(cut("tenant", 6), "tenant");
        assert_eq!(cut("tenants", 6), "tenan…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("ab", 1), "…");
    }
}
