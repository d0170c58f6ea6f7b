//! One entry: a name in a directory, and what it leads to.
//!
//! Invariants: an entry is in the table as long as it is alive. `uses` counts its children in the
//! cache and those who hold it; while there are any it stays.
//! Depends on: `fresh` and `text`; the lock of its shard, under which it is listed again or ended.
//! Never: knows whom it is charged to. That is the list item's matter.

use crate::fresh::Listing;
use crate::text::Text;
use memcg::LruRef;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing: there is no such name.
    Missing,
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a socket, a pipe.
    Other,
}

/// What a name leads to, with what is known of it.
pub enum Body {
    /// There is no such name.
    Missing,
    /// A file.
    File,
    /// A directory; its number, which no other has had, is part of its entries' keys.
    Directory {
        /// The number.
        serial: u64,
        /// Of its entries.
        listing: Listing,
    },
    /// A symbolic link, and where it leads, unless that is too long to be kept.
    Symlink(Option<Text>),
    /// A device, a socket, a pipe.
    Other,
}

/// It is in the table no more.
const DEAD: u32 = 1 << 31;
/// It is not in the list of what could go.
const UNLISTED: u32 = 1 << 30;
const COUNT: u32 = UNLISTED - 1;

/// What becomes of an entry that is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It is dead now; who asked takes it out of the table.
    Died,
    /// It is in use, and is to be listed again when it is not.
    InUse,
    /// It was dead.
    WasDead,
}

/// See the module.
pub struct Dentry {
    /// The directory it is in; none for the root.
    pub parent: Option<LruRef<Dentry>>,
    /// That directory's number.
    pub parent_serial: u64,
    /// Of its key.
    pub hash: u64,
    /// The name.
    pub name: Text,
    /// Inode and device; 0 for what is missing.
    pub ino: u64,
    /// See `ino`.
    pub dev: u64,
    /// What the name leads to.
    pub body: Body,
    /// The era of the directory in which it was last seen to be so.
    pub seen: AtomicU32,
    uses: AtomicU32,
    is_warm: AtomicBool,
}

impl Dentry {
    /// A new one, used once by who makes it.
    pub fn new(
        parent: Option<LruRef<Dentry>>,
        (name, hash): (Text, u64),
        body: Body,
        (ino, dev): (u64, u64),
    ) -> Self {
        Dentry {
            parent_serial: parent.as_ref().map_or(0, |parent| parent.serial()),
            parent,
            hash,
            name,
            ino,
            dev,
            body,
            seen: AtomicU32::new(0),
            uses: AtomicU32::new(1),
            is_warm: AtomicBool::new(false),
        }
    }

    /// What the name leads to.
    pub fn kind(&self) -> Kind {
        match &self.body {
            Body::Missing => Kind::Missing,
            Body::File => Kind::File,
            Body::Directory { .. } => Kind::Directory,
            Body::Symlink(_) => Kind::Symlink,
            Body::Other => Kind::Other,
        }
    }

    /// Its name, and where it leads.
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        let target = match &self.body {
            Body::Symlink(target) => target.as_ref(),
            Body::Missing | Body::File | Body::Directory { .. } | Body::Other => None,
        };
        core::iter::once(&self.name).chain(target)
    }

    /// A directory's number; 0 for others.
    pub fn serial(&self) -> u64 {
        match &self.body {
            Body::Directory { serial, .. } => *serial,
            Body::Missing | Body::File | Body::Symlink(_) | Body::Other => 0,
        }
    }

    /// A directory's listing.
    pub fn listing(&self) -> Option<&Listing> {
        match &self.body {
            Body::Directory { listing, .. } => Some(listing),
            Body::Missing | Body::File | Body::Symlink(_) | Body::Other => None,
        }
    }

    /// Whether it was seen to be so in this era of its directory.
    pub fn is_seen_in(&self, era: u32) -> bool {
        self.seen.load(Ordering::Relaxed) == era
    }

    /// It was used: the next shrink passes it by, once.
    pub fn warm(&self) {
        // Not written when it is so already: a line that is only read is shared by all.
        if !self.is_warm.load(Ordering::Relaxed) {
            self.is_warm.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was used since it was last asked.
    pub fn was_warm(&self) -> bool {
        self.is_warm.load(Ordering::Relaxed) && self.is_warm.swap(false, Ordering::Relaxed)
    }

    /// One more who uses it. `false`: it is dead.
    pub fn try_use(&self) -> bool {
        let one_more = |uses| (uses & DEAD == 0).then_some(uses + 1);
        self.uses
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more)
            .is_ok()
    }

    /// One more, by one who uses it already (or of the root).
    pub fn use_again(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    /// One less. `true`: nobody uses it any more, and it has to be listed again ([`Self::relist`]).
    #[must_use]
    pub fn stop_use(&self) -> bool {
        // Release pairs with the Acquire of `end`: who ends it sees what its users did.
        let before = self.uses.fetch_sub(1, Ordering::Release);
        before == UNLISTED | 1
    }

    /// Whether it is to be put into the list now. Under the lock of its shard.
    pub fn relist(&self) -> bool {
        self.uses
            .compare_exchange(UNLISTED, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Ends it, if nobody uses it. Under the lock of its shard.
    pub fn end(&self) -> End {
        let mut end = End::WasDead;
        let next = |uses: u32| {
            (end, _) = match uses {
                _ if uses & DEAD != 0 => (End::WasDead, ()),
                _ if uses & COUNT == 0 => (End::Died, ()),
                _ => (End::InUse, ()),
            };
            match end {
                End::WasDead => None,
                End::Died => Some(DEAD),
                End::InUse => Some(uses | UNLISTED),
            }
        };
        let _ = self
            .uses
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, next);
        end
    }

    /// Ends it whoever uses it; how many those are. Under the lock of its shard.
    pub fn kill(&self) -> u32 {
        self.uses.fetch_or(DEAD, Ordering::Acquire) & COUNT
    }

    /// Whether it is in the table no more.
    pub fn is_dead(&self) -> bool {
        self.uses.load(Ordering::Acquire) & DEAD != 0
    }

    /// Whether no path leads to it any more, because its directory is not what it was.
    pub fn is_orphan(&self) -> bool {
        self.parent.as_ref().is_some_and(|parent| parent.is_dead())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dentry() -> Dentry {
        Dentry::new(None, (Text::EMPTY, 0), Body::File, (1, 1))
    }

    #[test]
    fn an_entry_in_use_stays_and_is_listed_again_after_its_last_use() {
        let dentry = dentry();
        assert_eq!(dentry.end(), End::InUse);
        assert!(dentry.try_use());
        assert!(!dentry.stop_use());
        assert!(!dentry.relist());
        assert!(dentry.stop_use() && dentry.relist());
        assert!(!dentry.relist());
        assert_eq!(dentry.end(), End::Died);
        assert_eq!(dentry.end(), End::WasDead);
        assert!(!dentry.try_use());
    }

    #[test]
    fn an_entry_that_was_killed_is_not_listed_again() {
        let dentry = dentry();
        assert_eq!((dentry.end(), dentry.kill()), (End::InUse, 1));
        assert!(!dentry.stop_use() && !dentry.relist() && dentry.is_dead());
    }

    #[test]
    fn a_use_is_remembered_once() {
        let dentry = dentry();
        assert!(!dentry.was_warm());
        dentry.warm();
        assert!(dentry.was_warm() && !dentry.was_warm());
    }
}
