//! The owners of a group in the order of their oldest pages: a leftist heap through the owners'
//! records.
//!
//! A key is the stamp of the head of an owner's queue. A group has a heap for each queue; when it
//! ends, its heap is melded into its parent's without a look at the owners.
//!
//! A leftist heap has its short side on the right: the right spine of n owners is at most
//! log2(n + 1) long, and all work is along right spines. A pairing heap melds in O(1), but the
//! first take after n melds costs O(n) under the lock; here each step is O(log n) for sure, which
//! is 17 for 10^5 owners.
//!
//! Invariants: no owner's key is below that of the owner above it. An owner is in one heap at most
//! by each of its nodes. A node that is in no heap is all zero but for its key.
//! Depends on: nothing; [`Nodes`] finds the links of an owner.
//! Never: a use by two threads at a time: the lock of the group is held. Recursion.
//!
//! Source of the idea: C. A. Crane, "Linear lists and priority queues as balanced binary trees"
//! (1972); links to the owner above make removal of any one O(log n).

use super::id::PageOwnerId;
use crate::sync::Zeroed;
use crate::sync::id::Id;
// Under the group's lock; core's also under loom, so that no model has a step for each link.
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// An owner's place in one heap; lies in the owner's record. Zero bytes: in none.
#[derive(Default)]
pub struct HeapNode {
    key: AtomicU64,
    left: AtomicU32,
    right: AtomicU32,
    /// The owner above; the owner itself at the root; 0 in no heap.
    up: AtomicU32,
    /// How many owners the shortest way down passes, this one included.
    rank: AtomicU32,
}

// SAFETY: zero words are a node in no heap, as Default builds it.
unsafe impl Zeroed for HeapNode {}

impl HeapNode {
    /// Whether it is in a heap.
    pub fn is_in_heap(&self) -> bool {
        self.up.load(Relaxed) != 0
    }

    /// The key it has, or had when it last was in a heap.
    pub fn key(&self) -> u64 {
        self.key.load(Relaxed)
    }

    fn id(word: &AtomicU32) -> Option<PageOwnerId> {
        PageOwnerId::from_raw(word.load(Relaxed))
    }

    fn set(word: &AtomicU32, id: Option<PageOwnerId>) {
        word.store(id.map_or(0, PageOwnerId::raw), Relaxed);
    }
}

/// Where the nodes of one kind of heap are.
pub trait Nodes {
    /// The node of an owner.
    fn node(&self, owner: PageOwnerId) -> &HeapNode;
}

/// How many owners the shortest way down from here passes.
fn rank(nodes: &impl Nodes, owner: Option<PageOwnerId>) -> u32 {
    owner.map_or(0, |owner| nodes.node(owner).rank.load(Relaxed))
}

/// A heap of owners; see the module. Zero bytes: empty.
#[derive(Default)]
pub struct OwnerHeap {
    root: AtomicU32,
}

// SAFETY: a zero word is an empty heap, as Default builds it.
unsafe impl Zeroed for OwnerHeap {}

impl OwnerHeap {
    /// The owner with the least key. Cost: O(1).
    #[inline]
    pub fn first(&self) -> Option<PageOwnerId> {
        HeapNode::id(&self.root)
    }

    /// Puts an owner that is in no such heap in, with that key. Cost: O(log owners).
    pub fn insert(&self, nodes: &impl Nodes, owner: PageOwnerId, key: u64) {
        let node = nodes.node(owner);
        debug_assert!(!node.is_in_heap());
        node.key.store(key, Relaxed);
        HeapNode::set(&node.up, Some(owner));
        node.rank.store(1, Relaxed);
        self.set_root(nodes, merge(nodes, self.first(), Some(owner)));
    }

    /// Takes out the owner with the least key. Cost: O(log owners).
    #[cfg(any(test, feature = "testing"))]
    pub fn take_first(&self, nodes: &impl Nodes) -> Option<PageOwnerId> {
        let first = self.first()?;
        self.remove(nodes, first);
        Some(first)
    }

    /// Takes an owner of this heap out; `false` if it is in no heap. Cost: O(log owners).
    pub fn remove(&self, nodes: &impl Nodes, owner: PageOwnerId) -> bool {
        let node = nodes.node(owner);
        let Some(up) = HeapNode::id(&node.up) else {
            return false;
        };
        let below = merge(nodes, HeapNode::id(&node.left), HeapNode::id(&node.right));
        for word in [&node.left, &node.right, &node.up, &node.rank] {
            word.store(0, Relaxed);
        }
        if up == owner {
            debug_assert_eq!(self.first(), Some(owner));
            self.set_root(nodes, below);
            return true;
        }
        let above = nodes.node(up);
        if HeapNode::id(&above.left) == Some(owner) {
            HeapNode::set(&above.left, below);
        } else {
            HeapNode::set(&above.right, below);
        }
        if let Some(below) = below {
            HeapNode::set(&nodes.node(below).up, Some(up));
        }
        // Each owner whose rank changes is one above that of the last: at most log2(n + 1) of them.
        let mut at = up;
        while lean(nodes, at) {
            match HeapNode::id(&nodes.node(at).up) {
                Some(above) if above != at => at = above,
                Some(_) | None => break,
            }
        }
        true
    }

    /// An owner of this heap has that key from now on; one that is in none is put in. `None`: it is
    /// taken out. Cost: O(1) where it stays in its place, else O(log owners).
    pub fn set_key(&self, nodes: &impl Nodes, owner: PageOwnerId, key: Option<u64>) {
        let node = nodes.node(owner);
        let Some(key) = key else {
            self.remove(nodes, owner);
            return;
        };
        if node.is_in_heap() {
            let key_of = |word: &AtomicU32| HeapNode::id(word).map(|id| nodes.node(id).key());
            let fits = key_of(&node.left).is_none_or(|below| key <= below)
                && key_of(&node.right).is_none_or(|below| key <= below)
                && (self.first() == Some(owner) || key_of(&node.up).is_none_or(|up| up <= key));
            if fits {
                node.key.store(key, Relaxed);
                return;
            }
            self.remove(nodes, owner);
        }
        self.insert(nodes, owner, key);
    }

    /// Takes all owners of `other`, which is empty then. Cost: O(log of the owners of both).
    pub fn meld(&self, nodes: &impl Nodes, other: &Self) {
        debug_assert!(!core::ptr::eq(self, other));
        let all = merge(nodes, self.first(), other.first());
        other.root.store(0, Relaxed);
        self.set_root(nodes, all);
    }

    fn set_root(&self, nodes: &impl Nodes, root: Option<PageOwnerId>) {
        HeapNode::set(&self.root, root);
        if let Some(root) = root {
            HeapNode::set(&nodes.node(root).up, Some(root));
        }
    }
}

/// Sets an owner's rank by those below it, the lower rank to the right; whether it was another.
fn lean(nodes: &impl Nodes, owner: PageOwnerId) -> bool {
    let node = nodes.node(owner);
    let (left, right) = (HeapNode::id(&node.left), HeapNode::id(&node.right));
    let (mut high, mut low) = (rank(nodes, left), rank(nodes, right));
    if high < low {
        HeapNode::set(&node.left, right);
        HeapNode::set(&node.right, left);
        core::mem::swap(&mut high, &mut low);
    }
    let before = node.rank.load(Relaxed);
    node.rank.store(low + 1, Relaxed);
    before != low + 1
}

/// Makes one of two heaps; answers its root, whose `up` is for the caller to set.
fn merge(
    nodes: &impl Nodes,
    a: Option<PageOwnerId>,
    b: Option<PageOwnerId>,
) -> Option<PageOwnerId> {
    let (Some(mut a), Some(mut b)) = (a, b) else {
        return a.or(b);
    };
    if nodes.node(b).key() < nodes.node(a).key() {
        core::mem::swap(&mut a, &mut b);
    }
    let root = a;
    // Down both right spines: `a` is the last that has its place, `b` the rest of the other heap.
    loop {
        let node = nodes.node(a);
        let mut next = HeapNode::id(&node.right);
        if let Some(right) = next {
            if nodes.node(b).key() < nodes.node(right).key() {
                next = Some(b);
                b = right;
            }
        } else {
            HeapNode::set(&node.right, Some(b));
            HeapNode::set(&nodes.node(b).up, Some(a));
            break;
        }
        HeapNode::set(&node.right, next);
        if let Some(next) = next {
            HeapNode::set(&nodes.node(next).up, Some(a));
            a = next;
        }
    }
    // And up again.
    loop {
        lean(nodes, a);
        if a == root {
            return Some(root);
        }
        match HeapNode::id(&nodes.node(a).up) {
            Some(up) => a = up,
            None => return Some(root),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    struct All(Vec<HeapNode>);

    impl Nodes for All {
        fn node(&self, owner: PageOwnerId) -> &HeapNode {
            &self.0[owner.raw() as usize - 1]
        }
    }

    fn owners(n: u32) -> All {
        All((0..n).map(|_| HeapNode::default()).collect())
    }

    fn id(number: u32) -> PageOwnerId {
        PageOwnerId::new(number)
    }

    /// The owners of a heap; each is where its links say, no key is below the one above, and the
    /// right spines are short.
    fn audit(all: &All, heap: &OwnerHeap) -> BTreeSet<(u64, PageOwnerId)> {
        let mut found = BTreeSet::new();
        let mut open: Vec<_> = heap.first().map(|root| (root, root)).into_iter().collect();
        while let Some((owner, up)) = open.pop() {
            let node = all.node(owner);
            assert_eq!(HeapNode::id(&node.up), Some(up));
            assert!(all.node(up).key() <= node.key());
            let below = [&node.left, &node.right].map(HeapNode::id);
            let [left, right] = below.map(|below| rank(all, below));
            assert!(left >= right && node.rank.load(Relaxed) == right + 1);
            open.extend(below.into_iter().flatten().map(|below| (below, owner)));
            assert!(found.insert((node.key(), owner)));
        }
        found
    }

    #[derive(Clone, Debug)]
    enum Op {
        SetKey(bool, u32, Option<u64>),
        TakeFirst(bool),
        Meld,
    }

    fn op() -> impl Strategy<Value = Op> {
        let key = prop::option::weighted(0.8, 0..50u64);
        prop_oneof![
            12 => (any::<bool>(), 1..40u32, key).prop_map(|(at, of, key)| Op::SetKey(at, of, key)),
            3 => any::<bool>().prop_map(Op::TakeFirst),
            1 => Just(Op::Meld),
        ]
    }

    proptest! {
        #[test]
        fn the_first_has_the_least_key_whatever_is_done(
            ops in prop::collection::vec(op(), 1..150),
        ) {
            let all = owners(40);
            let heaps = [OwnerHeap::default(), OwnerHeap::default()];
            let mut sets = [BTreeSet::new(), BTreeSet::new()];
            for op in ops {
                match op {
                    Op::SetKey(at, of, key) => {
                        // An owner stays in the heap it is in.
                        let is_it = |of_set: &(u64, PageOwnerId)| of_set.1 == id(of);
                        let is_in = |set: &BTreeSet<_>| set.iter().any(is_it);
                        let at = sets.iter().position(is_in).unwrap_or(usize::from(at));
                        heaps[at].set_key(&all, id(of), key);
                        sets[at].retain(|of_set| of_set.1 != id(of));
                        sets[at].extend(key.map(|key| (key, id(of))));
                    }
                    Op::TakeFirst(at) => {
                        let at = usize::from(at);
                        let least = sets[at].first().map(|first| first.0);
                        let taken = heaps[at].take_first(&all);
                        prop_assert_eq!(taken.map(|owner| all.node(owner).key()), least);
                        if let Some(owner) = taken {
                            prop_assert!(sets[at].remove(&(all.node(owner).key(), owner)));
                            prop_assert!(!all.node(owner).is_in_heap());
                        }
                    }
                    Op::Meld => {
                        heaps[0].meld(&all, &heaps[1]);
                        let other = std::mem::take(&mut sets[1]);
                        sets[0].extend(other);
                    }
                }
                for (heap, set) in heaps.iter().zip(&sets) {
                    prop_assert_eq!(&audit(&all, heap), set);
                    let first = heap.first().map(|owner| all.node(owner).key());
                    prop_assert_eq!(first, set.first().map(|first| first.0));
                }
            }
        }
    }

    /// A hundred thousand groups of one owner end one after the other; the stack is small.
    #[test]
    fn many_melds_leave_no_long_way_on_a_small_stack() {
        let body = || {
            const N: u32 = 20_000;
            let (all, heap) = (owners(N), OwnerHeap::default());
            for n in 1..=N {
                let one = OwnerHeap::default();
                one.insert(&all, id(n), u64::from(n * 7919 % N));
                heap.meld(&all, &one);
                assert_eq!(one.first(), None);
            }
            assert!(rank(&all, heap.first()) <= (N + 1).ilog2());
            let keys = core::iter::from_fn(|| heap.take_first(&all));
            let keys = keys.map(|owner| all.node(owner).key());
            assert!(keys.eq(0..u64::from(N)));
        };
        let thread = std::thread::Builder::new().stack_size(16 * 1024);
        thread.spawn(body).unwrap().join().unwrap();
    }

    #[test]
    fn an_owner_in_no_heap_is_not_taken_out() {
        let (all, heap) = (owners(2), OwnerHeap::default());
        assert!(!heap.remove(&all, id(1)));
        heap.insert(&all, id(2), 5);
        assert!(!heap.remove(&all, id(1)));
        heap.set_key(&all, id(1), None);
        assert!(heap.remove(&all, id(2)) && !heap.remove(&all, id(2)));
        assert_eq!(heap.first(), None);
    }
}
