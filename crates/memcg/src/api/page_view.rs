//! A look at a page that nobody has pinned.
//!
//! Invariants: a view copies out, and hands out no reference: what it reads may change under it.
//! Depends on: its maker, who asks afterwards whether what was read was whole.
//! Never: reads beyond its page.

use crate::page::PAGE;
use core::marker::PhantomData;
use core::ptr::NonNull;

/// Types that a [`PageView`] loads: integers, for which all bytes are values.
///
/// Sealed: it is implemented here alone.
pub trait Plain: Copy + sealed::Sealed {}

mod sealed {
    #[expect(unnameable_types, reason = "nobody outside is to implement it")]
    pub trait Sealed {}
}

macro_rules! plain {
    ($($int:ty)*) => {$(
        impl sealed::Sealed for $int {}
        impl Plain for $int {}
    )*};
}

plain! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize }

/// A page as a closure of [`Mapping::read_with`](super::Mapping::read_with) sees it. It only copies
/// out: what it gives counts when the call that ran the closure returns.
#[derive(Clone, Copy)]
pub struct PageView<'p> {
    memory: NonNull<[u8; PAGE]>,
    _page: PhantomData<&'p ()>,
}

impl core::fmt::Debug for PageView<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PageView").finish_non_exhaustive()
    }
}

impl<'p> PageView<'p> {
    /// A view of a page that does not change.
    pub(super) fn of(page: &'p [u8; PAGE]) -> Self {
        Self {
            memory: NonNull::from(page),
            _page: PhantomData,
        }
    }

    /// A view of memory that others may write meanwhile.
    ///
    /// # Safety
    /// The memory is mapped while the view lives, and nobody takes what it gave for whole before he
    /// has found out that nobody wrote meanwhile.
    #[inline(always)]
    pub(super) unsafe fn racy(memory: NonNull<[u8; PAGE]>) -> Self {
        Self {
            memory,
            _page: PhantomData,
        }
    }

    /// The integer at a place, in bytes from the start of the page, in the machine's byte order.
    ///
    /// # Panics
    /// If not all of it is within the page.
    #[inline(always)]
    #[must_use]
    pub fn load<T: Plain>(&self, at: usize) -> T {
        let fits = at
            .checked_add(size_of::<T>())
            .is_some_and(|end| end <= PAGE);
        assert!(fits, "{at} is no place for it in a page");
        // SAFETY: all of it is within the page, by the check above.
        let from = unsafe { self.memory.cast::<u8>().as_ptr().add(at) };
        if (from as usize).is_multiple_of(align_of::<T>()) {
            // SAFETY: within the page, which is mapped; aligned; all bytes are a `T`. Volatile, so
            // that it is read once, whatever others write.
            return unsafe { from.cast::<T>().read_volatile() };
        }
        let mut value = core::mem::MaybeUninit::<T>::uninit();
        let to = value.as_mut_ptr().cast::<u8>();
        for i in 0..size_of::<T>() {
            // SAFETY: as above, byte by byte; `to` is room for as many.
            unsafe { to.add(i).write(from.add(i).read_volatile()) };
        }
        // SAFETY: each of its bytes was written, and all bytes are a `T`.
        unsafe { value.assume_init() }
    }

    /// Copies bytes out, from a place in the page on.
    ///
    /// # Panics
    /// If not all of them are within the page.
    pub fn copy_to(&self, at: usize, into: &mut [u8]) {
        let fits = at.checked_add(into.len()).is_some_and(|end| end <= PAGE);
        assert!(fits, "{} bytes from {at} on are not in a page", into.len());
        const WORD: usize = size_of::<u64>();
        let aligned = at.next_multiple_of(WORD).min(at + into.len()) - at;
        let (head, rest) = into.split_at_mut(aligned);
        for (i, byte) in head.iter_mut().enumerate() {
            *byte = self.load(at + i);
        }
        let at = at + head.len();
        let mut words = rest.chunks_exact_mut(WORD);
        let mut place = at;
        for word in &mut words {
            word.copy_from_slice(&self.load::<u64>(place).to_ne_bytes());
            place += WORD;
        }
        for byte in words.into_remainder() {
            *byte = self.load(place);
            place += 1;
        }
    }

    /// A copy of the page.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PAGE] {
        let mut bytes = [0; PAGE];
        self.copy_to(0, &mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_out_is_what_is_there_at_any_place() {
        let page: [u8; PAGE] = core::array::from_fn(|i| (i * 7 % 251) as u8);
        let view = PageView::of(&page);
        for at in [0, 1, 7, 8, 9, 4000, 4088, 4095, 4096] {
            for len in [0, 1, 7, 8, 9, 15, 16, 17, 95, 96, 4096] {
                if at + len <= PAGE {
                    let mut into = vec![0; len];
                    view.copy_to(at, &mut into);
                    assert_eq!(into, page[at..at + len], "{len} from {at}");
                }
            }
        }
        assert_eq!(
            view.load::<u64>(3),
            u64::from_ne_bytes(page[3..11].try_into().unwrap())
        );
        assert_eq!(view.to_bytes(), page);
        let beyond = std::panic::catch_unwind(|| PageView::of(&[0; PAGE]).load::<u32>(4093));
        assert!(beyond.is_err());
    }
}
