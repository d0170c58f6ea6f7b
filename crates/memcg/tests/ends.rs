//! Groups that come and go by the thousand while what they used lives on.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{Limit, Memcg, root};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

fn figure(file: &str, key: &str) -> u64 {
    let text = root().read(file).unwrap();
    let line = text
        .lines()
        .find(|line| line.split(' ').next() == Some(key));
    let value = line.and_then(|line| line.split(' ').nth(1));
    value
        .unwrap_or_else(|| panic!("no {key} in {text}"))
        .parse()
        .unwrap()
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn two_thousand_tenants_of_one_shared_thing_leave_no_zombies_and_no_growth() {
    let parent = root().create("tenants").unwrap();
    // Everybody uses it; whoever comes first is charged for it, and goes.
    let mut shared: Vec<Vec<u8>> = Vec::new();
    // Each has a list, and a cache of its own: so each has a kmem id.
    let (list, cache) = {
        let _free = memcg::no_account();
        let own = memcg::CacheOptions::new("tenant").layout(memcg::CacheLayout::PerGroup);
        (
            memcg::ListLru::<u64>::new(),
            own.typed::<[u64; 16]>().unwrap(),
        )
    };
    let mut kept = None;
    let mut round = |n: u32, parent: &Memcg| {
        let tenant = parent.create(format!("tenant{n}")).unwrap();
        tenant.run(|| {
            shared.truncate(63);
            shared.insert(0, vec![n as u8; 4096]);
            let seen: usize = shared.iter().map(|part| part[0] as usize).sum();
            std::hint::black_box(seen);
            // What the last one had goes, what this one has stays.
            kept = Some((list.insert(u64::from(n)), cache.alloc([1; 16]).unwrap()));
        });
        tenant.remove().unwrap();
    };
    for n in 0..500 {
        round(n, &parent);
    }
    let (resident_before, held) = (resident(), parent.current());
    let ids = memcg::id_stat();
    for n in 500..2500 {
        round(n, &parent);
    }
    assert_eq!(figure("cgroup.stat", "nr_dying_descendants"), 0);
    assert_eq!(figure("cgroup.stat", "nr_descendants"), 1);
    // Ids come back after a grace period; those in use, and what tables by them take, do not grow.
    let now = memcg::id_stat();
    assert!(
        now.in_use <= ids.in_use + 256 && now.tables.arrays <= 2 * ids.tables.arrays,
        "{now:?}"
    );
    // What is shared is the parent's: as much as after the first.
    assert!(parent.current() <= held + 64 * 1024, "{}", parent.current());
    let grown = resident().saturating_sub(resident_before);
    assert!(grown < 4 << 20, "grown by {grown} bytes");
    drop(shared);
    assert!(parent.current() < 64 * 1024);
    parent.remove().unwrap();
}

#[test]
fn a_charge_is_given_to_another_group_whole_or_not_at_all() {
    let (a, b) = (
        root().create("giver").unwrap(),
        root().create("taker").unwrap(),
    );
    let mut charge = a.try_reserve(1 << 20).unwrap();
    b.set_max(Limit::bytes(1 << 19)).unwrap();
    let why = charge.give(&b).unwrap_err();
    assert_eq!((why.group.as_str(), why.max), ("/taker", 1 << 19));
    assert_eq!((a.current(), b.current()), (1 << 20, 0));
    assert_eq!(charge.bytes(), 1 << 20);
    b.set_max(Limit::bytes(1 << 20)).unwrap();
    charge.give(&b).unwrap();
    assert_eq!((a.current(), b.current()), (0, 1 << 20));
    a.remove().unwrap();
    charge.resize(1 << 19).unwrap();
    assert_eq!(b.current(), 1 << 19);
    drop(charge);
    assert_eq!(b.current(), 0);
    b.remove().unwrap();
}
