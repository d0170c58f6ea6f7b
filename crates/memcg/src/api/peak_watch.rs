//! Peaks of a group that begin when a program wants them to.
//!
//! Invariants: a watch changes neither what another watch tells nor the group's own peak.
//! Depends on: `group::watch`.
//! Never: adds work to a charge for a second watch of the same group.

#![forbid(unsafe_code)]

use super::memcg::Memcg;
use crate::engine::Engine;
use crate::engine::process_engine::engine;
use crate::group::{self, TreeError, WatchId};

/// The most bytes that were charged to a group and below since this was made or
/// [reset](PeakWatch::reset), stock included. Watches are independent: none changes what another
/// tells, nor [`Memcg::peak`].
///
/// Source of the idea: cgroup v2, where each open file of `memory.peak` can begin again for itself.
///
/// ```
/// let group = memcg::root().create("queries").unwrap();
/// let day = group.watch_peak();
/// let query = group.watch_peak();
/// drop(group.try_reserve(1 << 20).unwrap());
/// assert_eq!(query.peak(), 1 << 20);
/// query.reset();
/// assert_eq!((query.peak(), day.peak()), (0, 1 << 20));
/// ```
#[must_use = "it watches until this is dropped"]
pub struct PeakWatch {
    engine: &'static Engine,
    /// The watch; `None`: the group had been removed when it was made.
    watch: Option<WatchId>,
}

impl PeakWatch {
    /// Begins a watch of `group`, which is of `engine`. The caller is pinned.
    pub(crate) fn begin(
        engine: &'static Engine,
        group: &group::Memcg,
    ) -> Result<PeakWatch, TreeError> {
        let watch = engine.change(|| engine.tree.begin_watch(group))?;
        Ok(Self {
            engine,
            watch: Some(watch),
        })
    }

    /// Whether this watches `group`, and not one that was in the same record before.
    pub(crate) fn is_of(&self, group: &group::Memcg) -> bool {
        let tree = &self.engine.tree;
        self.watch
            .is_some_and(|watch| tree.is_watch_of(watch, group))
    }

    /// The most bytes since the watch began. Once the group has been removed: the most until then.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.watch
            .map_or(0, |watch| self.engine.tree.watched_peak(watch))
    }

    /// Begins the watch again, from the bytes that are charged now. No effect once the group has
    /// been removed.
    pub fn reset(&self) {
        if let Some(watch) = self.watch {
            self.engine.change(|| self.engine.tree.restart_watch(watch));
        }
    }
}

impl Drop for PeakWatch {
    fn drop(&mut self) {
        if let Some(watch) = self.watch {
            self.engine.change(|| self.engine.tree.end_watch(watch));
        }
    }
}

impl core::fmt::Debug for PeakWatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PeakWatch({})", self.peak())
    }
}

impl Memcg {
    /// Begins to watch the peak of the group and those below. If the group has been removed the
    /// watch tells 0.
    ///
    /// Cost: the group's lock. A charge pays for the first watch of a group what it pays for the
    /// group's own peak, and nothing for further ones.
    ///
    /// # Panics
    /// Without memory for the watch's record.
    pub fn watch_peak(&self) -> PeakWatch {
        match self.with(|engine, _, group| PeakWatch::begin(engine, group)) {
            Some(Ok(watch)) => watch,
            Some(Err(TreeError::NoMemory)) => panic!("no memory for a watch"),
            None
            | Some(Err(
                TreeError::Name
                | TreeError::Exists
                | TreeError::Gone
                | TreeError::HasChildren
                | TreeError::HasTasks
                | TreeError::Root
                | TreeError::Depth,
            )) => PeakWatch {
                engine: engine(),
                watch: None,
            },
        }
    }
}
