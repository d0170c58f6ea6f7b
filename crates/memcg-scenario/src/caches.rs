//! `cache C …`: named caches of objects.

use crate::command::Cache;
use crate::words::show;
use crate::world::{Fault, World};
use memcg::{CacheError, CacheLayout, CacheOptions, School};

/// Makes a cache.
pub fn create(world: &World, plan: &Cache) -> Result<(), Fault> {
    let name = show(&plan.name);
    let mut options = CacheOptions::new(&name);
    if !plan.is_accounted {
        options = options.no_account();
    }
    if plan.is_slab {
        options = options.school(School::Slab);
    }
    if plan.is_per_group {
        options = options.layout(CacheLayout::PerGroup);
    }
    let taken = || {
        Fault::refused(
            "EEXIST",
            format!("cache '{name}': there is one of that name"),
        )
    };
    if world.kept.find(&plan.name).is_some() {
        return Err(taken());
    }
    if let Some(how) = plan.gives_up {
        if world.cache(&plan.name).is_ok() || world.dentries.has(&plan.name) {
            return Err(taken());
        }
        return world.kept.create(plan, how, options);
    }
    if plan.is_dentry {
        if world.cache(&plan.name).is_ok() {
            return Err(taken());
        }
        world.dentries.create(&plan.name, plan.bytes, options)?;
        return Ok(());
    }
    if world.dentries.has(&plan.name) {
        return Err(taken());
    }
    let bytes = usize::try_from(plan.bytes).unwrap_or(usize::MAX);
    let cache = options.sized(bytes).map_err(|why| {
        let errno = match why {
            CacheError::NoMemory => "ENOMEM",
            _ => "EINVAL",
        };
        Fault::refused(errno, format!("cache '{name}': {why}"))
    })?;
    world.add_cache(&plan.name, cache)
}
