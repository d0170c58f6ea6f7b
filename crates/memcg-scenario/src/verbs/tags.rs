//! `reserve`, `free`, `give`, `touch`: what a tag names.
//!
//! Invariants: a tag is held by one task, and `give` alone changes which.
//! Depends on: `world`.
//! Never: a charge changes its group by `give`.

use crate::actor::Actor;
use crate::text::line::{Line, Name};
use crate::text::number;
use crate::text::word::{Word, Wrong};
use crate::verbs::objects::FLAGS;
use crate::world::fault::Fault;
use crate::world::things::{Part, no_tag};
use memcg::ReserveError;
use memcg::testing::os::errno::Errno;
use memcg::testing::units::parse_size;

/// `TASK … TAG`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagOf {
    /// Who acts.
    pub task: Name,
    /// What.
    pub tag: Name,
}

/// Reads `TAG`.
pub fn tag(task: Name, line: &mut Line<'_>) -> Result<TagOf, Wrong> {
    let tag = line.name("a tag")?;
    Ok(TagOf { task, tag })
}

/// `TASK reserve TAG SIZE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    task: Name,
    tag: Name,
    bytes: u64,
}

/// Reads `TAG SIZE`.
pub fn reserve_of(task: Name, line: &mut Line<'_>) -> Result<Reserve, Wrong> {
    Ok(Reserve {
        task,
        tag: line.name("a tag")?,
        bytes: number::size(line.next("a size")?)?,
    })
}

/// Charges bytes without memory behind them.
pub fn reserve(actor: &Actor<'_>, order: &Reserve) -> Result<(), Fault> {
    let owner = actor.world.task(&order.task)?;
    let things = &actor.world.things;
    things.check(&order.tag, &order.task)?;
    let full = |why: ReserveError| Fault::refused(Errno::ENOMEM, why.to_string());
    let mut charge = owner.try_reserve(0).map_err(full)?;
    charge.resize_with(order.bytes, FLAGS).map_err(full)?;
    things.add(&order.tag, &order.task, Part::Reserved(charge))
}

/// Frees what a tag names, whoever holds it.
pub fn free(actor: &Actor<'_>, TagOf { task, tag }: &TagOf) -> Result<(), Fault> {
    actor.world.task(task)?;
    actor.world.things.remove(tag).map(drop)
}

/// `TASK give TAG TASK`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Give {
    task: Name,
    tag: Name,
    to: Name,
}

/// Reads `TAG TASK`.
pub fn give_of(task: Name, line: &mut Line<'_>) -> Result<Give, Wrong> {
    Ok(Give {
        task,
        tag: line.name("a tag")?,
        to: line.name("the task that gets it")?,
    })
}

/// Makes another task the holder; the charge stays.
pub fn give(actor: &Actor<'_>, Give { task, tag, to }: &Give) -> Result<(), Fault> {
    actor.world.task(task)?;
    actor.world.task(to)?;
    actor.world.things.give(tag, task, to)
}

/// `TASK touch TAG [read|write] [OFFSET LEN]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    task: Name,
    tag: Name,
    /// Whether only a range is used, which needs pages.
    is_range: bool,
}

/// Reads `TAG [read|write] [OFFSET LEN]`.
pub fn touch_of(task: Name, line: &mut Line<'_>) -> Result<Touch, Wrong> {
    let tag = line.name("a tag")?;
    if !line.take("read") {
        line.take("write");
    }
    let is_range = line.peek().is_some();
    if is_range {
        offset(line.next("an offset")?)?;
        number::size(line.next("a length")?)?;
    }
    Ok(Touch {
        task,
        tag,
        is_range,
    })
}

fn offset(word: &Word) -> Result<u64, Wrong> {
    parse_size(&word.bytes).map_err(|why| {
        Wrong::new(
            word.column,
            format!("'{}' is no offset: {why}", word.show()),
        )
    })
}

/// Uses what a tag names: its content is looked at, and what a move left behind follows the task.
pub fn touch(actor: &Actor<'_>, order: &Touch) -> Result<(), Fault> {
    if order.is_range {
        return Err(Fault::lacks_pages("touch OFFSET LEN"));
    }
    let task = actor.world.task(&order.task)?;
    let things = &actor.world.things;
    let looked = things.look(&order.tag, |things| {
        let bytes: u64 = things.parts.iter().map(Part::bytes).sum();
        let damaged = things.parts.iter().find_map(Part::first_damaged);
        (bytes, damaged)
    });
    match looked {
        None => Err(no_tag(&order.tag)),
        Some((_, Some(i))) => Err(Fault::Wrong(format!(
            "object {i} does not hold what was written into it"
        ))),
        Some((bytes, None)) => {
            task.follow(bytes);
            let _for_the_task = task.enter();
            things.change(&order.tag, |things| {
                things.parts.iter_mut().for_each(Part::touch);
            })
        }
    }
}
