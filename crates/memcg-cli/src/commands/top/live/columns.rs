//! Which columns fit on the screen, and how wide they are.

use super::rows::Sort;

/// A column of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Group,
    Current,
    Used,
    Rate,
    Max,
    Peak,
    Events,
    Tasks,
    Inherited,
}

/// Blanks between two columns.
pub const GAP: usize = 2;
/// A bar, a blank, and up to `100%`.
pub const BAR: usize = 5;

/// Names come before columns one can do without, up to this width.
const READABLE: usize = 16;

/// Left to right.
const ORDER: [Column; 9] = [
    Column::Group,
    Column::Current,
    Column::Peak,
    Column::Max,
    Column::Used,
    Column::Rate,
    Column::Tasks,
    Column::Inherited,
    Column::Events,
];

/// Those that go last are the first to be left out.
const IMPORTANCE: [Column; 9] = [
    Column::Group,
    Column::Current,
    Column::Used,
    Column::Rate,
    Column::Max,
    Column::Peak,
    Column::Events,
    Column::Tasks,
    Column::Inherited,
];

impl Column {
    /// Its header.
    pub fn title(self) -> &'static str {
        match self {
            Column::Group => "GROUP",
            Column::Current => "CURRENT",
            Column::Used => "USED",
            Column::Rate => "RATE",
            Column::Max => "MAX",
            Column::Peak => "PEAK",
            Column::Events => "EVENTS",
            Column::Tasks => "TASKS",
            Column::Inherited => "INHERITED",
        }
    }

    /// Names stand left, numbers right.
    pub fn is_left(self) -> bool {
        matches!(self, Column::Group | Column::Events)
    }

    /// Whether this is what the rows are sorted by.
    pub fn is_sorted_by(self, sort: Sort) -> bool {
        matches!(
            (self, sort),
            (Column::Group, Sort::Name)
                | (Column::Current, Sort::Current)
                | (Column::Peak, Sort::Peak)
                | (Column::Rate, Sort::Rate)
                | (Column::Events, Sort::Events)
        )
    }

    fn is_extra(self) -> bool {
        matches!(self, Column::Events | Column::Tasks | Column::Inherited)
    }

    fn narrowest(self) -> usize {
        match self {
            Column::Group => 12,
            Column::Current | Column::Max | Column::Peak => 7,
            Column::Used => BAR + 5,
            Column::Rate => 10,
            Column::Events => 8,
            Column::Tasks => 5,
            Column::Inherited => 9,
        }
    }
}

/// The columns for a screen of `width`, left to right, with their widths. `group` and `events` are
/// what these two would like to have.
pub fn fit(width: usize, group: usize, events: usize) -> Vec<(Column, usize)> {
    let spare = group
        .min(READABLE)
        .saturating_sub(Column::Group.narrowest());
    let mut left = width;
    let mut chosen = Vec::new();
    for column in IMPORTANCE {
        let gap = if chosen.is_empty() { 0 } else { GAP };
        let spare = if column.is_extra() { spare } else { 0 };
        let need = column.narrowest() + gap;
        // The first is shown however narrow the screen is; after one that does not fit comes
        // nothing less important.
        if need + spare > left && !chosen.is_empty() {
            break;
        }
        left = left.saturating_sub(need);
        chosen.push(column);
    }
    let mut columns = Vec::new();
    for column in ORDER.into_iter().filter(|c| chosen.contains(c)) {
        let wish = match column {
            Column::Group => group,
            Column::Events => events,
            fixed @ (Column::Current
            | Column::Used
            | Column::Rate
            | Column::Max
            | Column::Peak
            | Column::Tasks
            | Column::Inherited) => fixed.narrowest(),
        };
        let more = wish.saturating_sub(column.narrowest()).min(left);
        left -= more;
        columns.push((column, column.narrowest() + more));
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width(columns: &[(Column, usize)]) -> usize {
        columns.iter().map(|(_, w)| w + GAP).sum::<usize>() - GAP
    }

    #[test]
    fn what_matters_less_goes_first_and_the_rest_fits() {
        for screen in 12..300 {
            let columns = fit(screen, 30, 20);
            assert!(width(&columns) <= screen, "{screen}: {columns:?}");
            assert_eq!(columns[0].0, Column::Group);
        }
        let names = |screen| -> Vec<Column> { fit(screen, 0, 0).iter().map(|c| c.0).collect() };
        assert_eq!(names(5), [Column::Group]);
        assert_eq!(names(40), [Column::Group, Column::Current, Column::Used]);
        assert_eq!(names(80).len(), 8);
        assert_eq!(names(91), ORDER);
    }

    #[test]
    fn names_get_the_room_that_is_left_and_no_more_than_they_need() {
        let columns = fit(200, 50, 20);
        assert_eq!(columns[0], (Column::Group, 50));
        assert_eq!(columns[8], (Column::Events, 20));
        assert_eq!(fit(100, 50, 20)[0].1, 12 + 9);
        // Without the number of tasks.
        assert_eq!((fit(80, 50, 0).len(), fit(80, 50, 0)[0].1), (7, 12 + 7));
    }
}
