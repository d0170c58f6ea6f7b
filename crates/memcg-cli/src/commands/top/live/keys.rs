//! What keys do to the state of the view.

use super::model::{Model, Over};
use super::owners::Owners;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::time::Duration;

/// The intervals `+` and `-` go through, in milliseconds.
const INTERVALS: [u64; 9] = [100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000];

/// The keys, as the help window shows them.
pub const HELP: [(&str, &str); 12] = [
    ("Up Down j k", "move"),
    ("PageUp PageDown Home End", "move far"),
    ("Enter Space", "fold or unfold the group"),
    ("Left h", "fold, or go to the group above"),
    ("Right l", "unfold, or go to the first group below"),
    ("s", "sort by the next: current peak rate events name"),
    ("r", "turn the order round"),
    ("p", "pause and go on"),
    ("+ -", "a longer or shorter time between two looks"),
    ("o", "owners: what ended tasks and groups left in the group"),
    ("?", "this help"),
    ("q Esc", "close a window, or quit"),
];

/// What a key asks of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing but the next picture.
    Go,
    /// A picture drawn anew.
    Redraw,
    /// To be stopped.
    Stop,
    /// The end.
    Quit,
}

/// Does what a key asks for.
#[expect(clippy::wildcard_enum_match_arm, reason = "crossterm's keys are many")]
pub fn press(model: &mut Model, key: KeyEvent) -> Step {
    if key.kind == KeyEventKind::Release {
        return Step::Go;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | '\\' | '4') => Step::Quit,
            KeyCode::Char('z') => Step::Stop,
            KeyCode::Char('l') => Step::Redraw,
            _ => Step::Go,
        };
    }
    let page = isize::try_from(model.page).unwrap_or(isize::MAX);
    let way = match key.code {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -page,
        KeyCode::PageDown => page,
        KeyCode::Home | KeyCode::Char('g') => isize::MIN,
        KeyCode::End | KeyCode::Char('G') => isize::MAX,
        _ => 0,
    };
    match (&mut model.over, key.code) {
        (Over::Nothing, KeyCode::Char('q') | KeyCode::Esc) => return Step::Quit,
        (_, KeyCode::Char('q') | KeyCode::Esc)
        | (Over::Help, KeyCode::Char('?'))
        | (Over::Owners(_), KeyCode::Char('o')) => model.over = Over::Nothing,
        (_, KeyCode::Char('?')) => model.over = Over::Help,
        (Over::Owners(owners), _) if way != 0 => owners.scroll(way),
        (_, _) if way != 0 => model.go_to(model.cursor.saturating_add_signed(way)),
        (_, code) => act(model, code),
    }
    Step::Go
}

#[expect(clippy::wildcard_enum_match_arm, reason = "crossterm's keys are many")]
fn act(model: &mut Model, code: KeyCode) {
    match code {
        KeyCode::Char('p') => model.paused = !model.paused,
        KeyCode::Char('+' | '=') => model.interval = longer(model.interval),
        KeyCode::Char('-' | '_') => model.interval = shorter(model.interval),
        KeyCode::Char('s') => {
            (model.sort, model.reversed) = (model.sort.next(), false);
            model.arrange();
        }
        KeyCode::Char('r') => {
            model.reversed = !model.reversed;
            model.arrange();
        }
        KeyCode::Char('o') if !model.rows.is_empty() => {
            model.over = Over::Owners(Owners::new(model.selected()));
        }
        code => fold(model, code),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "crossterm's keys are many")]
fn fold(model: &mut Model, code: KeyCode) {
    let Some(row) = model.rows.get(model.cursor) else {
        return;
    };
    let (below, folded) = (row.below > 0, row.folded);
    match code {
        KeyCode::Enter | KeyCode::Char(' ') if below => model.fold(!folded),
        KeyCode::Left | KeyCode::Char('h') if below && !folded => model.fold(true),
        KeyCode::Left | KeyCode::Char('h') => {
            if let Some(parent) = model.parent_of(model.cursor) {
                model.go_to(parent);
            }
        }
        KeyCode::Right | KeyCode::Char('l') if folded => model.fold(false),
        KeyCode::Right | KeyCode::Char('l') if below => model.go_to(model.cursor + 1),
        _ => {}
    }
}

fn shorter(interval: Duration) -> Duration {
    let steps = INTERVALS.map(Duration::from_millis);
    let next = steps.into_iter().rev().find(|step| *step < interval);
    next.unwrap_or(interval)
}

fn longer(interval: Duration) -> Duration {
    let steps = INTERVALS.map(Duration::from_millis);
    let next = steps.into_iter().find(|step| *step > interval);
    next.unwrap_or(interval)
}

#[cfg(test)]
mod tests {
    use super::super::rows::Sort;
    use super::super::rows::tests::snapshot;
    use super::*;

    fn model() -> Model {
        let mut model = Model::new(1, Duration::from_secs(1));
        let groups = [
            ("/", 100),
            ("/b", 60),
            ("/a", 10),
            ("/b/y", 40),
            ("/b/x", 20),
        ];
        model.see(snapshot(1000, &groups));
        model
    }

    fn press_all(model: &mut Model, keys: &[KeyCode]) -> Step {
        let steps = keys.iter().map(|code| press(model, (*code).into()));
        steps.last().unwrap_or(Step::Go)
    }

    fn text(keys: &str) -> Vec<KeyCode> {
        keys.chars().map(KeyCode::Char).collect()
    }

    #[test]
    fn moving_stays_within_the_rows() {
        let mut model = model();
        model.page = 3;
        for (keys, row) in [("k", 0), ("jj", 2), ("G", 4), ("j", 4), ("g", 0)] {
            press_all(&mut model, &text(keys));
            assert_eq!(model.cursor, row, "{keys}");
        }
        press_all(&mut model, &[KeyCode::PageDown, KeyCode::PageDown]);
        assert_eq!(model.cursor, 4);
        press_all(&mut model, &[KeyCode::PageUp]);
        assert_eq!(model.selected(), b"/b");
    }

    #[test]
    fn folding_hides_and_shows_and_left_and_right_go_along_the_tree() {
        let mut model = model();
        press_all(&mut model, &[KeyCode::Down, KeyCode::Enter]);
        assert_eq!(model.rows.len(), 3);
        press_all(&mut model, &text(" "));
        assert_eq!(model.rows.len(), 5);
        press_all(&mut model, &[KeyCode::Right, KeyCode::Down]);
        assert_eq!(model.selected(), b"/b/x");
        press_all(&mut model, &[KeyCode::Left]);
        assert_eq!((model.selected(), model.rows.len()), (&b"/b"[..], 5));
        press_all(&mut model, &[KeyCode::Left]);
        assert_eq!((model.selected(), model.rows.len()), (&b"/b"[..], 3));
        press_all(&mut model, &[KeyCode::Left, KeyCode::Left]);
        assert_eq!((model.selected(), model.rows.len()), (&b"/"[..], 1));
        press_all(&mut model, &[KeyCode::Left, KeyCode::Right, KeyCode::Right]);
        assert_eq!((model.selected(), model.rows.len()), (&b"/b"[..], 3));
    }

    #[test]
    fn sorting_goes_round_and_each_new_order_begins_unreversed() {
        let mut model = model();
        press_all(&mut model, &text("r"));
        assert_eq!((model.sort, model.reversed), (Sort::Current, true));
        press_all(&mut model, &text("s"));
        assert_eq!((model.sort, model.reversed), (Sort::Peak, false));
        press_all(&mut model, &text("ssss"));
        assert_eq!(model.sort, Sort::Current);
    }

    #[test]
    fn the_interval_goes_through_sensible_steps_from_wherever_it_began() {
        let mut model = model();
        model.interval = Duration::from_millis(700);
        press_all(&mut model, &text("+"));
        assert_eq!(model.interval, Duration::from_secs(1));
        press_all(&mut model, &text("--"));
        assert_eq!(model.interval, Duration::from_millis(200));
        press_all(&mut model, &text("----"));
        assert_eq!(model.interval, Duration::from_millis(100));
        press_all(&mut model, &text("+++++++++++++"));
        assert_eq!(model.interval, Duration::from_secs(60));
    }

    #[test]
    fn esc_and_q_close_a_window_first_and_then_quit() {
        let mut model = model();
        for open in ["?", "o"] {
            for close in [KeyCode::Esc, KeyCode::Char('q')] {
                press_all(&mut model, &text(open));
                assert!(!matches!(model.over, Over::Nothing), "{open}");
                assert_eq!(press_all(&mut model, &[close]), Step::Go);
                assert!(matches!(model.over, Over::Nothing), "{open}");
            }
        }
        assert_eq!(press_all(&mut model, &[KeyCode::Esc]), Step::Quit);
        assert_eq!(press_all(&mut model, &text("q")), Step::Quit);
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        assert_eq!(press(&mut model, control('c')), Step::Quit);
        assert_eq!(press(&mut model, control('z')), Step::Stop);
    }

    #[test]
    fn keys_before_anything_was_seen_do_no_harm() {
        let mut model = Model::new(1, Duration::from_secs(1));
        press_all(&mut model, &text("jkgGhl srp+-o?"));
        press_all(&mut model, &[KeyCode::Enter, KeyCode::PageDown]);
        assert_eq!(model.cursor, 0);
    }
}
