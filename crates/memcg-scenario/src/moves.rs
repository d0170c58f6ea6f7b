//! `move`, `touch`: tasks between groups, and what follows them.

use crate::act::Actor;
use crate::words::show;
use crate::world::Fault;
use memcg::{MoveError, MovePolicy, Moved, root};

impl Actor<'_> {
    /// Moves a task, by a policy of its own or as the group says.
    pub fn move_task(&self, name: &[u8], path: &[u8], policy: Option<&str>) -> Result<(), Fault> {
        let task = self.world.task(name)?;
        let Some(group) = root().lookup(path) else {
            let message = format!("{}: no such group", show(path));
            return Err(Fault::refused("ENOENT", message));
        };
        let policy = match policy {
            Some(policy) => policy.to_owned(),
            None => chosen(&self.read(path, "memory.move")?),
        };
        let known = MovePolicy::ALL.iter().find(|(_, name)| *name == policy);
        let Some((policy, _)) = known else {
            let names: Vec<&str> = MovePolicy::ALL.iter().map(|(_, name)| *name).collect();
            let message = format!(
                "'{policy}' is no way to move: there are {}",
                names.join(" ")
            );
            return Err(Fault::refused("EINVAL", message));
        };
        let moved = task
            .move_to_with(&group, *policy)
            .map_err(|why| self.refused(name, &why))?;
        self.world.note_move(name, moved);
        Ok(())
    }

    fn refused(&self, task: &[u8], why: &MoveError) -> Fault {
        let errno = match why {
            MoveError::Gone => "ENODEV",
            MoveError::Full(_) | MoveError::KmemFull(_) | MoveError::NoMemory => "ENOMEM",
            MoveError::Refused { .. } => "EACCES",
            MoveError::Leaked(bytes) => {
                self.world.note_leak(task, *bytes);
                "ENOMEM"
            }
            _ => "EAGAIN",
        };
        Fault::refused(errno, why.to_string())
    }

    /// A task uses what a tag names: its content is looked at, and what a move left behind follows.
    pub fn touch(&self, name: &[u8], tag: &[u8]) -> Result<(), Fault> {
        let task = self.world.task(name)?;
        let looked = self.world.look(tag, |things| {
            let bytes: u64 = things.parts.iter().map(crate::world::Part::bytes).sum();
            let damaged = things
                .parts
                .iter()
                .find_map(crate::world::Part::first_damaged);
            (bytes, damaged)
        });
        match looked {
            None => Err(Fault::refused(
                "ENOENT",
                format!("'{}': nothing is called so", show(tag)),
            )),
            Some((_, Some(i))) => Err(Fault::Wrong(format!(
                "object {i} does not hold what was written into it"
            ))),
            Some((bytes, None)) => {
                task.follow(bytes);
                let _for_the_task = task.enter();
                self.world.change(tag, |things| {
                    things.parts.iter_mut().for_each(crate::world::Part::touch);
                })
            }
        }
    }
}

/// The word in brackets of a file that shows a choice, or the only word.
fn chosen(text: &str) -> String {
    let mut words = text.split_whitespace();
    let bracketed = words.find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    bracketed.unwrap_or_else(|| text.trim()).to_owned()
}

/// What a move did, as figures of a task are named.
pub fn figure(moved: Moved, what: &str) -> Option<u64> {
    match what {
        "moved" => Some(moved.moved),
        "stayed" => Some(moved.stayed),
        "pieces" => Some(moved.pieces),
        _ => None,
    }
}
