//! Touches whose charge has flags of its own: a scenario touches as C's malloc allocates, so the
//! full group's policy decides whether it is refused, forced or somebody is told to die.
//!
//! Invariants: as `mapping`'s: a touch that fails has changed nothing.
//! Depends on: `mapping`.
//! Never: in the library as it is shipped: what `pin` and `pin_mut` do can be refused.

#![forbid(unsafe_code)]

use super::mapping::Mapping;
use super::page_error::PageError;
use super::page_guard::{PageMut, PageRef};
use crate::engine::Flags;
use crate::engine::pages::touch::{Patience, Touch};
use crate::page::word::Access;

const fn touch(index: u64, access: Access, flags: Flags) -> Touch {
    Touch {
        index,
        access,
        patience: Patience::Wait,
        overwrites: false,
        flags,
    }
}

impl Mapping {
    /// As [`Mapping::pin`]; a charge has `flags` as well.
    ///
    /// # Errors
    /// As [`Mapping::pin`].
    #[doc(hidden)]
    pub fn pin_with(&self, page: u64, flags: Flags) -> Result<PageRef<'_>, PageError> {
        self.touch_slow(touch(page, Access::Read, flags))
            .map(|pinned| PageRef::new(self, pinned))
    }

    /// As [`Mapping::pin_mut`]; a charge has `flags` as well.
    ///
    /// # Errors
    /// As [`Mapping::pin_mut`].
    #[doc(hidden)]
    pub fn pin_mut_with(&self, page: u64, flags: Flags) -> Result<PageMut<'_>, PageError> {
        self.touch_slow(touch(page, Access::Write, flags))
            .map(|pinned| PageMut::new(self, pinned))
    }

    /// Whether a read of the page finds zeros and charges nobody: it is memory that has no content.
    ///
    /// # Errors
    /// [`PageError::OutOfRange`]; [`PageError::ParentProcess`].
    #[doc(hidden)]
    pub fn reads_as_zeros(&self, page: u64) -> Result<bool, PageError> {
        self.is_hole(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OomPolicy;
    use crate::api::root;
    use crate::units::Limit;

    #[test]
    fn what_a_pin_is_refused_a_touch_as_malloc_leaves_to_the_policy() {
        let group = root().create("touched as malloc").unwrap();
        group.set_max(Limit::bytes(0)).unwrap();
        let mapping = group.map_anon(8192).unwrap();
        assert!(mapping.pin_mut_with(0, Flags::MALLOC).is_err());
        group.set_oom_policy(OomPolicy::Debt).unwrap();
        assert!(mapping.pin_mut(0).is_err());
        assert_eq!((mapping.reads_as_zeros(0), group.current()), (Ok(true), 0));
        assert!(mapping.pin_mut_with(0, Flags::MALLOC).is_ok());
        assert!(mapping.pin_with(0, Flags::MALLOC).is_ok());
        assert_eq!(
            (mapping.reads_as_zeros(0), group.current()),
            (Ok(false), 4096)
        );
    }
}
