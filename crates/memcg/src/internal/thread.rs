//! Threads of the program as tasks: a handle on the calling thread, groups it finds or makes, and
//! the moves of tasks.
//!
//! Invariants: a handle is of the calling thread and does not outlive the call it is lent to. A
//! group's place in the tree is known while the thread is pinned, and no longer.
//! Depends on: the engine, `attach`.
//! Never: gives a task to a thread of the engine's own.

use crate::attach;
use crate::engine::{Engine, process_engine, thread_end};
use crate::group::name::{self, NAME_MAX};
use crate::group::{GroupId, ROOT, Tag};
use crate::thread::{ThreadRec, tls};
use core::marker::PhantomData;
use std::sync::OnceLock;

/// The calling thread, as the engine knows it.
///
/// It stays on its thread:
///
/// ```compile_fail,E0277
/// memcg::internal::thread::with_thread(|thread| {
///     std::thread::scope(|scope| drop(scope.spawn(|| thread.has_task())));
/// });
/// ```
///
/// and is not there after the call:
///
/// ```compile_fail
/// let mut kept = None;
/// memcg::internal::thread::with_thread(|thread| kept = Some(thread));
/// ```
pub struct Thread<'a> {
    pub(super) engine: &'static Engine,
    pub(super) rec: &'a ThreadRec,
    /// Not Send, not Sync: it is about this thread.
    _here: PhantomData<*const ()>,
}

/// Runs `f` with a handle on the calling thread. The engine makes a record for the thread if it has
/// none. `None`: there is no memory for it.
pub fn with_thread<R>(f: impl FnOnce(&Thread<'_>) -> R) -> Option<R> {
    process_engine::with_rec(|engine, rec| f(&Thread::new(engine, rec)))
}

static HOOK: OnceLock<fn(&Thread<'_>)> = OnceLock::new();

/// Has `hook` run on every thread from now on, when the thread first gets a record. Only the first
/// call has an effect.
pub fn set_thread_hook(hook: fn(&Thread<'_>)) {
    HOOK.get_or_init(|| hook);
    process_engine::set_thread_hook(|engine, rec| {
        if let Some(hook) = HOOK.get() {
            hook(&Thread::new(engine, rec));
        }
    });
}

/// Has `hook` run by the last of the program's threads that the engine knows, when it ends.
pub fn set_last_thread_hook(hook: fn()) {
    thread_end::set_last_thread_hook(hook);
}

/// A number that no other living thread has; never 0.
#[inline]
#[must_use]
pub fn id() -> usize {
    tls::block() as usize
}

/// The calling thread jumps out of a signal handler, by `longjmp` say: what the signal interrupted
/// inside the engine, if it interrupted anything there, is given up.
///
/// # Safety
/// The thread does not return to what the signal interrupted.
pub unsafe fn leave_interrupted() {
    thread_end::leave_interrupted();
}

impl<'a> Thread<'a> {
    fn new(engine: &'static Engine, rec: &'a ThreadRec) -> Self {
        Self {
            engine,
            rec,
            _here: PhantomData,
        }
    }

    /// Whether the thread has a task.
    #[must_use]
    pub fn has_task(&self) -> bool {
        process_engine::thread_task(self.rec).is_some()
    }

    /// Runs `f` with the tree. While it runs, no record of a group or a task is given to another.
    /// `f` should be short: records of groups that end are not reused before it returns.
    pub fn with_tree<R>(&self, f: impl for<'t> FnOnce(&Tree<'t>) -> R) -> R {
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        f(&Tree {
            engine: self.engine,
            rec: self.rec,
            _pinned: PhantomData,
        })
    }
}

/// The process's groups, seen by a thread that is pinned.
pub struct Tree<'t> {
    engine: &'static Engine,
    rec: &'t ThreadRec,
    /// The lifetime is exactly that of the pin, so a group of one pin cannot be used under another.
    _pinned: PhantomData<fn(&'t ()) -> &'t ()>,
}

/// A group's place in the tree. It cannot leave the call in which it was found:
///
/// ```compile_fail
/// memcg::internal::thread::with_thread(|thread| thread.with_tree(|tree| tree.root()));
/// ```
///
/// while this is allowed:
///
/// ```
/// memcg::internal::thread::with_thread(|thread| thread.with_tree(|tree| drop(tree.own_task())));
/// ```
#[derive(Clone, Copy)]
pub struct Group<'t> {
    index: GroupId,
    _pinned: PhantomData<fn(&'t ()) -> &'t ()>,
}

/// A thread's task.
#[derive(Clone, Copy)]
pub struct ThreadTask<'t> {
    tag: Tag,
    _pinned: PhantomData<fn(&'t ()) -> &'t ()>,
}

impl ThreadTask<'_> {
    fn new(tag: Tag) -> Self {
        Self {
            tag,
            _pinned: PhantomData,
        }
    }
}

impl<'t> Tree<'t> {
    fn group(&self, index: GroupId) -> Group<'t> {
        Group {
            index,
            _pinned: PhantomData,
        }
    }

    /// The root of the process's groups.
    #[must_use]
    pub fn root(&self) -> Group<'t> {
        self.group(ROOT)
    }

    /// The child of that name, made if it is not there; `parent` itself where it cannot be made.
    #[must_use]
    pub fn child(&self, parent: Group<'t>, name: &[u8]) -> Group<'t> {
        let tree = &self.engine.tree;
        let find = || tree.child(parent.index, name);
        let make = || {
            self.engine
                .change(|| tree.create(tree.memcgs.get(parent.index), name))
        };
        // Another thread may make it between the look and the attempt.
        let found = find().or_else(|| make().ok()).or_else(find);
        found.map_or(parent, |index| self.group(index))
    }

    /// Gives the calling thread a task of its own in `group`, unless it has one; the task ends with
    /// the thread. `false`: the group is gone, the name is too long, or there is no memory.
    pub fn begin_task(&self, group: Group<'t>, name: &[u8]) -> bool {
        let tree = &self.engine.tree;
        if process_engine::thread_task(self.rec).is_some() || name.len() > NAME_MAX {
            return false;
        }
        let group = tree.memcgs.get(group.index);
        let made = self
            .engine
            .change(|| tree.new_task(group, name, crate::os::ids::tid()));
        if let Ok(tag) = made {
            process_engine::set_thread_task(self.rec, tag);
        }
        made.is_ok()
    }

    /// The calling thread's task.
    #[must_use]
    pub fn own_task(&self) -> Option<ThreadTask<'t>> {
        process_engine::thread_task(self.rec).map(ThreadTask::new)
    }

    /// The live task of the thread that has the kernel's id `tid`. O(owners).
    #[must_use]
    pub fn task_of(&self, tid: u32) -> Option<ThreadTask<'t>> {
        process_engine::task_of_thread(tid).map(ThreadTask::new)
    }

    /// Moves a task to `group`, with all it holds. `false`: it does not fit, or the task or the
    /// group has ended.
    pub fn move_task(&self, task: ThreadTask<'t>, group: Group<'t>) -> bool {
        let tree = &self.engine.tree;
        let group = tree.memcgs.get(group.index);
        self.engine
            .change(|| attach::move_task(tree, self.rec, task.tag, group))
            .is_ok()
    }
}

/// Whether a group may have that name; `Err` says what is asked of one.
///
/// # Errors
/// The rule, in words.
pub fn check_group_name(name: &[u8]) -> Result<(), &'static str> {
    if name::is_valid(name) {
        Ok(())
    } else {
        Err(name::NAME_RULE)
    }
}
