//! Words on the wire: any bytes, with each byte that would end or confuse a line written as `%XX`.
//!
//! Invariants: `unescape` gives back what `escape` was given.
//! Depends on: nothing.
//! Never: answers a word with white space or control characters in it.

#![forbid(unsafe_code)]

/// A word as it goes on the wire. The empty word is `%`.
#[must_use]
pub fn escape(word: &[u8]) -> String {
    if word.is_empty() {
        return "%".into();
    }
    let mut text = String::with_capacity(word.len());
    for &byte in word {
        if (0x21..0x7f).contains(&byte) && byte != b'%' {
            text.push(byte as char);
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

/// The bytes of a word from the wire; `None` when a `%` is followed by anything but two hexadecimal
/// digits.
#[must_use]
pub fn unescape(word: &[u8]) -> Option<Vec<u8>> {
    if word == b"%" {
        return Some(Vec::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = tail
                .get(..2)
                .and_then(|two| core::str::from_utf8(two).ok())?;
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_survive_the_wire(bytes: Vec<u8>) {
            let word = escape(&bytes);
            prop_assert!(!word.is_empty() && word.bytes().all(|b| (0x21..0x7f).contains(&b)));
            prop_assert_eq!(unescape(word.as_bytes()), Some(bytes));
        }

        #[test]
        fn any_word_is_read_or_refused(word: Vec<u8>) {
            let _ = unescape(&word);
        }
    }
}
