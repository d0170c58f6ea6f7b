//! A touch that never waits: what a future polls.
//!
//! Invariants: a touch that is not made has changed nothing.
//! Depends on: `touch`.
//! Never: I/O, a wait, a charge that waits.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::TouchError;
use super::touch::{Patience, PinnedPage, Touch};
use crate::page::pins::Holder;
use crate::page::region::RegionKind;
use crate::page::word::{Access, MAX_READERS, Reading, State};
use crate::page::{InUse, PageId};
use crate::thread::ThreadRec;

/// Why a page was not to be had at once.
#[derive(Clone, Copy, Debug)]
pub enum Later {
    /// It will not be had.
    Failed(TouchError),
    /// Others are at it, as this reading says.
    Busy(PageId, Reading),
    /// It has to be brought by who may wait.
    Away,
}

impl Engine {
    /// Pins a page that is in its frame, or can be brought without I/O and without a wait. `touch`
    /// says which and how; its patience does not count.
    ///
    /// # Errors
    /// See [`Later`].
    pub fn try_touch<'p>(
        &'p self,
        rec: &ThreadRec,
        by: InUse<'p>,
        touch: Touch,
    ) -> Result<PinnedPage<'p>, Later> {
        let failed = |why| Err(Later::Failed(why));
        let pages = &self.pages;
        loop {
            if let Some(pinned) = self.pin_hit(rec, by, touch.index, touch.access) {
                return Ok(pinned);
            }
            self.ready_to_pin(rec, by, touch).map_err(Later::Failed)?;
            let found = self.have_page(rec, by.region, by.mapping.region(), touch.index);
            let (page, record) = found.map_err(Later::Failed)?;
            let seen = record.word.read();
            let is_free = match touch.access {
                Access::Read => !seen.has_writer() && seen.readers() < MAX_READERS,
                Access::Write => seen.is_unpinned(),
            };
            match seen.state() {
                // It was let go this moment.
                State::Resident(_) if is_free => {}
                State::Resident(_) | State::Filling => {
                    return match pages.pins.holder(rec, page, by.mapping.tag()) {
                        Holder::Same => failed(TouchError::Deadlock),
                        Holder::Other | Holder::Elsewhere => Err(Later::Busy(page, seen)),
                    };
                }
                State::Zswap(_) | State::Swap(_) => return Err(Later::Away),
                State::Poisoned(_) => return failed(TouchError::Io(crate::os::errno::Errno::EIO)),
                State::Absent => {
                    let is_read = by.region.kind() == RegionKind::File && !touch.overwrites;
                    if is_read {
                        return Err(Later::Away);
                    }
                    let now = Touch {
                        patience: Patience::Now,
                        ..touch
                    };
                    match self.pin_page(rec, by, now) {
                        Ok(pinned) => return Ok(pinned),
                        // Others came first: look again.
                        Err(TouchError::Busy) => {}
                        // There may be room for who waits.
                        Err(TouchError::Full(_)) => return Err(Later::Away),
                        Err(why) => return failed(why),
                    }
                }
            }
            crate::sync::relax();
        }
    }
}
