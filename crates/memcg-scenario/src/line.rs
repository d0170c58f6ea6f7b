//! The words of a line, taken one after the other.

use crate::words::{Word, Wrong};

/// See the module.
pub struct Line<'a> {
    words: &'a [Word],
    at: usize,
}

impl<'a> Line<'a> {
    /// Of a line with a word at least.
    pub fn new(words: &'a [Word]) -> Line<'a> {
        Line { words, at: 0 }
    }

    /// Where the next word is or would be.
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

    /// The next word; `what` it should be.
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

    /// Passes over words.
    pub fn skip(&mut self, nr: usize) {
        self.at += nr;
    }

    /// Goes back to the word before.
    pub fn back(&mut self) {
        self.at -= 1;
    }

    /// Nothing may follow.
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
}
