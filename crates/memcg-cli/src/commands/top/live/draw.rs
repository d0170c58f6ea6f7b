//! The picture of the view: a header about the process, the tree, a line of keys, and a window over
//! them.

use super::cells;
use super::columns::{self, BAR, Column};
use super::head;
use super::model::{Model, Over};
use super::paint::{BOLD, Paint};
use super::rows::Row;
use super::window;
use crate::size::{human, human_rate};
use crate::snapshot::{Group, table};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};

const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws the state. What does not fit is cut; `model` learns how many rows have room.
pub fn picture(frame: &mut Frame<'_>, model: &mut Model, colour: bool) {
    let [top, body, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let paint = Paint { colour };
    let tree = paint.tree(model, body);
    frame.render_widget(Text::from(head::lines(&paint, model)), top);
    frame.render_widget(Text::from(tree), body);
    frame.render_widget(keys(model), foot);
    match &mut model.over {
        Over::Nothing => {}
        Over::Help => window::help(frame),
        Over::Owners(owners) => window::owners(frame, owners),
    }
}

impl Paint {
    /// The header of the tree, and as many of its rows as have room.
    fn tree(&self, model: &mut Model, area: Rect) -> Vec<Line<'static>> {
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        model.page = height.saturating_sub(1).max(1);
        let last_top = model.rows.len().saturating_sub(model.page);
        let lowest_top = (model.cursor + 1).saturating_sub(model.page);
        model.top = model
            .top
            .clamp(lowest_top, model.cursor.max(lowest_top))
            .min(last_top);
        let Some(now) = &model.now else {
            return Vec::new();
        };

        let shown = &model.rows[model.top..model.rows.len().min(model.top + model.page)];
        let group = |row: &Row| &now.groups[row.index];
        let names: Vec<String> = shown.iter().map(|row| row.label(group(row))).collect();
        let events = shown.iter().filter_map(|row| table::events(group(row)));
        let columns = columns::fit(
            width,
            model.widest,
            events.map(|events| events.len()).max().unwrap_or(0),
        );

        let mut lines = vec![header(&columns, model)];
        for (i, (row, name)) in shown.iter().zip(&names).enumerate() {
            let line = self.row(&columns, row, group(row), name);
            let selected = model.top + i == model.cursor;
            lines.push(if selected {
                cells::fill(line, width)
            } else {
                line
            });
        }
        lines
    }

    fn row(
        &self,
        columns: &[(Column, usize)],
        row: &Row,
        group: &Group,
        name: &str,
    ) -> Line<'static> {
        let mut spans = Vec::new();
        for (column, width) in columns {
            let size = |bytes: Option<u64>| bytes.map_or_else(dash, human);
            let text = match column {
                Column::Group => name.to_owned(),
                Column::Current => human(group.current),
                Column::Peak => size(group.peak),
                Column::Max => table::limit(group.max.as_ref()),
                Column::Rate => row.rate.map_or_else(dash, human_rate),
                Column::Tasks => group.tasks.map_or_else(dash, |n| n.to_string()),
                Column::Inherited => size(group.inherited),
                Column::Events => table::events(group).unwrap_or_else(dash),
                Column::Used => {
                    self.used(group, &mut spans);
                    continue;
                }
            };
            let style = match (column, row.folded) {
                (Column::Group, true) => BOLD,
                _ => Style::new(),
            };
            cells::push(&mut spans, &text, *width, column.is_left(), style);
        }
        Line::from(spans)
    }

    /// A bar and a percentage, or nothing where there is no limit.
    fn used(&self, group: &Group, spans: &mut Vec<Span<'static>>) {
        let Some(part) = group.used() else {
            return cells::push(spans, "-", BAR + 5, false, Style::new());
        };
        let style = self.in_colour(match part {
            ..0.7 => Color::Green,
            ..0.9 => Color::Yellow,
            _ => Color::Red,
        });
        cells::push(spans, &cells::bar(part, BAR), BAR, true, style);
        let percent = format!("{:.0}%", (part * 100.0).min(999.0));
        spans.push(Span::styled(format!("{percent:>5}"), Style::new()));
    }
}

fn header(columns: &[(Column, usize)], model: &Model) -> Line<'static> {
    let mut spans = Vec::new();
    for (column, width) in columns {
        let style = match column.is_sorted_by(model.sort) {
            true => BOLD.add_modifier(Modifier::UNDERLINED),
            false => BOLD,
        };
        cells::push(&mut spans, column.title(), *width, column.is_left(), style);
    }
    Line::from(spans)
}

fn keys(model: &Model) -> Line<'static> {
    let (sort, way) = (
        model.sort.word(),
        if model.reversed { " reversed" } else { "" },
    );
    let seconds = model.interval.as_secs_f64();
    let pause = if model.paused { "go on" } else { "pause" };
    let text = format!(
        "q quit  ? help  s sort: {sort}{way}  r reverse  p {pause}  +/- every {seconds} s  o owners  Enter fold"
    );
    Line::styled(text, DIM)
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::super::owners::Owners;
    use super::*;
    use crate::snapshot::parse;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;
    use std::time::Duration;

    const TEXT: &str = "\
pid=42 comm=my%20app uptime_ms=1500 rss=2097152 charged=1048576 coverage=50.0 accounting=on
path\tcurrent\tpeak\tmax\thigh\ttasks\tinherited\tev_high\tev_max
/\t1048576\t2097152\tmax\tmax\t1\t0\t0\t0
/w\t8192\t8192\t16384\tmax\t2\t512\t1\t3
/w/a%20b\t4096\t4096\tmax\tmax\t0\t0\t0\t0
/long-name-of-a-tenant-that-goes-on\t1\t1\tmax\tmax\t0\t0\t0\t0
";

    fn model() -> Model {
        let mut model = Model::new(42, Duration::from_secs(1));
        model.see(parse(TEXT).expect("a snapshot"));
        model
    }

    fn drawn(model: &mut Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
        let draw = |frame: &mut Frame<'_>| picture(frame, model, true);
        let buffer = terminal.draw(draw).expect("a picture").buffer.clone();
        let line = |y| {
            (0..width)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
        };
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn the_tree_stands_below_a_header_about_the_process() {
        let lines = drawn(&mut model(), 110, 9);
        assert_eq!(
            lines[..7],
            [
                "process 42 (my app), up 1.5 s",
                "coverage 50.0 %   charged 1.0M   rss 2.0M   accounting on   groups 4",
                "GROUP                            CURRENT     PEAK      MAX        USED        RATE  TASKS  INHERITED  EVENTS",
                "▾ /                                 1.0M     2.0M      max           -           -      1          0  -",
                "  ▾ w                               8.0K     8.0K    16.0K  ██▌    50%           -      2        512  high:1 …",
                "      a b                           4.0K     4.0K      max           -           -      0          0  -",
                "    long-name-of-a-tenant-that…        1        1      max           -           -      0          0  -",
            ]
        );
        assert!(lines[8].starts_with("q quit  ? help  s sort: current  r reverse"));
    }

    #[test]
    fn processes_that_were_started_are_counted_beside_the_one_that_is_shown() {
        let mut model = model();
        model.started = 1;
        assert_eq!(
            drawn(&mut model, 80, 9)[0],
            "process 42 (my app), up 1.5 s; not shown: 1 process it started"
        );
    }

    #[test]
    fn every_size_of_the_screen_has_a_picture() {
        let mut model = model();
        for over in ["", "?", "o"] {
            for c in over.chars() {
                keys::press(&mut model, KeyCode::Char(c).into());
            }
            for width in [1, 2, 5, 11, 12, 13, 40, 80, 200, 400] {
                for height in [1, 2, 3, 4, 5, 24, 100] {
                    drawn(&mut model, width, height);
                }
            }
            model.over = Over::Nothing;
        }
        let narrow = drawn(&mut model, 40, 8);
        assert_eq!(narrow[2], "GROUP                CURRENT        USED");
        assert_eq!(narrow[6], "    long-name-of-a…        1           -");
    }

    #[test]
    fn the_row_the_user_is_at_is_always_on_the_screen() {
        let mut model = model();
        for (row, shown) in [(3, "long-n"), (0, "/"), (2, "a b")] {
            model.go_to(row);
            let lines = drawn(&mut model, 80, 5);
            assert!(lines[3].contains(shown), "{lines:?}");
        }
        model.go_to(3);
        drawn(&mut model, 80, 5);
        // There is room again for what was above.
        assert!(drawn(&mut model, 80, 24)[3].contains('/'));
    }

    #[test]
    fn windows_scroll_and_keep_their_header() {
        let mut model = model();
        let mut owners = Owners::new(b"/w");
        let lines: String = (0..50).map(|i| format!("task-{i}\t{i}\n")).collect();
        owners.fill(Ok(format!("owner\tbytes\n{lines}")));
        owners.scroll(1000);
        model.over = Over::Owners(owners);
        let lines = drawn(&mut model, 60, 12);
        assert!(lines[0].contains(" owners: /w "), "{lines:?}");
        assert!(lines[1].contains("OWNER"), "{lines:?}");
        assert!(lines[10].contains("task-49"), "{lines:?}");
    }
}
