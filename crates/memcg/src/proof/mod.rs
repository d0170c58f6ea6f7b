//! Proofs that need several rooms: the real code against a naive model, threads against threads, a
//! signal between any two instructions, and loom through its schedules.

#[cfg(not(loom))]
mod asked;
#[cfg(not(loom))]
mod cache_ends;
#[cfg(not(loom))]
mod cache_hints;
#[cfg(not(loom))]
mod cache_rules;
#[cfg(not(loom))]
mod caches;
#[cfg(not(loom))]
mod enforcement;
#[cfg(not(loom))]
mod enforcement_model;
#[cfg(not(loom))]
mod faults;
#[cfg(not(loom))]
mod held_futures;
#[cfg(not(loom))]
mod ledger;
#[cfg(not(loom))]
mod linger;
#[cfg(loom)]
mod loom_cache;
#[cfg(loom)]
mod loom_ids;
#[cfg(loom)]
mod loom_lists;
#[cfg(loom)]
mod loom_moves;
#[cfg(not(loom))]
mod model;
#[cfg(not(loom))]
mod move_policies;
#[cfg(not(loom))]
mod moving_model;
#[cfg(not(loom))]
mod naive_books;
#[cfg(not(loom))]
mod own_process;
#[cfg(not(loom))]
mod page_cache_faults;
#[cfg(not(loom))]
mod page_order;
#[cfg(not(loom))]
mod polls;
#[cfg(not(loom))]
mod reuse;
#[cfg(not(loom))]
mod scopes;
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(loom)))]
mod signals;
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(loom)))]
mod start;
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(loom)))]
mod steps;
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(loom)))]
mod straddle;
#[cfg(not(loom))]
mod stress;
#[cfg(not(loom))]
mod swap_faults;
#[cfg(not(loom))]
mod waiting_model;
#[cfg(not(loom))]
mod worker;
