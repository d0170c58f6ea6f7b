//! The rooms of the engine for what tests it from outside: the simulator, the scenario runner, the
//! lab and the tests of this crate and its neighbours. There is no promise that any of it stays.
//!
//! Invariants: built with the feature `testing` alone; the shipped libraries are built without it.
//! Depends on: every room.
//! Never: code of its own. What is here is sound only for callers who keep to the contracts of the
//! rooms.

#![forbid(unsafe_code)]

#[cfg(not(loom))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod common;

#[cfg(not(loom))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod replay;

#[cfg(not(loom))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod traces;

/// One hidden module of that name for each room, with everything that is public in the room.
macro_rules! rooms {
    ($($(#[$cfg:meta])* $room:ident;)*) => {$(
        $(#[$cfg])*
        #[doc(hidden)]
        #[allow(missing_docs)]
        pub mod $room {
            pub use crate::$room::*;
        }
    )*};
}

rooms! {
    #[cfg(not(loom))]
    api;
    attach;
    #[cfg(not(loom))]
    control;
    counter;
    #[cfg(not(loom))]
    engine;
    #[cfg(not(loom))]
    files;
    group;
    kmem;
    offline;
    os;
    page;
    reclaim;
    sync;
    thread;
    units;
}
