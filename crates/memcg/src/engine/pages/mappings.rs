//! The life of a mapping.
//!
//! Invariants: a mapping names its owner and its region until it is closed.
//! Depends on: `page::mapping`.
//! Never: a charge: mapping a region charges nothing.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::TouchError;
use super::file_region::refused;
use crate::group::Tag;
use crate::page::mapping::MAPPING_BYTES;
use crate::page::{MappingId, RegionId};
use crate::thread::ThreadRec;

impl Engine {
    /// `tag`, which the caller names, uses the region, which the caller names, from now on.
    ///
    /// # Errors
    /// `NoMemory`. `Child`. `Io`: its file is gone.
    pub fn open_mapping(
        &self,
        rec: &ThreadRec,
        id: RegionId,
        tag: Tag,
    ) -> Result<MappingId, TouchError> {
        let (tree, pages) = (&self.tree, &self.pages);
        if !pages.are_mine() {
            return Err(TouchError::Child);
        }
        let region = pages.region(id);
        if let Some(file) = region.file() {
            pages.files.begin_use(file).map_err(refused)?;
        }
        let _pin = tree.threads.epoch.pin(rec);
        let tag = tree.ref_live_tag(tag);
        region.add_ref();
        match pages.mappings.open(region, id, tag, pages.clock()) {
            Some(mapping) => {
                self.count_region_records(rec, region, MAPPING_BYTES);
                Ok(mapping)
            }
            None => {
                let _ = region.unref();
                tree.unref_objcg(tag);
                if let Some(file) = region.file() {
                    pages.files.end_use(file);
                }
                Err(TouchError::NoMemory)
            }
        }
    }

    /// Ends a mapping. Its region goes if nobody names it any more.
    pub fn close_mapping(&self, rec: &ThreadRec, id: MappingId) {
        let (tree, pages) = (&self.tree, &self.pages);
        if !pages.are_mine() {
            return;
        }
        let mapping = pages.mappings.get(id);
        let (region, tag) = (mapping.region(), mapping.tag());
        pages.mappings.close(pages.region(region), id);
        self.count_region_records(rec, pages.region(region), -MAPPING_BYTES);
        {
            let _pin = tree.threads.epoch.pin(rec);
            tree.unref_objcg(tag);
        }
        if let Some(file) = pages.region(region).file() {
            pages.files.end_use(file);
        }
        self.unref_region(rec, region);
    }
}
