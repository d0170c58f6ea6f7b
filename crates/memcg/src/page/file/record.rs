//! What is known of one file.
//!
//! Invariants: `fd` changes under the table's lock, and only while `uses` is 0. `uses` goes from 0
//! and to 0 only under that lock. What is told as "guarded by `books`" is changed under `books`.
//! Depends on: `identity`, `path`, `error_seq` for its parts.
//! Never: what is cached of the file.

use super::error_seq::ErrorSeq;
use super::identity::Identity;
use super::path::PieceId;
use super::touched::Touched;
use crate::page::id::{FileId, RegionId};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::sync::id::AtomicId;
use crate::sync::lock::{Held, Lock, Rank};

/// In `flags`: it may be written.
pub(super) const WRITABLE: u32 = 1;
/// Its pages pass the kernel's cache. Given up once, it is not set again for this descriptor.
pub(super) const DIRECT: u32 = 1 << 1;
/// Its path leads elsewhere, and it has no descriptor.
pub(super) const VANISHED: u32 = 1 << 2;
/// It is in the list of kept files.
pub(super) const KEPT: u32 = 1 << 3;
/// Something was written since the last sync.
pub(super) const UNSYNCED: u32 = 1 << 4;
/// Others have changed it, and nobody was told.
pub(super) const CHANGED: u32 = 1 << 5;

/// See the module.
#[derive(Default)]
pub(super) struct FileRec {
    link: AtomicU32,
    /// The next in its bucket; guarded by the table's lock, as all up to `path`.
    pub next: AtomicId<FileId>,
    /// Its neighbours in the list of kept files.
    pub older: AtomicId<FileId>,
    pub newer: AtomicId<FileId>,
    pub refs: AtomicU32,
    dev: AtomicU64,
    ino: AtomicU64,
    born_ns: AtomicU64,
    pub path: AtomicId<PieceId>,
    /// Who keeps the descriptor.
    pub uses: AtomicU32,
    /// The descriptor's number and 1; 0: none.
    pub fd: AtomicU32,
    pub flags: AtomicU32,
    /// Of offsets and lengths of direct I/O, in bytes.
    pub alignment: AtomicU32,
    pub region: AtomicId<RegionId>,
    pub errors: ErrorSeq,
    pub books: Lock,
    /// Calls that write now; guarded by `books`, as all up to `wrote`.
    pub nr_writing: AtomicU32,
    /// What the file was when it was last looked at.
    pub size: AtomicU64,
    pub written_ns: AtomicU64,
    /// What the kernel may hold of it that was read, and that was written.
    pub read: Touched,
    pub wrote: Touched,
    /// Held while the last bytes of a file with direct I/O are written through the kernel's cache.
    pub tail: Lock,
    /// Held over a sync: who finds nothing to sync has waited for the one that is under way.
    pub syncing: Lock,
}

// SAFETY: integers, free locks, and parts whose zero bytes are their Default.
unsafe impl Zeroed for FileRec {}
// SAFETY: Zeroed, see above. `link` is used by the arena alone.
unsafe impl Record for FileRec {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl FileRec {
    /// Makes it the record of a file, which nobody has opened or referred to.
    pub fn reset(&self, identity: Identity) {
        for id in [&self.next, &self.older, &self.newer] {
            id.store(None, Relaxed);
        }
        self.path.store(None, Relaxed);
        self.region.store(None, Relaxed);
        for word in [
            &self.refs,
            &self.uses,
            &self.fd,
            &self.flags,
            &self.alignment,
            &self.nr_writing,
        ] {
            word.store(0, Relaxed);
        }
        self.dev.store(identity.dev, Relaxed);
        self.ino.store(identity.ino, Relaxed);
        self.born_ns.store(identity.born_ns, Relaxed);
        self.errors.clear();
        for touched in [&self.read, &self.wrote] {
            touched.take();
        }
    }

    pub fn identity(&self) -> Identity {
        Identity {
            dev: self.dev.load(Relaxed),
            ino: self.ino.load(Relaxed),
            born_ns: self.born_ns.load(Relaxed),
        }
    }

    pub fn has(&self, flag: u32) -> bool {
        self.flags.load(Relaxed) & flag != 0
    }

    /// Sets a flag; answers whether it was set.
    pub fn set(&self, flag: u32) -> bool {
        self.flags.fetch_or(flag, Relaxed) & flag != 0
    }

    /// Clears a flag; answers whether it was set.
    pub fn clear(&self, flag: u32) -> bool {
        self.flags.fetch_and(!flag, Relaxed) & flag != 0
    }

    pub fn books(&self) -> Held<'_> {
        self.books.lock(Rank::Files)
    }
}
