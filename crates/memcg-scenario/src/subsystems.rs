//! `subsystem`: who has a say when tasks move.

use crate::command::Name;
use crate::words::show;
use crate::world::{Fault, Part, Table, World};
use memcg::{Attaching, Charge, Subsystem, SubsystemRegistration, Task, register_subsystem};
use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A subsystem of a scenario: counts what it is asked, and does as it was told.
pub struct Asked {
    name: String,
    refuses: Option<String>,
    evictable: u64,
    evicts: Option<Evicts>,
    /// Who reserves how much while this one is asked, and what he has.
    meanwhile: Option<(Arc<Task>, u64)>,
    reserved: Mutex<Vec<Charge>>,
    /// Times `can_attach`, `attach`, `cancel_attach` and `evict` were called.
    pub called: [AtomicU64; 4],
}

/// The calls, as figures of a subsystem are named.
pub const CALLS: [&str; 4] = ["can_attach", "attach", "cancel_attach", "evict"];

/// What can be evicted, of which task.
struct Evicts {
    tag: Name,
    task: u32,
    things: Arc<Table>,
}

impl Evicts {
    fn bytes(&self) -> u64 {
        let bytes = |part: &Part| part.bytes();
        self.things
            .look(&self.tag, |things| things.parts.iter().map(bytes).sum())
            .unwrap_or(0)
    }

    /// Frees the last of the objects until `bytes` are free; answers how many were.
    fn evict(&self, bytes: u64) -> u64 {
        let mut gone: Vec<Box<dyn Any>> = Vec::new();
        let mut freed = 0;
        // Only taken out here: dropped where no lock is held.
        let _ = self.things.change(&self.tag, |things| {
            for part in &mut things.parts {
                let before = part.bytes();
                if let Part::Heap(objects) = part {
                    gone.push(Box::new(objects.split_off(bytes - freed)));
                }
                freed = bytes.min(freed + before - part.bytes());
            }
        });
        drop(gone);
        freed
    }
}

impl Asked {
    fn count(&self, call: usize) {
        self.called[call].fetch_add(1, Ordering::Relaxed);
    }
}

impl Subsystem for Asked {
    fn name(&self) -> &str {
        &self.name
    }

    fn can_attach(&self, task: &Attaching) -> Result<(), String> {
        self.count(0);
        if let Some((task, bytes)) = &self.meanwhile
            && let Ok(charge) = task.try_reserve(*bytes)
        {
            let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
            reserved.push(charge);
        }
        if self.refuses.as_deref() == Some(task.to().path().as_str()) {
            return Err("told to refuse".into());
        }
        Ok(())
    }

    fn attach(&self, _: &Attaching) {
        self.count(1);
    }

    fn cancel_attach(&self, _: &Attaching) {
        self.count(2);
    }

    fn evictable(&self, task: &Attaching) -> u64 {
        let its = self.evicts.iter().filter(|what| what.task == task.task());
        self.evictable + its.map(Evicts::bytes).sum::<u64>()
    }

    fn evict(&self, task: u32, bytes: u64) -> u64 {
        self.count(3);
        let its = self.evicts.iter().find(|what| what.task == task);
        its.map_or(0, |what| what.evict(bytes))
    }
}

/// A registered subsystem.
pub struct Registered {
    /// What it was asked.
    pub asked: Arc<Asked>,
    _registration: SubsystemRegistration,
}

/// What a subsystem is told to do.
pub struct Manner<'a> {
    /// The group it lets nobody into.
    pub refuses: Option<&'a [u8]>,
    /// Bytes it says it could evict of any task.
    pub evictable: u64,
    /// What it could evict, and does.
    pub evicts: Option<&'a [u8]>,
    /// A task, and what it reserves while this one is asked.
    pub reserves: Option<(&'a [u8], u64)>,
}

/// Registers a subsystem, to be asked after those there are.
pub fn register(world: &World, name: &[u8], manner: &Manner<'_>) -> Result<(), Fault> {
    let meanwhile = match manner.reserves {
        Some((task, bytes)) => Some((world.task(task)?, bytes)),
        None => None,
    };
    let evicts = match manner.evicts {
        Some(tag) => {
            let holder = world.things().change(tag, |things| things.holder.clone())?;
            Some(Evicts {
                tag: tag.to_vec(),
                task: world.task(&holder)?.id(),
                things: world.things().clone(),
            })
        }
        None => None,
    };
    let asked = Arc::new(Asked {
        name: show(name),
        refuses: manner.refuses.map(show),
        evictable: manner.evictable,
        evicts,
        meanwhile,
        reserved: Mutex::default(),
        called: Default::default(),
    });
    let registered = Registered {
        asked: Arc::clone(&asked),
        _registration: register_subsystem(asked),
    };
    world.add_subsystem(name, registered)
}
