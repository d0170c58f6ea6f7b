//! `reserve`, `free`, and of what is no region `give`, `touch`: what a tag names.
//!
//! Invariants: a tag is held by one task, and `give` alone changes which.
//! Depends on: `world`.
//! Never: a charge changes its group by `give`.

use crate::actor::Actor;
use crate::text::line::{Line, Name};
use crate::text::number;
use crate::text::word::Wrong;
use crate::verbs::objects::FLAGS;
use crate::world::fault::Fault;
use crate::world::things::{Part, no_tag};
use memcg::ReserveError;
use memcg::testing::os::errno::Errno;

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
    /// Who holds it.
    pub task: Name,
    /// What.
    pub tag: Name,
    /// Who is to hold it.
    pub to: Name,
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

/// Uses what a tag names: its content is looked at, and what a move left behind follows the task.
pub fn touch(actor: &Actor<'_>, order: &TagOf) -> Result<(), Fault> {
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
