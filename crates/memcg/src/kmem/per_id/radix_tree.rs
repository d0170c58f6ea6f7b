//! A table as a radix tree: it shrinks as groups go, and a lookup costs a step for each level.
//!
//! Invariants: a node has something under it, or is free for any table. The tree is as high as its
//! largest id needs.
//! Depends on: nodes are records that never move, so a reader may look at a node that has become
//! another table's. What it found is good only if the table's version has not changed: whoever
//! takes something out changes the version before a node is free.
//! Never: a reader that waits. It looks again only if something was taken out meanwhile.

use super::Tables;
use super::node::{BITS, WIDTH};
use crate::kmem::id::NodeId;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::id::Id;
use crate::sync::lock::{Lock, Rank};
use crate::sync::promise::SoleThread;
use crate::thread::ThreadRec;

/// Numbers of nodes are below this; the bits above hold the height.
const NODE_LIMIT: u32 = 1 << 28;
/// The height of the highest tree.
const HEIGHT_MAX: u32 = 6;

/// What came of a [`Tree::insert`].
#[must_use]
pub(super) enum Entered {
    Done,
    Found(u32),
    NoMemory,
}

/// The tree of one table.
#[derive(Default)]
pub(super) struct Tree {
    /// {height:4 | node:28}; 0: empty.
    root: AtomicU32,
    /// Changes are made under it, one at a time.
    lock: Lock,
    /// The table's number, for hints; 0: it has not been used.
    serial: AtomicU32,
    /// Changes whenever something is taken out.
    version: AtomicU64,
}

// SAFETY: atomic integers and a lock, which is free as zero bytes: such a tree is empty.
unsafe impl Zeroed for Tree {}

fn join(height: u32, node: Option<NodeId>) -> u32 {
    (height * NODE_LIMIT) | node.map_or(0, NodeId::raw)
}

fn split(root: u32) -> (u32, Option<NodeId>) {
    (root / NODE_LIMIT, NodeId::from_raw(root % NODE_LIMIT))
}

/// The node that a slot above the bottom leads to.
fn node_in(slot: &AtomicU32, order: Ordering) -> Option<NodeId> {
    NodeId::from_raw(slot.load(order))
}

fn slot_at(id: u32, height: u32) -> usize {
    (id >> (BITS * (height - 1))) as usize % WIDTH
}

/// Whether a tree of that height has a place for `id`.
fn reaches(height: u32, id: u32) -> bool {
    u64::from(id) < 1 << (BITS * height)
}

impl Tree {
    pub(super) fn get(&self, tables: &Tables, rec: &ThreadRec, id: u32) -> Option<u32> {
        let serial = self.serial.load(Ordering::Relaxed);
        let key = u64::from(serial) << 32 | u64::from(id);
        loop {
            // Acquire pairs with the Release of `remove`.
            let version = self.version.load(Ordering::Acquire);
            if let Some(value) = rec.hints.get(serial, key, version) {
                return Some(value);
            }
            let found = self.walk(tables, id);
            // Acquire pairs with the Release stores into slots (`set`, `new_node`): a reader that
            // read what a node's next user wrote sees here that the version has changed.
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                if let Some(value) = found {
                    rec.hints.keep(serial, key, version, value);
                }
                return found;
            }
        }
    }

    fn walk(&self, tables: &Tables, id: u32) -> Option<u32> {
        // Acquire, here and below, pairs with the Release stores of `set` and `insert`: a node
        // comes with its slots.
        let (height, root) = split(self.root.load(Ordering::Acquire));
        if !reaches(height, id) {
            return None;
        }
        let mut at = root?;
        for level in (2..=height).rev() {
            let slot = &tables.nodes.try_get(at)?.slots[slot_at(id, level)];
            // Acquire pairs with the Release of `set`; below too.
            at = node_in(slot, Ordering::Acquire)?;
        }
        let value = tables.nodes.try_get(at)?.slots[slot_at(id, 1)].load(Ordering::Acquire);
        (value != 0).then_some(value)
    }

    pub(super) fn insert(&self, tables: &Tables, id: u32, value: u32) -> Entered {
        let _held = self.lock.lock(Rank::Tables);
        if self.serial.load(Ordering::Relaxed) == 0 {
            let serial = tables.nr_trees.fetch_add(1, Ordering::Relaxed) + 1;
            self.serial.store(serial, Ordering::Relaxed);
        }
        if let Some(found) = self.walk(tables, id) {
            return Entered::Found(found);
        }
        // Takes all the nodes that may be needed, before anything changes.
        let mut spare = [None; HEIGHT_MAX as usize * 2];
        for at in 0..self.needs(tables, id) {
            let Some(node) = tables.new_node() else {
                give_back(tables, &spare[..at]);
                return Entered::NoMemory;
            };
            spare[at] = Some(node);
        }
        let mut next = spare.iter().copied().map_while(|node| node);
        let (mut height, mut root) = split(self.root.load(Ordering::Relaxed));
        while !reaches(height, id) {
            if let Some(below) = root {
                let Some(node) = next.next() else {
                    return Entered::NoMemory;
                };
                set(tables, node, 0, below.raw());
                root = Some(node);
            }
            height += 1;
        }
        let Some(root) = root.or_else(|| next.next()) else {
            return Entered::NoMemory;
        };
        // From the bottom up would publish at once; top down each step is a whole tree, which lacks
        // what is not there yet.
        // Release pairs with the Acquire of `walk` and `each`: the root comes with its slots.
        self.root.store(join(height, Some(root)), Ordering::Release);
        let mut at = root;
        for level in (2..=height).rev() {
            let slot = slot_at(id, level);
            let below = node_in(&tables.nodes.get(at).slots[slot], Ordering::Relaxed);
            at = match below {
                Some(node) => node,
                None => {
                    let Some(node) = next.next() else {
                        return Entered::NoMemory;
                    };
                    set(tables, at, slot, node.raw());
                    node
                }
            };
        }
        set(tables, at, slot_at(id, 1), value);
        Entered::Done
    }

    /// How many nodes an `insert` of `id` takes.
    fn needs(&self, tables: &Tables, id: u32) -> usize {
        let (mut height, root) = split(self.root.load(Ordering::Relaxed));
        let mut n = 0;
        let grows = !reaches(height, id);
        while !reaches(height, id) {
            n += usize::from(root.is_some());
            height += 1;
        }
        let Some(root) = root else {
            return height as usize;
        };
        if grows {
            // Below the new root there is no node on the way to `id`, or the old tree would have
            // reached it.
            return n + height as usize - 1;
        }
        let mut at = root;
        for level in (2..=height).rev() {
            let slot = &tables.nodes.get(at).slots[slot_at(id, level)];
            match node_in(slot, Ordering::Relaxed) {
                Some(below) => at = below,
                None => return level as usize - 1,
            }
        }
        0
    }

    pub(super) fn remove(&self, tables: &Tables, id: u32) -> Option<u32> {
        let _held = self.lock.lock(Rank::Tables);
        let value = self.walk(tables, id)?;
        let (height, mut root) = split(self.root.load(Ordering::Relaxed));
        let mut path = [None; HEIGHT_MAX as usize + 1];
        let mut at = root;
        for level in (1..=height).rev() {
            path[level as usize] = at;
            at = at.and_then(|at| {
                let slot = &tables.nodes.get(at).slots[slot_at(id, level)];
                // At the bottom this is no node; it is the last step, so nobody looks at it.
                node_in(slot, Ordering::Relaxed)
            });
        }
        let mut free = [None; HEIGHT_MAX as usize * 2];
        let mut nr_free = 0;
        let mut drop_node = |node| {
            free[nr_free] = Some(node);
            nr_free += 1;
        };
        for level in 1..=height {
            let Some(index) = path[level as usize] else {
                break;
            };
            let node = tables.nodes.get(index);
            // Release pairs with the Acquire of `walk`; it takes nothing along.
            node.slots[slot_at(id, level)].store(0, Ordering::Release);
            if node.used.fetch_sub(1, Ordering::Relaxed) != 1 {
                break;
            }
            drop_node(index);
            if level == height {
                root = None;
            }
        }
        let mut height = root.map_or(0, |_| height);
        // Lowers the tree while its root has nothing but its first slot.
        while height > 1
            && let Some(index) = root
        {
            let top = tables.nodes.get(index);
            let below = node_in(&top.slots[0], Ordering::Relaxed);
            if top.used.load(Ordering::Relaxed) != 1 || below.is_none() {
                break;
            }
            drop_node(index);
            (height, root) = (height - 1, below);
        }
        // Release pairs with the Acquire of `walk`: a lower root is a whole tree.
        self.root.store(join(height, root), Ordering::Release);
        // Release pairs with the Acquire of `get`: the version changes before a node can be another
        // table's.
        self.version.fetch_add(1, Ordering::AcqRel);
        give_back(tables, &free[..nr_free]);
        Some(value)
    }

    /// Calls `f` with every id and what is under it. A moment's view.
    pub(super) fn each(&self, tables: &Tables, f: &mut impl FnMut(u32, u32)) {
        // Acquire pairs with the Release of `insert`: the root comes with its slots.
        let (height, root) = split(self.root.load(Ordering::Acquire));
        if let Some(root) = root {
            each_below(tables, root, height, 0, f);
        }
    }

    /// The number of its nodes.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn nr_nodes(&self, tables: &Tables) -> u64 {
        // Acquire pairs with the Release of `insert`: the root comes with its slots.
        let (height, root) = split(self.root.load(Ordering::Acquire));
        root.map_or(0, |root| count(tables, root, height))
    }

    /// Empties it. No other thread uses the table.
    pub(super) fn clear(&self, tables: &Tables) {
        // Acquire pairs with the Release of `insert`; no reader is left for the Release. The
        // version's Release pairs with the Acquire of `get`.
        let (height, root) = split(self.root.swap(0, Ordering::AcqRel));
        self.version.fetch_add(1, Ordering::AcqRel);
        if let Some(root) = root {
            clear_below(tables, root, height);
        }
    }

    #[cfg(test)]
    pub(super) fn lock_tree(&self) -> crate::sync::lock::Held<'_> {
        self.lock.lock(Rank::Tables)
    }

    /// Makes the lock free in the child of a fork. The new version makes all hints useless, since
    /// something may have been half taken out; a node may be lost.
    pub(super) fn reset_lock_in_child(&self, sole: SoleThread) {
        // Release pairs with the Acquire of `get`.
        self.version.fetch_add(1, Ordering::AcqRel);
        self.lock.reset_in_child(sole);
    }
}

fn set(tables: &Tables, node: NodeId, slot: usize, value: u32) {
    let node = tables.nodes.get(node);
    node.used.fetch_add(1, Ordering::Relaxed);
    // Release pairs with the Acquire of `walk` and `below`: a node comes with its slots.
    node.slots[slot].store(value, Ordering::Release);
}

fn give_back(tables: &Tables, nodes: &[Option<NodeId>]) {
    for &node in nodes.iter().flatten() {
        tables.nodes.free(node);
    }
}

fn slots(tables: &Tables, node: NodeId) -> impl Iterator<Item = (u32, &AtomicU32)> {
    (0..).zip(&tables.nodes.get(node).slots)
}

/// The nodes that a node above the bottom leads to.
fn below(tables: &Tables, node: NodeId) -> impl Iterator<Item = NodeId> {
    // Acquire pairs with the Release of `set`.
    slots(tables, node).filter_map(|(_, slot)| node_in(slot, Ordering::Acquire))
}

fn each_below(
    tables: &Tables,
    node: NodeId,
    height: u32,
    first: u32,
    f: &mut impl FnMut(u32, u32),
) {
    for (at, slot) in slots(tables, node) {
        let id = first | at << (BITS * (height - 1));
        // Acquire, here and below, pairs with the Release of `set`.
        if height > 1 {
            if let Some(node) = node_in(slot, Ordering::Acquire) {
                each_below(tables, node, height - 1, id, f);
            }
            continue;
        }
        // Acquire pairs with the Release of `set`.
        match slot.load(Ordering::Acquire) {
            0 => {}
            value => f(id, value),
        }
    }
}

#[cfg(any(test, feature = "testing"))]
fn count(tables: &Tables, node: NodeId, height: u32) -> u64 {
    let more = if height == 1 {
        0
    } else {
        below(tables, node)
            .map(|node| count(tables, node, height - 1))
            .sum()
    };
    1 + more
}

fn clear_below(tables: &Tables, node: NodeId, height: u32) {
    if height > 1 {
        for node in below(tables, node) {
            clear_below(tables, node, height - 1);
        }
    }
    tables.nodes.free(node);
}

impl Tables {
    /// A node with empty slots.
    fn new_node(&self) -> Option<NodeId> {
        let index = self.nodes.alloc(NODE_LIMIT)?;
        let node = self.nodes.get(index);
        node.used.store(0, Ordering::Relaxed);
        for slot in &node.slots {
            // Release pairs with the Acquire fence of `get`: a reader of the node's last table that
            // reads this 0 sees that the version has changed.
            slot.store(0, Ordering::Release);
        }
        Some(index)
    }
}
