//! Telling those who wait, under every schedule that a few preemptions make: whoever notes a wish
//! and then looks has seen the change, or is told of it.
//!
//! Invariants: none of its own.
//! Depends on: `loom`, whose models it shares.
//! Never: built outside loom.

#![forbid(unsafe_code)]

use super::Event;
use super::loom::{charge_exact, go, group, join, model, root, task, uncharge_exact};
use super::notice_word::Wish;

/// Catches: room looked at before the wish is noted, a wish looked for before the bytes are off the
/// counter, and either without its fence.
#[test]
fn loom_who_waits_for_room_gets_it_or_is_told() {
    model(4, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, a, "b");
        a.counter.set_max(48);
        let tag = b.tag();
        assert!(charge_exact(tree, rec, tag, 48));
        let freer = go(move || uncharge_exact(tree, other, tag, 8));
        {
            let _pin = tree.threads.epoch.pin(rec);
            assert!(tree.wish(a, Wish::Room));
        }
        let has_got = charge_exact(tree, rec, tag, 8);
        freer.join().unwrap();
        assert!(has_got || a.notice.is_told());
        assert!(!has_got || !charge_exact(tree, rec, tag, 8));
    });
}

/// Catches: news that is taken after who waits has looked, and told by a load alone.
#[test]
fn loom_every_event_is_seen_or_told_of() {
    model(4, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        a.event(Event::Low);
        let worker = go(move || {
            let _pin = tree.threads.epoch.pin(other);
            a.event(Event::Max);
            a.event(Event::Max);
        });
        let _pin = tree.threads.epoch.pin(rec);
        assert!(tree.wish(a, Wish::Events));
        let mut seen = a.nr_events(Event::Max, false);
        if a.notice.is_told() {
            a.notice.take_told();
            seen = a.nr_events(Event::Max, false);
        }
        worker.join().unwrap();
        assert!(seen == 2 || a.notice.is_told());
    });
}

/// Catches: a level that is set and not looked at again, a level looked for before the bytes are on
/// the counter, and either without its fence.
#[test]
fn loom_a_level_that_usage_crosses_is_told_of() {
    model(4, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let tag = a.tag();
        let worker = go(move || assert!(charge_exact(tree, other, tag, 40)));
        {
            let _pin = tree.threads.epoch.pin(rec);
            assert!(tree.wish(a, Wish::Crossings));
            let (_, word) = a.notice.crossed();
            assert!(a.notice.watch(word, Some(16), None));
            tree.look_at_crossings(a);
        }
        worker.join().unwrap();
        assert!(a.notice.is_told());
        assert_eq!(a.notice.crossed().0, Some(40));
        uncharge_exact(tree, rec, tag, 40);
    });
}

/// Catches: the last task looked for before the wish is noted, or taken off after who waits is
/// told.
#[test]
fn loom_the_last_task_s_end_is_seen_or_told_of() {
    model(4, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, a, "b");
        let tag = task(tree, rec, b);
        let worker = go(move || {
            let _pin = tree.threads.epoch.pin(other);
            tree.end_task(tag);
        });
        let seen = {
            let _pin = tree.threads.epoch.pin(rec);
            assert!(tree.wish(a, Wish::Emptied));
            !a.has_tasks()
        };
        worker.join().unwrap();
        assert!(seen || a.notice.is_told());
    });
}
