//! Expectations, held against the engine.

use crate::act::{Actor, lacks_pages};
use crate::amount::Number;
use crate::expect::{Expect, Sum, Term, holds, sum_text};
use crate::moves;
use crate::reference::{Reference, Value, find};
use crate::subsystems;
use crate::words::show;
use crate::world::{Fault, Part, Things, World};
use memcg::root;
use memcg::testing::files::{self, Entry};
use memcg_term::size::human;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a thing that must hold soon is looked at.
const AGAIN: Duration = Duration::from_millis(5);

/// Looks until it holds or the time is over; what was found last.
pub fn check_within(actor: &Actor<'_>, time: Duration, expect: &Expect) -> Result<String, Fault> {
    let end = Instant::now() + time;
    loop {
        match check(actor, expect) {
            Err(Fault::Wrong(why)) if Instant::now() >= end => {
                return Err(Fault::Wrong(format!("after {time:?}: {why}")));
            }
            Err(Fault::Wrong(_) | Fault::Refused { .. }) if Instant::now() < end => {
                std::thread::sleep(AGAIN);
                memcg::safe_point();
            }
            other => return other,
        }
    }
}

/// Whether it holds; what was found.
pub fn check(actor: &Actor<'_>, expect: &Expect) -> Result<String, Fault> {
    let world = actor.world;
    match expect {
        Expect::Compare {
            left,
            operator,
            right,
            tolerance,
        } => {
            let a = sum(actor, left)?;
            let b = sum(actor, right)?;
            if holds(&a, *operator, &b, *tolerance).map_err(Fault::Wrong)? {
                return Ok(a.to_string());
            }
            Err(Fault::Wrong(difference(left, &a, right, &b)))
        }
        Expect::Group { path, there } => {
            let is_there = root().lookup(path).is_some();
            answer(
                is_there == *there,
                if is_there {
                    "it is there"
                } else {
                    "it is not there"
                },
            )
        }
        Expect::Intact(tag) => {
            let damaged = world.look(tag, |things| {
                things.parts.iter().find_map(Part::first_damaged)
            });
            match damaged {
                None => Err(Fault::Wrong("nothing is called so".into())),
                Some(None) => Ok("intact".into()),
                Some(Some(i)) => Err(Fault::Wrong(format!(
                    "object {i} does not hold what was written into it"
                ))),
            }
        }
        Expect::Freed(tag) => match world.look(tag, |things| things.holder.clone()) {
            None => Ok("gone".into()),
            Some(holder) => Err(Fault::Wrong(format!("{} holds it", show(&holder)))),
        },
        Expect::Killed(task) => answer(
            world.is_killed(task),
            if world.task_id(task).is_some() {
                "it lives"
            } else {
                "there is no such task"
            },
        ),
        Expect::In { task, path } => {
            let group = world.task(task)?.group();
            let found = group.map_or_else(|| "nowhere".into(), |group| group.path());
            let wanted = root().lookup(path).map(|group| group.path());
            answer(
                wanted.as_deref() == Some(found.as_str()),
                &format!("it is in {found}"),
            )
        }
    }
}

fn answer(holds: bool, found: &str) -> Result<String, Fault> {
    if holds {
        return Ok(found.to_owned());
    }
    Err(Fault::Wrong(found.to_owned()))
}

/// Why a comparison does not hold, in words.
fn difference(left: &Sum, a: &Value, right: &Sum, b: &Value) -> String {
    let mut text = format!("{} is {}", sum_text(left), sized(a));
    let is_literal = matches!(right.as_slice(), [(_, Term::Number(..) | Term::Text(_))]);
    if !is_literal {
        text += &format!(", {} is {}", sum_text(right), sized(b));
    }
    if let (Value::Number(a), Value::Number(b)) = (a, b)
        && *a != Number::MAX
        && *b != Number::MAX
        && a != b
    {
        let word = if a > b { "more" } else { "less" };
        text += &format!(": {} {word}", a.distance(*b));
    }
    text
}

fn sized(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.bytes() {
            Some(bytes) if bytes >= 1024 => format!("{number} ({})", human(bytes)),
            _ => number.to_string(),
        },
        Value::Text(text) => format!("'{text}'"),
    }
}

fn sum(actor: &Actor<'_>, sum: &Sum) -> Result<Value, Fault> {
    if let [(_, term)] = sum.as_slice() {
        return self::term(actor, term);
    }
    let mut all = Number::whole(0);
    for (minus, part) in sum {
        match term(actor, part)? {
            Value::Number(number) => all = all.plus(number, *minus),
            Value::Text(text) => {
                return Err(Fault::Wrong(format!("'{text}' is no number to add")));
            }
        }
    }
    Ok(Value::Number(all))
}

fn term(actor: &Actor<'_>, term: &Term) -> Result<Value, Fault> {
    match term {
        Term::Number(number, _) => Ok(Value::Number(*number)),
        Term::Text(text) => Ok(Value::Text(
            text.split_whitespace().collect::<Vec<_>>().join(" "),
        )),
        Term::Of { name, what } => self::of(actor, name, what),
        Term::File(reference) => figure(actor, reference),
    }
}

/// A figure of a task, subsystem or cache.
fn of(actor: &Actor<'_>, name: &[u8], what: &str) -> Result<Value, Fault> {
    let world = actor.world;
    let number = if what == "held" {
        Some(world.task(name)?.held())
    } else if what == "leaked" {
        world.task(name)?;
        Some(world.leaked_by(name))
    } else if what == "left" {
        let left = |things: &Things| things.parts.iter().map(Part::left).sum();
        Some(world.look(name, left).unwrap_or(0))
    } else if let Some(figure) = world.kept.figure(name, what) {
        Some(figure)
    } else if let Some(call) = subsystems::CALLS.iter().position(|call| *call == what) {
        let asked = world.subsystem(name)?;
        Some(asked.called[call].load(Ordering::Relaxed))
    } else if let Some(figure) = world.dentries.figure(name, what)? {
        Some(figure)
    } else {
        let moved = world.last_move(name)?;
        moves::figure(moved, what)
    };
    let why = || Fault::Wrong(format!("{} has no {what}", show(name)));
    Ok(Value::Number(Number::whole(number.ok_or_else(why)?)))
}

/// What a reference says now; with a `*` in its path, the sum over all it stands for.
pub fn figure(actor: &Actor<'_>, reference: &Reference) -> Result<Value, Fault> {
    if reference.needs_pages() {
        return Err(lacks_pages(&reference.name));
    }
    if !reference
        .group
        .split(|&b| b == b'/')
        .any(|part| part == b"*")
    {
        return one(actor, reference, &reference.group);
    }
    let mut all = Number::whole(0);
    for group in expand(&reference.group)? {
        match one(actor, reference, &group) {
            Ok(Value::Number(number)) => all = all.plus(number, false),
            Ok(Value::Text(text)) => {
                return Err(Fault::Wrong(format!("'{text}' is no number to add")));
            }
            // It went while we looked.
            Err(Fault::Refused { errno, .. }) if !actor.is_alone && errno == "ENOENT" => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(Value::Number(all))
}

fn one(actor: &Actor<'_>, reference: &Reference, group: &[u8]) -> Result<Value, Fault> {
    let (file, key) = reference.split();
    let text = actor.read(group, file)?;
    find(&text, key).ok_or_else(|| {
        Fault::refused(
            "ENOENT",
            format!("{file} has no key '{}'", key.unwrap_or_default()),
        )
    })
}

/// The groups a path with `*` stands for.
fn expand(path: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let mut all = vec![Vec::new()];
    for part in path.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for group in &all {
            let mut add = |name: &[u8]| next.push([group, &b"/"[..], name].concat());
            if part != b"*" {
                add(part);
                continue;
            }
            let entries = World::with(|engine, rec| files::list(engine, rec, group))??;
            for entry in entries {
                if let Entry::Group(name) = entry {
                    add(&name);
                }
            }
        }
        all = next;
    }
    Ok(all)
}
