//! What a task's memory does when the task moves.

#![forbid(unsafe_code)]

use crate::design::{
    Arm, Experiment,
    Unit::{Bytes, Count, Ns},
    less, loses, more, wins,
};
use crate::sheet::Sheet;
use crate::tools::{Setting, each, group, median, with};
use memcg::testing::attach::{Attach, MoveError, Moved, PIECE};
use memcg::testing::group::exact_charge::Mode;
use memcg::testing::group::{GroupId, Tag};
use memcg::{Limit, Memcg, MovePolicy, Task, root};

const KAMEZAWA: &str = "KAMEZAWA, 2008";

/// See the module.
pub const EXPERIMENT: Experiment = Experiment {
    name: "moves",
    title: "a task moves to another group: its memory goes along, stays, follows, or is lost",
    source: "2008, KAMEZAWA: usage moves with the task page by page, with an undo that may fail, and four rival policies with their marks; transfer is this engine's own.",
    what: "The cases of record, a unit being 1 MiB at full scale: A holds a task of 800 of 1024; B has 500 of 1024; or B fills up after 700 while A is refilled by 600; or the task has forked, moves, and execs.",
    arms: &[
        Arm {
            name: "transfer",
            title: "all at once or not at all, by one word and the counters",
        },
        Arm {
            name: "stay",
            title: "rival 2: nothing moves, as in the kernel since cgroup v2",
        },
        Arm {
            name: "lazy",
            title: "rival 3: marked, first to be dropped, follows when used",
        },
        Arm {
            name: "best-effort",
            title: "rival 4: what fits moves, nothing is undone",
        },
        Arm {
            name: "reserve-both",
            title: "rival 1: held in both groups until the end",
        },
        Arm {
            name: "paged",
            title: "the patch: page by page, with an undo that cannot fail",
        },
        Arm {
            name: "leaky",
            title: "the patch with its undo as published",
        },
    ],
    rows: &[
        less("time_small", Ns, "a move of 1 unit that fits"),
        less("time_large", Ns, "a move of 800 units that fit"),
        less("time_refused", Ns, "a move of 800 units to B with 524 left"),
        less("double", Bytes, "held twice at worst, 800 units that fit"),
        less(
            "wrong",
            Bytes,
            "800 units that fit: charged to another group than the task's",
        ),
        more("record_moves", Count, "800 to B with 524 left: it moves"),
        less(
            "record_wrong",
            Bytes,
            "the same: charged to another group than the task's",
        ),
        more(
            "locked_moves",
            Count,
            "the same, and nothing can be evicted: it moves",
        ),
        less(
            "leaked",
            Bytes,
            "B full at 700, A refilled: charged to nobody",
        ),
        more(
            "refill",
            Bytes,
            "the same: what others could put into A meanwhile",
        ),
        more("exec_moves", Count, "fork of 800, move, exec: it moves"),
        less("exec_left", Bytes, "the same: left in A after the exec"),
    ],
    plots: &[],
    predictions: &[
        wins(
            "transfer",
            "time_large",
            "paged",
            "this design",
            "one word and the counters, whatever the task holds",
        ),
        loses(
            "transfer",
            "exec_moves",
            "lazy",
            KAMEZAWA,
            "the typical use is fork, move, exec, and exec drops everything",
        ),
        wins(
            "stay",
            "record_moves",
            "paged",
            KAMEZAWA,
            "move nothing: simple",
        ),
        loses(
            "stay",
            "wrong",
            "transfer",
            KAMEZAWA,
            "charged to the wrong group, and users do not want that",
        ),
        wins(
            "lazy",
            "exec_moves",
            "paged",
            KAMEZAWA,
            "attractive, since exec drops everything anyway",
        ),
        loses(
            "lazy",
            "locked_moves",
            "best-effort",
            KAMEZAWA,
            "cannot handle locked memory",
        ),
        wins(
            "best-effort",
            "record_moves",
            "transfer",
            KAMEZAWA,
            "allow half-moved, no rollback: simple",
        ),
        loses(
            "best-effort",
            "record_wrong",
            "paged",
            KAMEZAWA,
            "half-moved is chaos for users",
        ),
        wins(
            "reserve-both",
            "leaked",
            "leaky",
            KAMEZAWA,
            "reserve in both groups first: easy rollback",
        ),
        loses(
            "reserve-both",
            "double",
            "paged",
            KAMEZAWA,
            "double use for a while: 800 could hold 1600",
        ),
        loses(
            "reserve-both",
            "record_moves",
            "best-effort",
            KAMEZAWA,
            "big tasks cannot enter small groups",
        ),
        wins(
            "paged",
            "double",
            "reserve-both",
            KAMEZAWA,
            "it does not reserve in B beforehand",
        ),
        loses(
            "paged",
            "time_large",
            "reserve-both",
            KAMEZAWA,
            "because usage moves by pages it cannot move at once",
        ),
        wins(
            "leaky",
            "refill",
            "paged",
            KAMEZAWA,
            "both groups' usage changes meanwhile: others may use A's room",
        ),
        loses(
            "leaky",
            "leaked",
            "paged",
            KAMEZAWA,
            "a failure while moving back is ignored and the usage leaks",
        ),
    ],
    run,
};

/// A and B, and a task in A; all sizes in units.
struct Record {
    unit: u64,
    a: Memcg,
    b: Memcg,
    task: Task,
    /// The owner that all the task holds was charged to.
    tag: Tag,
    held: u64,
    others: Vec<(Memcg, u64)>,
}

impl Record {
    fn new(unit: u64, held: u64, used_in_b: u64) -> Record {
        let (a, b) = (group("a"), group("b"));
        for group in [&a, &b] {
            group.set_max(Limit::bytes(1024 * unit)).unwrap();
        }
        let task = a.task("task").expect("a task");
        let tag = with(|_, rec| {
            let _inside = task.enter();
            rec.current().expect("the thread works for the task")
        });
        let mut record = Record {
            unit,
            a,
            b,
            task,
            tag,
            held,
            others: Vec::new(),
        };
        assert!(record.charge(tag, held));
        let b = record.b.clone();
        assert_eq!(record.fill(&b, used_in_b), used_in_b);
        record
    }

    /// As much of that as fits, for others.
    fn fill(&mut self, group: &Memcg, units: u64) -> u64 {
        let tag = own_tag(group);
        let fits = (0..=units)
            .rev()
            .find(|&units| self.charge(tag, units))
            .unwrap_or(0);
        self.others.push((group.clone(), fits));
        fits
    }

    fn charge(&self, tag: Tag, units: u64) -> bool {
        with(|engine, rec| {
            let _pin = engine.tree.threads.epoch.pin(rec);
            engine
                .tree
                .charge_exact(tag, units * self.unit, Mode::Within)
                .is_ok()
        })
    }

    fn free(&self, tag: Tag, units: u64) {
        with(|engine, rec| {
            let _pin = engine.tree.threads.epoch.pin(rec);
            engine.tree.uncharge_exact(tag, units * self.unit);
        });
    }

    fn go(&self, policy: MovePolicy, evictable: u64) -> Result<Moved, MoveError> {
        with(|engine, rec| {
            let _pin = engine.tree.threads.epoch.pin(rec);
            let target = engine.tree.memcgs.get(index_of(&self.b));
            let evictable = evictable * self.unit;
            memcg::testing::attach::move_task_with(
                &engine.tree,
                rec,
                self.tag,
                target,
                policy,
                evictable,
            )
        })
    }

    /// Bytes of the task that are charged to another group than the one it is in.
    fn wrong(&self, moved: &Result<Moved, MoveError>) -> u64 {
        moved.as_ref().map_or(0, |moved| moved.stayed)
    }

    /// Frees everything.
    fn end(self) {
        self.free(self.tag, self.held);
        for (group, units) in &self.others {
            self.free(own_tag(group), *units);
        }
        drop(self.task);
        for group in [self.a, self.b] {
            group.remove().expect("the end of a group");
        }
    }
}

fn index_of(group: &Memcg) -> GroupId {
    with(|engine, rec| {
        let _pin = engine.tree.threads.epoch.pin(rec);
        engine
            .tree
            .lookup(group.path().as_bytes())
            .expect("it is online")
    })
}

fn own_tag(group: &Memcg) -> Tag {
    with(|engine, _| engine.tree.memcgs.get(index_of(group)).tag())
}

fn policy(arm: &str) -> MovePolicy {
    let known = MovePolicy::ALL.iter().find(|(_, name)| *name == arm);
    known.map_or(MovePolicy::Transfer, |&(policy, _)| policy)
}

fn run(arm: &str, setting: &Setting, sheet: &mut Sheet) {
    let policy = policy(arm);
    let unit = (setting.scale as u64 / 400).max(1) * PIECE;

    // What fits. The first, so that the root's peak is its own.
    let record = Record::new(unit, 800, 0);
    let before = root().current();
    let fits = record.go(policy, 800);
    sheet.count("double", root().peak().saturating_sub(before));
    sheet.count("wrong", record.wrong(&fits));
    record.end();

    // 800 to 524.
    let record = Record::new(unit, 800, 500);
    let moved = record.go(policy, 800);
    sheet.count("record_moves", moved.is_ok().into());
    sheet.count("record_wrong", record.wrong(&moved));
    record.end();
    let record = Record::new(unit, 800, 500);
    sheet.count("locked_moves", record.go(policy, 0).is_ok().into());
    record.end();

    filled(policy, unit, sheet);

    // The child of a fork has as much; exec drops it, wherever it is charged.
    let mut record = Record::new(unit, 800, 500);
    sheet.count("exec_moves", record.go(policy, 800).is_ok().into());
    record.free(record.tag, 800);
    record.held = 0;
    sheet.count("exec_left", record.a.current());
    record.end();

    times(policy, unit, sheet);
}

fn times(policy: MovePolicy, unit: u64, sheet: &mut Sheet) {
    for (row, units, used) in [
        ("time_small", 1, 0),
        ("time_large", 800, 0),
        ("time_refused", 800, 500),
    ] {
        let mut all: Vec<f64> = (0..9)
            .map(|_| {
                let record = Record::new(unit, units, used);
                let (ns, _) = each(1, || record.go(policy, units));
                record.end();
                ns
            })
            .collect();
        sheet.set(row, median(&mut all));
    }
}

/// B has room for 700 of 800; when it is full others use the room that A has, as far as there is
/// any; then the move is taken back.
fn filled(policy: MovePolicy, unit: u64, sheet: &mut Sheet) {
    let mut record = Record::new(unit, 800, 324);
    let attach = with(|engine, rec| {
        let _pin = engine.tree.threads.epoch.pin(rec);
        let target = engine.tree.memcgs.get(index_of(&record.b));
        Attach::begin(&engine.tree, rec, record.tag, target, policy)
    });
    let mut attach = attach.expect("nobody else moves it");
    let prepared = with(|engine, rec| {
        let _pin = engine.tree.threads.epoch.pin(rec);
        attach.let_stay(800 * unit);
        attach.prepare()
    });
    let a = record.a.clone();
    let refill = record.fill(&a, 600);
    let leaked = with(|engine, rec| {
        let _pin = engine.tree.threads.epoch.pin(rec);
        match prepared {
            Ok(()) => {
                // Where it was not refused it goes through.
                let _ = attach.commit();
                0
            }
            Err(_) => match attach.cancel() {
                Some(MoveError::Leaked(bytes)) => bytes,
                _ => 0,
            },
        }
    });
    sheet.count("leaked", leaked);
    sheet.count("refill", refill * unit);
    // What is charged to nobody is nobody's to free.
    record.held -= leaked / unit;
    record.end();
}
