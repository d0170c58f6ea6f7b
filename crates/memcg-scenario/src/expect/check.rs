//! Expectations, held against the engine.
//!
//! Invariants: what does not hold is a [`Fault::Wrong`] that says what was found instead.
//! Depends on: `actor`, for files; `world`, for the rest.
//! Never: changes anything.

use crate::actor::Actor;
use crate::expect::comparison::holds;
use crate::expect::terms::{Expect, Sum, Term, sum_text};
use crate::text::line::Name;
use crate::text::number::Number;
use crate::text::reference::{Reference, Value, find};
use crate::world::World;
use crate::world::fault::{Fault, Needs};
use crate::world::things::{Part, Things};
use memcg::root;
use memcg::testing::files::{self, Entry};
use memcg::testing::os::errno::Errno;
use memcg_term::size::human;
use std::time::{Duration, Instant};

/// The pause between two looks at what must hold soon.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until the expectation holds or the time is over. Answers what was found last.
///
/// # Errors
/// What was found instead, last.
pub fn check_within(actor: &Actor<'_>, time: Duration, expect: &Expect) -> Result<String, Fault> {
    let end = Instant::now() + time;
    loop {
        match check(actor, expect) {
            Err(Fault::Wrong(why)) if Instant::now() >= end => {
                return Err(Fault::Wrong(format!("after {time:?}: {why}")));
            }
            Err(Fault::Wrong(_) | Fault::Refused { .. }) if Instant::now() < end => {
                std::thread::sleep(PAUSE);
                memcg::safe_point();
            }
            done @ (Ok(_) | Err(_)) => return done,
        }
    }
}

/// Looks whether the expectation holds. Answers what was found.
///
/// # Errors
/// What was found instead.
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
            let found = if is_there {
                "it is there"
            } else {
                "it is not there"
            };
            answer(is_there == *there, found)
        }
        Expect::Intact(tag) => match world.things.region(tag) {
            Some(region) => intact("page", region.first_damaged()?),
            None => {
                let first = |things: &Things| things.parts.iter().find_map(Part::first_damaged);
                let damaged = world.things.look(tag, first);
                let damaged = damaged.ok_or_else(|| Fault::Wrong("nothing is called so".into()))?;
                intact("object", damaged.map(|i| i as u64))
            }
        },
        Expect::Freed(tag) => match world.things.holder(tag) {
            None => Ok("gone".into()),
            Some(holder) => Err(Fault::Wrong(format!("it is {holder}"))),
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

fn intact(what: &str, damaged: Option<u64>) -> Result<String, Fault> {
    match damaged {
        None => Ok("intact".into()),
        Some(i) => Err(Fault::Wrong(format!(
            "{what} {i} does not hold what was written into it"
        ))),
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
        Term::Of { name, figure } => {
            let number = (figure.read)(actor.world, name)?;
            Ok(Value::Number(Number::whole(number)))
        }
        Term::File(reference) => figure(actor, reference),
    }
}

/// What a reference says now. With a `*` in its path, the sum over all groups it stands for.
///
/// # Errors
/// ENOENT when there is no such group, file or key.
pub fn figure(actor: &Actor<'_>, reference: &Reference) -> Result<Value, Fault> {
    if reference.needs_swap() {
        return Err(Fault::lacks(&reference.name, Needs::Swap));
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
            Err(Fault::Refused { errno, .. }) if !actor.is_alone && errno == Errno::ENOENT => {}
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
            Errno::ENOENT,
            format!("{file} has no key '{}'", key.unwrap_or_default()),
        )
    })
}

/// The groups a path with `*` stands for.
fn expand(path: &[u8]) -> Result<Vec<Name>, Fault> {
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
                match entry {
                    Entry::Group(name) => add(&name),
                    Entry::File(..) => {}
                }
            }
        }
        all = next;
    }
    Ok(all)
}
