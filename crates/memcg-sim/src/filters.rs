//! The step by which a group is told which caches' objects it accounts, and what that comes to.

#![forbid(unsafe_code)]

use crate::world::World;

/// What can be told, and which caches' objects are accounted then, by `NAMES`. The first is
/// nothing: as above.
const WORDS: [(&str, [bool; 3]); 6] = [
    ("", [true, true, true]),
    ("-sim0", [false, true, true]),
    ("-sim* +sim1", [false, true, false]),
    ("*", [true, true, true]),
    ("-*", [false, false, false]),
    ("+sim2 -sim0", [false, true, true]),
];

/// Names of caches, in turn.
pub(crate) const NAMES: [&[u8]; 3] = [b"sim0", b"sim1", b"sim2"];

impl World {
    pub(crate) fn filter(&mut self, n: [u32; 4]) {
        let g = self.stage.online(n[0]);
        let words = n[1] as usize % WORDS.len();
        let text = WORDS[words].0.as_bytes();
        if self.engine.set_cache_filter(self.stage.group(g), text) {
            self.stage.books.borrow_mut().groups[g].words = words;
        } else {
            assert!(self.is_lenient(), "no memory for words");
        }
    }

    /// Whether objects of a cache are accounted where an owner is: as the nearest group says that
    /// was told anything.
    pub(crate) fn accounts(&self, owner: usize, cache: usize) -> bool {
        let books = self.stage.books.borrow();
        let chain = books.chain(books.owners[owner].group);
        let told = chain.iter().map(|&g| books.groups[g].words);
        let words = told.into_iter().find(|&words| words != 0).unwrap_or(0);
        WORDS[words].1[self.caches[cache].name]
    }
}
