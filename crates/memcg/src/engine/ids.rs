//! Kmem ids, as the engine gives them: by the policy of ids, after lingering groups were asked for
//! theirs where the policy says so.
//!
//! Invariants: a group has one kmem id at most.
//! Depends on: `group` for the table of ids; `kmem::per_id` for the arrays that ids index;
//! `group_end`.
//! Never: asks more than `ASKED` lingering groups for one id.

#![forbid(unsafe_code)]

use super::{Engine, Flags};
use crate::group::id::KmemId;
use crate::group::{IdError, Memcg, ROOT};
use crate::kmem::per_id::{IdPolicy, TableStat};
use crate::thread::ThreadRec;

/// How many lingering groups that have an id are asked to give it up, before arrays grow.
const ASKED: usize = 32;

/// How many ids are in use, and what they and the tables they index cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct IdStat {
    /// Ids in use, including those of groups just removed that a pinned thread may still look at.
    pub in_use: u32,
    /// The largest id that was ever given.
    pub highest: u32,
    /// The largest id that may be given.
    pub max: u32,
    /// How often there was no id left.
    pub exhausted: u64,
    /// Bytes of the table of ids itself.
    pub id_bytes: u64,
    /// The tables of lists and caches, which ids index.
    pub tables: TableStat,
    /// Bytes of the hints of all threads: the places where a thread keeps which cache it found
    /// last.
    pub hint_bytes: u64,
    /// Groups that linger.
    pub lingering: u32,
    /// Groups that lingered and are gone.
    pub lingered: u64,
}

impl Engine {
    /// The policy by which groups get kmem ids.
    pub fn id_policy(&self) -> IdPolicy {
        self.kmem.tables.policy()
    }

    /// Chooses the policy of ids. `false`, and nothing changed, once a list or cache has entered
    /// something for a group.
    pub fn set_id_policy(&self, policy: IdPolicy) -> bool {
        self.kmem.tables.set_policy(policy)
    }

    /// What ids take now. O(1).
    pub fn id_stat(&self) -> IdStat {
        let (ids, tables) = (&self.tree.kmem_ids, self.kmem.tables.stat());
        IdStat {
            in_use: ids.in_use(),
            highest: ids.high_water().saturating_sub(1),
            max: ids.max_id(),
            exhausted: ids.nr_exhausted(),
            id_bytes: ids.bytes(),
            tables,
            hint_bytes: tables.hints_each * u64::from(self.tree.threads.nr()),
            lingering: self.tree.nr_lingering(),
            lingered: self.tree.nr_lingered(),
        }
    }

    /// The kmem id of a group, given now if it has none. The caller is pinned by `rec`, and holds
    /// no lock.
    ///
    /// Under [`IdPolicy::ReclaimOfflineFirst`] lingering groups, `ASKED` of them at most, are asked
    /// for theirs before an array would have to grow or ids run out. Asking takes back their stock,
    /// and with WAIT and USER in `flags` all that shrinkers of the program give. The caller's pins
    /// are lifted for that: what was found under them is to be looked up again. Under other
    /// policies this is `Hierarchy::kmem_id`.
    ///
    /// # Errors
    /// See [`IdError`].
    pub fn kmem_id(&self, rec: &ThreadRec, group: &Memcg, flags: Flags) -> Result<KmemId, IdError> {
        if let Some(id) = self.tree.kmem_id_if_any(group) {
            return Ok(id);
        }
        self.finish_lingering(rec);
        if self.id_policy() != IdPolicy::ReclaimOfflineFirst {
            return self.tree.kmem_id(group);
        }
        // What is left of all ids, or of the arrays.
        let room = self.kmem.tables.room().min(self.tree.kmem_ids.max_id() + 1);
        match self.tree.kmem_id_below(group, room) {
            Err(IdError::Exhausted) => {}
            answer => return answer,
        }
        if self.tree.nr_lingering() > 0 {
            let generation = group.generation();
            self.ask_lingering(rec, flags);
            if group.generation() != generation {
                return Err(IdError::Gone);
            }
            let answer = self.tree.kmem_id_below(group, room);
            self.kmem.tables.count_asked(answer.is_ok());
            if answer.is_ok() {
                return answer;
            }
        }
        let id = self.tree.kmem_id(group)?;
        self.kmem.tables.make_room_for(id);
        Ok(id)
    }

    /// Takes back what lingering groups with an id hold, until one of them has nothing left and
    /// ends.
    fn ask_lingering(&self, rec: &ThreadRec, flags: Flags) {
        let user = flags.has(Flags::WAIT.with(Flags::USER)) && !rec.is_helping();
        let root = self.tree.memcgs.get(ROOT);
        let (mut at, mut asked) = (None, 0);
        while asked < ASKED
            && let Some(index) = self.tree.next_lingering(root, at)
        {
            at = Some(index);
            let group = self.tree.memcgs.get(index);
            if self.tree.kmem_id_if_any(group).is_none() {
                continue;
            }
            asked += 1;
            self.ask(rec, group, user);
            if self.finish_lingering(rec) > 0 {
                break;
            }
        }
    }
}
