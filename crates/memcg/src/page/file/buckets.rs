//! The table by which a file is found.
//!
//! Invariants: a record is in the chain of its identity's bucket, once, while it has references.
//! Depends on: the lock of [`super::Files`], which callers hold.
//! Never: a look at the file.

use super::identity::Identity;
use super::record::FileRec;
use crate::page::id::FileId;
use crate::sync::Zeroed;
use crate::sync::arena::Arena;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::id::AtomicId;

const BUCKET_BITS: u32 = if cfg!(loom) { 1 } else { 12 };

fn bucket(identity: Identity) -> usize {
    // The high bits of a product are a hash of all bits (Knuth's multiplicative hashing).
    let mixed = (identity.ino ^ identity.dev.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - BUCKET_BITS)) as usize
}

/// Chains of records by identity.
pub(super) struct Buckets([AtomicId<FileId>; 1 << BUCKET_BITS]);

impl Default for Buckets {
    fn default() -> Self {
        Self(core::array::from_fn(|_| AtomicId::default()))
    }
}

// SAFETY: empty chains, as Default builds them.
unsafe impl Zeroed for Buckets {}

type Records = Arena<FileId, FileRec>;

impl Buckets {
    pub fn find(&self, records: &Records, identity: Identity) -> Option<FileId> {
        let mut at = self.0[bucket(identity)].load(Relaxed);
        while let Some(file) = at {
            let record = records.get(file);
            if record.identity() == identity {
                return Some(file);
            }
            at = record.next.load(Relaxed);
        }
        None
    }

    pub fn insert(&self, records: &Records, file: FileId) {
        let record = records.get(file);
        let head = &self.0[bucket(record.identity())];
        record.next.store(head.load(Relaxed), Relaxed);
        head.store(Some(file), Relaxed);
    }

    pub fn remove(&self, records: &Records, file: FileId) {
        let gone = records.get(file);
        let mut link = &self.0[bucket(gone.identity())];
        while let Some(at) = link.load(Relaxed) {
            if at == file {
                link.store(gone.next.load(Relaxed), Relaxed);
                return;
            }
            link = &records.get(at).next;
        }
    }
}
