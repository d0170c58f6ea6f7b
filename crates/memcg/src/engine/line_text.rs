//! One line of text about groups, made without the heap.
//!
//! Invariants: what is too long for a line is cut off.
//! Depends on: the tree, for paths.
//! Never: memory, a lock, the writing of the line.

#![forbid(unsafe_code)]

use super::Engine;
use crate::group::{Memcg, NameId, Tag};
use crate::os::say;

/// A line, made without the heap; what is too long is cut off.
pub(super) struct Text {
    bytes: [u8; 480],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; 480],
            len: 0,
        }
    }
}

impl Text {
    pub(super) fn add(&mut self, piece: &[u8]) {
        let n = piece.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&piece[..n]);
        self.len += n;
    }

    pub(super) fn number(&mut self, n: u64) {
        self.add(say::Decimal::new(n).as_bytes());
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Engine {
    /// A line that begins with the path of an owner. The caller is pinned.
    pub(super) fn line_about(&self, tag: Tag) -> Text {
        let mut text = Text::default();
        text.add(b"memcg: ");
        self.add_path(&mut text, self.tree.objcgs.get(tag).name());
        text
    }

    /// Adds how much of its max a group has in use.
    pub(super) fn add_use(&self, text: &mut Text, full: &Memcg, usage: u64, max: u64) {
        self.add_path(text, full.name());
        text.add(b" has ");
        text.number(usage);
        text.add(b" of ");
        text.number(max);
        text.add(b" bytes (memory.max) in use");
    }

    /// Adds the path of a group or task.
    pub(super) fn add_path(&self, text: &mut Text, name: NameId) {
        self.tree.with_path(name, |piece| text.add(piece));
    }
}
