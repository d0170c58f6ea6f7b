//! Who has an id, who gets it next, and what happens when there is none.

#![forbid(unsafe_code)]

use super::*;
use crate::thread::ThreadRec;

type Tree = &'static Hierarchy;

fn alone() -> (Tree, &'static ThreadRec) {
    let tree = Hierarchy::leaked();
    (tree, tree.threads.join().unwrap().1)
}

fn create(tree: Tree, rec: &ThreadRec, parent: &Memcg, name: &str) -> &'static Memcg {
    let _pin = tree.threads.epoch.pin(rec);
    let index = tree.create(parent, name.as_bytes()).unwrap();
    tree.memcgs.get(index)
}

/// As a group's end does, but the group stays.
fn end(tree: Tree, rec: &ThreadRec, group: &Memcg) {
    let _pin = tree.threads.epoch.pin(rec);
    if let Some(id) = tree.end_kmem_id(group) {
        tree.free_kmem_id(id);
    }
}

#[test]
fn the_smallest_free_id_is_given_and_those_above_have_theirs_first() {
    let (tree, rec) = alone();
    let root = tree.memcgs.get(ROOT);
    let a = create(tree, rec, root, "a");
    let b = create(tree, rec, a, "b");
    let c = create(tree, rec, root, "c");
    assert_eq!(tree.kmem_id(root), Ok(ROOT_ID));
    assert_eq!(tree.kmem_id_if_any(b), None);
    assert_eq!(tree.kmem_id(b), Ok(KmemId::new(3)));
    assert_eq!(tree.kmem_id_if_any(a), Some(KmemId::new(2)));
    assert_eq!(tree.kmem_id(c), Ok(KmemId::new(4)));
    assert_eq!(tree.kmem_id(b), Ok(KmemId::new(3)), "it stays");
    end(tree, rec, b);
    assert_eq!(tree.kmem_id(b), Err(IdError::Gone));
    for _ in 0..4 {
        tree.collect();
    }
    let d = create(tree, rec, root, "d");
    assert_eq!(tree.kmem_id(d), Ok(KmemId::new(3)));
    assert_eq!(tree.kmem_ids.holder(KmemId::new(3)), Some(d.index()));
    tree.audit().unwrap();
}

#[test]
fn an_id_is_nobodys_while_somebody_may_look_at_what_it_was() {
    let (tree, rec) = alone();
    let (_, reader) = tree.threads.join().unwrap();
    let root = tree.memcgs.get(ROOT);
    let a = create(tree, rec, root, "a");
    let id = tree.kmem_id(a).unwrap();
    let pin = tree.threads.epoch.pin(reader);
    end(tree, rec, a);
    for n in 0..10 {
        tree.collect();
        let other = create(tree, rec, root, &n.to_string());
        assert_ne!(tree.kmem_id(other), Ok(id));
    }
    drop(pin);
    for _ in 0..4 {
        tree.collect();
    }
    let other = create(tree, rec, root, "other");
    assert_eq!(tree.kmem_id(other), Ok(id));
}

#[test]
fn exhaustion_is_told_served_from_above_and_heals() {
    let (tree, rec) = alone();
    let root = tree.memcgs.get(ROOT);
    tree.kmem_ids.set_max_id(3);
    let groups: Vec<_> = (0..3)
        .map(|n| create(tree, rec, root, &n.to_string()))
        .collect();
    let below = create(tree, rec, groups[0], "below");
    assert_eq!(tree.kmem_id(groups[0]), Ok(KmemId::new(2)));
    assert_eq!(tree.kmem_id(groups[1]), Ok(KmemId::new(3)));
    assert_eq!(tree.kmem_id(groups[2]), Err(IdError::Exhausted));
    assert_eq!(tree.kmem_id(below), Err(IdError::Exhausted));
    assert_eq!(tree.kmem_ids.nr_exhausted(), 2);
    assert_eq!(tree.kmem_id_or_above(groups[2]).0, ROOT_ID);
    assert_eq!(tree.kmem_id_or_above(below).0, KmemId::new(2));
    end(tree, rec, groups[1]);
    assert_eq!(
        tree.kmem_id(groups[2]),
        Ok(KmemId::new(3)),
        "found without being told to collect"
    );
}

#[test]
fn no_two_groups_have_an_id_at_the_same_time() {
    const THREADS: usize = 4;
    let (tree, rec) = alone();
    let root = tree.memcgs.get(ROOT);
    let groups: Vec<Vec<_>> = (0..THREADS)
        .map(|t| {
            let create = |n| create(tree, rec, root, &format!("{t}.{n}"));
            (0..300).map(create).collect()
        })
        .collect();
    // One group more that all of them want at once.
    let common = create(tree, rec, root, "common");
    let ids = std::thread::scope(|s| {
        let workers: Vec<_> = groups
            .iter()
            .map(|mine| {
                s.spawn(move || {
                    let (index, rec) = tree.threads.join().unwrap();
                    let mut held = Vec::new();
                    for (n, group) in mine.iter().enumerate() {
                        let pin = tree.threads.epoch.pin(rec);
                        let id = tree.kmem_id(group).unwrap();
                        assert_eq!(tree.kmem_ids.holder(id), Some(group.index()));
                        drop(pin);
                        if n % 3 == 0 {
                            end(tree, rec, group);
                        } else {
                            held.push(id);
                        }
                    }
                    held.push(tree.kmem_id(common).unwrap());
                    tree.threads.leave(index);
                    held
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect::<Vec<_>>()
    });
    let shared: Vec<KmemId> = ids.iter().map(|held| *held.last().unwrap()).collect();
    assert!(shared.iter().all(|&id| id == shared[0]));
    let mut all: Vec<KmemId> = ids
        .iter()
        .flat_map(|held| &held[..held.len() - 1])
        .copied()
        .collect();
    let n = all.len();
    all.extend([ROOT_ID, shared[0]]);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), n + 2);
}
