//! What is counted of pages, at owners and groups.
//!
//! Invariants: of the memory that pages are charged, each byte is under one of the counts of
//! memory; the others say something about a part of it.
//! Depends on: nothing.
//! Never: counts anything.

#![forbid(unsafe_code)]

/// What is counted of pages, in bytes, by the kernel's names of `memory.stat`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageCount {
    /// Pages in frames of anonymous regions.
    Anon,
    /// Pages in frames of shared regions.
    Shmem,
    /// Pages in frames of files.
    File,
    /// Compressed pages: their bytes in memory.
    Zswap,
    /// Compressed pages: their bytes before.
    Zswapped,
    /// Pages in frames that have a place in swap as well.
    SwapCached,
    /// Of `File`, what the file does not have yet.
    FileDirty,
    /// Of `File`, what is being written.
    FileWriteback,
}

/// How many counts there are.
pub const NR_PAGE_COUNTS: usize = 8;

impl PageCount {
    /// All there are, in the order of their places.
    pub const ALL: [Self; NR_PAGE_COUNTS] = [
        Self::Anon,
        Self::Shmem,
        Self::File,
        Self::Zswap,
        Self::Zswapped,
        Self::SwapCached,
        Self::FileDirty,
        Self::FileWriteback,
    ];

    /// Its place among the counts.
    #[must_use]
    pub const fn at(self) -> usize {
        self as usize
    }

    /// Whether what it counts is memory that is charged, which no other count has.
    #[must_use]
    pub const fn is_memory(self) -> bool {
        match self {
            Self::Anon | Self::Shmem | Self::File | Self::Zswap => true,
            Self::Zswapped | Self::SwapCached | Self::FileDirty | Self::FileWriteback => false,
        }
    }

    /// The kernel's name in `memory.stat`.
    #[must_use]
    #[cfg(any(test, feature = "testing"))]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anon => "anon",
            Self::Shmem => "shmem",
            Self::File => "file",
            Self::Zswap => "zswap",
            Self::Zswapped => "zswapped",
            Self::SwapCached => "swapcached",
            Self::FileDirty => "file_dirty",
            Self::FileWriteback => "file_writeback",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_has_its_place() {
        for (at, count) in PageCount::ALL.into_iter().enumerate() {
            assert_eq!(count.at(), at, "{}", count.name());
        }
    }
}
