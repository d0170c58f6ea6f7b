//! What happens to pages, as groups count it.
//!
//! Invariants: what is counted at a group is counted at all above.
//! Depends on: nothing.
//! Never: counts anything.

#![forbid(unsafe_code)]

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident $text:literal;)+) => {
        /// What happens to pages, by the kernel's names of `memory.stat` and `memory.swap.events`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum PageEvent { $($(#[$doc])* $name,)+ }

        impl PageEvent {
            /// All there are, in the order of their places.
            pub const ALL: [Self; NR_PAGE_EVENTS] = [$(Self::$name,)+];

            /// The kernel's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }

        /// How many there are.
        pub const NR_PAGE_EVENTS: usize = [$($text,)+].len();
    };
}

events! {
    /// An anonymous page came back that had been evicted.
    RefaultAnon "workingset_refault_anon";
    /// A page of a file came back that had been evicted.
    RefaultFile "workingset_refault_file";
    /// It came back so soon that it is active.
    ActivateAnon "workingset_activate_anon";
    /// It came back so soon that it is active.
    ActivateFile "workingset_activate_file";
    /// It had been active before.
    RestoreAnon "workingset_restore_anon";
    /// It had been active before.
    RestoreFile "workingset_restore_file";
    /// Read from a swap device.
    SwapIn "pswpin";
    /// Written to a swap device.
    SwapOut "pswpout";
    /// Decompressed.
    ZswapIn "zswpin";
    /// Compressed.
    ZswapOut "zswpout";
    /// Came into a frame.
    Fault "pgfault";
    /// Came into a frame, read from a file or a device or decompressed.
    MajorFault "pgmajfault";
    /// Looked at by reclaim.
    Scanned "pgscan";
    /// Taken out of its frame by reclaim.
    Stolen "pgsteal";
    /// Swap was above its high.
    SwapHigh "high";
    /// A charge to swap met its max.
    SwapMax "max";
    /// A page could not be swapped out: swap was full, or there was none.
    SwapFail "fail";
}

impl PageEvent {
    /// Its place.
    #[must_use]
    pub const fn at(self) -> usize {
        self as usize
    }

    /// Whether it is one of `memory.swap.events`, not of `memory.stat`.
    #[must_use]
    pub fn is_of_swap(self) -> bool {
        self.at() >= Self::SwapHigh.at()
    }
}
