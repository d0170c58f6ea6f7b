//! What goes into a frame: zeros, or what the file has.
//!
//! Invariants: a page is whole when this has answered, or the answer is an error.
//! Depends on: `page` for frames and files.
//! Never: a charge.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::TouchError;
use super::file_region::refused;
use crate::page::PAGE;
use crate::page::frame::Fresh;
use crate::page::region::Region;
use crate::page::word::State;
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
        let (Some(file), State::Absent) = (region.file(), from) else {
            frame.zero();
            return Ok(());
        };
        let mut into = [IoSliceMut::new(frame.bytes())];
        let read = self.pages.files.read(file, index * PAGE as u64, &mut into);
        read.map_err(|stopped| refused(stopped.why))
    }
}
