//! `hold`, `take`: several groups hold a thing; another one is charged for it.
//!
//! Invariants: reservations and objects of a cache alone can be shared or change their group.
//! Depends on: `world`, `tags`.
//! Never: a part of a thing changes its group when there is no room for the whole.

use crate::actor::Actor;
use crate::text::word::show;
use crate::verbs::tags::TagOf;
use crate::world::fault::Fault;
use crate::world::shared_charge::{Held, SharedCharge};
use crate::world::things::Part;
use memcg::ReserveError;
use memcg::testing::os::errno::Errno;

/// The task's group holds what the tag names as well, until the task or the thing ends.
pub fn hold(actor: &Actor<'_>, TagOf { task: name, tag }: &TagOf) -> Result<(), Fault> {
    let task = actor.world.task(name)?;
    let group = task.group();
    let group = group.ok_or_else(|| Fault::refused(Errno::ESRCH, "the task is nowhere"))?;
    actor.world.things.change(tag, |things| {
        let mut held = Held::new();
        for part in std::mem::take(&mut things.parts) {
            let mut part = match part {
                Part::Reserved(charge) => Part::Shared(SharedCharge::new(charge)),
                part @ (Part::Heap(_) | Part::Shared(_) | Part::Reclaimable(_)) => part,
            };
            match &mut part {
                Part::Shared(charge) => held.push(charge.hold(&group)),
                Part::Heap(objects) => objects.hold(&group, &mut held),
                Part::Reserved(_) | Part::Reclaimable(_) => {}
            }
            things.parts.push(part);
        }
        if held.is_empty() {
            let message = format!(
                "'{}': objects of a cache and reservations can be held by several",
                show(tag)
            );
            return Err(Fault::refused(Errno::EINVAL, message));
        }
        things.others.push((name.clone(), held));
        Ok(())
    })?
}

/// The task holds what the tag names from now on, and its group is charged for all of it, or
/// nothing has changed. Where others take up room at the same time a part of it may have come.
pub fn take(actor: &Actor<'_>, TagOf { task: name, tag }: &TagOf) -> Result<(), Fault> {
    let task = actor.world.task(name)?;
    let group = task.group();
    let group = group.ok_or_else(|| Fault::refused(Errno::ESRCH, "the task is nowhere"))?;
    let full = |why: ReserveError| Fault::refused(Errno::ENOMEM, why.to_string());
    let bytes: u64 = actor.world.things.change(tag, |things| {
        let stays = |part: &Part| matches!(part, Part::Heap(all) if !all.are_of_a_cache());
        if things.parts.iter().any(stays) {
            let message = format!(
                "'{}': objects of a cache and reservations can be taken; those of the heap \
                     stay with their owner",
                show(tag)
            );
            return Err(Fault::refused(Errno::EINVAL, message));
        }
        Ok(things.parts.iter().map(Part::bytes).sum())
    })??;
    // Whether there is room for all is seen before the first goes.
    drop(group.try_reserve(bytes).map_err(full)?);
    actor.world.things.change(tag, |things| {
        for part in &mut things.parts {
            match part {
                Part::Reserved(charge) => charge.give(&group).map_err(full)?,
                Part::Shared(charge) => charge.give(&group).map_err(full)?,
                Part::Heap(objects) => objects.recharge_to(&group).map_err(full)?,
                Part::Reclaimable(objects) => objects.recharge_to(&group).map_err(full)?,
            }
        }
        things.holder.clone_from(name);
        Ok(())
    })?
}
