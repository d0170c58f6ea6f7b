//! Who runs commands: one `Actor` a thread, with its way to the engine's files.
//!
//! Invariants: an actor reads files as one who has them open, so a peak that it resets is its own.
//! Depends on: `world`, `text`, the engine's files.
//! Never: knows which commands there are.

#![forbid(unsafe_code)]

use crate::text::reference;
use crate::world::World;
use crate::world::fault::{Fault, Needs};
use memcg::testing::engine::process_engine::engine;
use memcg::testing::files::Reader;

/// What a command has to say when it has done what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// For stdout.
    pub output: Option<String>,
    /// What an expectation found.
    pub found: Option<String>,
}

impl Said {
    /// A command that found `text`, and prints nothing.
    pub fn found(text: String) -> Said {
        Said {
            output: None,
            found: Some(text),
        }
    }
}

impl From<()> for Said {
    fn from((): ()) -> Said {
        Said::default()
    }
}

/// Who acts.
pub struct Actor<'a> {
    /// On what.
    pub world: &'a World,
    /// How files are read and written.
    pub reader: Reader,
    /// Whether no other thread acts at the same time.
    pub is_alone: bool,
}

impl<'a> Actor<'a> {
    /// An actor on `world`.
    pub fn new(world: &'a World, is_alone: bool) -> Actor<'a> {
        Actor {
            world,
            reader: Reader::new(engine()),
            is_alone,
        }
    }

    /// The text of a group's file.
    ///
    /// # Errors
    /// What the engine refused; a file that would show swap is lacking.
    pub fn read(&self, group: &[u8], file: &str) -> Result<String, Fault> {
        if reference::is_of_swap(file) {
            return Err(Fault::lacks(file, Needs::Swap));
        }
        let text = World::with(|_, rec| self.reader.read(rec, group, file.as_bytes()))??;
        Ok(text)
    }
}
