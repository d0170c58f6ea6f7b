//! A group's place among the others: its parent and name, groups made on demand, whole subtrees
//! removed.
//!
//! Invariants: as those of `memcg`. A subtree goes leaves first, so at any time what is left is a
//! tree.
//! Depends on: `memcg`; the engine.
//! Never: removes a group that has a live task.

#![forbid(unsafe_code)]

use super::error::{CreateError, RemoveError};
use super::group_path::GroupPath;
use super::memcg::Memcg;
use super::scope::no_account;
use core::fmt;

/// How often [`Memcg::remove_tree`] looks again at one group in which others make new ones.
const MOST_LOOKS: u32 = 64;

/// A subtree was not removed, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoveTreeError {
    /// The group that could not be removed.
    pub group: GroupPath,
    /// Why.
    pub why: RemoveError,
    /// How many groups were removed before. They stay removed.
    pub removed: u64,
}

impl fmt::Display for RemoveTreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} ({} groups were removed before)",
            self.group, self.why, self.removed
        )
    }
}

impl core::error::Error for RemoveTreeError {}

impl Memcg {
    /// The group above. `None` for the root, and once the group has been removed.
    #[must_use]
    pub fn parent(&self) -> Option<Memcg> {
        self.with(|engine, _, group| Memcg::of_index(engine, group.parent_index()?))
            .flatten()
    }

    /// The group's own name, the last of its path; empty for the root. Of a removed group, the name
    /// it had. Bytes that are no UTF-8 are replaced. Accounted to nobody.
    #[must_use]
    pub fn name(&self) -> String {
        let _free = no_account();
        let path = self.path();
        String::from(path.rsplit('/').next().unwrap_or_default())
    }

    /// The child of that name, made if there is none. Of several threads that call it at once for
    /// one name, all get handles on the same group. Cost: a look-up; where the group is made, that
    /// of [`Memcg::create`].
    ///
    /// ```
    /// let tenant = memcg::root().get_or_create("on-demand").unwrap();
    /// assert_eq!(memcg::root().get_or_create("on-demand"), Ok(tenant));
    /// ```
    ///
    /// # Errors
    /// See [`CreateError`]; never [`CreateError::Exists`].
    pub fn get_or_create(&self, name: impl AsRef<[u8]>) -> Result<Memcg, CreateError> {
        let name = name.as_ref();
        loop {
            let found = self
                .with(|engine, _, group| {
                    let child = engine.tree.child(group.index(), name);
                    Ok(child.and_then(|index| Memcg::of_index(engine, index)))
                })
                .unwrap_or(Err(CreateError::Gone))?;
            // A record that was found by its name may have been given to another group meanwhile.
            if let Some(child) = found.filter(|child| child.parent().as_ref() == Some(self)) {
                return Ok(child);
            }
            match self.create(name) {
                // Another thread was faster. Where it has removed the group again, all begins anew.
                Err(CreateError::Exists) => {}
                // It was made here, and another thread has removed it before it had a handle.
                Err(CreateError::Gone) if self.is_online() => {}
                outcome => return outcome,
            }
        }
    }

    /// Removes the group and all groups below it, leaves first. Answers how many groups that were.
    ///
    /// Each is removed as by [`Memcg::remove`]: at once, whatever it holds; what is still charged
    /// goes to the parent of the group that was given. A group that another thread removes
    /// meanwhile is not counted.
    ///
    /// ```
    /// let tenant = memcg::root().create("whole").unwrap();
    /// let query = tenant.create("session").unwrap().create("query").unwrap();
    /// let task = memcg::Task::new(&query, "worker").unwrap();
    /// let error = tenant.remove_tree().unwrap_err();
    /// assert_eq!((error.group.as_str(), error.removed), ("/whole/session/query", 0));
    /// drop(task);
    /// assert_eq!(tenant.remove_tree(), Ok(3));
    /// ```
    ///
    /// # Errors
    /// At the first group that cannot be removed: it has live tasks, or others keep making groups
    /// in it. The error names it, and says how many groups were removed before. The root cannot be
    /// removed, and then nothing is.
    pub fn remove_tree(&self) -> Result<u64, RemoveTreeError> {
        let _free = no_account();
        let mut removed = 0;
        let failed = |group: &Memcg, why, removed| RemoveTreeError {
            group: group.group_path(),
            why,
            removed,
        };
        if !self.is_online() {
            return Err(failed(self, RemoveError::Gone, 0));
        }
        if self.parent().is_none() && self.is_online() {
            return Err(failed(self, RemoveError::Root, 0));
        }
        // The groups from the given one down to the one that is next, with how often each was
        // looked at.
        let mut stack = vec![(self.clone(), 0)];
        while let Some((group, looks)) = stack.last_mut() {
            *looks += 1;
            let outcome = group.remove();
            match outcome {
                Ok(()) => {
                    removed += 1;
                    stack.pop();
                }
                Err(RemoveError::Gone) => {
                    stack.pop();
                }
                Err(RemoveError::HasChildren) if *looks <= MOST_LOOKS => {
                    let below = group.children();
                    stack.extend(below.into_iter().map(|child| (child, 0)));
                }
                Err(why) => return Err(failed(group, why, removed)),
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Task, root};
    use std::sync::Barrier;

    #[test]
    fn parent_and_name_are_the_paths() {
        let group = root().create("place").unwrap();
        let below = group.create("below").unwrap();
        assert_eq!(
            (below.parent(), below.name().as_str()),
            (Some(group.clone()), "below")
        );
        assert_eq!((root().parent(), root().name().as_str()), (None, ""));
        below.remove().unwrap();
        assert_eq!((below.parent(), below.name().as_str()), (None, "below"));
        group.remove().unwrap();
        assert_eq!(group.get_or_create("x").unwrap_err(), CreateError::Gone);
        assert_eq!(root().get_or_create("a/b").unwrap_err(), CreateError::Name);
    }

    #[test]
    fn threads_that_make_a_group_at_once_get_the_same() {
        let parent = root().create("at-once").unwrap();
        for round in 0..200 {
            let start = Barrier::new(3);
            let name = format!("group-{round}");
            let make = || {
                start.wait();
                parent.get_or_create(&name).unwrap()
            };
            let (a, b, c) = std::thread::scope(|scope| {
                let others = [scope.spawn(make), scope.spawn(make)];
                let mine = make();
                let [b, c] = others.map(|other| other.join().unwrap());
                (mine, b, c)
            });
            assert!(a == b && b == c);
        }
        assert_eq!(parent.children().len(), 200);
        assert_eq!(parent.remove_tree(), Ok(201));
    }

    #[test]
    fn one_makes_what_another_removes() {
        let parent = root().create("made-and-removed").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let child = parent.get_or_create("child").unwrap();
                        assert_eq!(child.name(), "child");
                        let _ = child.remove();
                    }
                });
            }
        });
        parent.remove_tree().unwrap();
    }

    #[test]
    fn a_tree_with_a_busy_group_says_which_and_how_far_it_came() {
        let top = root().create("tree").unwrap();
        let busy = top.create("busy").unwrap();
        let task = Task::new(&busy, "task").unwrap();
        for name in ["x", "y"] {
            top.create(name).unwrap().create("leaf").unwrap();
        }
        let charge = top.lookup("x/leaf").unwrap().try_reserve(4096).unwrap();
        let error = top.remove_tree().unwrap_err();
        assert_eq!(error.group, "/tree/busy");
        assert_eq!((error.why, error.removed), (RemoveError::HasTasks, 4));
        assert_eq!(top.children(), [busy]);
        assert_eq!(top.current(), 4096);
        drop(task);
        assert_eq!(top.remove_tree(), Ok(2));
        assert_eq!(top.remove_tree().unwrap_err().why, RemoveError::Gone);
        assert_eq!(root().remove_tree().unwrap_err().why, RemoveError::Root);
        drop(charge);
    }
}
