//! Indices of records, a type for each table: a name's index cannot be passed where a group's is
//! meant.
//!
//! An index is a number above zero. "None" is `Option`, which takes the zero: an `Option<GroupId>`
//! is four bytes, and so is the word of an [`AtomicId`] that holds one.
//!
//! Invariants: an index is above zero, and its type says of which table it is.
//! Depends on: `Zeroed` and the atomics of this room.
//! Never: a look at a record. Whether a number was ever handed out is for `arena` to say.

use super::Zeroed;
use super::atomic::{AtomicU32, Ordering};
use core::marker::PhantomData;

/// The index of a record in an [`Arena`](super::arena::Arena).
pub trait Id: Copy + Eq + Ord + core::fmt::Debug {
    /// The index as a number, above zero.
    fn raw(self) -> u32;

    /// The index of that number; `None` for 0.
    fn from_raw(raw: u32) -> Option<Self>;
}

/// Makes index types: `ids! { /// Docs. GroupId; … }`.
macro_rules! ids {
    ($($(#[$doc:meta])* $vis:vis $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        $vis struct $name(core::num::NonZeroU32);

        impl $name {
            /// The index of a number that is known to be above zero.
            ///
            /// # Panics
            /// If it is zero; in a constant, that is a compile error.
            #[allow(dead_code, reason = "not every table has an index that is a constant")]
            pub const fn new(number: u32) -> Self {
                match core::num::NonZeroU32::new(number) {
                    Some(number) => Self(number),
                    None => panic!("0 is no index"),
                }
            }
        }

        impl $crate::sync::id::Id for $name {
            #[inline(always)]
            fn raw(self) -> u32 {
                self.0.get()
            }

            #[inline(always)]
            fn from_raw(raw: u32) -> Option<Self> {
                core::num::NonZeroU32::new(raw).map(Self)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )+};
}
pub(crate) use ids;

/// A word that holds the index of a record, or none. Zero bytes are none.
#[repr(transparent)]
pub struct AtomicId<I>(AtomicU32, PhantomData<fn() -> I>);

impl<I> Default for AtomicId<I> {
    fn default() -> Self {
        Self(AtomicU32::default(), PhantomData)
    }
}

// SAFETY: a zero word is none, as Default builds it.
unsafe impl<I> Zeroed for AtomicId<I> {}

#[cold]
#[track_caller]
fn none_is_held() -> ! {
    panic!("a word that must hold an index holds none")
}

#[inline(always)]
fn raw<I: Id>(id: Option<I>) -> u32 {
    id.map_or(0, I::raw)
}

impl<I: Id> AtomicId<I> {
    /// What it holds.
    #[inline(always)]
    pub fn load(&self, order: Ordering) -> Option<I> {
        I::from_raw(self.0.load(order))
    }

    /// Whether it holds `id`: one comparison of numbers.
    #[inline(always)]
    pub fn is(&self, id: Option<I>, order: Ordering) -> bool {
        self.0.load(order) == raw(id)
    }

    /// What it holds, where it is never none.
    ///
    /// # Panics
    /// If it is none.
    #[inline(always)]
    pub fn known(&self, order: Ordering) -> I {
        match self.load(order) {
            Some(id) => id,
            None => none_is_held(),
        }
    }

    /// Holds `id` from now on.
    #[inline(always)]
    pub fn store(&self, id: Option<I>, order: Ordering) {
        self.0.store(raw(id), order);
    }

    /// Holds `id` from now on; answers what it held.
    #[inline(always)]
    pub fn swap(&self, id: Option<I>, order: Ordering) -> Option<I> {
        I::from_raw(self.0.swap(raw(id), order))
    }

    /// Holds `new` from now on if it held `current`.
    ///
    /// # Errors
    /// What it holds instead.
    #[inline(always)]
    pub fn compare_exchange(
        &self,
        current: Option<I>,
        new: Option<I>,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Option<I>, Option<I>> {
        self.0
            .compare_exchange(raw(current), raw(new), success, failure)
            .map(I::from_raw)
            .map_err(I::from_raw)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    ids! {
        /// Apples'.
        AppleId;
        /// Pears'.
        PearId;
    }

    #[test]
    fn none_takes_no_room_and_is_zero() {
        assert_eq!(size_of::<Option<AppleId>>(), 4);
        assert_eq!(AppleId::from_raw(0), None);
        let word = AtomicId::<AppleId>::default();
        assert_eq!(word.load(Ordering::Relaxed), None);
        let third = AppleId::new(3);
        word.store(Some(third), Ordering::Relaxed);
        assert_eq!(word.swap(None, Ordering::Relaxed), Some(third));
        assert_eq!(
            word.compare_exchange(Some(third), None, Ordering::Relaxed, Ordering::Relaxed),
            Err(None)
        );
    }

    #[test]
    fn an_index_says_whose_it_is() {
        assert_eq!(
            format!("{:?} {:?}", AppleId::new(7), PearId::new(7)),
            "AppleId(7) PearId(7)"
        );
    }
}
