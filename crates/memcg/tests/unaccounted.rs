//! `Flags::NOACCOUNT` on what has an owner: what is taken and what is given back are one amount.

use memcg::{Flags, Limit, Pool, no_account, root};

#[test]
fn a_reservation_made_without_accounting_stays_without() {
    let group = root().create("unaccounted").unwrap();
    let mut charge = group.try_reserve_with(5000, Flags::NOACCOUNT).unwrap();
    assert_eq!((charge.bytes(), group.current()), (5000, 0));
    charge.resize(9000).unwrap();
    let half = charge.split(4000);
    assert_eq!(group.current(), 0);
    drop((charge, half));
    assert_eq!(group.current(), 0);
    // Given to a group it is charged as any other.
    let mut charge = group.try_reserve_with(5000, Flags::NOACCOUNT).unwrap();
    charge.give(&group).unwrap();
    assert_eq!(group.current(), 5000);
    drop(charge);
    assert_eq!(group.current(), 0);
    group.remove().unwrap();
}

#[test]
fn what_has_an_owner_grows_in_its_books_whatever_the_flags() {
    let group = root().create("accounted-growth").unwrap();
    let mut charge = group.try_reserve(800).unwrap();
    charge.resize_with(80_000, Flags::NOACCOUNT).unwrap();
    assert_eq!(group.current(), 80_000);
    group.set_max(Limit::bytes(100_000)).unwrap();
    let refused = charge.resize_with(200_000, Flags::NOACCOUNT | Flags::WAIT);
    assert_eq!(refused.unwrap_err().group, "/accounted-growth");
    drop(charge);
    let pool = Pool::new(&group);
    pool.try_grow_with(80_000, Flags::NOACCOUNT).unwrap();
    assert_eq!(group.current(), 80_000);
    pool.shrink(80_000);
    drop(pool);
    assert_eq!(group.current(), 0);
    group.remove().unwrap();
}

#[test]
fn a_pool_made_in_a_scope_without_accounting_is_its_group_s_all_the_same() {
    let group = root().create("pool-in-no-account").unwrap();
    let _free = no_account();
    let pool = Pool::new(&group);
    pool.try_grow(80_000).unwrap();
    assert_eq!(group.current(), 80_000);
    drop(pool);
    assert_eq!(group.current(), 0);
    group.remove().unwrap();
}
