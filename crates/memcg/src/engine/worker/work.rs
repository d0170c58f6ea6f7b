//! What can be put off, and how an item fits a word.

/// One item: eight bits say what, the rest of a word names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// The future of a task that is to die is told so.
    Wake {
        /// The task.
        tag: u32,
    },
}

const KIND_AT: u32 = 56;
const WAKE: u64 = 1;

impl Work {
    /// As a word; never 0.
    #[must_use]
    pub fn to_word(self) -> u64 {
        match self {
            Work::Wake { tag } => WAKE << KIND_AT | u64::from(tag),
        }
    }

    /// Of a word; `None`: no item's.
    #[must_use]
    pub fn of_word(word: u64) -> Option<Self> {
        match word >> KIND_AT {
            WAKE => Some(Work::Wake { tag: word as u32 }),
            _ => None,
        }
    }

    /// Whether doing it calls what the program gave us.
    pub(super) fn runs_code_of_the_program(self) -> bool {
        match self {
            Work::Wake { .. } => true,
        }
    }
}
