//! Threads of our own: all signals blocked, a small stack, made without the standard library, which
//! would allocate in the new thread before that can say whose it is.
//!
//! Invariants: the caller's mask is afterwards what it was before.
//! Depends on: the C library's threads.
//! Never: blocks the signals of the C library's own in the new thread; joins it.

/// Starts `run(given)` in a thread that can be joined.
///
/// # Safety
/// `run` may be called with `given` once, on another thread, at any time from now on.
///
/// # Errors
/// The error number; nothing was started.
pub unsafe fn spawn(
    stack: usize,
    run: extern "C" fn(*mut core::ffi::c_void) -> *mut core::ffi::c_void,
    given: *mut core::ffi::c_void,
) -> Result<libc::pthread_t, i32> {
    // Signals are the program's: the new thread inherits a mask that blocks all.
    let mask = SignalMask::block_all();
    let mut attributes = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread: libc::pthread_t = 0;
    // SAFETY: the attributes are initialized by the first call and destroyed by the last. The
    // caller has promised that `run` may be called with `given`, once, on another thread.
    let error = unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack);
        let error = libc::pthread_create(&mut thread, attributes.as_ptr(), run, given);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        error
    };
    drop(mask);
    if error == 0 { Ok(thread) } else { Err(error) }
}

/// By the C library's call, which leaves out the signals of its own: a thread that blocked those
/// too would hold up every `setuid`.
struct SignalMask(libc::sigset_t);

impl SignalMask {
    fn block_all() -> Self {
        let mut before = core::mem::MaybeUninit::uninit();
        let mut all = core::mem::MaybeUninit::uninit();
        // SAFETY: both sets are filled by these calls before they are used.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        // SAFETY: `self.0` is a whole signal set: the one `block_all` got as this thread's mask
        // before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, core::ptr::null_mut()) };
    }
}
