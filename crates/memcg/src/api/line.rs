//! Lines of those who wait for room: how they are tried, served and ended.
//!
//! The first in a line is tried first. While he cannot be served nobody behind him is, and at the
//! door neither, for at most [`PATIENCE_NS`]. After that whatever fits is served, in the order of
//! the line.
//!
//! Invariants: of two in one line the earlier is charged first, unless nobody could be served for
//! [`PATIENCE_NS`]. A line is tried after anything that is told of its group. A charge that was
//! made for one who has gone is given back.
//! Depends on: `line_table`; `engine::line` for the charge; whoever calls [`look`], the worker as a
//! rule.
//! Never: charges under the table's lock; runs code of the program there.

#![forbid(unsafe_code)]

use super::charge::Charge;
pub(super) use super::line_table::in_child;
use super::line_table::{
    At, Later, Line, Number, PATIENCE_NS, State, TRY_NS, Table, Waiter, at_of, error, group_at,
    locked,
};
use super::pinned::pinned;
use super::scope::no_account;
use super::wait_error::WaitError;
use super::wakers;
use crate::engine::Engine;
use crate::engine::process_engine::engine;
use crate::group::exact_charge::round_up;
use crate::group::notice_word::Told;
use crate::group::{GroupId, Refusal, Tag};
use crate::os::clock;
use core::task::{Poll, Waker};

/// How a try ended for the line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// The line begins with another.
    First,
    /// Who was tried stays where he is.
    Next,
}

/// Tries those who stand in the lines, in order, as far as the lines allow.
fn try_lines(mut later: Later) {
    let _free = no_account();
    while let Some(at) = later.to_try.pop() {
        run_line(at, &mut later);
    }
    later.finish();
}

fn try_line(at: At) {
    let _free = no_account();
    try_lines(Later {
        to_try: vec![at],
        ..Later::default()
    });
}

fn run_line(at: At, later: &mut Later) {
    let begins = locked(|table, _, _| {
        let line = table.lines.get_mut(&at)?;
        line.again = line.is_tried;
        (!core::mem::replace(&mut line.is_tried, true)).then_some(())
    });
    if begins.is_none() {
        // Who tries it does so once more.
        return;
    }
    let mut from = Number(0);
    while let Some((number, tag, bytes)) = next_to_try(at, from, later) {
        // One change: a fork finds the bytes uncharged, or noted in the table.
        let after = engine().change(|| {
            let charged = pinned(|engine, rec| engine.charge_in_line(rec, tag, round_up(bytes)));
            let after = after_try(at, number, (tag, bytes), charged, later);
            later.give_back();
            after
        });
        from = match after {
            After::First => Number(0),
            After::Next => Number(number.0 + 1),
        };
    }
}

/// The next in line to try, from `from` on; `None`: the line has been tried.
fn next_to_try(at: At, from: Number, later: &mut Later) -> Option<(Number, Tag, u64)> {
    locked(|table, engine, rec| {
        let mut from = from;
        loop {
            let now = clock::monotonic_ns();
            let line = table.lines.get_mut(&at)?;
            // The first alone, while the others stand behind him.
            let found = line.numbers.range(from..).next().copied();
            let is_first = |number| line.numbers.first() == Some(&number);
            let Some(number) = found.filter(|&n| is_first(n) || !line.is_closed(now)) else {
                if core::mem::take(&mut line.again) {
                    from = Number(0);
                    continue;
                }
                line.is_tried = false;
                line.tried_ns = now;
                table.end_if_left(engine, at);
                return None;
            };
            if let Some(other) = table.stands_behind(engine, number, now) {
                from = Number(0);
                let is_moved = table.go_on(engine, rec, number, at, other, later);
                if !is_moved {
                    from = Number(number.0 + 1);
                }
                continue;
            }
            match table.waiters.get_mut(&number) {
                Some(waiter) => {
                    waiter.state = State::Tried;
                    return Some((number, waiter.tag, waiter.bytes));
                }
                None => drop(table.lines.get_mut(&at)?.numbers.remove(&number)),
            }
        }
    })
}

/// One of the line was tried, for so many bytes.
fn after_try(
    at: At,
    number: Number,
    (tag, bytes): (Tag, u64),
    charged: Result<(), Refusal>,
    later: &mut Later,
) -> After {
    locked(|table, engine, rec| {
        let Some(waiter) = table.waiters.get_mut(&number) else {
            // Whoever is tried stays in the table. So a handler of this thread has forked, and this
            // is the child, whose table is empty. The bytes keep their owner.
            if charged.is_ok() {
                later
                    .unclaimed
                    .push(Charge::of_charged(tag, round_up(bytes)));
            }
            return After::First;
        };
        if matches!(waiter.state, State::Gone) {
            table.leave(engine, at, number);
            table.waiters.remove(&number);
            let charged = if charged.is_ok() { bytes } else { 0 };
            later.released.push((tag, charged));
            return After::First;
        }
        waiter.state = State::Waiting;
        let Err(refusal) = charged else {
            let now = clock::monotonic_ns();
            table.settle(engine, number, State::Granted, later);
            if let Some(line) = table.lines.get_mut(&at) {
                line.served_ns = now;
                if let Some(group) = group_at(engine, at) {
                    group.notice.close_door(now.saturating_add(PATIENCE_NS));
                }
            }
            return After::First;
        };
        let never = engine.tree.never_fits(tag, round_up(bytes));
        match (refusal.group, never) {
            (Some(full), None) => match table.go_on(engine, rec, number, at, full, later) {
                true => After::First,
                false => After::Next,
            },
            (_, never) => {
                let refusal = never.unwrap_or(refusal);
                let failed = State::Failed(WaitError::Refused(error(bytes, refusal)));
                table.settle(engine, number, failed, later);
                After::First
            }
        }
    })
}

/// Puts somebody in line who was refused by `full`, to be woken by `waker`. The caller names `tag`
/// and has another look with [`poll`].
pub(super) fn join(
    tag: Tag,
    bytes: u64,
    deadline_ns: Option<u64>,
    full: GroupId,
    waker: &Waker,
) -> Number {
    let waker = wakers::clone_of(waker);
    let (number, at) = locked(|table, engine, rec| {
        engine.tree.ref_objcg(tag);
        let number = Number::next();
        let waiter = Waiter {
            tag,
            bytes,
            since_ns: clock::monotonic_ns(),
            deadline_ns,
            at: at_of(engine.tree.memcgs.get(full)),
            state: State::Waiting,
            waker: Some(waker),
        };
        table.waiters.insert(number, waiter);
        let (at, _) = table.enter(engine, rec, number, full);
        (number, at)
    });
    // The look that follows: what was freed before the line's mark was seen told nobody.
    try_line(at);
    number
}

/// What has become of somebody in line, who is woken by `waker` from here on. `None`: he is in no
/// line, as in the child of a fork; else the answer is his last one if it is ready.
pub(super) fn poll(number: Number, waker: &Waker) -> Option<Poll<Result<Charge, WaitError>>> {
    let waker = wakers::clone_of(waker);
    let (found, old) = locked(|table, _, _| {
        let Some(waiter) = table.waiters.get_mut(&number) else {
            return (None, Some(waker));
        };
        match waiter.state {
            State::Waiting | State::Tried | State::Gone => {
                (Some(Poll::Pending), waiter.waker.replace(waker))
            }
            State::Granted | State::Failed(_) => {
                let ended = table.waiters.remove(&number);
                (
                    ended.map(|ended| Poll::Ready(answer_of(ended))),
                    Some(waker),
                )
            }
        }
    });
    // The answer has the bytes by now, whatever the program's code does.
    wakers::discard(old);
    found
}

/// The answer for somebody who is in no line any more.
fn answer_of(waiter: Waiter) -> Result<Charge, WaitError> {
    let answer = match waiter.state {
        State::Failed(error) => Err(error),
        State::Granted | State::Waiting | State::Tried | State::Gone => {
            Ok(Charge::of_charged(waiter.tag, waiter.bytes))
        }
    };
    pinned(|engine, rec| {
        if answer.is_ok() {
            engine.owe_for(rec, waiter.tag, round_up(waiter.bytes));
        }
        // The bytes of the charge keep the owner from here on.
        engine.tree.unref_objcg(waiter.tag);
    });
    answer
}

/// Takes somebody out of line whose future is dropped. What he got is given back, and the next is
/// tried.
pub(super) fn cancel(number: Number) {
    let _free = no_account();
    let mut later = Later::default();
    // One change: a fork finds him in line, or all given back.
    let waker = engine().change(|| {
        let waker = locked(|table, engine, _| leave(table, engine, number, &mut later));
        later.give_back();
        waker
    });
    try_lines(later);
    wakers::discard(waker);
}

/// Takes somebody out, as [`cancel`] says; answers his waker.
fn leave(
    table: &mut Table,
    engine: &'static Engine,
    number: Number,
    later: &mut Later,
) -> Option<Waker> {
    let waiter = table.waiters.get_mut(&number)?;
    let waker = waiter.waker.take();
    let (tag, at) = (waiter.tag, waiter.at);
    let charged = match waiter.state {
        State::Waiting => {
            if table.leave(engine, at, number) {
                later.to_try.push(at);
            }
            0
        }
        State::Tried | State::Gone => {
            // Who tries him gives it back.
            waiter.state = State::Gone;
            return waker;
        }
        State::Granted => waiter.bytes,
        State::Failed(_) => 0,
    };
    table.waiters.remove(&number);
    later.released.push((tag, charged));
    waker
}

/// Tries the lines of groups that were told of, and those that are due; ends waits whose time is
/// over. Answers the ms until the next is due, 0 if there is none.
pub(super) fn look(told: &[(GroupId, Told)]) -> u32 {
    let _free = no_account();
    let mut later = Later::default();
    let due: Vec<At> = locked(|table, engine, _| {
        let now = clock::monotonic_ns();
        for (at, line) in &mut table.lines {
            let freed = |(group, told): &(GroupId, Told)| *group == at.group && told.freed;
            if told.iter().any(freed) {
                line.progress_ns = now;
                line.tried_ns = 0;
            }
        }
        table.end_waits(engine, now, &mut later);
        let is_due = |(_, line): &(&At, &Line)| now.saturating_sub(line.tried_ns) >= TRY_NS;
        let due = table.lines.iter().filter(is_due).map(|(at, _)| *at);
        let mut due: Vec<At> = due.chain(later.to_try.drain(..)).collect();
        // Room that has come in several groups at once is for who came first.
        due.sort_by_key(|at| table.lines.get(at).and_then(|line| line.numbers.first()));
        due
    });
    later.finish();
    for at in due {
        try_line(at);
    }
    locked(|table, _, _| table.ms_to_next(clock::monotonic_ns()))
}
