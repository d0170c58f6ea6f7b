//! Image: crate tracking-allocator over the C library's malloc, with a tracker that adds up bytes
//! by group: the least one has to do to know who holds what. Its guards borrow their token, so a
//! tenant's token is leaked.

use memcg_bench::{Peer, rows::TENANTS};
use std::alloc::System;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tracking_allocator::{
    AllocationGroupId, AllocationGroupToken, AllocationGuard, AllocationRegistry,
    AllocationTracker, Allocator,
};

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

struct Sums([AtomicUsize; 256]);

impl AllocationTracker for Sums {
    fn allocated(&self, _: usize, _: usize, wrapped: usize, group: AllocationGroupId) {
        self.0[group.as_usize().get() & 255].fetch_add(wrapped, Ordering::Relaxed);
    }

    fn deallocated(
        &self,
        _: usize,
        _: usize,
        wrapped: usize,
        source: AllocationGroupId,
        _: AllocationGroupId,
    ) {
        self.0[source.as_usize().get() & 255].fetch_sub(wrapped, Ordering::Relaxed);
    }
}

struct Tracked;

static TOKENS: OnceLock<Vec<usize>> = OnceLock::new();

impl Peer for Tracked {
    type Thread = AllocationGuard<'static>;
    type Tenant = AllocationGuard<'static>;

    fn start() {
        let tokens = (0..=TENANTS)
            .map(|_| {
                let token = AllocationGroupToken::register().expect("a token");
                std::ptr::from_mut(Box::leak(Box::new(token))) as usize
            })
            .collect();
        let _ = TOKENS.set(tokens);
        let _ = AllocationRegistry::set_global_tracker(Sums([const { AtomicUsize::new(0) }; 256]));
        AllocationRegistry::enable_tracking();
    }

    fn thread() -> Self::Thread {
        // A token of the thread's own, as one token cannot be entered by two. Of two that register
        // at once one gets none.
        let token = (0..1000).find_map(|_| AllocationGroupToken::register());
        Box::leak(Box::new(token.expect("a token"))).enter()
    }

    fn tenant(index: usize) -> Self::Tenant {
        let token = TOKENS.get().expect("started")[index] as *mut AllocationGroupToken;
        // SAFETY: leaked; the rows enter tenants on one thread, one at a time.
        unsafe { (*token).enter() }
    }
}

fn main() {
    memcg_bench::main::<Tracked>();
}
