//! The cache against a map of paths, over a real tree that changes all the time.

mod books;

use memcg::{Memcg, root};
use memcg_dentry::{DentryCache, Freshness, Kind};
use proptest::prelude::*;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

const LONG: &str = "a-name-that-is-too-long-to-be-kept-in-place-in-an-entry-of-the-cache";
const NAMES: [&str; 4] = ["a", "b", "c", LONG];

type Path = Vec<usize>;

#[derive(Clone, Debug)]
enum Op {
    File(Path),
    Dir(Path),
    Link(Path, Path),
    Delete(Path),
    Rename(Path, Path),
    Lookup(Path, bool),
    Pin(Path),
    Unpin,
    Shrink(u64),
    Walk,
    Limit(u64),
}

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec(0..NAMES.len(), 1..4)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => path().prop_map(Op::File),
        4 => path().prop_map(Op::Dir),
        1 => (path(), path()).prop_map(|(at, to)| Op::Link(at, to)),
        2 => path().prop_map(Op::Delete),
        2 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        20 => (path(), any::<bool>()).prop_map(|(path, follow)| Op::Lookup(path, follow)),
        2 => path().prop_map(Op::Pin),
        2 => Just(Op::Unpin),
        2 => (0u64..20).prop_map(Op::Shrink),
        1 => Just(Op::Walk),
        1 => (0u64..12).prop_map(Op::Limit),
    ]
}

fn text(path: &[usize]) -> String {
    let names: Vec<&str> = path.iter().map(|name| NAMES[*name]).collect();
    names.join("/")
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    File,
    Dir,
    Link(Path),
}

/// The naive model: every path there is, and what is there.
#[derive(Default)]
struct Model(BTreeMap<Path, Node>);

impl Model {
    /// What a lookup must say; the kernel's rules, by the letter.
    fn lookup(&self, path: &[usize], follow: bool) -> Result<Kind, Errno> {
        let mut at: Path = Vec::new();
        let mut left: Vec<usize> = path.iter().rev().copied().collect();
        let mut links = 0;
        while let Some(name) = left.pop() {
            at.push(name);
            match self.0.get(&at) {
                None => return Ok(Kind::Missing),
                Some(Node::Link(to)) if follow || !left.is_empty() => {
                    links += 1;
                    if links > 40 {
                        return Err(Errno::LOOP);
                    }
                    at.clear();
                    left.extend(to.iter().rev());
                }
                Some(Node::Link(_)) => return Ok(Kind::Symlink),
                Some(Node::File) if left.is_empty() => return Ok(Kind::File),
                Some(Node::File) => return Err(Errno::NOTDIR),
                Some(Node::Dir) => {}
            }
        }
        Ok(Kind::Directory)
    }

    /// Whether something can be made there: its directory is one, without links on the way, and the
    /// name is free.
    fn is_free(&self, path: &[usize]) -> bool {
        let (_, dir) = path.split_last().unwrap();
        (dir.is_empty() || self.0.get(dir) == Some(&Node::Dir)) && !self.0.contains_key(path)
    }

    fn below(&self, path: &[usize]) -> Vec<(Path, Node)> {
        self.0
            .iter()
            .filter(|(at, _)| at.starts_with(path))
            .map(|(at, node)| (at.clone(), node.clone()))
            .collect()
    }
}

struct World {
    tree: tempfile::TempDir,
    model: Model,
    group: Memcg,
}

impl World {
    fn new() -> World {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let nr = NEXT.fetch_add(1, Ordering::Relaxed);
        World {
            tree: tempfile::tempdir().unwrap(),
            model: Model::default(),
            group: root().create(format!("model-{nr}")).unwrap(),
        }
    }

    fn real(&self, path: &[usize]) -> PathBuf {
        self.tree.path().join(text(path))
    }

    fn change(&mut self, op: &Op) {
        match op {
            Op::File(path) if self.model.is_free(path) => {
                fs::write(self.real(path), "x").unwrap();
                self.model.0.insert(path.clone(), Node::File);
            }
            Op::Dir(path) if self.model.is_free(path) => {
                fs::create_dir(self.real(path)).unwrap();
                self.model.0.insert(path.clone(), Node::Dir);
            }
            Op::Link(path, to) if self.model.is_free(path) => {
                symlink(format!("/{}", text(to)), self.real(path)).unwrap();
                self.model.0.insert(path.clone(), Node::Link(to.clone()));
            }
            Op::Delete(path) => {
                match self.model.0.get(path) {
                    Some(Node::Dir) => fs::remove_dir_all(self.real(path)).unwrap(),
                    Some(_) => fs::remove_file(self.real(path)).unwrap(),
                    None => {}
                }
                self.model.0.retain(|at, _| !at.starts_with(path));
            }
            Op::Rename(from, to)
                if self.model.0.contains_key(from)
                    && self.model.is_free(to)
                    && !to.starts_with(from) =>
            {
                fs::rename(self.real(from), self.real(to)).unwrap();
                for (at, node) in self.model.below(from) {
                    self.model.0.remove(&at);
                    let moved = [to, &at[from.len()..]].concat();
                    self.model.0.insert(moved, node);
                }
            }
            Op::File(_)
            | Op::Dir(_)
            | Op::Link(..)
            | Op::Rename(..)
            | Op::Lookup(..)
            | Op::Pin(_)
            | Op::Unpin
            | Op::Shrink(_)
            | Op::Walk
            | Op::Limit(_) => {}
        }
    }
}

/// Runs a history. `told`: the cache never asks on its own, and is told of each change.
fn run(ops: &[Op], freshness: Freshness) {
    let mut world = World::new();
    let cache = DentryCache::with(world.tree.path(), freshness).unwrap();
    let mut pins = Vec::new();
    for op in ops {
        match op {
            Op::Lookup(path, follow) => {
                let found = world.group.run(|| match follow {
                    true => cache.resolve(text(path)),
                    false => cache.lookup(text(path)),
                });
                let found = found
                    .map(|found| found.kind)
                    .map_err(|why| Errno::from_io_error(&why).unwrap());
                assert_eq!(found, world.model.lookup(path, *follow), "{}", text(path));
            }
            Op::Pin(path) => pins.extend(world.group.run(|| cache.pin(text(path))).ok()),
            Op::Unpin => drop(pins.pop()),
            Op::Shrink(nr) => {
                cache.shrink(&world.group, *nr);
            }
            Op::Walk => {
                let tour = world.group.run(|| cache.walk("")).unwrap();
                assert_eq!((tour.names, tour.failed), (world.model.0.len() as u64, 0));
            }
            Op::Limit(kib) => {
                let max = if *kib > 9 {
                    "max".into()
                } else {
                    format!("{kib}K")
                };
                let _ = world.group.write("memory.max", &max);
            }
            change @ (Op::File(_) | Op::Dir(_) | Op::Link(..) | Op::Delete(_) | Op::Rename(..)) => {
                world.change(change);
                if freshness == Freshness::Trusted
                    && let Op::File(path) | Op::Dir(path) | Op::Link(path, _) | Op::Delete(path) =
                        change
                {
                    cache.invalidate(text(path));
                }
                if freshness == Freshness::Trusted
                    && let Op::Rename(from, to) = change
                {
                    cache.invalidate(text(from));
                    cache.invalidate(text(to));
                }
            }
        }
    }
    drop(cache);
    drop(pins);
    books::comes_to_nothing(&world.group);
    world.group.remove().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cache_that_always_asks_says_what_is_there(ops in prop::collection::vec(op(), 1..120)) {
        run(&ops, Freshness::Always);
    }

    #[test]
    fn a_cache_that_is_told_of_changes_says_what_is_there(ops in prop::collection::vec(op(), 1..120)) {
        run(&ops, Freshness::Trusted);
    }
}
