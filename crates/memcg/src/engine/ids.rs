//! Kmem ids, as the engine gives them: by the policy, with those that linger asked first.

#![forbid(unsafe_code)]

use super::{Engine, Flags};
use crate::group::id::KmemId;
use crate::group::{IdError, Memcg, ROOT};
use crate::kmem::per_id::{IdPolicy, TableStat};
use crate::thread::ThreadRec;

/// So many lingering groups with an id are asked for it before arrays grow.
const ASKED: usize = 32;

/// What ids and the tables they index take and took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct IdStat {
    /// Ids in use, and those of groups just removed that somebody may look at still.
    pub in_use: u32,
    /// The largest there ever was.
    pub highest: u32,
    /// The largest that is given.
    pub max: u32,
    /// How often there was none left.
    pub exhausted: u64,
    /// Bytes of the table of ids itself.
    pub id_bytes: u64,
    /// Tables of lists and caches.
    pub tables: TableStat,
    /// Bytes of the hints of all threads.
    pub hint_bytes: u64,
    /// Groups that linger.
    pub lingering: u32,
    /// Groups that lingered and are gone.
    pub lingered: u64,
}

impl Engine {
    /// The policy of ids.
    pub fn id_policy(&self) -> IdPolicy {
        self.kmem.tables.policy()
    }

    /// Chooses it. `false`, and nothing changed, once a list or cache has entered something for a
    /// group.
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
    /// Under [`IdPolicy::ReclaimOfflineFirst`], before an array would have to grow or ids run out,
    /// `ASKED` lingering groups at most are asked for theirs: for their stock, and with WAIT and
    /// USER in `flags` for all that shrinkers of the program give, for which the caller's pins are
    /// lifted: what was found under them is to be looked for anew. Else as `Hierarchy::kmem_id`.
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

    /// Asks lingering groups that have an id for what they hold, until one has nothing left.
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
