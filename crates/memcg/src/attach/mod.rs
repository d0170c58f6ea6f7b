//! Moving a task: all its bytes change groups, or those that the policy names; or nothing changes.
//!
//! A move has three steps, with nothing of ours held in between: [`Attach::begin`],
//! [`Attach::prepare`] (memory's `can_attach`), then [`Attach::commit`] or [`Attach::cancel`]. A
//! move that is dropped between them is cancelled.
//!
//! Invariants: at every moment the bytes are charged at the source or the target or, for the length
//! of the move, at both below their nearest common ancestor; never at neither. No limit is passed.
//! A refused or cancelled move leaves everything as it was. (`leaky` breaks the first and the last
//! of these, as published, and says by how much.)
//! Depends on: one mover a task (`Objcg::begin_move`); the task's lock for the flip; that a group
//! with a task stays online; the flips of `group`.
//! Never: a look at a thing that was charged; a stop of the task, which charges and frees all the
//! while; a lock held between two steps, where others are asked.

#![forbid(unsafe_code)]

mod kmem_limit;
#[cfg(all(test, loom))]
pub(crate) mod loom;
mod marked;
mod part;
mod target_room;
#[cfg(all(test, not(loom)))]
mod tries;
mod whole;

use crate::counter::Level;
use crate::group::exact_charge::Refusal;
use crate::group::flip_word::Unchanged;
use crate::group::kind::NR_SIDE_KINDS;
use crate::group::kmem_charge::SLAB_SIDE;
use crate::group::objcg::{Objcg, State};
use crate::group::residual::MAX_RESIDUALS;
use crate::group::successor::NewSuccessor;
use crate::group::{GroupId, Hierarchy, Memcg, MovePolicy, Tag};
use crate::sync::atomic::Ordering;
use crate::sync::lock::Rank;
use crate::thread::ThreadRec;
use target_room::{Room, Way};

/// Rounds of making the room larger because the task went on charging.
const ROUNDS: usize = 16;
/// What `paged` and `leaky` move at a time, in bytes.
pub const PIECE: u64 = 4096;

/// Why a move was refused; nothing has changed, unless it leaked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveError {
    /// The task has ended.
    NoTask,
    /// The target has been removed.
    NoGroup,
    /// A group on the target's side is full.
    Full(Refusal),
    /// The task's objects of caches do not fit within a `memory.kmem.max` on the target's side.
    KmemFull(Refusal),
    /// The task charged faster than room could be reserved for it, sixteen times over.
    Busy,
    /// Another move of the task is under way.
    Moving,
    /// Bytes of the task stay in too many groups already.
    Scattered,
    /// No memory for a record.
    NoMemory,
    /// A leaky move that was refused: so many bytes are charged to nobody from now on.
    Leaked(u64),
}

/// What a move did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub struct Moved {
    /// Bytes that changed groups, stock included.
    pub moved: u64,
    /// Bytes that did not.
    pub stayed: u64,
    /// The pieces it took, where it went by pieces.
    pub pieces: u64,
}

/// A move under way. Finishing consumes it: [`Attach::commit`], [`Attach::cancel`]. Its drop
/// cancels it.
///
/// It belongs to the thread that began it.
#[must_use = "a move that is dropped is cancelled"]
pub struct Attach<'t> {
    tree: &'t Hierarchy,
    /// The mover's record.
    rec: &'t ThreadRec,
    /// Whether nothing is left to be undone.
    is_over: bool,
    /// The task's owner, named.
    tag: Tag,
    target: GroupId,
    policy: MovePolicy,
    /// For the owner's own word, then for its residuals in their order.
    rooms: [Room; 1 + MAX_RESIDUALS],
    /// Bytes of cache objects there is room for at the target.
    slab: u64,
    successor: Option<NewSuccessor>,
    /// Bytes that are to stay, with `lazy`.
    evictable: u64,
    pieces: u64,
    recounts: u32,
}

/// Moves the task `tag` to `target` with all it holds, asking nobody. The caller is pinned, and
/// `rec` is its thread's. Cost: O(depth), some CAS a level.
///
/// # Errors
/// See [`MoveError`].
pub fn move_task(
    tree: &Hierarchy,
    rec: &ThreadRec,
    tag: Tag,
    target: &Memcg,
) -> Result<(), MoveError> {
    move_task_with(tree, rec, tag, target, MovePolicy::Transfer, 0).map(|_| ())
}

/// As [`move_task`], by any policy. `evictable` is how many bytes may stay with `lazy`.
///
/// # Errors
/// See [`MoveError`].
pub fn move_task_with(
    tree: &Hierarchy,
    rec: &ThreadRec,
    tag: Tag,
    target: &Memcg,
    policy: MovePolicy,
    evictable: u64,
) -> Result<Moved, MoveError> {
    let mut attach = Attach::begin(tree, rec, tag, target, policy)?;
    attach.let_stay(evictable);
    // Transfer needs no preparation where nobody else is asked.
    if policy != MovePolicy::Transfer
        && let Err(why) = attach.prepare()
    {
        return Err(attach.cancel().unwrap_or(why));
    }
    attach.commit()
}

impl<'t> Attach<'t> {
    /// Begins a move: from here to its end the target stays online, and no other move of the task
    /// begins. The caller is pinned; `tag` may have been superseded.
    ///
    /// # Errors
    /// Where there is no such task or group, or another move.
    pub fn begin(
        tree: &'t Hierarchy,
        rec: &'t ThreadRec,
        tag: Tag,
        target: &Memcg,
        policy: MovePolicy,
    ) -> Result<Self, MoveError> {
        let tag = tree.try_ref_live_tag(tag).ok_or(MoveError::NoTask)?;
        let objcg = tree.objcgs.get(tag);
        let begun = {
            let _task = objcg.lock.lock(Rank::Task);
            if objcg.begin_move() {
                Ok(())
            } else if objcg.state() == State::Task {
                // Moves end without the lock: by now it may move no more.
                Err(MoveError::Moving)
            } else {
                Err(MoveError::NoTask)
            }
        };
        let begun = begun.and_then(|()| {
            let expected = match tree.expect_pages(tag, target) {
                Some(()) if tree.add_task_to(target) => return Ok(()),
                Some(()) => MoveError::NoGroup,
                None => MoveError::NoMemory,
            };
            objcg.end_move();
            Err(expected)
        });
        begun.inspect_err(|_| tree.unref_objcg(tag))?;
        Ok(Self {
            tree,
            rec,
            is_over: false,
            tag,
            target: target.index(),
            policy,
            rooms: [Room::default(); 1 + MAX_RESIDUALS],
            slab: 0,
            successor: None,
            evictable: 0,
            pieces: 0,
            recounts: tree.nr_recounts(),
        })
    }

    /// The group the task is in: it stays there, and the group online, until the move ends or the
    /// task does.
    pub fn source(&self) -> GroupId {
        let tree = self.tree;
        tree.resolve(tree.objcgs.get(self.tag).cell()).group.index()
    }

    /// The task's owner.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// The policy of the move.
    pub fn policy(&self) -> MovePolicy {
        self.policy
    }

    /// With `lazy`: so many bytes of the task can be evicted, and need not go with it.
    pub fn let_stay(&mut self, evictable: u64) {
        self.evictable = evictable;
    }

    /// Memory's `can_attach`: whatever can be refused before others are asked is refused here. The
    /// caller is pinned.
    ///
    /// # Errors
    /// See [`MoveError`]. To be followed by [`Self::cancel`]; or, where the target was full and
    /// there is more room now, by another call, which goes on where the last one stopped.
    pub fn prepare(&mut self) -> Result<(), MoveError> {
        let (tree, rec) = (self.tree, self.rec);
        match self.policy {
            MovePolicy::Transfer => {
                self.cover_or_drain(tree, rec)?;
                self.give_back(tree);
                Ok(())
            }
            MovePolicy::ReserveBoth => self.cover_or_drain(tree, rec),
            MovePolicy::Paged => self.cover_by_pieces(tree, rec),
            MovePolicy::Leaky => self.ship_by_pieces(tree, rec),
            MovePolicy::Stay => {
                self.successor = tree.new_successor(self.tag, tree.memcgs.get(self.target));
                self.successor.map(|_| ()).ok_or(MoveError::NoMemory)
            }
            MovePolicy::BestEffort | MovePolicy::Lazy => Ok(()),
        }
    }

    /// Takes the move back: all is as before. Cannot fail; answers what a leaky move has lost. The
    /// caller is pinned.
    pub fn cancel(mut self) -> Option<MoveError> {
        self.undo()
    }

    /// What was done is undone, the last first; answers what a leaky move has lost. The caller is
    /// pinned.
    fn undo(&mut self) -> Option<MoveError> {
        let tree = self.tree;
        self.forget_if_recounted(tree);
        self.give_back(tree);
        if let Some(successor) = self.successor.take() {
            tree.forget_successor(successor);
        }
        let leaked = self.ship_back(tree);
        self.end(tree, true);
        leaked.map(MoveError::Leaked)
    }

    /// The move itself: the point of no return. The caller is pinned.
    ///
    /// # Errors
    /// When the task has ended, or has grown beyond what there is room for; then it has been
    /// cancelled.
    pub fn commit(mut self) -> Result<Moved, MoveError> {
        let (tree, rec) = (self.tree, self.rec);
        if !self.begin_anew_if_recounted(tree) {
            return Err(self.undo().unwrap_or(MoveError::NoGroup));
        }
        let objcg = tree.objcgs.get(self.tag);
        let moved = {
            let _task = objcg.lock.lock(Rank::Task);
            if objcg.state() == State::Task {
                // A live task's group is online and its cell's own.
                self.commit_locked(tree, rec)
            } else {
                Err(MoveError::NoTask)
            }
        };
        match moved {
            Ok(moved) => {
                if let Some(successor) = self.successor.take() {
                    tree.forget_successor(successor);
                }
                self.end(tree, false);
                Ok(moved)
            }
            Err(why) => Err(self.undo().unwrap_or(why)),
        }
    }

    fn commit_locked(&mut self, tree: &Hierarchy, rec: &ThreadRec) -> Result<Moved, MoveError> {
        let source = tree.resolve(tree.objcgs.get(self.tag).cell()).group;
        // Nothing stays behind where nobody leaves.
        let stays_there = source.index() == self.target;
        match self.policy {
            MovePolicy::Transfer | MovePolicy::ReserveBoth | MovePolicy::Paged => {
                self.move_whole(tree, rec, true)
            }
            MovePolicy::Lazy | MovePolicy::BestEffort | MovePolicy::Stay if stays_there => {
                self.move_whole(tree, rec, false)
            }
            MovePolicy::Leaky => self.move_whole(tree, rec, false),
            MovePolicy::Lazy => self.move_but_evictable(tree, rec),
            MovePolicy::BestEffort => self.move_what_fits(tree, rec),
            MovePolicy::Stay => {
                let successor = self.successor.take().ok_or(MoveError::NoMemory)?;
                Ok(self.supersede(tree, rec, successor))
            }
        }
    }

    /// The task goes on as its successor; nothing it holds moves.
    fn supersede(&self, tree: &Hierarchy, rec: &ThreadRec, successor: NewSuccessor) -> Moved {
        tree.supersede(self.tag, successor, tree.memcgs.get(self.target));
        tree.end_stock(rec, self.tag);
        let own = tree.objcgs.get(self.tag).charged_bytes();
        Moved {
            moved: 0,
            stayed: own + tree.stayed_bytes(self.tag),
            pieces: self.pieces,
        }
    }

    /// In the child of a fork the counts were made anew, from words that know no room.
    fn forget_if_recounted(&mut self, tree: &Hierarchy) {
        if tree.nr_recounts() != self.recounts {
            self.rooms = [Room::default(); 1 + MAX_RESIDUALS];
            self.slab = 0;
        }
    }

    /// As [`Self::forget_if_recounted`], for a move that goes on in the child: the target expects
    /// the task once more. `false`: the target has been removed meanwhile.
    fn begin_anew_if_recounted(&mut self, tree: &Hierarchy) -> bool {
        self.forget_if_recounted(tree);
        let recounts = tree.nr_recounts();
        if recounts == self.recounts {
            return true;
        }
        if !tree.add_task_to(tree.memcgs.get(self.target)) {
            return false;
        }
        self.recounts = recounts;
        let objcg = tree.objcgs.get(self.tag);
        let _task = objcg.lock.lock(Rank::Task);
        // Of a task that has ended the commit finds that out.
        let _ = objcg.begin_move();
        true
    }

    fn end(&mut self, tree: &Hierarchy, cancelled: bool) {
        self.is_over = true;
        if cancelled && tree.nr_recounts() == self.recounts {
            tree.remove_task_from(tree.memcgs.get(self.target));
        }
        tree.objcgs.get(self.tag).end_move();
        tree.unref_objcg(self.tag);
    }

    fn way<'a>(&self, tree: &'a Hierarchy, word: &Objcg) -> Way<'a> {
        Way::new(
            tree.resolve(word.cell()).group,
            tree.memcgs.get(self.target),
            self.policy == MovePolicy::ReserveBoth,
        )
    }

    /// The own word has flipped: all else that is counted where the task is follows. Under the
    /// task's lock.
    fn follow_own_word(&self, tree: &Hierarchy, rec: &ThreadRec, way: &Way<'_>) {
        let _walk = tree.begin_walk();
        let objcg = tree.objcgs.get(self.tag);
        tree.move_side_words(objcg, way);
        tree.move_page_counts(self.tag);
        tree.ref_cell(way.target.cell());
        tree.unref_cell(way.source.cell());
        tree.rehang_name(objcg.name(), way.target.name());
        tree.count_owner_moved(self.tag, way.source, way.target);
        tree.remove_task_from(way.source);
        // The stock it brought may be more than the target's budget: then it is taken back once.
        let mut level = Some(way.target);
        while let Some(group) = level.filter(|group| !core::ptr::eq(*group, way.common)) {
            if group.counter.granted() > group.counter.stock_budget(true) {
                tree.drain(rec, group);
                break;
            }
            level = group.parent();
        }
    }
}

impl Drop for Attach<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let _pin = self.tree.threads.epoch.pin(self.rec);
            // What a leaky move loses on the way back is lost.
            let _ = self.undo();
        }
    }
}

impl Hierarchy {
    /// Flips the words without limits: granted stock and side kinds, each with the groups' counts
    /// of it. Cache objects have gone before.
    fn move_side_words(&self, objcg: &Objcg, way: &Way<'_>) {
        let below = |start: &Memcg, f: &dyn Fn(&Memcg)| {
            let mut level = Some(start);
            while let Some(group) = level.filter(|group| !core::ptr::eq(*group, way.common)) {
                f(group);
                level = group.parent();
            }
        };
        let (from, to) = (way.source.cell(), way.target.cell());
        for side in (0..=NR_SIDE_KINDS).filter(|side| *side != 1 + SLAB_SIDE) {
            let word = if side == 0 {
                &objcg.granted
            } else {
                &objcg.side[side - 1]
            };
            let add = |group: &Memcg, n: u64| match side {
                0 => group.counter.grant_forced(n),
                _ => group.add_side_kind(side - 1, n),
            };
            let sub = |group: &Memcg, n: u64| match side {
                0 => group.counter.ungrant(n),
                _ => group.add_side_kind(side - 1, n.wrapping_neg()),
            };
            loop {
                let n = word.read().bytes;
                below(way.target, &|group| add(group, n));
                match word.flip(from, to, n) {
                    Ok(moved) => {
                        below(way.target, &|group| sub(group, n - moved));
                        below(way.source, &|group| sub(group, moved));
                        break;
                    }
                    Err(Unchanged::Grown(_)) => below(way.target, &|group| sub(group, n)),
                    Err(_) => {
                        below(way.target, &|group| sub(group, n));
                        self.report_broken();
                        break;
                    }
                }
            }
        }
    }
}

impl Memcg {
    fn add_side_kind(&self, side: usize, by: u64) {
        self.side_count(side).fetch_add(by, Ordering::Relaxed);
    }
}
