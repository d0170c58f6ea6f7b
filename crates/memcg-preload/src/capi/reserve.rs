//! Reservations of include/memcg.h: charges without memory of ours behind them.
//!
//! Invariants: the caller's place has a handle, or null: after a refusal, and under `MEMCG=off`.
//! Depends on: `capi` for handles and errno.
//! Never: charges the value behind a handle to a tenant.

use super::{close, handle, with_errno};
use crate::step_aside::is_off;
use core::ffi::c_int;
use memcg::{Charge, Memcg, no_account};

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_reserve(
    charge: *mut *mut Charge,
    group: *const Memcg,
    bytes: u64,
) -> c_int {
    // SAFETY: a place for the answer, by the caller.
    unsafe { charge.write(core::ptr::null_mut()) };
    if is_off() {
        return 0;
    }
    with_errno(-1, || {
        let _errors_are_nobodys = no_account();
        // SAFETY: null or a live handle, by the caller.
        let made = match unsafe { group.as_ref() } {
            Some(group) => group.try_reserve(bytes),
            None => {
                drop(_errors_are_nobodys);
                memcg::try_reserve(bytes)
            }
        };
        let made = made.map_err(|_| libc::ENOMEM)?;
        // SAFETY: as above.
        unsafe { charge.write(handle(Some(made))) };
        Ok(0)
    })
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_resize(charge: *mut Charge, bytes: u64) -> c_int {
    // SAFETY: null or a live handle nobody else uses, by the caller.
    match unsafe { charge.as_mut() }.filter(|_| !is_off()) {
        None => 0,
        Some(charge) => with_errno(-1, || {
            charge.resize(bytes).map(|()| 0).map_err(|_| libc::ENOMEM)
        }),
    }
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_unreserve(charge: *mut Charge) {
    // SAFETY: the caller's.
    unsafe { close(charge) }
}
