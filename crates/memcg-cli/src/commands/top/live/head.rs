//! The lines about the process, above the tree.

use super::model::Model;
use super::paint::{BOLD, Paint};
use crate::size::{human, human_time};
use crate::snapshot::{LOW_COVERAGE, Snapshot, table};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Two lines about the process.
pub fn lines(paint: &Paint, model: &Model) -> Vec<Line<'static>> {
    let mut first = vec![Span::styled(
        format!("process {} ({})", model.pid, model.comm()),
        BOLD,
    )];
    let warm = paint.in_colour(Color::Yellow).add_modifier(Modifier::BOLD);
    let Some(now) = &model.now else {
        return vec![first.into(), "waiting for the first answer".into()];
    };
    first.push(Span::raw(format!(", up {}", human_time(now.uptime_ms))));
    if model.started > 0 {
        let processes = table::processes(model.started);
        first.push(Span::raw(format!("; not shown: {processes} it started")));
    }
    if model.paused {
        first.push(Span::styled("  PAUSED", warm));
    } else if model.lost {
        first.push(Span::styled("  connection lost, trying again", warm));
    } else if let Some(silence) = model.silence() {
        let seconds = silence.as_secs();
        let text = format!("  no answer for {seconds} s: is it stopped?");
        first.push(Span::styled(text, warm));
    }
    vec![first.into(), coverage(paint, now)]
}

fn coverage(paint: &Paint, now: &Snapshot) -> Line<'static> {
    let warm = paint.in_colour(Color::Yellow);
    let style = |wrong| if wrong { warm } else { Style::new() };
    let coverage = format!("coverage {:.1} %", now.coverage);
    let sums = format!(
        "   charged {}   rss {}   ",
        human(now.charged),
        human(now.rss)
    );
    let accounting = format!("accounting {}", now.accounting);
    Line::from(vec![
        Span::styled(coverage, style(now.coverage < LOW_COVERAGE)),
        Span::raw(sums),
        Span::styled(accounting, style(now.accounting != "on")),
        Span::raw(format!("   groups {}", now.groups.len())),
    ])
}
