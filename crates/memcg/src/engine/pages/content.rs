//! What goes into a frame: zeros, what the file has, or what was compressed or swapped out.
//!
//! Invariants: a page is whole when this has answered, or the answer is an error.
//! Depends on: `page` for frames, files, swap and compressed pages.
//! Never: a charge.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::TouchError;
use super::file_region::refused;
use crate::os::errno::Errno;
use crate::page::frame::Fresh;
use crate::page::region::Region;
use crate::page::word::State;
use crate::page::{PAGE, SlotId, ZswapId};
use crate::sync::id::Id;
use std::io::IoSliceMut;

impl Engine {
    /// Brings the content of a page that was in no frame.
    pub(super) fn bring(
        &self,
        region: &Region,
        index: u64,
        from: State,
        frame: &mut Fresh<'_>,
    ) -> Result<(), TouchError> {
        let read = match from {
            State::Zswap(entry) => match ZswapId::from_raw(entry) {
                Some(entry) => self.pages.zswap.load(entry, frame.bytes()),
                None => Err(Errno::EIO),
            },
            State::Swap(slot) => match SlotId::from_raw(slot) {
                // Whatever went wrong, the page is lost.
                Some(slot) => {
                    let read = self.pages.swap.read(slot, frame.bytes());
                    read.map_err(|_| Errno::EIO)
                }
                None => Err(Errno::EIO),
            },
            State::Absent | State::Filling | State::Resident(_) | State::Poisoned(_) => {
                let Some(file) = region.file() else {
                    frame.zero();
                    return Ok(());
                };
                let mut into = [IoSliceMut::new(frame.bytes())];
                let read = self.pages.files.read(file, index * PAGE as u64, &mut into);
                return read.map_err(|stopped| refused(stopped.why));
            }
        };
        read.map_err(TouchError::Io)
    }
}
