//! A path, name by name; symbolic links put theirs in front of what is left.
//!
//! Invariants: empty names and `.` are passed over. A slash at the end is a part of what is left.
//! Depends on: nothing.
//! Never: knows what `..` leads to; who walks does.

use std::borrow::Cow;

/// What is left of a path.
pub struct Rest<'a> {
    text: Cow<'a, [u8]>,
    at: usize,
}

impl<'a> Rest<'a> {
    /// All of it.
    pub fn new(path: &'a [u8]) -> Rest<'a> {
        Rest {
            text: Cow::Borrowed(path),
            at: 0,
        }
    }

    /// The next name. `.` and empty names are none.
    pub fn next(&mut self) -> Option<Cow<'a, [u8]>> {
        loop {
            let from = self.at;
            if from >= self.text.len() {
                return None;
            }
            let len = self.text[from..]
                .iter()
                .position(|byte| *byte == b'/')
                .unwrap_or(self.text.len() - from);
            // Not past the slash: a name with one behind it is not the last.
            let to = from + len;
            self.at = to;
            if len == 0 {
                self.at += 1;
                continue;
            }
            if &self.text[from..to] == b"." {
                continue;
            }
            return Some(match &self.text {
                Cow::Borrowed(text) => Cow::Borrowed(&text[from..to]),
                Cow::Owned(text) => Cow::Owned(text[from..to].to_vec()),
            });
        }
    }

    /// Whether nothing is left, not even a slash, which asks for a directory.
    pub fn is_over(&self) -> bool {
        self.at >= self.text.len()
    }

    /// The last name was a symbolic link that leads there.
    pub fn lead_to(&mut self, target: &[u8]) {
        let mut text = target.to_vec();
        text.extend_from_slice(&self.text[self.at..]);
        self.text = Cow::Owned(text);
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<String> {
        let mut rest = Rest::new(path.as_bytes());
        let mut names = Vec::new();
        while let Some(name) = rest.next() {
            let end = if rest.is_over() { "$" } else { "" };
            names.push(String::from_utf8(name.into_owned()).unwrap() + end);
        }
        names
    }

    #[test]
    fn a_path_is_its_names_and_whether_a_directory_is_asked_for() {
        assert_eq!(names("/a//b/./c"), ["a", "b", "c$"]);
        assert_eq!(names("a/../b/"), ["a", "..", "b"]);
        assert_eq!(names("a/."), ["a"]);
        assert!(names("").is_empty() && names("/./").is_empty());
    }

    #[test]
    fn a_link_goes_before_what_is_left() {
        let mut rest = Rest::new(b"a/b/c");
        rest.next();
        rest.lead_to(b"x/y");
        let mut left = Vec::new();
        while let Some(name) = rest.next() {
            left.push(name.into_owned());
        }
        assert_eq!(left, [b"x".to_vec(), b"y".into(), b"b".into(), b"c".into()]);
    }
}
