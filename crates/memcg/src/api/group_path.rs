//! The path of a group in an error, made when somebody asks for it.
//!
//! Invariants: the path is that of the time of the refusal, even if the group has been removed
//! since. The group's name is held, and a name holds those above it.
//! Depends on: `pinned`.
//! Never: makes text for a refusal that nobody reads; keeps a group from being removed.

#![forbid(unsafe_code)]

use super::pinned::{path_of_name, pinned};
use super::scope::no_account;
use crate::engine::process_engine::with_rec;
use crate::group::{GroupId, NameId, Tag};
use core::fmt;
use core::ops::Deref;
use std::sync::OnceLock;

/// A group's path, `/a/b`. It is text where text is wanted: `&*path`, [`as_str`](Self::as_str),
/// `{path}`.
///
/// It is empty if the group was gone when it was looked for.
pub struct GroupPath {
    /// The group's name, which this holds a reference to.
    name: Option<NameId>,
    text: OnceLock<String>,
}

impl GroupPath {
    fn of_name(name: Option<NameId>) -> Self {
        Self {
            name,
            text: OnceLock::new(),
        }
    }

    /// The path of the group of an index; empty for `None`. Cost: a reference to the group's name.
    pub(crate) fn of_index(index: Option<GroupId>) -> Self {
        let held = pinned(|engine, _| {
            let group = engine.tree.memcgs.try_get(index?)?;
            // While this thread is pinned, the name of a group that is there is not given to
            // another.
            let is_there = group.is_online() || group.is_lingering();
            let name = is_there.then(|| group.name());
            name.filter(|&name| engine.tree.try_ref_name(name))
        });
        Self::of_name(held)
    }

    /// The path that the owner `tag` has or had. The caller has a reference to it.
    pub(crate) fn of_tag(tag: Tag) -> Self {
        let held = pinned(|engine, _| {
            let name = engine.tree.objcgs.get(tag).name();
            engine.tree.try_ref_name(name).then_some(name)
        });
        Self::of_name(held)
    }

    /// The text. It is made when it is first asked for, and accounted to nobody. Bytes that are no
    /// UTF-8 are replaced.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text.get_or_init(|| {
            let _free = no_account();
            match self.name {
                None => String::new(),
                Some(name) => pinned(|engine, _| path_of_name(engine, name)),
            }
        })
    }
}

impl Drop for GroupPath {
    fn drop(&mut self) {
        if let Some(name) = self.name {
            // Without memory for a record of the thread the name is not released.
            with_rec(|engine, rec| {
                let _pin = engine.tree.threads.epoch.pin(rec);
                engine.tree.release_name(name);
            });
        }
        if let Some(text) = self.text.take() {
            let _free = no_account();
            drop(text);
        }
    }
}

impl Clone for GroupPath {
    fn clone(&self) -> Self {
        let hold = |&name: &NameId| pinned(|engine, _| engine.tree.try_ref_name(name));
        Self::of_name(self.name.filter(hold))
    }
}

impl Deref for GroupPath {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for GroupPath {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for GroupPath {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name || self.as_str() == other.as_str()
    }
}

impl Eq for GroupPath {}

impl PartialEq<str> for GroupPath {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<String> for GroupPath {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for GroupPath {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for GroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for GroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
