//! Which caches' objects a group accounts: words `+name`, `-name`, `*`, set for a group and all
//! groups below it that have none of their own.
//!
//! The last word that fits a cache's name decides. A `*` inside a word fits any bytes; as a word of
//! its own it means `+*`. Where no word fits, and where nobody has set any, objects are accounted.
//! Few groups have words, so they are searched in a list.
//!
//! Invariants: a reader gets the words of one `set`, never a mixture of two (`version`).
//! Depends on: `Engine::filters_lock`, which makes writers one at a time.
//! Never: a lock for a reader.

use super::{Caches, NAME_BYTES};
use crate::counter::Level;
use crate::group::{GroupId, Memcg};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::AtomicU32;
use crate::sync::id::AtomicId;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Bytes of a group's words.
pub const FILTER_BYTES: usize = 248;
const WORDS: usize = FILTER_BYTES / 8;

/// One group's words.
#[derive(Default)]
pub struct Filter {
    /// Odd while it is written.
    version: AtomicU32,
    /// The group whose words these are. `None`: the record is free.
    group: AtomicId<GroupId>,
    generation: AtomicU32,
    link: AtomicU32,
    text: [AtomicU64; WORDS],
}

// SAFETY: every field is an atomic integer or an index of one, so zero bytes are a filter of no
// group.
unsafe impl Zeroed for Filter {}
// SAFETY: the answer is always the same field, and nothing in this room reads or writes `link`; the
// arena alone uses it.
unsafe impl Record for Filter {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// Words, with zeros behind them.
pub type Text = [u8; FILTER_BYTES];

/// Whether `words` say that objects of the cache `name` are accounted.
#[must_use]
pub fn accounts(words: &[u8], name: &[u8]) -> bool {
    words
        .split(u8::is_ascii_whitespace)
        .filter_map(|word| match word.split_first()? {
            (b'+', pattern) => fits(pattern, name).then_some(true),
            (b'-', pattern) => fits(pattern, name).then_some(false),
            _ => (word == b"*").then_some(true),
        })
        .next_back()
        .unwrap_or(true)
}

/// Whether the words can be set: `+name`, `-name`, `*`.
#[must_use]
pub fn is_valid(words: &[u8]) -> bool {
    words.len() <= FILTER_BYTES
        && words
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .all(|word| match word.split_first() {
                Some((b'+' | b'-', name)) => !name.is_empty() && name.len() <= NAME_BYTES,
                _ => word == b"*",
            })
}

/// Whether a pattern, in which `*` is any bytes, is the name.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.iter().position(|&b| b == b'*') {
        None => pattern == name,
        Some(at) => {
            let (head, tail) = (&pattern[..at], &pattern[at + 1..]);
            name.len() >= at
                && &name[..at] == head
                && (at..=name.len()).any(|from| fits(tail, &name[from..]))
        }
    }
}

fn trimmed(text: &[u8]) -> &[u8] {
    &text[..text.iter().position(|&b| b == 0).unwrap_or(text.len())]
}

impl Filter {
    /// The words of a group. `None`: this filter is another group's.
    fn text_of(&self, group: &Memcg) -> Option<Text> {
        loop {
            // Acquire pairs with the Release of `set`: words of one writing.
            let version = self.version.load(Acquire);
            let is_its = self.group.load(Relaxed) == Some(group.index())
                && self.generation.load(Relaxed) == group.generation();
            let mut text = [0; FILTER_BYTES];
            for (to, from) in text.chunks_exact_mut(8).zip(&self.text) {
                to.copy_from_slice(&from.load(Relaxed).to_ne_bytes());
            }
            // Pairs with the Release fence of `set`: if a word above was of a later `set`, its odd
            // version is seen here.
            core::sync::atomic::fence(Acquire);
            if version & 1 == 0 && self.version.load(Relaxed) == version {
                return is_its.then_some(text);
            }
            crate::sync::relax();
        }
    }

    fn set(&self, group: &Memcg, words: &[u8]) {
        let version = self.version.load(Relaxed);
        self.version.store(version | 1, Relaxed);
        // Pairs with the Acquire fence of `text_of`: the odd version is seen before any word.
        core::sync::atomic::fence(Release);
        let mut text = [0; FILTER_BYTES];
        text[..words.len()].copy_from_slice(words);
        for (to, from) in self.text.iter().zip(text.as_chunks().0) {
            to.store(u64::from_ne_bytes(*from), Relaxed);
        }
        self.generation.store(group.generation(), Relaxed);
        self.group.store(Some(group.index()), Relaxed);
        // Release pairs with the Acquire of `text_of`: the words, then the even version.
        self.version.store((version | 1) + 1, Release);
    }
}

impl Caches {
    fn filter_of(&self, group: &Memcg) -> Option<(&Filter, Text)> {
        self.filters
            .each()
            .find_map(|(_, filter)| Some((filter, filter.text_of(group)?)))
    }

    /// The words of a group, of its own or inherited; `None`: there are none.
    pub fn filter_text(&self, group: &Memcg) -> Option<Text> {
        let mut level = Some(group);
        while let Some(group) = level {
            if let Some((_, text)) = self.filter_of(group) {
                return Some(text);
            }
            level = group.parent();
        }
        None
    }

    /// Whether a group accounts objects of the cache `name`. O(depth × groups with words).
    pub fn is_accounted_in(&self, group: &Memcg, name: &[u8]) -> bool {
        self.filter_text(group)
            .is_none_or(|text| accounts(trimmed(&text), trimmed(name)))
    }

    /// Sets a group's words, which are valid; with none it inherits again. Answers whether any
    /// group has words. `None` without memory. One caller at a time.
    pub fn set_filter(
        &self,
        group: &Memcg,
        words: &[u8],
        is_gone: impl Fn(GroupId, u32) -> bool,
    ) -> Option<bool> {
        let found = self.filter_of(group).map(|(filter, _)| filter);
        match found {
            Some(filter) if words.is_empty() => {
                filter.group.store(None, Relaxed);
            }
            Some(filter) => filter.set(group, words),
            None if words.is_empty() => {}
            None => {
                // The filter of a group that has gone, or a new one.
                let old = self
                    .filters
                    .each()
                    .map(|(_, filter)| filter)
                    .find(|filter| {
                        let of = filter.group.load(Relaxed);
                        of.is_none_or(|of| is_gone(of, filter.generation.load(Relaxed)))
                    });
                let filter = match old {
                    Some(filter) => filter,
                    None => self.filters.get(self.filters.alloc(1 << 20)?),
                };
                filter.set(group, words);
            }
        }
        let mut all = self.filters.each();
        let any = all.any(|(_, filter)| filter.group.load(Relaxed).is_some());
        Some(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_that_fits_decides() {
        for (words, name, expected) in [
            ("", "dentry", true),
            ("-dentry", "dentry", false),
            ("-dentry", "inode", true),
            ("-* +dentry", "dentry", true),
            ("-* +dentry", "inode", false),
            ("+dentry -*", "dentry", false),
            ("-* *", "inode", true),
            ("-a*c", "abbc", false),
            ("-a*c", "abb", true),
            ("-*tr*", "dentry", false),
        ] {
            assert!(is_valid(words.as_bytes()));
            assert_eq!(
                accounts(words.as_bytes(), name.as_bytes()),
                expected,
                "{words}"
            );
        }
        for words in ["dentry", "+", "-", "**", "+dentry inode"] {
            assert!(!is_valid(words.as_bytes()), "{words}");
        }
    }
}
