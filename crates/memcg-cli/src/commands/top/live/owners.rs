//! The owners of a group, in a window over the tree.

use crate::commands::owners;

/// The window's contents.
#[derive(Debug)]
pub struct Owners {
    /// The group.
    pub path: Vec<u8>,
    /// A header and a line for each owner, or one line that says why there are none; none before
    /// the answer.
    pub lines: Option<Vec<String>>,
    /// The first line below the header that is shown.
    pub top: usize,
}

impl Owners {
    /// Nothing is known yet.
    pub fn new(path: &[u8]) -> Owners {
        Owners {
            path: path.to_vec(),
            lines: None,
            top: 0,
        }
    }

    /// The engine's answer.
    pub fn fill(&mut self, answer: Result<String, String>) {
        let mut lines = match answer {
            Ok(text) => owners::lines(&text),
            Err(why) => vec![why],
        };
        if lines.len() == 1 {
            lines.push("nobody holds anything here".to_owned());
        }
        self.top = self.top.min(lines.len() - 1);
        self.lines = Some(lines);
    }

    /// Shows lines further down, or up; the picture keeps it within what there is.
    pub fn scroll(&mut self, lines: isize) {
        self.top = self.top.saturating_add_signed(lines);
    }
}
