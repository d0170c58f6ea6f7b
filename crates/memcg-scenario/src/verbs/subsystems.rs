//! `subsystem`: who has a say when tasks move.
//!
//! Invariants: subsystems are asked in the order in which they were made.
//! Depends on: `world::subsystem`.
//! Never: two subsystems of one name.

use crate::actor::Actor;
use crate::text::line::{Line, Name};
use crate::text::number;
use crate::text::word::{Word, Wrong, show};
use crate::world::fault::Fault;
use crate::world::subsystem::{Evicts, Orders, Registered};

/// `NAME [refuses PATH] [evictable=SIZE | evicts TAG] [reserves TASK SIZE]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubsystem {
    name: Name,
    refuses: Option<Name>,
    evictable: u64,
    evicts: Option<Name>,
    reserves: Option<(Name, u64)>,
}

/// Reads `NAME [refuses PATH] [evictable=SIZE | evicts TAG] [reserves TASK SIZE]`.
pub fn new_subsystem(line: &mut Line<'_>) -> Result<NewSubsystem, Wrong> {
    let mut new = NewSubsystem {
        name: line.new_name("a name for the subsystem")?,
        refuses: None,
        evictable: 0,
        evicts: None,
        reserves: None,
    };
    while let Some(word) = line.peek() {
        line.skip(1);
        if word.is("refuses") {
            new.refuses = Some(line.path()?);
        } else if word.is("evicts") {
            new.evicts = Some(line.name("a tag")?);
        } else if word.is("reserves") {
            let task = line.name("the name of a task")?;
            new.reserves = Some((task, number::size(line.next("a size")?)?));
        } else if let Some(size) = word.bytes.strip_prefix(b"evictable=") {
            new.evictable = number::size(&Word {
                bytes: size.to_vec(),
                column: word.column + 10,
                quoted: false,
            })?;
        } else {
            return Err(Wrong::new(
                word.column,
                format!(
                    "'{}': expected refuses PATH, evictable=SIZE, evicts TAG or reserves TASK SIZE",
                    word.show()
                ),
            ));
        }
    }
    Ok(new)
}

/// Registers a subsystem, to be asked after those there are.
pub fn register(actor: &Actor<'_>, new: &NewSubsystem) -> Result<(), Fault> {
    let world = actor.world;
    let reserves = match &new.reserves {
        Some((task, bytes)) => Some((world.task(task)?, *bytes)),
        None => None,
    };
    let evicts = match &new.evicts {
        Some(tag) => {
            let holder = world.things.change(tag, |things| things.holder.clone())?;
            Some(Evicts {
                tag: tag.clone(),
                task: world.task(&holder)?.id(),
                things: world.things.clone(),
            })
        }
        None => None,
    };
    let orders = Orders {
        refuses: new.refuses.as_deref().map(show),
        evictable: new.evictable,
        evicts,
        reserves,
    };
    world.add_subsystem(&new.name, Registered::new(show(&new.name), orders))
}
