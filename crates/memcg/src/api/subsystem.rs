//! Subsystems: who is asked when a task moves, beside memory.
//!
//! The transaction: `can_attach` of every subsystem in the order of registration, memory first; if one refuses, those that
//! agreed get `cancel_attach` in reverse order and nothing has changed; else the task is moved, and all get `attach`.
//!
//! Kept: a subsystem is called on the mover's thread, with no lock of ours held, and may do whatever a program may: allocate, make
//! and remove groups, move other tasks. A panic of `can_attach` is a refusal; one of the others changes nothing.
//! Moves of one task come one after the other; who is asked about one and moves the same task is refused.
//! Who registers or leaves while a move is under way is or is not part of it as a whole.
//! (After the cgroup v1 callbacks of that name, and `attach_rollback` of the move of 2008.)

#![forbid(unsafe_code)]

use super::error::MoveError;
use super::memcg::Memcg;
use super::scope::no_account;
use crate::attach::{self, Attach, Moved};
use crate::engine::Engine;
use crate::engine::reclaim::evict;
use crate::engine::worker;
use crate::group::{MovePolicy, Tag};
use crate::os::clock;
use crate::thread::ThreadRec;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A part of the program that has its say when tasks move between groups.
///
/// ```
/// use std::sync::Arc;
///
/// /// Tasks stay in their department.
/// struct Departments;
/// impl memcg::Subsystem for Departments {
///     fn name(&self) -> &str { "departments" }
///     fn can_attach(&self, task: &memcg::Attaching) -> Result<(), String> {
///         match task.to().path().starts_with("/sales") {
///             true => Err("sales is full".into()),
///             false => Ok(()),
///         }
///     }
/// }
///
/// let _registered = memcg::register_subsystem(Arc::new(Departments));
/// let sales = memcg::root().create("sales").unwrap();
/// let task = memcg::root().task("t").unwrap();
/// assert!(task.move_to(&sales).is_err());
/// ```
pub trait Subsystem: Send + Sync + 'static {
    /// For messages.
    fn name(&self) -> &str;

    /// Whether the task may move. Whatever would make `attach` fail is to be refused, or reserved, here.
    ///
    /// # Errors
    /// Why not, for people.
    fn can_attach(&self, task: &Attaching) -> Result<(), String>;

    /// The task has moved.
    fn attach(&self, _task: &Attaching) {}

    /// The task does not move, although this one agreed: takes back what `can_attach` did.
    fn cancel_attach(&self, _task: &Attaching) {}

    /// How many bytes of the task this subsystem could evict: a cache of the program's. With `lazy` they stay behind.
    fn evictable(&self, _task: &Attaching) -> u64 {
        0
    }

    /// What a `lazy` move left behind is in the way, and there is no room for it where the task is now: frees about `bytes` of what
    /// it said it could evict of the task with that id; answers how many it did. What it does not free, those who belong there are
    /// asked for.
    ///
    /// It is called where [shrinkers](super::Shrinker) are: on a thread that charges with `WAIT` and `USER`, on one that wrote a limit or
    /// `memory.reclaim`, on the engine's worker; on several at once; what it charges is charged by force. A panic ends that call.
    fn evict(&self, _task: u32, _bytes: u64) -> u64 {
        0
    }
}

/// A move, as subsystems see it.
#[derive(Debug)]
pub struct Attaching {
    task: u32,
    from: Memcg,
    to: Memcg,
    policy: MovePolicy,
}

impl Attaching {
    /// The task's id.
    #[must_use]
    pub fn task(&self) -> u32 {
        self.task
    }

    /// The group it is in until it has moved.
    #[must_use]
    pub fn from(&self) -> &Memcg {
        &self.from
    }

    /// The group it is to move to.
    #[must_use]
    pub fn to(&self) -> &Memcg {
        &self.to
    }

    /// What its bytes are to do.
    #[must_use]
    pub fn policy(&self) -> MovePolicy {
        self.policy
    }
}

type Registered = Vec<(u64, Arc<dyn Subsystem>)>;

static SUBSYSTEMS: Mutex<(u64, Registered)> = Mutex::new((0, Vec::new()));

fn all() -> MutexGuard<'static, (u64, Registered)> {
    // What is in it is valid between any two statements.
    SUBSYSTEMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A registration: dropping it ends it.
#[must_use = "the subsystem is asked until this is dropped"]
#[derive(Debug)]
pub struct SubsystemRegistration(u64);

impl Drop for SubsystemRegistration {
    fn drop(&mut self) {
        let _free = no_account();
        let gone = {
            let mut all = all();
            let at = all.1.iter().position(|(number, _)| *number == self.0);
            at.map(|at| all.1.remove(at))
        };
        // Its own drop runs here, where the list is not locked.
        drop(gone);
    }
}

/// Has `subsystem` asked whenever a task moves, after those that were registered before.
pub fn register_subsystem(subsystem: Arc<dyn Subsystem>) -> SubsystemRegistration {
    let _free = no_account();
    evict::set_evict(evict_of);
    let mut all = all();
    all.0 += 1;
    let number = all.0;
    all.1.push((number, subsystem));
    SubsystemRegistration(number)
}

/// Has bytes of a task freed by those who said they could.
fn evict_of(task: u32, bytes: u64) {
    let asked = {
        let _free = no_account();
        all().1.clone()
    };
    let mut left = bytes;
    for (_, subsystem) in &asked {
        let freed = catch_unwind(AssertUnwindSafe(|| subsystem.evict(task, left))).unwrap_or(0);
        left = left.saturating_sub(freed);
        if left == 0 {
            break;
        }
    }
    let _free = no_account();
    drop(asked);
}

/// How long a move waits for another one of the same task, in ns.
const PATIENCE: u64 = 1_000_000_000;
/// The first of its waits; each is twice as long as the one before, up to the second.
const NAPS: (u64, u64) = (10_000, 1_000_000);

std::thread_local! {
    /// Whether the thread moves a task and others have their say about it.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Others are asked until this is dropped.
struct Asking(bool);

impl Asking {
    fn begin() -> Self {
        Self(
            ASKING
                .try_with(|asking| asking.replace(true))
                .unwrap_or(false),
        )
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = ASKING.try_with(|asking| asking.set(self.0));
    }
}

/// Moves the task that `tag` names, by the target's own policy where there is none in `policy`. Nothing of ours is held.
///
/// Moves of one task come one after the other: this one waits for its turn, and for the task to charge more slowly than
/// room is made for it, up to [`PATIENCE`]. It does not wait while its thread is asked about a move, which may be the one it
/// would wait for.
pub(crate) fn move_task(
    engine: &'static Engine,
    rec: &ThreadRec,
    tag: Tag,
    target: &Memcg,
    policy: Option<MovePolicy>,
) -> Result<Moved, MoveError> {
    let (mut nap, mut since) = (NAPS.0, None);
    let may_wait = !ASKING.try_with(Cell::get).unwrap_or(true);
    let mut quick = true;
    loop {
        match try_move(engine, rec, tag, target, policy, quick) {
            // Once more, with room made first.
            Err(MoveError::Full(_) | MoveError::KmemFull(_)) if quick => quick = false,
            Err(why @ (MoveError::Moving | MoveError::Busy)) if may_wait => {
                let now = clock::monotonic_ns();
                if now - *since.get_or_insert(now) > PATIENCE {
                    return Err(why);
                }
                clock::sleep_ns(nap);
                nap = (nap * 2).min(NAPS.1);
            }
            other => {
                return other.map_err(|why| {
                    let _pin = engine.tree.threads.epoch.pin(rec);
                    why.of_task(engine.tree.held_by(engine.tree.live_tag(tag)))
                });
            }
        }
    }
}

/// `quick`: where nobody is asked, a transfer begins with its last step.
fn try_move(
    engine: &'static Engine,
    rec: &ThreadRec,
    tag: Tag,
    target: &Memcg,
    policy: Option<MovePolicy>,
    quick: bool,
) -> Result<Moved, MoveError> {
    let mut attach = target
        .with(|_, _, target| {
            let policy = policy.unwrap_or_else(|| target.move_policy());
            engine.change(|| Attach::begin(&engine.tree, tag, target, policy))
        })
        .unwrap_or(Err(attach::MoveError::NoGroup))
        .map_err(MoveError::new)?;
    let asked = {
        let _free = no_account();
        all().1.clone()
    };
    let about = (!asked.is_empty())
        .then(|| {
            let _pin = engine.tree.threads.epoch.pin(rec);
            Some(Attaching {
                task: engine.tree.objcgs.get(attach.tag()).id(),
                from: Memcg::of_index(engine, attach.source(&engine.tree))?,
                to: target.clone(),
                policy: attach.policy(),
            })
        })
        .flatten();
    let _asking = about.is_some().then(Asking::begin);
    let outcome = match &about {
        Some(about) => ask_all(engine, rec, &mut attach, &asked, about),
        None => Ok(()),
    };
    let quick = quick && attach.policy() == MovePolicy::Transfer;
    let outcome = outcome.and_then(|()| match about {
        None if !quick => prepare(engine, rec, &mut attach).map_err(MoveError::new),
        _ => Ok(()),
    });
    let _pin = engine.tree.threads.epoch.pin(rec);
    let moved = match outcome {
        Ok(()) => engine.lists_follow(attach.tag(), || {
            engine.change(|| attach.commit(&engine.tree, rec))
        }),
        Err(why) => {
            let leaked = engine.change(|| attach.cancel(&engine.tree));
            return Err(leaked.map_or(why, MoveError::new));
        }
    };
    drop(_pin);
    if engine.tree.may_have_marked() {
        // Reclaim is the worker's for who may not wait.
        worker::thread::want();
    }
    if engine.tree.is_broken() {
        engine.on_broken();
    }
    if let Some(about) = &about {
        match &moved {
            Ok(_) => {
                for (_, subsystem) in &asked {
                    let _ = catch_unwind(AssertUnwindSafe(|| subsystem.attach(about)));
                }
            }
            Err(_) => cancel(&asked, about),
        }
    }
    let _free = no_account();
    drop(asked);
    moved.map_err(MoveError::new)
}

/// Memory's `can_attach`.
fn prepare(engine: &Engine, rec: &ThreadRec, attach: &mut Attach) -> Result<(), attach::MoveError> {
    let _pin = engine.tree.threads.epoch.pin(rec);
    engine.change(|| attach.prepare(&engine.tree, rec))
}

/// Everybody's `can_attach`, memory's first; cancels those that agreed when one does not, except memory.
fn ask_all(
    engine: &Engine,
    rec: &ThreadRec,
    attach: &mut Attach,
    asked: &Registered,
    about: &Attaching,
) -> Result<(), MoveError> {
    if about.policy == MovePolicy::Lazy {
        let evictable = asked.iter().map(|(_, subsystem)| {
            catch_unwind(AssertUnwindSafe(|| subsystem.evictable(about))).unwrap_or(0)
        });
        attach.let_stay(evictable.fold(0, u64::saturating_add));
    }
    prepare(engine, rec, attach).map_err(MoveError::new)?;
    for (at, (_, subsystem)) in asked.iter().enumerate() {
        let answer = catch_unwind(AssertUnwindSafe(|| subsystem.can_attach(about)))
            .unwrap_or_else(|_| Err("it panicked".into()));
        if let Err(why) = answer {
            cancel(&asked[..at], about);
            let by = catch_unwind(AssertUnwindSafe(|| subsystem.name().to_string()));
            return Err(MoveError::Refused {
                by: by.unwrap_or_default(),
                why,
            });
        }
    }
    Ok(())
}

/// `cancel_attach` of those that agreed, the last first.
fn cancel(agreed: &[(u64, Arc<dyn Subsystem>)], about: &Attaching) {
    for (_, subsystem) in agreed.iter().rev() {
        let _ = catch_unwind(AssertUnwindSafe(|| subsystem.cancel_attach(about)));
    }
}
