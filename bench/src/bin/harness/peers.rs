//! The images, in the order of the columns.

/// One of them.
pub struct Peer {
    /// Of the image and the column.
    pub name: &'static str,
    /// The package whose version it is.
    pub package: &'static str,
    /// How it was built, beside release.
    pub flags: &'static str,
}

/// All of them.
#[rustfmt::skip]
pub const IMAGES: &[Peer] = &[
    Peer { name: "memcg", package: "memcg", flags: "own slabs, accounting on" },
    Peer { name: "memcg-off", package: "memcg", flags: "own slabs, accounting to nobody" },
    Peer { name: "mimalloc3", package: "libmimalloc-sys", flags: "crate mimalloc, no secure, no debug" },
    Peer { name: "mimalloc3-raw", package: "libmimalloc-sys", flags: "mi_malloc called directly" },
    Peer { name: "mimalloc2", package: "libmimalloc-sys", flags: "feature v2" },
    Peer { name: "jemalloc", package: "tikv-jemalloc-sys", flags: "no default features" },
    Peer { name: "tcmalloc", package: "libtcmalloc-sys", flags: "crate tcmalloc-better, 8k_pages, extension" },
    Peer { name: "snmalloc", package: "snmalloc-sys", flags: "build_cc, usewait-on-address" },
    Peer { name: "glibc", package: "", flags: "std::alloc::System" },
    Peer { name: "memcg-over-glibc", package: "memcg", flags: "Accounted<System, Glibc>" },
    Peer { name: "tracking", package: "tracking-allocator", flags: "over System, a tracker of sums by group" },
    Peer { name: "cap", package: "cap", flags: "over System" },
];

/// Pools of reservations: a query engine's, of `bench/pools`.
#[rustfmt::skip]
pub const POOLS: &[Peer] = &[
    Peer { name: "pool-greedy", package: "datafusion-execution", flags: "GreedyMemoryPool" },
    Peer { name: "pool-fair", package: "datafusion-execution", flags: "FairSpillPool, consumers that can spill" },
    Peer { name: "pool-tracked", package: "datafusion-execution", flags: "TrackConsumersPool<GreedyMemoryPool>" },
];

/// The column name where room is little.
pub fn short(name: &str) -> &str {
    match name {
        "memcg-over-glibc" => "mcg/glibc",
        "mimalloc3-raw" => "mi3-raw",
        "mimalloc3" => "mimalloc3",
        _ => name,
    }
}

/// The version of a package in Cargo.lock, or in that of the pools.
pub fn version(package: &str) -> Option<&'static str> {
    let name = format!("name = \"{package}\"\n");
    let locks = [
        include_str!("../../../Cargo.lock"),
        include_str!("../../../pools/Cargo.lock"),
    ];
    let after = locks
        .iter()
        .find_map(|lock| Some(&lock[lock.find(&name)? + name.len()..]))?;
    after.strip_prefix("version = \"")?.split('"').next()
}
