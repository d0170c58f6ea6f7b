//! Entries by directory and name: a hash table in shards, each with a lock of its own.
//!
//! Invariants: an entry is in it from its birth to its death. The tables' own memory belongs to no
//! tenant, as the kernel's does.
//! Depends on: `dentry`; `lock`; hashbrown for the tables.
//! Never: an entry freed or made under a lock.

use crate::dentry::Dentry;
use crate::lock::lock;
use hashbrown::{DefaultHashBuilder, HashTable};
use memcg::{LruItem, no_account};
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard};

/// Shards: more than threads that look things up at once.
const SHARDS: usize = 64;

/// The entries of one shard.
pub type Entries = HashTable<LruItem<Dentry>>;

/// A directory's number, a name, and the hash of both.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// The directory's number.
    pub serial: u64,
    /// The name.
    pub name: &'a [u8],
    /// Of both.
    pub hash: u64,
}

impl Key<'_> {
    /// Whether it is the key of that entry.
    pub fn is_of(&self, dentry: &Dentry) -> bool {
        dentry.parent_serial == self.serial && dentry.name.as_bytes() == self.name
    }
}

#[repr(align(64))]
#[derive(Default)]
struct Shard(Mutex<Entries>);

/// See the module.
pub struct Table {
    shards: Box<[Shard]>,
    hasher: DefaultHashBuilder,
}

impl Table {
    /// Empty.
    pub fn new() -> Table {
        Table {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// The key of a name in a directory.
    pub fn key<'a>(&self, serial: u64, name: &'a [u8]) -> Key<'a> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(serial);
        hasher.write(name);
        Key {
            serial,
            name,
            hash: hasher.finish(),
        }
    }

    /// The shard where what has this hash is.
    pub fn shard(&self, hash: u64) -> MutexGuard<'_, Entries> {
        // Other bits than those the tables use.
        lock(&self.shards[(hash >> 40) as usize % SHARDS].0)
    }

    /// All shards, one after the other.
    pub fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Entries>> {
        self.shards.iter().map(|shard| lock(&shard.0))
    }
}

/// Puts an entry in that is not there.
pub fn insert(entries: &mut Entries, item: LruItem<Dentry>) {
    let hash_of = |item: &LruItem<Dentry>| item.hash;
    if entries.len() == entries.capacity() {
        let _free = no_account();
        entries.reserve(1, hash_of);
    }
    entries.insert_unique(item.hash, item, hash_of);
}

/// Takes that very entry out.
pub fn remove(entries: &mut Entries, dentry: &Dentry) -> Option<LruItem<Dentry>> {
    let is_it = |item: &LruItem<Dentry>| core::ptr::eq(&**item, dentry);
    let found = entries.find_entry(dentry.hash, is_it).ok()?;
    Some(found.remove().0)
}

/// An entry was looked up: it stays longer, and if it was left by a group that has ended it may be
/// who looks now that pays for it. That charges within its limits only, and asks nobody for room;
/// so it may be done under the shard's lock.
pub fn found(item: &LruItem<Dentry>) {
    item.warm();
    if item.touch() {
        item.texts().for_each(|text| text.touch());
    }
}

/// That very entry's item.
pub fn item<'a>(entries: &'a Entries, dentry: &Dentry) -> Option<&'a LruItem<Dentry>> {
    entries.find(dentry.hash, |item| core::ptr::eq(&**item, dentry))
}
