//! `set OPTION VALUE`: how the engine behaves, chosen before first use.

use crate::world::{Fault, World};
use memcg::testing::engine::Engine;
use memcg::testing::engine::linger::GroupEnd;
use memcg::testing::engine::options::Tracking;
use memcg::testing::engine::process::engine;
use memcg::testing::kmem::per_id::IdPolicy;

/// The options there are, with what each takes.
const OPTIONS: &str = "group-end reparent|linger, id-policy reparent-and-free|reclaim-offline-first|shrinkable-tree, \
                       kmem-id-max N, cache-tracking all|opt-in, root-tracking on|off, worker on|off, seed N, strict on|off";

/// Sets one.
pub fn set(world: &World, option: &str, value: &str) -> Result<(), Fault> {
    let engine = engine();
    match option {
        "group-end" => {
            let end =
                GroupEnd::of_name(value).ok_or_else(|| takes(option, "reparent or linger"))?;
            in_time(engine.set_group_end(end), "the first mkdir")
        }
        "id-policy" => {
            let names = "reparent-and-free, reclaim-offline-first or shrinkable-tree";
            let policy = IdPolicy::of_name(value).ok_or_else(|| takes(option, names))?;
            in_time(
                engine.set_id_policy(policy),
                "the first list or cache by group",
            )
        }
        "kmem-id-max" => set_max_id(engine, number(option, value)?),
        "cache-tracking" => {
            let opt_in = match value {
                "all" => false,
                "opt-in" => true,
                _ => return Err(takes(option, "all or opt-in")),
            };
            engine.options.set_tracking(Tracking::OptIn, opt_in);
            Ok(())
        }
        "root-tracking" => {
            let on = on_or_off(option, value)?;
            engine.options.set_tracking(Tracking::RootUntracked, !on);
            Ok(())
        }
        "worker" => {
            engine.options.set_no_thread(!on_or_off(option, value)?);
            Ok(())
        }
        "seed" => {
            world.set_seed(number(option, value)?);
            Ok(())
        }
        "strict" => {
            engine.options.set_strict(on_or_off(option, value)?);
            Ok(())
        }
        _ => Err(Fault::refused(
            "EINVAL",
            format!("there is no option '{option}': there are {OPTIONS}"),
        )),
    }
}

fn set_max_id(engine: &Engine, max: u64) -> Result<(), Fault> {
    let max = u32::try_from(max).ok().filter(|max| *max >= 1);
    let max = max.ok_or_else(|| takes("kmem-id-max", "a number from 1"))?;
    engine.tree.kmem_ids.set_max_id(max);
    Ok(())
}

fn on_or_off(option: &str, value: &str) -> Result<bool, Fault> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(takes(option, "on or off")),
    }
}

fn in_time(done: bool, before: &str) -> Result<(), Fault> {
    if done {
        return Ok(());
    }
    Err(Fault::refused(
        "EBUSY",
        format!("it is set before {before}"),
    ))
}

fn takes(option: &str, what: &str) -> Fault {
    Fault::refused("EINVAL", format!("{option} takes {what}"))
}

fn number(option: &str, value: &str) -> Result<u64, Fault> {
    value.parse().map_err(|_| takes(option, "a number"))
}
