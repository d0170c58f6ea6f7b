//! `map`, `touch`, `unmap`, `share`, `give`, `sync`: regions, whose pages are charged as they are
//! touched. `swap`, `zswap`: where pages go when memory is short.
//!
//! Invariants: mapping charges nobody. A touch brings all its pages, or none stays that it brought.
//! Depends on: `world`; `tags` for what is no region; `objects` for how a task allocates.
//! Never: waits longer than one pause a step for being above `memory.high`.

use crate::actor::Actor;
use crate::text::line::{Line, Name};
use crate::text::number;
use crate::text::word::{Word, Wrong, show};
use crate::verbs::objects::FLAGS;
use crate::verbs::tags::{self, Give, TagOf};
use crate::world::fault::Fault;
use crate::world::regions::{Access, MappedRegion, refused};
use crate::world::things::{no_region, no_tag};
use memcg::safe_point;
use memcg::testing::engine::Flags;
use memcg::testing::os::errno::Errno;
use memcg::testing::units::parse_size;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Memory of one user.
    Anon,
    /// Memory of many.
    Shmem,
    /// A file.
    File(PathBuf),
}

/// `TASK map TAG SIZE anon|shmem|file=PATH`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    task: Name,
    tag: Name,
    bytes: u64,
    kind: Kind,
}

/// Reads `TAG SIZE anon|shmem|file=PATH`.
pub fn map_of(task: Name, line: &mut Line<'_>) -> Result<Map, Wrong> {
    let tag = line.name("a tag")?;
    let bytes = number::size(line.next("a size")?)?;
    let word = line.next("anon, shmem or file=PATH")?;
    let kind = match word.bytes.as_slice() {
        b"anon" if !word.quoted => Kind::Anon,
        b"shmem" if !word.quoted => Kind::Shmem,
        _ => match word.bytes.strip_prefix(b"file=") {
            Some([]) => return Err(Wrong::new(word.column + 5, "a path is expected")),
            Some(path) => Kind::File(path_of(path)),
            None => {
                return Err(Wrong::new(
                    word.column,
                    format!("'{}': expected anon, shmem or file=PATH", word.show()),
                ));
            }
        },
    };
    Ok(Map {
        task,
        tag,
        bytes,
        kind,
    })
}

/// Maps a new region, or one of many users that has that tag.
pub fn map(actor: &Actor<'_>, order: &Map) -> Result<(), Fault> {
    let Map {
        task: name,
        tag,
        bytes,
        kind,
    } = order;
    let (world, things) = (actor.world, &actor.world.things);
    let task = world.task(name)?;
    let path = match kind {
        Kind::Anon => {
            things.check_new(tag)?;
            let made = MappedRegion::anon(name, &task, *bytes, world.next_seed())?;
            return things.add_region(tag, made);
        }
        Kind::Shmem => None,
        Kind::File(path) => Some(path.as_path()),
    };
    if let Some(region) = things.region(tag) {
        if (region.path(), region.len(), region.goes_unmapped()) != (path, *bytes, false) {
            let message = format!(
                "'{}' is another region: {} bytes, {}",
                show(tag),
                region.len(),
                region.users()
            );
            return Err(Fault::refused(Errno::EEXIST, message));
        }
        return region.map(name, &task);
    }
    things.check_new(tag)?;
    let by = (name.as_slice(), &*task);
    let made = match path {
        Some(path) => MappedRegion::file(path, by, *bytes, world.next_seed())?,
        None => MappedRegion::shmem(tag, by, *bytes, world.next_seed())?,
    };
    things.add_region(tag, made)
}

/// Ends a task's mapping. Memory of one user goes with it.
pub fn unmap(actor: &Actor<'_>, TagOf { task, tag }: &TagOf) -> Result<(), Fault> {
    actor.world.task(task)?;
    actor.world.things.unmap(tag, task).map(drop)
}

/// Has the file of a region written. Of memory nothing is to be done.
pub fn sync(actor: &Actor<'_>, TagOf { task, tag }: &TagOf) -> Result<(), Fault> {
    actor.world.task(task)?;
    let mapping = region(actor, tag)?.of(task)?;
    mapping.sync().map_err(refused)
}

/// `share TAG TASK TASK`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    tag: Name,
    from: Name,
    with: Name,
}

/// Reads `TAG TASK TASK`.
pub fn share_of(line: &mut Line<'_>) -> Result<Share, Wrong> {
    Ok(Share {
        tag: line.name("a tag")?,
        from: line.name("the task that maps it")?,
        with: line.name("the task that shall")?,
    })
}

/// Maps for the second task what the first one maps.
pub fn share(actor: &Actor<'_>, Share { tag, from, with }: &Share) -> Result<(), Fault> {
    actor.world.task(from)?;
    let task = actor.world.task(with)?;
    let region = region(actor, tag)?;
    region.of(from)?;
    region.map(with, &task)
}

/// Makes another task the holder of what a tag names, or of the mapping; the charge stays.
pub fn give(actor: &Actor<'_>, order: &Give) -> Result<(), Fault> {
    let Some(region) = actor.world.things.region(&order.tag) else {
        return tags::give(actor, order);
    };
    actor.world.task(&order.task)?;
    let to = actor.world.task(&order.to)?;
    region.give(&order.task, &order.to, &to)
}

fn region(actor: &Actor<'_>, tag: &[u8]) -> Result<Arc<MappedRegion>, Fault> {
    let things = &actor.world.things;
    things.region(tag).ok_or_else(|| match things.holder(tag) {
        Some(_) => no_region(tag),
        None => no_tag(tag),
    })
}

/// `TASK touch TAG [read|write] [OFFSET LEN]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    what: TagOf,
    access: Access,
    /// Offset and length in bytes; `None`: all of it.
    range: Option<(u64, u64)>,
}

/// Reads `TAG [read|write] [OFFSET LEN]`.
pub fn touch_of(task: Name, line: &mut Line<'_>) -> Result<Touch, Wrong> {
    let what = tags::tag(task, line)?;
    let access = if line.take("read") {
        Access::Read
    } else {
        line.take("write");
        Access::Write
    };
    let range = match line.peek() {
        Some(_) => {
            let offset = offset(line.next("an offset")?)?;
            Some((offset, number::size(line.next("a length")?)?))
        }
        None => None,
    };
    Ok(Touch {
        what,
        access,
        range,
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

/// Uses what a tag names: the pages of a region, all or none; or a thing.
pub fn touch(actor: &Actor<'_>, order: &Touch) -> Result<(), Fault> {
    let world = actor.world;
    let TagOf { task: name, tag } = &order.what;
    let Some(region) = world.things.region(tag) else {
        return match order.range {
            Some(_) => self::region(actor, tag).map(drop),
            None => tags::touch(actor, &order.what),
        };
    };
    let task = world.task(name)?;
    let mapping = region.of(name)?;
    let touching = region.begin_touch(world.next_seed());
    let mut fault = None;
    {
        let _for_the_task = task.enter();
        for page in region.pages_of(order.range)? {
            let touched = loop {
                let touched = touching.page(&mapping, page, order.access, FLAGS | Flags::MALLOC);
                // A task that was killed for this frees what it held.
                let somebody_went = world.bury_after_oom();
                if somebody_went && world.is_killed(name) {
                    let message = format!("{}: page {page}: it was killed", show(name));
                    break Err(Fault::refused(Errno::ENOMEM, message));
                }
                match touched {
                    Err(_) if somebody_went => {}
                    Err(why) => {
                        let message = format!("{}: page {page}: {why}", show(name));
                        break Err(Fault::refused(why.errno(), message));
                    }
                    Ok(true) => break Ok(()),
                    Ok(false) => {
                        let why = "does not hold what was written into it";
                        break Err(Fault::Wrong(format!("page {page} {why}")));
                    }
                }
            };
            if let Err(why) = touched {
                fault = Some(why);
                break;
            }
        }
        // One pause a step, two seconds at most: as a program does between two requests.
        safe_point();
    }
    match fault {
        None => Ok(()),
        Some(fault) => {
            touching.undo()?;
            Err(fault)
        }
    }
}

/// `swap SIZE [FILE]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    bytes: u64,
    file: Option<PathBuf>,
}

/// Reads `SIZE [FILE]`.
pub fn swap_of(line: &mut Line<'_>) -> Result<Swap, Wrong> {
    let bytes = number::size(line.next("a size")?)?;
    let file = match line.peek() {
        Some(_) => Some(path_of(&line.name("a file")?)),
        None => None,
    };
    Ok(Swap { bytes, file })
}

/// Takes a file into use as swap; without a name one that goes with the process.
pub fn swap(_: &Actor<'_>, Swap { bytes, file }: &Swap) -> Result<(), Fault> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let nr = MADE.fetch_add(1, Ordering::Relaxed);
    let made = || std::env::temp_dir().join(format!("memcg-swap-{}-{nr}", std::process::id()));
    let path = file.clone().unwrap_or_else(made);
    let on = memcg::swap_on(&path, *bytes);
    if file.is_none() {
        // It is in use by its descriptor. Without one it may not be there.
        let _ = std::fs::remove_file(&path);
    }
    on.map_err(|why| Fault::refused(why.errno(), format!("{}: {why}", path.display())))
}

/// Reads `SIZE`.
pub fn zswap_of(line: &mut Line<'_>) -> Result<u64, Wrong> {
    number::size(line.next("a size")?)
}

/// Has pages compressed when memory is short.
pub fn zswap(_: &Actor<'_>, bytes: &u64) -> Result<(), Fault> {
    let no_memory = |errno| Fault::refused(errno, "no memory for the tables");
    memcg::zswap_on(*bytes).map_err(no_memory)
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
