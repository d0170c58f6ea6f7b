//! `cache`: named caches of objects, of which some give their objects up when memory is short.
//!
//! Invariants: a cache's name is its alone, whatever its kind.
//! Depends on: `world`.
//! Never: a cache with two ways to give its objects up.

use crate::actor::Actor;
use crate::text::line::{Line, Name};
use crate::text::number;
use crate::text::word::{Word, Wrong, show};
use crate::world::fault::Fault;
use crate::world::reclaimable::cache::GivesUp;
use memcg::testing::os::errno::Errno;
use memcg::{CacheError, CacheLayout, CacheOptions, SlabKind};

/// A cache of objects, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCache {
    /// Its name.
    name: Name,
    /// Bytes of an object.
    bytes: u64,
    /// Whether its objects are charged.
    is_accounted: bool,
    /// Whether each group has slabs of its own.
    is_per_group: bool,
    /// Whether it is of the slab kind Slab.
    is_slab: bool,
    /// Whether its objects are entries of directories, which can be reclaimed.
    is_dentry: bool,
    /// How its objects are given up, if they are.
    gives_up: Option<GivesUp>,
}

/// Reads `C size=N …`; a cache of directory entries may go without a size.
pub fn new_cache(line: &mut Line<'_>) -> Result<NewCache, Wrong> {
    let mut cache = NewCache {
        name: line.new_name("a name for the cache")?,
        bytes: 0,
        is_accounted: true,
        is_per_group: false,
        is_slab: false,
        is_dentry: false,
        gives_up: None,
    };
    while let Some(word) = line.peek() {
        line.skip(1);
        match word.bytes.as_slice() {
            b"dentry" | b"reclaimable" | b"registered"
                if cache.is_dentry || cache.gives_up.is_some() =>
            {
                return Err(Wrong::new(
                    word.column,
                    format!(
                        "'{}': its objects are given up in one way: expected one of dentry \
                         reclaimable registered",
                        word.show()
                    ),
                ));
            }
            b"reclaimable" => cache.gives_up = Some(GivesUp::ByList),
            b"registered" => cache.gives_up = Some(GivesUp::ByFunction),
            b"accounted" => cache.is_accounted = true,
            b"noaccount" => cache.is_accounted = false,
            b"layout=shared" => cache.is_per_group = false,
            b"layout=pergroup" => cache.is_per_group = true,
            b"school=slub" => cache.is_slab = false,
            b"school=slab" => cache.is_slab = true,
            b"dentry" => cache.is_dentry = true,
            bytes if bytes.starts_with(b"size=") => {
                cache.bytes = number::size(&Word {
                    bytes: bytes[5..].to_vec(),
                    column: word.column + 5,
                    quoted: false,
                })?;
            }
            _ => {
                return Err(Wrong::new(
                    word.column,
                    format!(
                        "'{}': expected size=N accounted noaccount layout=shared layout=pergroup \
                         school=slub school=slab dentry reclaimable registered",
                        word.show()
                    ),
                ));
            }
        }
    }
    if cache.bytes == 0 && !cache.is_dentry {
        return Err(Wrong::new(line.column(), "the line ends: expected size=N"));
    }
    Ok(cache)
}

/// Makes a cache.
pub fn create(actor: &Actor<'_>, plan: &NewCache) -> Result<(), Fault> {
    let world = actor.world;
    let name = show(&plan.name);
    let mut options = CacheOptions::new(&name);
    if !plan.is_accounted {
        options = options.no_account();
    }
    if plan.is_slab {
        options = options.slab_kind(SlabKind::Slab);
    }
    if plan.is_per_group {
        options = options.layout(CacheLayout::PerGroup);
    }
    let taken = || {
        Fault::refused(
            Errno::EEXIST,
            format!("cache '{name}': there is one of that name"),
        )
    };
    if world.reclaimable.find(&plan.name).is_some() {
        return Err(taken());
    }
    if let Some(how) = plan.gives_up {
        if world.cache(&plan.name).is_ok() || world.dentries.has(&plan.name) {
            return Err(taken());
        }
        return world
            .reclaimable
            .create(&plan.name, plan.bytes, how, options);
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
            CacheError::NoMemory => Errno::ENOMEM,
            // And what is added later: the enum is open.
            CacheError::Name | CacheError::Size | _ => Errno::EINVAL,
        };
        Fault::refused(errno, format!("cache '{name}': {why}"))
    })?;
    world.add_cache(&plan.name, cache)
}
