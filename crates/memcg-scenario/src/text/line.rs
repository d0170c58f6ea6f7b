//! A cursor over the words of a line, and the words that every command has: names, tags, paths.
//!
//! Invariants: a refusal has the column of the word that is wrong, or of the place where one is
//! missing.
//! Depends on: `word`.
//! Never: knows which commands there are. Which words are commands it is told.

use crate::text::word::{Word, Wrong};

/// A name of a task, tag or cache, or a path: bytes, as groups' names are.
pub type Name = Vec<u8>;

/// The words of a line, of which the first ones are taken.
pub struct Line<'a> {
    words: &'a [Word],
    at: usize,
    is_command: fn(&Word) -> bool,
}

impl<'a> Line<'a> {
    /// None of `words` is taken. `is_command` says which words cannot be names.
    pub fn new(words: &'a [Word], is_command: fn(&Word) -> bool) -> Line<'a> {
        Line {
            words,
            at: 0,
            is_command,
        }
    }

    /// The column of the next word, or where it would be.
    pub fn column(&self) -> usize {
        match (self.words.get(self.at), self.words.last()) {
            (Some(word), _) => word.column,
            (None, Some(last)) => last.column + last.show().chars().count() + 1,
            (None, None) => 1,
        }
    }

    /// The next word without taking it.
    pub fn peek(&self) -> Option<&'a Word> {
        self.words.get(self.at)
    }

    /// Takes the next word; a refusal says that `what` is expected.
    pub fn next(&mut self, what: &str) -> Result<&'a Word, Wrong> {
        let word = self
            .peek()
            .ok_or_else(|| Wrong::new(self.column(), format!("the line ends: expected {what}")))?;
        self.at += 1;
        Ok(word)
    }

    /// Takes the next word if it is `keyword`.
    pub fn take(&mut self, keyword: &str) -> bool {
        let is = self.peek().is_some_and(|word| word.is(keyword));
        self.at += usize::from(is);
        is
    }

    /// Takes `nr` words without looking at them.
    pub fn skip(&mut self, nr: usize) {
        self.at += nr;
    }

    /// Gives the last word back.
    pub fn back(&mut self) {
        self.at -= 1;
    }

    /// Refuses a word that is left.
    pub fn end(&self) -> Result<(), Wrong> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(Wrong::new(
                word.column,
                format!(
                    "'{}' is too much: expected the end of the line",
                    word.show()
                ),
            )),
        }
    }

    /// Takes the path of a group.
    pub fn path(&mut self) -> Result<Name, Wrong> {
        let word = self.next("the path of a group")?;
        if word.quoted || word.bytes.starts_with(b"/") {
            return Ok(word.bytes.clone());
        }
        Err(Wrong::new(
            word.column,
            format!("'{}': expected the path of a group, as /a", word.show()),
        ))
    }

    /// Takes all words that are left: paths, of which there is one at least.
    pub fn paths(&mut self) -> Result<Vec<Name>, Wrong> {
        let mut all = vec![self.path()?];
        while self.peek().is_some() {
            all.push(self.path()?);
        }
        Ok(all)
    }

    /// Takes a name that something has; a refusal says that `what` is expected.
    pub fn name(&mut self, what: &str) -> Result<Name, Wrong> {
        let word = self.next(what)?;
        if word.bytes.is_empty() {
            return Err(Wrong::new(word.column, format!("expected {what}")));
        }
        Ok(word.bytes.clone())
    }

    /// Takes a name for something new: no command, and without `/` and `:`.
    pub fn new_name(&mut self, what: &str) -> Result<Name, Wrong> {
        let word = self.next(what)?;
        if word.bytes.is_empty() || word.bytes.contains(&b'/') || word.bytes.contains(&b':') {
            return Err(Wrong::new(
                word.column,
                format!("'{}': expected {what}, without / and :", word.show()),
            ));
        }
        if (self.is_command)(word) {
            return Err(Wrong::new(
                word.column,
                format!("'{}' is a command: expected {what}", word.show()),
            ));
        }
        Ok(word.bytes.clone())
    }
}
