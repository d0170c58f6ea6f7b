//! Which addresses the program mapped, and who is charged for them: an ordered map of disjoint
//! spans.
//!
//! A treap over nodes in an array of our own pages: O(log spans) whatever the order of addresses,
//! 32 bytes a span, no heap. Neighbours of one owner are one span, so a program that maps page
//! after page costs one node.
//!
//! Invariants: spans are disjoint and not empty; a span of owner [`IDLE`] is address space nobody
//! is charged for yet.
//! Depends on: the caller's lock; that [`Ranges::have_room`] said yes before a change.
//! Never: charges; allocates from the heap, or calls `mmap` and its kind by name: these are what we
//! stand in for.

use core::ptr::NonNull;
use memcg::internal::mapped::Owner;

/// The owner of what is mapped but cannot be written as yet.
pub const IDLE: Owner = Owner::NOBODY;

/// One span of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub start: usize,
    pub end: usize,
    /// Who is charged for it.
    pub owner: Owner,
}

impl Span {
    pub fn bytes(&self) -> usize {
        self.end - self.start
    }
}

/// A node's index; 0 is none.
type At = u32;

#[derive(Clone, Copy)]
#[repr(C)]
struct Node {
    span: Span,
    /// Above both children's.
    priority: u32,
    left: At,
    right: At,
}

/// More than one change needs: an mremap cuts in six places and puts one span in.
const ROOM: u32 = 12;
const FIRST: usize = 64 << 10;

/// See the module.
pub struct Ranges {
    nodes: Option<NonNull<Node>>,
    bytes: usize,
    /// Nodes ever used, node 0 included.
    fresh: u32,
    /// Freed nodes, linked by `left`.
    free: At,
    root: At,
    seed: u32,
    nr: usize,
    nr_idle: usize,
}

// SAFETY: the pages are this value's own.
unsafe impl Send for Ranges {}

impl Ranges {
    pub const fn new() -> Self {
        Self {
            nodes: None,
            bytes: 0,
            fresh: 1,
            free: 0,
            root: 0,
            seed: 0x9e37_79b9,
            nr: 0,
            nr_idle: 0,
        }
    }

    /// Spans, all and idle.
    pub fn counts(&self) -> (usize, usize) {
        (self.nr, self.nr_idle)
    }

    /// Forgets all: for a child that has the table from the middle of a change.
    pub fn forget(&mut self) {
        (self.fresh, self.free, self.root) = (1, 0, 0);
        (self.nr, self.nr_idle) = (0, 0);
    }

    /// Sees to it that the next change finds its nodes; `false` without memory.
    pub fn have_room(&mut self) -> bool {
        let wanted = (self.fresh + ROOM) as usize * size_of::<Node>();
        wanted <= self.bytes || self.free_holds(ROOM) || self.grow()
    }

    fn free_holds(&self, n: u32) -> bool {
        let mut at = self.free;
        (0..n).all(|_| {
            let some = at != 0;
            if some {
                at = self.node(at).left;
            }
            some
        })
    }

    fn grow(&mut self) -> bool {
        let bytes = (self.bytes * 2).max(FIRST);
        let anywhere = core::ptr::null_mut::<u8>();
        // SAFETY: new pages, or a move of ours, whose old address nobody keeps: nodes are named by
        // index.
        let p = unsafe {
            match self.nodes {
                None => libc::syscall(
                    libc::SYS_mmap,
                    anywhere,
                    bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                    -1,
                    0,
                ),
                Some(old) => libc::syscall(
                    libc::SYS_mremap,
                    old.as_ptr(),
                    self.bytes,
                    bytes,
                    libc::MREMAP_MAYMOVE,
                    anywhere,
                ),
            }
        };
        if p == -1 {
            return false;
        }
        self.nodes = NonNull::new(p as *mut Node);
        self.bytes = bytes;
        true
    }

    fn node(&self, at: At) -> &Node {
        let base = self.nodes.expect("a node has pages");
        debug_assert!(at != 0 && at < self.fresh);
        // SAFETY: an index below `fresh`, whose pages `have_room` saw to; zeroed or written, and
        // integers only.
        unsafe { base.add(at as usize).as_ref() }
    }

    fn node_mut(&mut self, at: At) -> &mut Node {
        let base = self.nodes.expect("a node has pages");
        debug_assert!(at != 0 && at < self.fresh);
        // SAFETY: as in `node`, and `self` is borrowed for as long.
        unsafe { base.add(at as usize).as_mut() }
    }

    fn new_node(&mut self, span: Span) -> At {
        let at = match self.free {
            0 => {
                self.fresh += 1;
                self.fresh - 1
            }
            at => {
                self.free = self.node(at).left;
                at
            }
        };
        // Xorshift: priorities nobody arranges addresses against.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        let priority = self.seed;
        *self.node_mut(at) = Node {
            span,
            priority,
            left: 0,
            right: 0,
        };
        self.nr += 1;
        self.nr_idle += usize::from(span.owner == IDLE);
        at
    }

    fn free_node(&mut self, at: At) {
        self.nr -= 1;
        self.nr_idle -= usize::from(self.node(at).span.owner == IDLE);
        self.node_mut(at).left = self.free;
        self.free = at;
    }

    /// Those that start below `key`, and the others.
    fn split(&mut self, at: At, key: usize) -> (At, At) {
        if at == 0 {
            return (0, 0);
        }
        let node = *self.node(at);
        if node.span.start < key {
            let (low, high) = self.split(node.right, key);
            self.node_mut(at).right = low;
            (at, high)
        } else {
            let (low, high) = self.split(node.left, key);
            self.node_mut(at).left = high;
            (low, at)
        }
    }

    /// One tree of two, all of `low` below all of `high`.
    fn join(&mut self, low: At, high: At) -> At {
        if low == 0 || high == 0 {
            return low | high;
        }
        if self.node(low).priority > self.node(high).priority {
            let right = self.node(low).right;
            let right = self.join(right, high);
            self.node_mut(low).right = right;
            low
        } else {
            let left = self.node(high).left;
            let left = self.join(low, left);
            self.node_mut(high).left = left;
            high
        }
    }

    fn first(&self, mut at: At) -> At {
        while at != 0 && self.node(at).left != 0 {
            at = self.node(at).left;
        }
        at
    }

    fn last(&self, mut at: At) -> At {
        while at != 0 && self.node(at).right != 0 {
            at = self.node(at).right;
        }
        at
    }

    /// The span that has `address` in it.
    pub fn find(&self, address: usize) -> Option<Span> {
        let mut at = self.root;
        while at != 0 {
            let node = self.node(at);
            if address < node.span.start {
                at = node.left;
            } else if address < node.span.end {
                return Some(node.span);
            } else {
                at = node.right;
            }
        }
        None
    }

    /// Makes `key` a border: a span across it becomes two.
    fn cut(&mut self, key: usize) {
        let Some(span) = self.find(key).filter(|span| span.start != key) else {
            return;
        };
        let (low, high) = self.split(self.root, key);
        let left = self.last(low);
        self.node_mut(left).span.end = key;
        let right = self.new_node(Span { start: key, ..span });
        let high = self.join(right, high);
        self.root = self.join(low, high);
    }

    /// Takes out what lies in `start..end`, as a tree of its own.
    fn extract(&mut self, start: usize, end: usize) -> At {
        self.cut(start);
        self.cut(end);
        let (low, rest) = self.split(self.root, start);
        let (middle, high) = self.split(rest, end);
        self.root = self.join(low, high);
        middle
    }

    /// Puts a tree where nothing is.
    fn graft(&mut self, tree: At) {
        if tree == 0 {
            return;
        }
        let first = self.first(tree);
        let key = self.node(first).span.start;
        let (low, high) = self.split(self.root, key);
        let low = self.join(low, tree);
        self.root = self.join(low, high);
    }

    fn each_node(&mut self, at: At, f: &mut dyn FnMut(&mut Self, At)) {
        if at == 0 {
            return;
        }
        let Node { left, right, .. } = *self.node(at);
        self.each_node(left, f);
        f(self, at);
        self.each_node(right, f);
    }

    /// Removes `start..end`; `each` is told what was there, in order.
    pub fn take(&mut self, start: usize, end: usize, mut each: impl FnMut(Span)) {
        let gone = self.extract(start, end);
        self.each_node(gone, &mut |this, at| {
            each(this.node(at).span);
            this.free_node(at);
        });
    }

    /// Adds a span where nothing is; it may become one with its neighbours.
    pub fn put(&mut self, span: Span) {
        let (low, mut high) = self.split(self.root, span.start);
        let (before, after) = (self.last(low), self.first(high));
        let mut span = span;
        if after != 0 {
            let next = self.node(after).span;
            if next.start == span.end && next.owner == span.owner {
                (_, high) = self.split(high, next.start + 1);
                self.free_node(after);
                span.end = next.end;
            }
        }
        let joins = before != 0 && {
            let last = self.node(before).span;
            last.end == span.start && last.owner == span.owner
        };
        if joins {
            self.node_mut(before).span.end = span.end;
            self.root = self.join(low, high);
        } else {
            let new = self.new_node(span);
            let low = self.join(low, new);
            self.root = self.join(low, high);
        }
    }

    /// Bytes in `start..end` that an owner is charged for, and idle ones.
    pub fn held(&mut self, start: usize, end: usize) -> (usize, usize) {
        let (mut charged, mut idle) = (0, 0);
        let (low, rest) = self.split(self.root, start);
        let (middle, high) = self.split(rest, end);
        let mut count = |span: Span| {
            let bytes = span.end.min(end).saturating_sub(span.start.max(start));
            if span.owner == IDLE {
                idle += bytes;
            } else {
                charged += bytes;
            }
        };
        let before = self.last(low);
        if before != 0 {
            count(self.node(before).span);
        }
        self.each_node(middle, &mut |this, at| count(this.node(at).span));
        let low = self.join(low, middle);
        self.root = self.join(low, high);
        (charged, idle)
    }

    /// Gives the idle spans in `start..end` to `owner`.
    pub fn adopt_idle(&mut self, start: usize, end: usize, owner: Owner) {
        let tree = self.extract(start, end);
        self.each_node(tree, &mut |this, at| {
            if this.node(at).span.owner == IDLE {
                this.nr_idle -= 1;
                this.node_mut(at).span.owner = owner;
            }
        });
        self.graft(tree);
    }

    /// Moves what lies in `start..end` to begin at `to`; `each` is told what was there.
    pub fn shift(&mut self, start: usize, end: usize, to: usize, each: impl FnMut(Span)) {
        let tree = self.extract(start, end);
        self.take(to, to + (end - start), each);
        self.each_node(tree, &mut |this, at| {
            let span = &mut this.node_mut(at).span;
            let bytes = span.bytes();
            span.start = to + (span.start - start);
            span.end = span.start + bytes;
        });
        self.graft(tree);
    }
}

#[cfg(test)]
mod tests;
