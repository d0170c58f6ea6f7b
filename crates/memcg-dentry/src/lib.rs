//! A dentry cache over real directory trees, in which every tenant pays for what it looks up.
//!
//! What a path leads to is remembered name by name, also that a name does not exist. An entry is an
//! object of a kmem cache, charged to the group that first looked its name up, and in that group's
//! list. A group at its limit gives up entries of its own; when that makes no room, the answer is
//! not kept. So a tenant that walks a huge tree neither slows nor evicts another.
//!
//! A library over `memcg`, and a sample of how caches of shared things are built on its kmem
//! caches, lists and shrinkers. Told in full in docs/internals/dentry.md. Source of the idea:
//! Linux, `fs/dcache.c`.
//!
//! ```
//! use memcg_dentry::{Answer, DentryCache, Kind};
//!
//! let tenant = memcg::root().create("dentry-tenant").unwrap();
//! let cache = DentryCache::new("/").unwrap();
//! tenant.run(|| {
//!     assert_eq!(cache.lookup("/usr/bin").unwrap().answer, Answer::Miss);
//!     assert_eq!(cache.lookup("/usr/bin").unwrap().answer, Answer::Hit);
//!     assert_eq!(cache.lookup("/usr/no-such-name").unwrap().kind, Kind::Missing);
//!     assert_eq!(cache.lookup("/usr/no-such-name").unwrap().answer, Answer::Hit);
//! });
//! // "usr", "bin", and that there is no third.
//! assert_eq!(tenant.usage().slab, 3 * cache.entry_bytes());
//! drop(cache);
//! assert_eq!(tenant.current(), 0);
//! ```
//!
//! Invariants: what is kept is charged to one tenant, and is in that tenant's list unless a shrink
//! found it in use.
//! Depends on: `memcg`; the kernel, for what the real directories hold.
//! Never: leads above its root; fails for want of room.

#![forbid(unsafe_code)]

mod cache;
mod dentry;
mod fresh;
mod lock;
mod lookup;
mod path;
mod real;
mod table;
mod text;
mod walk;

pub use dentry::Kind;
pub use fresh::Freshness;
pub use lookup::{Answer, Found};
pub use walk::Tour;

use cache::Inner;
use dentry::Dentry;
use memcg::{CacheOptions, LruRef, Memcg, Registration, Verdict, no_account};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often directories are asked whether they have changed, unless it is said otherwise.
pub const DEFAULT_FRESHNESS: Freshness = Freshness::Within(Duration::from_secs(1));

/// What names in a directory tree lead to; see the crate.
///
/// Paths begin at the cache's root, with or without a slash; nothing leads above it, as in a
/// `chroot`. May be shared by threads. Not seen: what is mounted over a directory after it was
/// looked up, until the directory it is in changes.
///
/// Dropping it frees all entries, except those that are [`Pinned`].
pub struct DentryCache {
    /// First: no shrink begins when the entries go.
    _registered: Registration,
    inner: Arc<Inner>,
}

/// What a cache did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries there are.
    pub entries: u64,
    /// Lookups, and names on walks, answered by the cache alone.
    pub hits: u64,
    /// Of them, that there is no such name.
    pub negative: u64,
    /// Those for which something was asked of the file system, and kept.
    pub misses: u64,
    /// Those whose answer was not kept.
    pub uncached: u64,
    /// Times a name or a directory was asked of the file system.
    pub asked: u64,
    /// Entries given up to shrinks.
    pub reclaimed: u64,
    /// Entries no path led to any more, taken out.
    pub swept: u64,
}

impl DentryCache {
    /// Of the tree below `root`; directories are asked once a second at most
    /// ([`DEFAULT_FRESHNESS`]).
    ///
    /// # Errors
    /// If `root` cannot be opened as a directory; without memory.
    pub fn new(root: impl AsRef<Path>) -> io::Result<Self> {
        Self::with(root, DEFAULT_FRESHNESS)
    }

    /// As [`Self::new`], asking as often as is said.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(root: impl AsRef<Path>, freshness: Freshness) -> io::Result<Self> {
        Self::in_cache(root, freshness, CacheOptions::new("dentry"))
    }

    /// As [`Self::with`]; entries are objects of a kmem cache as the options say, of whatever
    /// layout and slab kind.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn in_cache(
        root: impl AsRef<Path>,
        freshness: Freshness,
        options: CacheOptions<'_>,
    ) -> io::Result<Self> {
        let _free = no_account();
        let (fd, seen) = real::open_root(bytes(root.as_ref()))?;
        let inner = Inner::new((fd, &seen), freshness, options)
            .map_err(|why| io::Error::new(io::ErrorKind::OutOfMemory, why.to_string()))?;
        let inner = Arc::new(inner);
        let of = Arc::downgrade(&inner);
        let registered = inner.list.shrink_by(move |dentry: &Dentry| {
            of.upgrade()
                .map_or(Verdict::Stop, |cache| cache.give_up(dentry))
        });
        Ok(Self {
            _registered: registered,
            inner,
        })
    }

    /// What a path leads to; if that is a symbolic link, the link. What does not exist is an answer
    /// ([`Kind::Missing`]).
    ///
    /// What is new in the cache is charged to whom the thread works for. Cost of a hit: a short
    /// lock a name; nothing is allocated or asked of the file system while its directories are
    /// fresh.
    ///
    /// # Errors
    /// The file system's: a file in the middle of the path (ENOTDIR), links in a circle (ELOOP), a
    /// name too long, no permission. Never for lack of room: then the answer is not kept
    /// ([`Answer::Uncached`]).
    pub fn lookup(&self, path: impl AsRef<Path>) -> io::Result<Found> {
        Ok(self.inner.lookup(bytes(path.as_ref()), false)?)
    }

    /// As [`Self::lookup`], following a symbolic link at the path's end as well.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn resolve(&self, path: impl AsRef<Path>) -> io::Result<Found> {
        Ok(self.inner.lookup(bytes(path.as_ref()), true)?)
    }

    /// Looks a path up and keeps its entry, and those of the directories it is in, as long as the
    /// answer lives. `None`: there is no room for it.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn pin(&self, path: impl AsRef<Path>) -> io::Result<Option<Pinned>> {
        use cache::Turn;
        match self.inner.pin(bytes(path.as_ref()), false, fresh::clock()) {
            Ok(walked) => Ok(Some(Pinned {
                dentry: walked.pin.into_dentry(),
                cache: self.inner.clone(),
            })),
            Err(Turn::Fails(errno)) => Err(errno.into()),
            Err(Turn::NoRoom | Turn::Again) => Ok(None),
        }
    }

    /// Walks the tree below a directory, links not followed, and keeps what it meets as lookups do.
    ///
    /// # Errors
    /// If there is no such directory, or it cannot be read. What fails below it is counted.
    pub fn walk(&self, directory: impl AsRef<Path>) -> io::Result<Tour> {
        Ok(self.inner.walk(bytes(directory.as_ref()))?)
    }

    /// What is known of the directories on a path, and of the path's end, is asked again when it is
    /// next used.
    pub fn invalidate(&self, path: impl AsRef<Path>) {
        self.inner.invalidate(bytes(path.as_ref()));
    }

    /// Asks up to `nr` entries of a group, coldest first, to go; how many did. Entries in use and
    /// those used since they were last asked stay.
    pub fn shrink(&self, group: &Memcg, nr: u64) -> u64 {
        let give_up = |dentry: &Dentry| self.inner.give_up(dentry);
        self.inner.list.walk(group, nr, give_up).removed
    }

    /// Entries in the list of a group: all of its own, but for those that were in use when a shrink
    /// came by.
    #[must_use]
    pub fn count(&self, group: &Memcg) -> u64 {
        self.inner.list.count(group)
    }

    /// What it did. O(1).
    #[must_use]
    pub fn stats(&self) -> Stats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.inner.counts;
        let lanes = &self.inner.lanes;
        Stats {
            entries: self.inner.entries.load(Ordering::Relaxed) as u64,
            hits: lanes.iter().map(|lane| read(&lane.hits)).sum(),
            negative: lanes.iter().map(|lane| read(&lane.negative)).sum(),
            misses: read(&counts.misses),
            uncached: read(&counts.uncached),
            asked: read(&counts.asked),
            reclaimed: read(&counts.reclaimed),
            swept: read(&counts.swept),
        }
    }

    /// Bytes an entry is charged, its name not counted if that is longer than 30 bytes.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        self.inner.list.thing_bytes()
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

impl core::fmt::Debug for DentryCache {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("DentryCache").field(&self.stats()).finish()
    }
}

/// An entry in use: it stays in the cache until this is dropped, and so do the directories it is
/// in.
pub struct Pinned {
    dentry: LruRef<Dentry>,
    cache: Arc<Inner>,
}

impl Pinned {
    /// What the name led to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.dentry.kind()
    }

    /// Its inode; 0 for what is missing.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.dentry.ino
    }

    /// Its path from the cache's root, as it was looked up.
    #[must_use]
    pub fn path(&self) -> std::path::PathBuf {
        std::ffi::OsStr::from_bytes(&self.cache.path_of(&self.dentry)).into()
    }
}

impl core::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Pinned").field(&self.path()).finish()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.cache.stop_use(&self.dentry);
    }
}
