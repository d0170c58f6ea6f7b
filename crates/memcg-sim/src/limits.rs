//! The steps of limits and of reclaim.

use crate::stage::OPS;
use crate::step::Limit;
use crate::world::World;
use memcg::testing::counter::page_counter::UNLIMITED;
use memcg::testing::engine::progress::ask_of;
use memcg::testing::group::OomPolicy;
use memcg::testing::kmem::shrinker_registry::Manner;
use memcg::testing::os::clock::own;
use memcg::testing::sync::lock::Rank;

impl World {
    pub(crate) fn limit(&mut self, limit: Limit, n: [u32; 4]) {
        let g = self.online(n[0]);
        if g == 0 {
            return;
        }
        let (tree, rec, group) = (&self.engine.tree, self.rec(), self.stage.group(g));
        let bytes = match n[1] % 4 {
            0 => UNLIMITED,
            1 => u64::from(n[2]),
            _ => u64::from(n[2]) * 8,
        };
        let drain = || {
            let _pin = tree.threads.epoch.pin(rec);
            tree.drain(rec, group);
        };
        let set = |set: &dyn Fn()| {
            let _held = group.lock.lock(Rank::Group);
            set();
        };
        match limit {
            Limit::Max => self.set_max(g, bytes),
            Limit::High => {
                drain();
                set(&|| group.counter.set_high(bytes));
                self.stage.books.borrow_mut().groups[g].high = bytes;
                if self.engine.reclaim_to(rec, group, bytes) && self.is_online(g) {
                    assert!(group.counter.usage() <= bytes, "reclaimed to high");
                }
            }
            Limit::KmemMax => {
                group.set_kmem_max(bytes);
                drain();
                self.stage.books.borrow_mut().groups[g].kmem_max = bytes;
            }
            Limit::Protect => set(&|| {
                let bytes = if bytes == UNLIMITED { 0 } else { bytes };
                match n[1] % 2 {
                    0 => {
                        group.counter.set_min(bytes);
                        self.stage.books.borrow_mut().groups[g].min = bytes;
                    }
                    _ => {
                        group.counter.set_low(bytes);
                        self.stage.books.borrow_mut().groups[g].low = bytes;
                    }
                }
            }),
        }
    }

    /// As a write of `memory.max`.
    pub(crate) fn set_max(&self, g: usize, bytes: u64) {
        let (tree, rec, group) = (&self.engine.tree, self.rec(), self.stage.group(g));
        {
            let _pin = tree.threads.epoch.pin(rec);
            tree.drain(rec, group);
        }
        {
            let _held = group.lock.lock(Rank::Group);
            group.counter.set_max(bytes);
        }
        self.stage.books.borrow_mut().groups[g].max = bytes;
        if !self.engine.reclaim_to(rec, group, bytes) {
            self.kill_to_max(g);
        } else if self.is_online(g) {
            assert!(group.counter.usage() <= bytes, "reclaimed to max");
        }
    }

    /// What a write of max comes to where there is too much still.
    fn kill_to_max(&self, g: usize) {
        // What is in stock nobody holds: who dies is a matter of the books alone.
        self.drain_all();
        self.stage.adopt_if(true);
        let policy = self.stage.books.borrow().groups[g].oom_policy;
        let kills = policy == OomPolicy::Kill && self.is_there(g);
        let is_sure = !self.is_lenient() && self.stage.books.borrow().is_sure_below(g);
        let now = own::now().unwrap_or_default();
        if kills && is_sure {
            self.stage.books.borrow_mut().kill_to_max(g, now);
        }
        let ask = ask_of(self.stage.group(g));
        self.engine.kill_to_max(self.rec(), ask);
        if kills && !is_sure {
            self.adopt_kills(&[g], now);
        }
    }

    pub(crate) fn reserve(&mut self, n: [u32; 4]) {
        let g = self.online(n[0]);
        if g == 0 {
            return;
        }
        let bytes = u64::from(n[2]) * 8 * u64::from(n[1] % 3);
        let fits = self.stage.books.borrow_mut().fits_reserve(g, bytes);
        let try_it = || {
            let _pin = self.engine.tree.threads.epoch.pin(self.rec());
            let group = self.stage.group(g);
            self.engine.set_reserve(self.rec(), group, bytes)
        };
        let mut outcome = try_it();
        if outcome.is_err() {
            self.drain_all();
            outcome = try_it();
        }
        assert_eq!(outcome.is_ok(), fits, "reserving {bytes}: {outcome:?}");
        if fits {
            self.stage.books.borrow_mut().groups[g].reserve = bytes;
        }
    }

    pub(crate) fn reclaim(&mut self, n: [u32; 4]) {
        let group = self.stage.group(self.online(n[0]));
        self.engine
            .reclaim_bytes(self.rec(), group, u64::from(n[2]));
    }

    pub(crate) fn drain(&mut self, n: [u32; 4]) {
        let (tree, group) = (&self.engine.tree, self.stage.group(self.online(n[0])));
        let _pin = tree.threads.epoch.pin(self.rec());
        tree.drain(self.rec(), group);
        let (stocked, granted) = (tree.usage(group).stocked, group.counter.granted());
        assert_eq!((stocked, granted), (0, 0), "a drain takes all");
    }

    pub(crate) fn toggle_shrinker(&mut self, n: [u32; 4]) {
        let shrinkers = &self.engine.kmem.shrinkers;
        if let Some(index) = self.shrinker.take() {
            shrinkers.unregister(index);
            return;
        }
        let manner = Manner {
            per_group: true,
            seeks: n[0] % 3,
            batch: u64::from(n[1]),
            list: n[3].is_multiple_of(2).then_some(self.stage.list),
        };
        // SAFETY: the functions need no data.
        self.shrinker = unsafe { shrinkers.register(&OPS, core::ptr::null(), manner) };
    }
}
