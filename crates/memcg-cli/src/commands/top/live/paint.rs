//! Styles of the view, in colour or without.
//!
//! Invariants: without colour no style has one.
//! Depends on: nothing.
//! Never: draws.

use ratatui::style::{Color, Modifier, Style};

/// What stands out.
pub const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Whether there is colour.
pub struct Paint {
    /// Yes.
    pub colour: bool,
}

impl Paint {
    /// The colour, where there is one.
    pub fn in_colour(&self, colour: Color) -> Style {
        match self.colour {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }
}
