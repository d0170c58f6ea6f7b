//! `NAME alloc`, `NAME fill`: objects, all or none.

use crate::act::Actor;
use crate::heap::Objects;
use crate::kept::KeptObjects;
use crate::words::show;
use crate::world::{Fault, Part};
use memcg::testing::engine::Flags;
use memcg::{AllocError, Memcg, Task, safe_point};

/// How a task allocates: it may wait for room, and run what gives memory up. Its delay for being above `high` is paid once a step.
pub const FLAGS: Flags = Flags::WAIT.with(Flags::USER).with(Flags::OWE);

impl Actor<'_> {
    /// Allocates `count` objects for a task, or until one is refused.
    pub fn alloc(
        &self,
        name: &[u8],
        tag: &[u8],
        size: u64,
        count: Option<u64>,
        cache: Option<&[u8]>,
        flags: Flags,
    ) -> Result<(), Fault> {
        let task = self.world.task(name)?;
        self.world.check_tag(tag, name)?;
        let mut objects = self.none_as_yet(&task, size, cache)?;
        if count.is_none() && matches!(objects, Made::Kept(..)) {
            let why = "it gives up its own before one is refused: 'fill' would not end";
            return Err(Fault::refused("EINVAL", why));
        }
        let mut refused = None;
        {
            let _for_the_task = task.enter();
            while count != Some(objects.len() as u64) {
                let pushed = objects.push(flags);
                // Who was killed for this gives what it held.
                let somebody_went = self.world.bury_after_oom();
                if somebody_went && self.world.is_killed(name) {
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
        let is_gone = self.world.is_killed(name);
        match (refused, count) {
            (Some((nr, why)), Some(count)) => Err(Fault::refused(
                "ENOMEM",
                format!("{}: object {nr} of {count} was refused{why}", show(name)),
            )),
            (Some((_, why)), None) if is_gone => {
                Err(Fault::refused("ENOMEM", format!("{}{why}", show(name))))
            }
            _ => self.world.hold(tag, name, objects.into_part()),
        }
    }

    /// Room for objects, of the heap or a cache.
    fn none_as_yet(&self, task: &Task, size: u64, cache: Option<&[u8]>) -> Result<Made, Fault> {
        let seed = self.world.next_seed();
        let Some(name) = cache else {
            let too_much =
                |_| Fault::refused("ENOMEM", format!("{size} bytes are no object's size"));
            return Ok(Made::Plain(Objects::of_heap(
                usize::try_from(size).map_err(too_much)?,
                seed,
            )));
        };
        let kept = self.world.kept.find(name);
        let made = match kept {
            Some(cache) => {
                let group = task.group();
                let group = group.ok_or_else(|| Fault::refused("ESRCH", "the task is nowhere"))?;
                (
                    cache.object_bytes(),
                    Made::Kept(KeptObjects::of(cache), group),
                )
            }
            None => {
                let cache = self.world.cache(name)?;
                let bytes = cache.object_bytes() as u64;
                (bytes, Made::Plain(Objects::of_cache(cache, seed)))
            }
        };
        let (bytes, made) = made;
        if size > bytes {
            return Err(Fault::refused(
                "EINVAL",
                format!("an object of cache '{}' has {bytes} bytes", show(name)),
            ));
        }
        Ok(made)
    }
}

/// What is being allocated.
enum Made {
    /// Objects that stay.
    Plain(Objects),
    /// Objects that may be given up, in a group.
    Kept(KeptObjects, Memcg),
}

impl Made {
    fn len(&self) -> usize {
        match self {
            Made::Plain(objects) => objects.len(),
            Made::Kept(objects, _) => objects.made(),
        }
    }

    fn push(&mut self, flags: Flags) -> Result<(), Option<AllocError>> {
        match self {
            Made::Plain(objects) => objects.push(flags),
            Made::Kept(objects, group) => objects.push(group, flags).map_err(Some),
        }
    }

    fn into_part(self) -> Part {
        match self {
            Made::Plain(objects) => Part::Heap(objects),
            Made::Kept(objects, _) => Part::Kept(objects),
        }
    }
}
