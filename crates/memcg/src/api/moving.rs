//! Moves of tasks as transactions: memory and every subsystem agree, or nothing has changed.
//!
//! `can_attach` of every subsystem is called in the order of registration, memory's first. If one
//! refuses, those that agreed get `cancel_attach` in reverse order, memory last. Else the task is
//! moved, and all get `attach`.
//!
//! Invariants: a move that is given up anywhere, by a panic too, is cancelled by the drop of its
//! guards. Moves of one task come one after the other; a subsystem that is asked about a move and
//! moves the same task is refused.
//! Depends on: `subsystem`; `attach` for memory's part.
//! Never: calls a subsystem under a lock of ours; lets a panic of one go further. A panic of
//! `can_attach` is a refusal; a panic of another function changes nothing.
//!
//! Source of the idea: cgroup v1's callbacks, and `attach_rollback` of the move of 2008.

#![forbid(unsafe_code)]

use super::contained::contained;
use super::error::MoveError;
use super::memcg::Memcg;
use super::subsystem::{Asked, Attaching, Subsystem};
use crate::attach::{self, Attach, Moved};
use crate::engine::Engine;
use crate::engine::worker;
use crate::group::{self, MovePolicy, Tag};
use crate::os::clock;
use crate::thread::ThreadRec;
use std::cell::Cell;
use std::sync::Arc;

/// How long a move waits for another move of the same task, in ns.
const PATIENCE: u64 = 1_000_000_000;
/// The first of a move's naps, in ns; and the longest. Each is twice as long as the one before.
const NAPS: (u64, u64) = (10_000, 1_000_000);

std::thread_local! {
    /// Whether this thread is moving a task, and subsystems are being asked about it.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Subsystems are being asked on this thread until this is dropped. Keeps what was so before.
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

/// Moves the task that `tag` names, by `policy` or by the target's own policy. The caller holds no
/// lock of ours.
///
/// Moves of one task come one after the other. This one waits for its turn, and for the task to
/// charge more slowly than room is made for it, up to [`PATIENCE`]. It does not wait while its
/// thread is asked about a move, which may be the one it would wait for.
pub(crate) fn move_task(
    engine: &'static Engine,
    rec: &ThreadRec,
    tag: Tag,
    target: &Memcg,
    policy: Option<MovePolicy>,
) -> Result<Moved, MoveError> {
    let (mut nap, mut since) = (NAPS.0, None);
    let may_wait = !ASKING.try_with(Cell::get).unwrap_or(true);
    loop {
        match try_move(engine, rec, tag, target, policy) {
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

/// Memory's part of a move. Its drop cancels a move that was given up, in a change that a fork
/// waits for.
struct UnderWay<'t> {
    engine: &'static Engine,
    rec: &'t ThreadRec,
    /// The move; `None`: it is over.
    attach: Option<Attach<'t>>,
}

impl<'t> UnderWay<'t> {
    fn begin(
        engine: &'static Engine,
        rec: &'t ThreadRec,
        tag: Tag,
        target: &Memcg,
        policy: Option<MovePolicy>,
    ) -> Result<Self, attach::MoveError> {
        let begin = |target: &group::Memcg| {
            let policy = policy.unwrap_or_else(|| target.move_policy());
            engine.change(|| Attach::begin(&engine.tree, rec, tag, target, policy))
        };
        let attach = target
            .with(|_, _, target| begin(target))
            .unwrap_or(Err(attach::MoveError::NoGroup))?;
        Ok(Self {
            engine,
            rec,
            attach: Some(attach),
        })
    }

    fn attach(&mut self) -> &mut Attach<'t> {
        self.attach.as_mut().expect("a move that is not over")
    }

    /// Memory's `can_attach`.
    fn prepare(&mut self) -> Result<(), MoveError> {
        let (engine, rec) = (self.engine, self.rec);
        let _pin = engine.tree.threads.epoch.pin(rec);
        engine
            .change(|| self.attach().prepare())
            .map_err(MoveError::new)
    }

    fn commit(mut self) -> Result<Moved, MoveError> {
        let (engine, rec) = (self.engine, self.rec);
        let _pin = engine.tree.threads.epoch.pin(rec);
        let tag = self.attach().tag();
        let commit = || match self.attach.take() {
            Some(attach) => engine.change(|| attach.commit()),
            None => Err(attach::MoveError::NoTask),
        };
        engine.lists_follow(tag, commit).map_err(MoveError::new)
    }

    /// Cancels the move because of `why`. Answers the error to report: what a leaky move lost, if
    /// it lost something, else `why`.
    fn cancel(mut self, why: MoveError) -> MoveError {
        self.cancel_attach().map_or(why, MoveError::new)
    }

    fn cancel_attach(&mut self) -> Option<attach::MoveError> {
        let attach = self.attach.take()?;
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        self.engine.change(|| attach.cancel())
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let _ = self.cancel_attach();
    }
}

/// Subsystems that agreed to a move. `attach` tells them that it took place; the drop without it
/// tells them that it does not, the last first.
struct Agreed<'a> {
    all: &'a [(u64, Arc<dyn Subsystem>)],
    about: &'a Attaching,
    nr: usize,
}

impl Agreed<'_> {
    fn attach(mut self) {
        self.nr = 0;
        for (_, subsystem) in self.all {
            let _ = contained(|| subsystem.attach(self.about));
        }
    }
}

impl Drop for Agreed<'_> {
    fn drop(&mut self) {
        for (_, subsystem) in self.all[..self.nr].iter().rev() {
            let _ = contained(|| subsystem.cancel_attach(self.about));
        }
    }
}

/// One try of a move. If no subsystem is asked, a transfer goes straight to its last step, which
/// makes the same tries for room as the first.
fn try_move(
    engine: &'static Engine,
    rec: &ThreadRec,
    tag: Tag,
    target: &Memcg,
    policy: Option<MovePolicy>,
) -> Result<Moved, MoveError> {
    let mut under_way =
        UnderWay::begin(engine, rec, tag, target, policy).map_err(MoveError::new)?;
    let asked = Asked::all();
    let about = about(&asked, &mut under_way, target);
    let _asking = about.is_some().then(Asking::begin);
    let is_quick = under_way.attach().policy() == MovePolicy::Transfer;
    let agreed = match &about {
        Some(about) => ask_all(&mut under_way, &asked, about).map(Some),
        None if is_quick => Ok(None),
        None => under_way.prepare().map(|()| None),
    };
    let agreed = match agreed {
        Ok(agreed) => agreed,
        Err(why) => return Err(under_way.cancel(why)),
    };
    let moved = under_way.commit();
    if engine.tree.may_have_marked() {
        // Charges that may not wait leave it to the worker to reclaim what the move left.
        worker::worker_thread::want();
    }
    if engine.tree.is_broken() {
        engine.on_broken();
    }
    // If the move was refused after all, the drop of `agreed` tells those who agreed.
    if let Some(agreed) = agreed.filter(|_| moved.is_ok()) {
        agreed.attach();
    }
    moved
}

/// What subsystems are told of this move; `None` if there are none.
fn about(asked: &Asked, under_way: &mut UnderWay<'_>, target: &Memcg) -> Option<Attaching> {
    if asked.is_empty() {
        return None;
    }
    let engine = under_way.engine;
    let _pin = engine.tree.threads.epoch.pin(under_way.rec);
    let attach = under_way.attach();
    Some(Attaching {
        task: engine.tree.objcgs.get(attach.tag()).id(),
        from: Memcg::of_index(engine, attach.source())?,
        to: target.clone(),
        policy: attach.policy(),
    })
}

/// Asks `can_attach` of memory, then of every subsystem. Answers those who agreed, if all did.
fn ask_all<'a>(
    under_way: &mut UnderWay<'_>,
    asked: &'a Asked,
    about: &'a Attaching,
) -> Result<Agreed<'a>, MoveError> {
    if about.policy == MovePolicy::Lazy {
        let evictable = asked
            .iter()
            .map(|(_, subsystem)| contained(|| subsystem.evictable(about)).unwrap_or(0));
        let evictable = evictable.fold(0, u64::saturating_add);
        under_way.attach().let_stay(evictable);
    }
    under_way.prepare()?;
    let mut agreed = Agreed {
        all: asked,
        about,
        nr: 0,
    };
    for (_, subsystem) in asked.iter() {
        let answer =
            contained(|| subsystem.can_attach(about)).unwrap_or_else(|| Err("it panicked".into()));
        if let Err(why) = answer {
            drop(agreed);
            let by = contained(|| subsystem.name().to_string());
            return Err(MoveError::Refused {
                by: by.unwrap_or_default(),
                why,
            });
        }
        agreed.nr += 1;
    }
    Ok(agreed)
}
