//! `alloc`, `fill`: heap objects, or objects of a cache.
//!
//! Invariants: `alloc` makes all its objects or none.
//! Depends on: `world`.
//! Never: waits longer than one pause a step for being above `memory.high`.

use crate::actor::Actor;
use crate::text::line::{Line, Name};
use crate::text::number;
use crate::text::word::{Word, Wrong, show};
use crate::world::World;
use crate::world::fault::Fault;
use crate::world::objects::Objects;
use crate::world::reclaimable::ReclaimableObjects;
use crate::world::things::Part;
use memcg::testing::engine::Flags;
use memcg::testing::os::errno::Errno;
use memcg::{AllocError, Memcg, Task, safe_point};

/// How a task allocates: it may wait for room, and run what gives memory up. Its delay for being
/// above `high` is paid once a step.
pub const FLAGS: Flags = Flags::WAIT.with(Flags::USER).with(Flags::OWE);

/// `TASK alloc …`, or `TASK fill …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alloc {
    /// Who allocates.
    task: Name,
    /// What the objects are called.
    tag: Name,
    /// Bytes of each.
    pub size: u64,
    /// How many; `None`: until one is refused.
    pub count: Option<u64>,
    /// Of which cache; `None`: of the heap.
    cache: Option<Name>,
    /// Whether it may wait for room, and run what makes some.
    may_wait: bool,
}

/// Reads `TAG SIZE[xCOUNT] [cache=C] [nowait]`.
pub fn alloc_of(task: Name, line: &mut Line<'_>) -> Result<Alloc, Wrong> {
    let tag = line.name("a tag")?;
    let (size, count) = size_and_count(line)?;
    Ok(Alloc {
        task,
        tag,
        size,
        count: Some(count),
        cache: of_cache(line)?,
        may_wait: !line.take("nowait"),
    })
}

/// Reads `TAG SIZE [cache=C] [nowait]`.
pub fn fill_of(task: Name, line: &mut Line<'_>) -> Result<Alloc, Wrong> {
    Ok(Alloc {
        task,
        tag: line.name("a tag")?,
        size: number::size(line.next("the size of an object")?)?,
        count: None,
        cache: of_cache(line)?,
        may_wait: !line.take("nowait"),
    })
}

/// `SIZE`, `SIZExCOUNT`, `SIZE xCOUNT`, `SIZE x COUNT`.
fn size_and_count(line: &mut Line<'_>) -> Result<(u64, u64), Wrong> {
    let word = line.next("a size, as 64 or 1Mx800")?;
    let (size, mut count) = number::size_by_count(word)?;
    if count == 1 && !word.bytes.contains(&b'x') || number::size(word).is_ok() {
        if line.take("x") {
            count = number::count(line.next("a count")?)?;
        } else if let Some(next) = line.peek()
            && next.bytes.first() == Some(&b'x')
        {
            line.skip(1);
            count = number::count(&Word {
                bytes: next.bytes[1..].to_vec(),
                column: next.column + 1,
                quoted: false,
            })?;
        }
    }
    Ok((size, count))
}

/// `[cache=C]`
fn of_cache(line: &mut Line<'_>) -> Result<Option<Name>, Wrong> {
    let Some(word) = line.peek() else {
        return Ok(None);
    };
    match word.bytes.strip_prefix(b"cache=") {
        Some([]) => Err(Wrong::new(
            word.column + 6,
            "the name of a cache is expected",
        )),
        Some(name) => {
            line.skip(1);
            Ok(Some(name.to_vec()))
        }
        None => Ok(None),
    }
}

/// Allocates objects, all or none; or until one is refused.
pub fn alloc(actor: &Actor<'_>, order: &Alloc) -> Result<(), Fault> {
    let Alloc {
        task: name,
        tag,
        size,
        count,
        cache,
        may_wait,
    } = order;
    let (count, flags) = (*count, if *may_wait { FLAGS } else { Flags::NOWAIT });
    // A cache is asked as one that can say no; the rest is as C's malloc.
    let flags = if cache.is_none() {
        flags | Flags::MALLOC
    } else {
        flags
    };
    let world = actor.world;
    let task = world.task(name)?;
    world.things.check(tag, name)?;
    let mut objects = none_as_yet(world, &task, *size, cache.as_deref())?;
    if count.is_none() && matches!(objects, Made::Reclaimable(..)) {
        let why = "it gives up its own before one is refused: 'fill' would not end";
        return Err(Fault::refused(Errno::EINVAL, why));
    }
    let mut refused = None;
    {
        let _for_the_task = task.enter();
        while count != Some(objects.len() as u64) {
            let pushed = objects.push(flags);
            // A task that was killed for this frees what it held.
            let somebody_went = world.bury_after_oom();
            if somebody_went && world.is_killed(name) {
                refused = Some((objects.len() + 1, ": it was killed".to_owned()));
                break;
            }
            let Err(why) = pushed else { continue };
            if !somebody_went {
                let why = why.map_or_else(String::new, |why| format!(": {why}"));
                refused = Some((objects.len() + 1, why));
                break;
            }
        }
        // One pause a step, two seconds at most: as a program does between two requests.
        safe_point();
    }
    let is_gone = world.is_killed(name);
    match (refused, count) {
        (Some((nr, why)), Some(count)) => Err(Fault::refused(
            Errno::ENOMEM,
            format!("{}: object {nr} of {count} was refused{why}", show(name)),
        )),
        (Some((_, why)), None) if is_gone => Err(Fault::refused(
            Errno::ENOMEM,
            format!("{}{why}", show(name)),
        )),
        (Some(_), None) | (None, _) => world.things.add(tag, name, objects.into_part()),
    }
}

/// Room for objects, of the heap or a cache.
fn none_as_yet(world: &World, task: &Task, size: u64, cache: Option<&[u8]>) -> Result<Made, Fault> {
    let seed = world.next_seed();
    let Some(name) = cache else {
        let too_much =
            |_| Fault::refused(Errno::ENOMEM, format!("{size} bytes are no object's size"));
        return Ok(Made::Plain(Objects::of_heap(
            usize::try_from(size).map_err(too_much)?,
            seed,
        )));
    };
    let kept = world.reclaimable.find(name);
    let made = match kept {
        Some(cache) => {
            let group = task.group();
            let group = group.ok_or_else(|| Fault::refused(Errno::ESRCH, "the task is nowhere"))?;
            (
                cache.object_bytes(),
                Made::Reclaimable(ReclaimableObjects::of(cache), group),
            )
        }
        None => {
            let cache = world.cache(name)?;
            let bytes = cache.object_bytes() as u64;
            (bytes, Made::Plain(Objects::of_cache(cache, seed)))
        }
    };
    let (bytes, made) = made;
    if size > bytes {
        return Err(Fault::refused(
            Errno::EINVAL,
            format!("an object of cache '{}' has {bytes} bytes", show(name)),
        ));
    }
    Ok(made)
}

/// What is being allocated.
enum Made {
    /// Objects that stay.
    Plain(Objects),
    /// Objects that may be given up, in a group.
    Reclaimable(ReclaimableObjects, Memcg),
}

impl Made {
    fn len(&self) -> usize {
        match self {
            Made::Plain(objects) => objects.len(),
            Made::Reclaimable(objects, _) => objects.made(),
        }
    }

    fn push(&mut self, flags: Flags) -> Result<(), Option<AllocError>> {
        match self {
            Made::Plain(objects) => objects.push(flags),
            Made::Reclaimable(objects, group) => objects.push(group, flags).map_err(Some),
        }
    }

    fn into_part(self) -> Part {
        match self {
            Made::Plain(objects) => Part::Heap(objects),
            Made::Reclaimable(objects, _) => Part::Reclaimable(objects),
        }
    }
}
