//! The files of a group: what they are called, what they say, what may be written to them.
//!
//! Text, grammar and errors are cgroup v2's, beside them a few files of our own. One table ([`FILES`]) defines each of
//! them once; listing, reading, writing and the documentation come from it. The library, the control socket and the
//! preload library all go through the verbs of this room.
//!
//! Kept: a write changes all of what it says or nothing. A file appears only where what it shows is real. What is
//! allocated here, the answers included, is accounted to nobody.
//! Relied on: `engine` and the rooms above it; changes to the tree go through `Engine::change`, so a fork waits for them.
//! Never done: an allocation or a call of the program's code under a lock of the engine.
//!
//! Divergences from the kernel: sizes are kept to the byte instead of rounded to pages; a size without digits is
//! refused; groups with tasks may have children; `cgroup.subtree_control` has memory from the start, and taking it away
//! changes what `cgroup.controllers` below says but neither stops the counting nor hides files.

mod cgroup;
mod error;
mod events;
mod limits;
mod oom;
mod owners;
pub mod process;
mod quiet;
mod stat;
pub mod table;
mod tasks;
#[cfg(test)]
mod testing;
mod text;
mod usage;
mod verbs;

pub use cgroup::set_kill_hook;
pub use error::{Errno, FileError};
pub use quiet::Quiet;
pub use table::{At, FILES, File, Mode, Where, markdown};
pub use text::visible;
pub use verbs::{Listing, list, mkdir, move_task, read, read_in, rmdir, split, write, write_in};
