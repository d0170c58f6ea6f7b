//! Who makes room for a registered cache: code of the program, called where it may run and under no lock.

use crate::group::GroupId;
use crate::sync::atomic::{AtomicPtr, Ordering};

/// Calls a registered shrinker for a group: its address, the group's index, bytes; answers bytes freed.
type Caller = fn(usize, GroupId, u64) -> u64;

/// By `api`, which knows what the addresses are.
static CALLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Has `caller` called from now on.
pub fn set_caller(caller: Caller) {
    // Release pairs with the Acquire of `call`.
    CALLER.store(caller as *mut (), Ordering::Release);
}

/// Asks a shrinker for `bytes` in the group of an index. Unpinned, under no lock.
pub(super) fn call(shrinker: usize, group: GroupId, bytes: u64) -> u64 {
    // Acquire pairs with the Release of `set_caller`.
    let caller = CALLER.load(Ordering::Acquire);
    if caller.is_null() {
        return 0;
    }
    // SAFETY: only `set_caller` stores here, and it stores a `Caller`.
    let caller: Caller = unsafe { core::mem::transmute(caller) };
    caller(shrinker, group, bytes)
}
