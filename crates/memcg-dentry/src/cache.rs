//! The cache: entries made, kept, used, given up.
//!
//! ```text
//! table: (directory's number, name) ──► entry ──parent──► entry …          one lock a shard
//! list of the tenant the entry is charged to: entry, entry, …              one lock a tenant
//! ```
//!
//! Invariants: an entry that is in use (held, or with entries below it in the cache) stays; so a
//! directory goes after what is in it. The others are in the list of their tenant, oldest first;
//! one in use is taken out of the list when a shrink meets it, and put back after its last use. A
//! shard's lock is taken before a list's.
//! Depends on: `table` for the shards; `memcg` for entries and lists; `real` for what is asked.
//! Never: allocates from a tenant, frees or asks the file system under a lock.

use crate::dentry::{Body, Dentry, End, Kind};
use crate::fresh::{Freshness, Listing, clock};
use crate::path::Rest;
use crate::real::{self, Seen};
use crate::table::{self, Key, Table};
use crate::text::{LONGEST, Text};
use memcg::{
    AllocError, CacheError, CacheOptions, Flags, ListLru, LruItem, LruRef, SizedCache, Verdict,
    no_account,
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// For an entry's memory a tenant at its limit gives up some of its own, here and now.
const FLAGS: Flags = Flags::WAIT.with(Flags::USER);
/// Entries no path leads to that are left to the lists' ends, beside as many as there are others.
const FEW_ORPHANS: usize = 1024;
/// Counters, so that threads do not meet in one.
const LANES: usize = 16;

/// What is counted in a hit.
#[repr(align(64))]
#[derive(Default)]
pub struct Lane {
    pub hits: AtomicU64,
    pub negative: AtomicU64,
}

/// What is counted elsewhere.
#[derive(Default)]
pub struct Counts {
    pub misses: AtomicU64,
    pub uncached: AtomicU64,
    pub asked: AtomicU64,
    pub reclaimed: AtomicU64,
    pub swept: AtomicU64,
}

/// See the module.
pub struct Inner {
    pub table: Table,
    root: LruItem<Dentry>,
    pub list: ListLru<Dentry>,
    long: SizedCache,
    pub root_fd: OwnedFd,
    pub freshness: Freshness,
    next_serial: AtomicU64,
    /// Entries in the table.
    pub entries: AtomicUsize,
    /// Whether there may be any that no path leads to.
    has_orphans: AtomicBool,
    /// How many entries there were after the last sweep.
    sweeping: Mutex<usize>,
    pub lanes: [Lane; LANES],
    pub counts: Counts,
}

/// An entry in use. It stays until this is dropped.
pub struct Pin<'a> {
    cache: &'a Inner,
    pub dentry: LruRef<Dentry>,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.cache.stop_use(&self.dentry);
    }
}

impl<'a> Pin<'a> {
    /// The use of an entry that the caller has counted.
    pub fn of(cache: &'a Inner, dentry: LruRef<Dentry>) -> Pin<'a> {
        Pin { cache, dentry }
    }

    /// Leaves the use to who takes the entry.
    pub fn into_dentry(self) -> LruRef<Dentry> {
        self.dentry.use_again();
        self.dentry.clone()
    }

    /// The directory's number and its listing; `None` if it is none.
    pub fn directory(&self) -> Option<(u64, &Listing)> {
        match &self.dentry.body {
            Body::Directory { serial, listing } => Some((*serial, listing)),
            Body::Missing | Body::File | Body::Symlink(_) | Body::Other => None,
        }
    }
}

/// Why something is not in the cache.
pub enum Turn {
    /// It has changed meanwhile: once more from the root.
    Again,
    /// There is no room.
    NoRoom,
    /// The file system's word.
    Fails(Errno),
}

impl From<AllocError> for Turn {
    fn from(_: AllocError) -> Turn {
        Turn::NoRoom
    }
}

impl From<Errno> for Turn {
    fn from(errno: Errno) -> Turn {
        Turn::Fails(errno)
    }
}

impl Inner {
    pub fn new(
        (root_fd, root): (OwnedFd, &Seen),
        freshness: Freshness,
        options: CacheOptions<'_>,
    ) -> Result<Inner, CacheError> {
        let list = ListLru::in_cache(options)?;
        let long = options.named("dentry_name").sized(LONGEST)?;
        let directory = Body::Directory {
            serial: 1,
            listing: Listing::new(root.times, clock()),
        };
        let root = {
            let _free = no_account();
            list.item(Dentry::new(None, (Text::EMPTY, 0), directory, root.node))
        };
        Ok(Inner {
            table: Table::new(),
            root,
            list,
            long,
            root_fd,
            freshness,
            next_serial: AtomicU64::new(2),
            entries: AtomicUsize::new(0),
            has_orphans: AtomicBool::new(false),
            sweeping: Mutex::new(0),
            lanes: Default::default(),
            counts: Counts::default(),
        })
    }

    /// The root, which is always there.
    pub fn root(&self) -> &Dentry {
        &self.root
    }

    pub fn pin_root(&self) -> Pin<'_> {
        // It is never dead.
        self.root.use_again();
        Pin::of(self, self.root.share())
    }

    /// The directory a directory is in; the root's is the root.
    pub fn pin_parent(&self, of: &Dentry) -> Result<Pin<'_>, Turn> {
        match &of.parent {
            None => Ok(self.pin_root()),
            Some(parent) if parent.try_use() => Ok(Pin::of(self, parent.clone())),
            Some(_) => Err(Turn::Again),
        }
    }

    /// One use less; the last puts the entry into its list again.
    pub fn stop_use(&self, dentry: &LruRef<Dentry>) {
        if !dentry.stop_use() {
            return;
        }
        let entries = self.table.shard(dentry.hash);
        if let Some(item) = table::item(&entries, dentry)
            && dentry.relist()
        {
            self.list.add(item);
        }
    }

    /// The entry of a name, used once more, if there is one. `None` in the answer's second part: it
    /// is to be looked at again.
    pub fn find(&self, key: Key<'_>, era: u32) -> Option<Pin<'_>> {
        let entries = self.table.shard(key.hash);
        let item = entries.find(key.hash, |item| key.is_of(item))?;
        (item.is_seen_in(era) && item.try_use()).then(|| {
            table::found(item);
            Pin::of(self, item.share())
        })
    }

    /// What was seen of a name in a directory's era, kept: what is known already is confirmed, what
    /// is not is made.
    pub fn keep(
        &self,
        dir: &Pin<'_>,
        key: Key<'_>,
        era: u32,
        seen: &Seen,
    ) -> Result<Pin<'_>, Turn> {
        let now = clock();
        let confirmed = {
            let entries = self.table.shard(key.hash);
            let item = entries.find(key.hash, |item| key.is_of(item));
            item.filter(|item| confirm(item, era, seen, now) && item.try_use())
                .map(|item| {
                    table::found(item);
                    item.share()
                })
        };
        if let Some(dentry) = confirmed {
            return Ok(Pin::of(self, dentry));
        }
        // A child of its directory, which stays for it.
        if !dir.dentry.try_use() {
            return Err(Turn::Again);
        }
        let item = self.make(dir, key, era, seen, now).inspect_err(|_| {
            self.stop_use(&dir.dentry);
        })?;
        let pin = Pin::of(self, item.share());
        let (gone, raced) = {
            let mut entries = self.table.shard(key.hash);
            let old = entries.find(key.hash, |item| key.is_of(item)).map(|item| {
                (
                    item.share(),
                    confirm(item, era, seen, now) && item.try_use(),
                )
            });
            match old {
                // Another thread was faster.
                Some((old, true)) => {
                    item.kill();
                    (Some(item), Some(Pin::of(self, old)))
                }
                old => {
                    let gone = old.and_then(|(old, _)| {
                        let gone = table::remove(&mut entries, &old);
                        if old.kill() > 0 {
                            // A directory is not what it was: what is below it cannot be reached
                            // any more.
                            self.has_orphans.store(true, Ordering::Relaxed);
                        }
                        gone
                    });
                    self.list.add(&item);
                    table::insert(&mut entries, item);
                    self.entries.fetch_add(1, Ordering::Relaxed);
                    (gone, None)
                }
            }
        };
        let is_raced = raced.is_some();
        if let Some(gone) = gone {
            if !is_raced {
                self.entries.fetch_sub(1, Ordering::Relaxed);
            }
            self.bury(gone);
        }
        self.sweep_if_due();
        Ok(raced.unwrap_or(pin))
    }

    fn make(
        &self,
        dir: &Pin<'_>,
        key: Key<'_>,
        era: u32,
        seen: &Seen,
        now: u64,
    ) -> Result<LruItem<Dentry>, Turn> {
        let text = |bytes: &[u8]| Text::new(&self.long, bytes, FLAGS);
        let name = text(key.name)?.ok_or(Errno::NAMETOOLONG)?;
        let body = match seen.kind {
            Kind::Missing => Body::Missing,
            Kind::File => Body::File,
            Kind::Other => Body::Other,
            Kind::Symlink => Body::Symlink(text(&seen.target)?),
            Kind::Directory => Body::Directory {
                serial: self.next_serial.fetch_add(1, Ordering::Relaxed),
                listing: Listing::new(seen.times, now),
            },
        };
        let dentry = Dentry::new(Some(dir.dentry.clone()), (name, key.hash), body, seen.node);
        dentry.seen.store(era, Ordering::Relaxed);
        Ok(self.list.try_item(FLAGS, || dentry)?)
    }

    /// An entry that was taken out of the table, dead: its directory has one child less.
    fn bury(&self, item: LruItem<Dentry>) {
        if let Some(parent) = &item.parent {
            self.stop_use(parent);
        }
        drop(item);
    }

    /// A shrink has come to an entry. No lock is held.
    pub fn give_up(&self, dentry: &Dentry) -> Verdict {
        if dentry.was_warm() && !dentry.is_orphan() {
            return Verdict::Rotate;
        }
        let item = {
            let mut entries = self.table.shard(dentry.hash);
            match dentry.end() {
                End::Died => table::remove(&mut entries, dentry),
                End::InUse => {
                    if let Some(item) = table::item(&entries, dentry) {
                        self.list.del(item);
                    }
                    None
                }
                End::WasDead => None,
            }
        };
        let Some(item) = item else {
            return Verdict::Skip;
        };
        self.counts.reclaimed.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bury(item);
        Verdict::Removed
    }

    /// Takes out what no path leads to, when there may be as much of it as of the rest. Amortised
    /// O(1) an entry that was made.
    fn sweep_if_due(&self) {
        if !self.has_orphans.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut after_last) = self.sweeping.try_lock() else {
            return;
        };
        if self.entries.load(Ordering::Relaxed) < 2 * *after_last + FEW_ORPHANS {
            return;
        }
        self.has_orphans.store(false, Ordering::Relaxed);
        // Those below an orphan are orphans when it has gone.
        while self.sweep() > 0 {}
        *after_last = self.entries.load(Ordering::Relaxed);
    }

    fn sweep(&self) -> usize {
        let mut swept = 0;
        let mut gone = Vec::new();
        for mut entries in self.table.shards() {
            {
                let _free = no_account();
                gone.extend(entries.extract_if(|item| item.is_orphan()).inspect(|item| {
                    item.kill();
                }));
            }
            drop(entries);
            swept += gone.len();
            gone.drain(..).for_each(|item| self.bury(item));
        }
        self.entries.fetch_sub(swept, Ordering::Relaxed);
        self.counts.swept.fetch_add(swept as u64, Ordering::Relaxed);
        swept
    }

    /// Where a directory is, from the root: names with slashes between them.
    pub fn path_of(&self, dentry: &Dentry) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = dentry;
        while let Some(parent) = &at.parent {
            names.push(at.name.as_bytes());
            at = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Opens a directory, if it is still where it was.
    pub fn open(&self, dir: &Pin<'_>, now: u64) -> Result<OwnedFd, Turn> {
        let path = self.path_of(&dir.dentry);
        let fd = real::open_below(self.root_fd.as_fd(), &path)
            .map_err(|errno| self.has_moved(dir, errno))?;
        let seen = real::look_at(fd.as_fd())?;
        self.confirm_directory(dir, &seen, now)?;
        Ok(fd)
    }

    /// Asks a directory for its times, if that is due.
    pub fn refresh(&self, dir: &Pin<'_>, fd: Option<&OwnedFd>, now: u64) -> Result<(), Turn> {
        let Some((_, listing)) = dir.directory() else {
            return Ok(());
        };
        if listing.is_fresh(self.freshness, now) {
            return Ok(());
        }
        self.counts.asked.fetch_add(1, Ordering::Relaxed);
        let seen = match fd {
            Some(fd) => real::look_at(fd.as_fd()),
            None => {
                let path = self.path_of(&dir.dentry);
                real::look_below(self.root_fd.as_fd(), &path)
            }
        };
        let seen = seen.map_err(|errno| self.has_moved(dir, errno))?;
        self.confirm_directory(dir, &seen, now)
    }

    fn confirm_directory(&self, dir: &Pin<'_>, seen: &Seen, now: u64) -> Result<(), Turn> {
        if seen.kind != Kind::Directory || seen.node != (dir.dentry.ino, dir.dentry.dev) {
            return Err(self.has_moved(dir, Errno::NOENT));
        }
        if let Some((_, listing)) = dir.directory() {
            listing.update(seen.times, now);
        }
        Ok(())
    }

    /// A directory is not where it was: the one it was in is not as it was.
    fn has_moved(&self, dir: &Pin<'_>, errno: Errno) -> Turn {
        match (&dir.dentry.parent, errno) {
            (Some(parent), Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                let mut at = Some(parent);
                // Any of those above may be the one that was renamed.
                while let Some(dentry) = at {
                    if let Some(listing) = dentry.listing() {
                        listing.forget();
                    }
                    at = dentry.parent.as_ref();
                }
                Turn::Again
            }
            _ => Turn::Fails(errno),
        }
    }

    /// What is known of the entries on a path is asked again when it is next used.
    pub fn invalidate(&self, path: &[u8]) {
        let mut rest = Rest::new(path);
        let mut at = self.pin_root();
        loop {
            if let Some((_, listing)) = at.directory() {
                listing.forget();
            }
            let Some(name) = rest.next() else {
                return;
            };
            let key = self.table.key(at.dentry.serial(), &name);
            let entries = self.table.shard(key.hash);
            let Some(item) = entries.find(key.hash, |item| key.is_of(item)) else {
                return;
            };
            if !item.try_use() {
                return;
            }
            let child = Pin::of(self, item.share());
            drop(entries);
            at = child;
        }
    }

    pub fn lane(&self, hash: u64) -> &Lane {
        &self.lanes[(hash >> 8) as usize % LANES]
    }
}

/// Whether an entry is what was seen; then it is known to be so in that era.
fn confirm(dentry: &Dentry, era: u32, seen: &Seen, now: u64) -> bool {
    let is_same = dentry.kind() == seen.kind
        && (dentry.ino, dentry.dev) == seen.node
        && match &dentry.body {
            Body::Symlink(Some(target)) => target.as_bytes() == seen.target,
            Body::Symlink(None) => seen.target.len() > LONGEST,
            Body::Missing | Body::File | Body::Directory { .. } | Body::Other => true,
        };
    if is_same {
        if let Some(listing) = dentry.listing() {
            listing.update(seen.times, now);
        }
        dentry.seen.store(era, Ordering::Relaxed);
    }
    is_same
}
