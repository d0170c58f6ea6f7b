//! Subsystems of a scenario: they are called when tasks move, count the calls, and do as they were
//! told.
//!
//! Invariants: a subsystem is registered with the engine as long as its [`Registered`] lives.
//! Depends on: `things`, for what a subsystem evicts.
//! Never: frees something while the table of things is locked.

#![forbid(unsafe_code)]

use crate::text::line::Name;
use crate::world::lock::lock;
use crate::world::things::{Part, TagTable};
use memcg::{Attaching, Charge, Subsystem, SubsystemRegistration, Task, register_subsystem};
use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How often each function of a subsystem was called.
#[derive(Default)]
pub struct CallCounts {
    /// `can_attach`
    pub can_attach: AtomicU64,
    /// `attach`
    pub attach: AtomicU64,
    /// `cancel_attach`
    pub cancel_attach: AtomicU64,
    /// `evict`
    pub evict: AtomicU64,
}

/// What a subsystem was told to do.
#[derive(Default)]
pub struct Orders {
    /// The path of the group it lets nobody into.
    pub refuses: Option<String>,
    /// Bytes it says it could evict of any task.
    pub evictable: u64,
    /// What it could evict, and evicts when it is asked to.
    pub evicts: Option<Evicts>,
    /// A task, and the bytes it reserves while this subsystem is asked.
    pub reserves: Option<(Arc<Task>, u64)>,
}

/// Objects that can be evicted.
pub struct Evicts {
    /// Their tag.
    pub tag: Name,
    /// The id of the task whose bytes they are.
    pub task: u32,
    /// The table with the tag.
    pub things: Arc<TagTable>,
}

/// What the engine calls.
struct Obedient {
    name: String,
    orders: Orders,
    reserved: Mutex<Vec<Charge>>,
    calls: Arc<CallCounts>,
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

impl Subsystem for Obedient {
    fn name(&self) -> &str {
        &self.name
    }

    fn can_attach(&self, task: &Attaching) -> Result<(), String> {
        count(&self.calls.can_attach);
        if let Some((task, bytes)) = &self.orders.reserves
            && let Ok(charge) = task.try_reserve(*bytes)
        {
            lock(&self.reserved).push(charge);
        }
        if self.orders.refuses.as_deref() == Some(task.to().path().as_str()) {
            return Err("told to refuse".into());
        }
        Ok(())
    }

    fn attach(&self, _: &Attaching) {
        count(&self.calls.attach);
    }

    fn cancel_attach(&self, _: &Attaching) {
        count(&self.calls.cancel_attach);
    }

    fn evictable(&self, task: &Attaching) -> u64 {
        let its = self
            .orders
            .evicts
            .iter()
            .filter(|what| what.task == task.task());
        self.orders.evictable + its.map(Evicts::bytes).sum::<u64>()
    }

    fn evict(&self, task: u32, bytes: u64) -> u64 {
        count(&self.calls.evict);
        let its = self.orders.evicts.iter().find(|what| what.task == task);
        its.map_or(0, |what| what.evict(bytes))
    }
}

fn count(call: &AtomicU64) {
    call.fetch_add(1, Ordering::Relaxed);
}

/// A subsystem that is registered with the engine, until this is dropped.
pub struct Registered {
    /// How often it was called.
    pub calls: Arc<CallCounts>,
    _registration: SubsystemRegistration,
}

impl Registered {
    /// Registers a subsystem, to be asked after those there are.
    pub fn new(name: String, orders: Orders) -> Registered {
        let calls = Arc::new(CallCounts::default());
        let obedient = Obedient {
            name,
            orders,
            reserved: Mutex::default(),
            calls: Arc::clone(&calls),
        };
        Registered {
            calls,
            _registration: register_subsystem(Arc::new(obedient)),
        }
    }
}
