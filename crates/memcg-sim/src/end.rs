//! The end of a world: everything is freed, in an order of its own, and nothing is left.

#![forbid(unsafe_code)]

use crate::books::Css;
use crate::world::World;
use memcg::testing::common::{Random, assert_empty};

impl World {
    pub(crate) fn finish(mut self, seed: u64) {
        self.heal();
        self.audit();
        let mut random = Random(seed | 1);
        // Some before the groups, some after them.
        for half in 0..2 {
            let mut ids: Vec<u64> = self.stage.books.borrow().things.keys().copied().collect();
            let keep = if half == 0 { ids.len() / 2 } else { 0 };
            while ids.len() > keep {
                let id = ids.swap_remove(random.next(ids.len() as u64) as usize);
                self.put_on(random.next(64) as u32);
                self.stage.free(id);
            }
            self.stage.books.borrow_mut().settle();
            self.audit();
            if half == 0 {
                self.end_groups();
                self.audit();
            }
        }
        while self.caches.iter().any(|cache| cache.open) {
            self.end_cache([0; 4]);
        }
        let pools = self.pools.iter_mut().filter_map(Option::take);
        for index in self.shrinker.take().into_iter().chain(pools) {
            self.engine.kmem.shrinkers.unregister(index);
        }
        while self.threads.len() > 1 {
            self.end_thread(0);
            self.put_on(0);
        }
        let lists = &self.engine.kmem.lists;
        self.engine
            .with_lists(self.rec(), |cx| lists.close(cx, self.stage.list));
        assert_eq!(lists.nr_heads(), 0, "heads of lists are left");
        self.end_thread(0);
        self.nothing_is_left();
    }

    fn end_groups(&mut self) {
        for t in 0..self.threads.len() {
            while !self.threads[t].scopes.is_empty() {
                self.leave(t);
            }
        }
        while !self.tasks.is_empty() {
            self.end_task([0; 4]);
        }
        while !self.stage.books.borrow().waits.is_empty() {
            self.cancel([0; 4]);
        }
        loop {
            let online = self.stage.books.borrow().there(Css::Online);
            let Some(at) = online.len().checked_sub(1).filter(|&at| at > 0) else {
                break;
            };
            // The last has no children.
            self.stage.remove([at as u32, 0, 0, 0]);
            self.settle_holders();
            self.follow_fork();
        }
        let is_held = |world: &Self| {
            let books = world.stage.books.borrow();
            books.owners.iter().skip(1).any(|owner| owner.held)
        };
        self.stage.books.borrow_mut().settle();
        while is_held(self) {
            self.forget([0; 4]);
        }
    }

    fn nothing_is_left(&self) {
        let (tree, kmem) = (&self.engine.tree, &self.engine.kmem);
        assert_empty(tree);
        assert_eq!(tree.nr_lingering(), 0);
        assert_eq!(tree.kmem_ids.in_use(), 1, "ids are left");
        assert_eq!(tree.threads.nr(), 0, "records of threads are left");
        kmem.each_live(|tag, _| assert_eq!(tag, None, "an object is left"));
        let left = kmem.caches.each().filter(|(_, cache)| cache.is_there());
        assert_eq!(left.count(), 0, "caches are left");
        assert!(kmem.shrinkers.is_empty());
    }
}
