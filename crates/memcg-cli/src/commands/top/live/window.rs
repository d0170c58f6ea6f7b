//! Windows over the tree.

use super::keys::HELP;
use super::owners::Owners;
use crate::client::escape::printable;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

/// The keys.
pub fn help(frame: &mut Frame<'_>) {
    let line = |(key, what): &(&str, &str)| format!("{key:<26}{what}");
    let lines: Vec<String> = HELP.iter().map(line).collect();
    window(frame, " keys ", &lines, &mut 0);
}

/// The owners of a group.
pub fn owners(frame: &mut Frame<'_>, owners: &mut Owners) {
    let title = format!(" owners: {} ", printable(&owners.path));
    match &owners.lines {
        Some(lines) => window(frame, &title, lines, &mut owners.top),
        None => window(frame, &title, &["asking".to_owned()], &mut 0),
    }
}

/// A window over the middle. With more lines than room the first stays and the others begin at
/// `top`, which is kept within what there is.
fn window(frame: &mut Frame<'_>, title: &str, lines: &[String], top: &mut usize) {
    let screen = frame.area();
    let widest = lines.iter().map(|line| Span::raw(line).width()).max();
    let wish = (
        widest.unwrap_or(0).max(Span::raw(title).width()) + 4,
        lines.len() + 2,
    );
    let width = u16::try_from(wish.0).unwrap_or(u16::MAX).min(screen.width);
    let height = u16::try_from(wish.1).unwrap_or(u16::MAX).min(screen.height);
    let area = Rect {
        x: screen.x + (screen.width - width) / 2,
        y: screen.y + (screen.height - height) / 2,
        width,
        height,
    };
    let room = usize::from(height.saturating_sub(2));
    let (first, rest) = lines.split_at(lines.len().min(1));
    *top = (*top).min(rest.len().saturating_sub(room.saturating_sub(1)));
    let shown = first.iter().chain(rest.iter().skip(*top)).take(room);
    let text: Vec<Line<'_>> = shown.map(|line| Line::raw(format!(" {line}"))).collect();
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(text).block(Block::bordered().title(title)),
        area,
    );
}
