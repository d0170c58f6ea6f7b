//! A file's region against a plain vector of bytes: any order of writes, reads, syncs, changes of
//! the length, invalidations and new users; what is cached and dirty is what it should be.

// Under loom there is no process's engine to test.
#![cfg(not(loom))]

use memcg::{Mapping, Memcg, PAGE_SIZE, PageCache, root};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PAGE: usize = PAGE_SIZE;
const MOST: usize = 12 * PAGE;

#[derive(Clone, Debug)]
enum Op {
    Write(usize, usize, u8),
    Read(usize, usize),
    Sync,
    MappingSync,
    Invalidate(usize, usize),
    SetLen(usize),
    Reopen,
    Remap,
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..MOST;
    let len = prop_oneof![1..40_usize, Just(PAGE), PAGE..4 * PAGE];
    prop_oneof![
        4 => (at.clone(), len.clone(), any::<u8>()).prop_map(|(at, len, fill)| Op::Write(at, len, fill)),
        3 => (at.clone(), len).prop_map(|(at, len)| Op::Read(at, len)),
        1 => Just(Op::Sync),
        1 => Just(Op::MappingSync),
        1 => (at.clone(), at.clone()).prop_map(|(a, b)| Op::Invalidate(a.min(b), a.max(b))),
        2 => prop_oneof![at, (0..MOST / PAGE).prop_map(|page| page * PAGE)].prop_map(Op::SetLen),
        1 => Just(Op::Reopen),
        1 => Just(Op::Remap),
    ]
}

struct Model {
    path: PathBuf,
    group: Memcg,
    users: Option<(PageCache, Mapping)>,
    bytes: Vec<u8>,
    cached: BTreeSet<usize>,
    dirty: BTreeSet<usize>,
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn pages(range: &Range<usize>) -> Range<usize> {
    range.start / PAGE..range.end.div_ceil(PAGE)
}

impl Model {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let nr = NEXT.fetch_add(1, Relaxed);
        let place = match nr % 2 {
            0 => std::env::current_exe()
                .unwrap()
                .parent()
                .unwrap()
                .to_path_buf(),
            _ => std::env::temp_dir(),
        };
        let path = place.join(format!("page-cache-model-{}-{nr}", std::process::id()));
        let bytes: Vec<u8> = (0..5 * PAGE + 77).map(|at| (at % 253) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let group = root().create(format!("model-{nr}")).unwrap();
        let file = PageCache::open(&path).unwrap();
        let table = file.map(&group).unwrap();
        Self {
            path,
            group,
            users: Some((file, table)),
            bytes,
            cached: BTreeSet::new(),
            dirty: BTreeSet::new(),
        }
    }

    fn file(&self) -> &PageCache {
        &self.users.as_ref().unwrap().0
    }

    fn table(&self) -> &Mapping {
        &self.users.as_ref().unwrap().1
    }

    fn within(&self, at: usize, len: usize) -> Range<usize> {
        let start = at.min(self.bytes.len());
        start..(at + len).min(self.bytes.len()).max(start)
    }

    fn synced(&mut self) {
        self.dirty.clear();
        assert!(std::fs::read(&self.path).unwrap() == self.bytes);
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Write(at, len, fill) => {
                let range = self.within(at, len);
                self.bytes[range.clone()].fill(fill);
                let written = &self.bytes[range.clone()];
                self.table().write_at(range.start as u64, written).unwrap();
                if !range.is_empty() {
                    self.cached.extend(pages(&range));
                    self.dirty.extend(pages(&range));
                }
            }
            Op::Read(at, len) => {
                let range = self.within(at, len);
                let mut into = vec![0xaa; range.len()];
                self.table().read_at(range.start as u64, &mut into).unwrap();
                assert!(into == self.bytes[range.clone()]);
                if !range.is_empty() {
                    self.cached.extend(pages(&range));
                }
            }
            Op::Sync => {
                self.file().sync().unwrap();
                self.synced();
            }
            Op::MappingSync => {
                self.table().sync().unwrap();
                self.synced();
            }
            Op::Invalidate(from, to) => {
                let range = self.within(from, to - from);
                let clean = |page: &usize| !range.is_empty() && pages(&range).contains(page);
                let gone: Vec<_> = self
                    .cached
                    .difference(&self.dirty)
                    .copied()
                    .filter(clean)
                    .collect();
                let nr = self
                    .file()
                    .invalidate(range.start as u64..range.end as u64)
                    .unwrap();
                assert_eq!(nr, gone.len() as u64);
                self.cached.retain(|page| !gone.contains(page));
            }
            Op::SetLen(len) => {
                self.file().set_len(len as u64).unwrap();
                let shorter = len.min(self.bytes.len());
                self.bytes.resize(len, 0);
                let end = len.div_ceil(PAGE);
                self.cached.retain(|&page| page < end);
                self.dirty.retain(|&page| page < end);
                // A clean page with an end in it is read again.
                if shorter % PAGE != 0 && !self.dirty.contains(&(shorter / PAGE)) {
                    self.cached.remove(&(shorter / PAGE));
                }
                assert_eq!(std::fs::metadata(&self.path).unwrap().len(), len as u64);
            }
            Op::Reopen => {
                // Between the two nobody uses it.
                let users = self.users.take();
                drop(users);
                let file = PageCache::open(&self.path).unwrap();
                let table = file.map(&self.group).unwrap();
                self.users = Some((file, table));
            }
            Op::Remap => {
                let table = self.file().map(&self.group).unwrap();
                self.users.as_mut().unwrap().1 = table;
            }
        }
        assert_eq!(self.file().len(), self.bytes.len() as u64);
        let text = self.group.read("memory.stat").unwrap();
        let of = |key: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            line.unwrap().parse::<usize>().unwrap() / PAGE
        };
        let counted = (of("file"), of("file_dirty"), of("file_writeback"));
        assert_eq!(counted, (self.cached.len(), self.dirty.len(), 0));
        assert_eq!(self.file().region().nr_pages(), self.cached.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_region_of_a_file_is_the_file_with_what_was_written(ops in prop::collection::vec(op(), 1..40)) {
        let mut model = Model::new();
        for op in ops {
            model.apply(op);
        }
        let all = 0..model.bytes.len();
        model.apply(Op::Read(all.start, all.end));
        model.apply(Op::Sync);
    }
}
