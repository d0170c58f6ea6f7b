//! What is expected, as values: sums of terms that compare, and short forms.
//!
//! Invariants: a sum has one term at least; the sign of the first is plus.
//! Depends on: `comparison`, `figures`.
//! Never: asks the engine for anything.

use crate::expect::comparison::Operator;
use crate::expect::figures::Figure;
use crate::text::line::Name;
use crate::text::number::{Number, Tolerance};
use crate::text::reference::Reference;
use crate::text::word::show;

/// One part of a sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// A number, as written.
    Number(Number, String),
    /// What a file says.
    File(Reference),
    /// A figure of a task, subsystem or cache, `TASK:held`.
    Of {
        /// Whose.
        name: Name,
        /// Which figure.
        figure: &'static Figure,
    },
    /// Any other word.
    Text(String),
}

impl Term {
    /// As it is written.
    pub fn text(&self) -> String {
        match self {
            Term::Number(_, text) | Term::Text(text) => text.clone(),
            Term::File(reference) => reference.text.clone(),
            Term::Of { name, figure } => format!("{}:{}", show(name), figure.name),
        }
    }
}

/// A sum: terms, each added or taken away.
pub type Sum = Vec<(bool, Term)>;

/// A sum as it is written.
pub fn sum_text(sum: &Sum) -> String {
    let mut text = String::new();
    for (i, (minus, term)) in sum.iter().enumerate() {
        if i > 0 {
            text += if *minus { " - " } else { " + " };
        }
        text += &term.text();
    }
    text
}

/// What is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Two sums compare so.
    Compare {
        /// What is looked at.
        left: Sum,
        /// How it compares.
        operator: Operator,
        /// With what.
        right: Sum,
        /// Within what.
        tolerance: Option<Tolerance>,
    },
    /// A group is not, or is, there.
    Group {
        /// Its path.
        path: Name,
        /// Whether it should be there.
        there: bool,
    },
    /// The objects of a tag hold what was written into them.
    Intact(Name),
    /// No task holds this tag.
    Freed(Name),
    /// A task was told to die.
    Killed(Name),
    /// A task is in a group.
    In {
        /// The task.
        task: Name,
        /// The group.
        path: Name,
    },
}
