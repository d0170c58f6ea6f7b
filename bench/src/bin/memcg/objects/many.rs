//! Objects that pass between threads, and 64 tenants of whom half end.

use super::maker::{Maker, With, by_name};
use memcg::internal::bench::slab_bytes;
use memcg::{Memcg, no_account, root};
use memcg_bench::Peer as _;
use memcg_bench::groups::On;
use memcg_bench::measure::{Run, measure, pin, rss};
use memcg_bench::random::Random;
use memcg_bench::rows::TENANTS;
use std::sync::mpsc::sync_channel;

/// Runs one of these rows.
pub fn run(name: &str, ops: u64) -> Option<Run> {
    if let Some(of) = name.strip_prefix("handoff-") {
        return by_name(of, &Handoff(ops));
    }
    by_name(name.strip_prefix("churn-")?, &Churn(ops))
}

const BATCH: usize = 512;

/// One thread allocates, the other frees; batches of 512 go round.
struct Handoff(u64);

impl With<Run> for Handoff {
    fn with<M: Maker>(&self, maker: &M) -> Run {
        let batches = self.0 as usize / BATCH;
        let (to_free, full) = sync_channel::<Vec<M::Object>>(8);
        let (to_fill, empty) = sync_channel(8);
        for _ in 0..4 {
            to_fill.send(Vec::with_capacity(BATCH)).expect("room");
        }
        let mut ends = (to_free, full, to_fill, empty);
        let mut go = |batches: usize| {
            let (to_free, full, to_fill, empty) = &mut ends;
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    pin(0);
                    let _thread = On::thread();
                    for batch in full.iter().take(batches) {
                        let mut batch = batch;
                        batch.clear();
                        to_fill.send(batch).expect("the other end is here");
                    }
                });
                scope.spawn(move || {
                    pin(1);
                    let _thread = On::thread();
                    for batch in empty.iter().take(batches) {
                        let mut batch: Vec<M::Object> = batch;
                        batch.extend((0..BATCH).map(|_| maker.make()));
                        to_free.send(batch).expect("the other end is here");
                    }
                });
            });
        };
        go(64);
        measure((batches * BATCH) as u64, || go(batches))
    }
}

/// Objects that 64 tenants could have at once.
const SLOTS: usize = 1 << 18;

/// Tenants at random have one object more, or one less, of theirs; about 131,000 in all at the end.
/// `value`: resident bytes for each. Then every other tenant ends. `extra`: bytes of the caches'
/// slabs to those of the objects left.
struct Churn(u64);

impl With<Run> for Churn {
    fn with<M: Maker>(&self, maker: &M) -> Run {
        let tenants: Vec<Memcg> = (0..TENANTS)
            .map(|i| root().create(format!("churn-{i}")).expect("a group"))
            .collect();
        let mut held: Vec<Option<M::Object>> = {
            let _nobody = no_account();
            (0..SLOTS).map(|_| None).collect()
        };
        let before = rss();
        let mut random = Random::new(9);
        let mut run = measure(self.0, || {
            for _ in 0..self.0 {
                let slot = random.below(SLOTS as u64) as usize;
                let _tenant = tenants[slot % TENANTS].enter();
                held[slot] = match held[slot].take() {
                    Some(_ends) => None,
                    None => Some(maker.make()),
                };
            }
        });
        let count = |held: &[Option<M::Object>]| held.iter().flatten().count() as f64;
        run.value = rss().saturating_sub(before) as f64 / count(&held);
        for (slot, object) in held.iter_mut().enumerate() {
            if slot % TENANTS % 2 == 0 {
                *object = None;
            }
        }
        for tenant in tenants.iter().step_by(2) {
            tenant.remove().expect("nobody is in it");
        }
        run.extra = slab_bytes() as f64 / (count(&held) * 64.0);
        run
    }
}
