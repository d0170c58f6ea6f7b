//! A word that holds a function, or none: how a lower room calls what a higher one has set.
//!
//! One order for all: `set` is Release, `get` Acquire. Whoever gets a function sees what its setter
//! did before, and the statics the function uses. On x86-64 both are plain moves.
//!
//! Invariants: what [`Hook::get`] answers was given to [`Hook::set`] or [`Hook::put`], or is at an
//! address whose type somebody has vouched for ([`Hook::set_address`]). Zero bytes are no function.
//! Depends on: nothing.
//! Never: a call. Who gets the function calls it, under the contract of its type.

use super::Zeroed;
use super::atomic::{AtomicPtr, Ordering};
use core::marker::PhantomData;

mod sealed {
    /// # Safety
    /// The type is a function pointer: as large as a pointer, never null, without padding.
    #[expect(unnameable_types, reason = "nobody outside is to implement it")]
    pub unsafe trait Function: Copy + 'static {
        fn address(self) -> *mut ();

        /// # Safety
        /// The address is that of a function of this type.
        unsafe fn of_address(at: *mut ()) -> Self;
    }
}

/// A pointer to a function, of Rust or of C.
pub trait Function: sealed::Function {}

impl<F: sealed::Function> Function for F {}

macro_rules! functions {
    ($([$($generic:ident),*] $type:ty;)*) => {$(
        // SAFETY: a function pointer is as large as a data pointer here, never null, and has no
        // padding.
        unsafe impl<$($generic: 'static),*> sealed::Function for $type {
            #[inline(always)]
            fn address(self) -> *mut () {
                self as *mut ()
            }

            #[inline(always)]
            unsafe fn of_address(at: *mut ()) -> Self {
                // SAFETY: the caller has said that a function of this type is there; both are as
                // large as a pointer.
                unsafe { core::mem::transmute::<*mut (), Self>(at) }
            }
        }
    )*};
}

functions! {
    [R] fn() -> R;
    // Of one argument those there are: with any argument it would be one with `&mut [u8]` of one
    // lifetime.
    [] fn(u32);
    [] fn(&mut [u8]);
    [A, B, R] fn(A, B) -> R;
    [A, B, C, R] fn(A, B, C) -> R;
    [A, R] unsafe fn(A) -> R;
    [R] extern "C" fn() -> R;
    [A, R] extern "C" fn(A) -> R;
    [A, B, R] extern "C" fn(A, B) -> R;
    [R] unsafe extern "C" fn() -> R;
    [A, R] unsafe extern "C" fn(A) -> R;
    [A, B, R] unsafe extern "C" fn(A, B) -> R;
    [A, B, C, R] unsafe extern "C" fn(A, B, C) -> R;
}

/// See the module.
#[repr(transparent)]
pub struct Hook<F>(AtomicPtr<()>, PhantomData<F>);

impl<F> Default for Hook<F> {
    fn default() -> Self {
        Self(AtomicPtr::default(), PhantomData)
    }
}

// SAFETY: a null pointer is no function, as Default builds it.
unsafe impl<F> Zeroed for Hook<F> {}

impl<F> Hook<F> {
    /// No function yet: for a static.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn none() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()), PhantomData)
    }
}

impl<F: Function> Hook<F> {
    /// Holds `f` from now on.
    pub fn set(&self, f: F) {
        // Release pairs with the Acquire of `get`.
        self.0.store(f.address(), Ordering::Release);
    }

    /// Holds `f` from now on, or no function.
    pub fn put(&self, f: Option<F>) {
        // Release pairs with the Acquire of `get`.
        self.0.store(
            f.map_or(core::ptr::null_mut(), F::address),
            Ordering::Release,
        );
    }

    /// Holds the function at `at` from now on; none if it is null.
    ///
    /// # Safety
    /// `at` is null or the address of a function of the type `F`, which stays there.
    pub unsafe fn set_address(&self, at: *mut ()) {
        // Release pairs with the Acquire of `get`.
        self.0.store(at, Ordering::Release);
    }

    /// The function it holds. A load and a comparison.
    #[inline(always)]
    pub fn get(&self) -> Option<F> {
        // Acquire pairs with the Release of `set`, `put` and `set_address`.
        let at = self.0.load(Ordering::Acquire);
        // SAFETY: only these three store here, and what they store is null or a function of this
        // type.
        (!at.is_null()).then(|| unsafe { F::of_address(at) })
    }
}

/// The function of the type `F` at an address.
///
/// # Safety
/// `at` is the address of a function of that type.
#[must_use]
pub unsafe fn function_at<F: Function>(at: *mut ()) -> F {
    // SAFETY: the caller's promise, in the same words.
    unsafe { F::of_address(at) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    static SUM: Hook<fn(u32, u64) -> u64> = Hook::none();

    #[test]
    fn a_hook_holds_nothing_and_then_what_was_set_last() {
        assert!(SUM.get().is_none());
        SUM.set(|a, b| u64::from(a) + b);
        assert_eq!(SUM.get().map(|f| f(2, 40)), Some(42));
        SUM.set(|a, b| u64::from(a) * b);
        assert_eq!(SUM.get().map(|f| f(2, 40)), Some(80));
        // SAFETY: null is allowed: the hook then holds no function.
        unsafe { SUM.set_address(core::ptr::null_mut()) };
        assert!(SUM.get().is_none());
    }

    #[test]
    fn zero_bytes_are_no_function_of_any_kind() {
        fn is_empty<F: Function>() -> bool {
            assert_eq!(size_of::<Hook<F>>(), size_of::<usize>());
            // SAFETY: `Hook` is Zeroed: zero bytes are a hook without a function.
            let hook: Hook<F> = unsafe { core::mem::MaybeUninit::zeroed().assume_init() };
            hook.get().is_none() && Hook::<F>::default().get().is_none()
        }
        assert!(is_empty::<fn()>() && is_empty::<unsafe fn(*const u8)>());
        assert!(is_empty::<extern "C" fn(usize) -> i32>());
        assert!(is_empty::<
            unsafe extern "C" fn(*mut u8, usize, usize) -> *mut u8,
        >());
    }

    #[test]
    fn what_was_done_before_it_was_set_is_seen_by_who_gets_it() {
        static READY: Hook<fn() -> u64> = Hook::none();
        static VALUE: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|s| {
            s.spawn(|| {
                VALUE.store(7, Ordering::Relaxed);
                READY.set(|| VALUE.load(Ordering::Relaxed));
            });
            loop {
                if let Some(f) = READY.get() {
                    assert_eq!(f(), 7);
                    break;
                }
                core::hint::spin_loop();
            }
        });
    }
}
