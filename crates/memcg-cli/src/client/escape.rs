//! Words of the protocol: any bytes, written in printable ASCII without blanks.
//!
//! Space, `%`, control characters and bytes from 0x7f up are written `%XX`. The empty word is a
//! lone `%`.

use std::fmt::{self, Write as _};

/// `bytes` as a word.
pub fn escape(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "%".to_owned();
    }
    let mut word = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'%' | 0..=b' ' | 0x7f.. => {
                let _ = write!(word, "%{byte:02X}");
            }
            plain => word.push(char::from(*plain)),
        }
    }
    word
}

/// A `%` that two hexadecimal digits do not follow.
#[derive(Debug, PartialEq, Eq)]
pub struct BadEscape;

impl fmt::Display for BadEscape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a % without two hexadecimal digits")
    }
}

/// The bytes a word stands for.
pub fn unescape(word: &str) -> Result<Vec<u8>, BadEscape> {
    if word == "%" {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (rest.next().and_then(hex), rest.next().and_then(hex)) else {
            return Err(BadEscape);
        };
        bytes.push(high << 4 | low);
    }
    Ok(bytes)
}

/// `bytes` for a person's eyes: UTF-8 where it is, and no control character.
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_round_trip_as_printable_ascii() {
        let all: Vec<u8> = (0..=255).collect();
        let word = escape(&all);
        assert!(word.bytes().all(|b| b.is_ascii_graphic()));
        assert_eq!(unescape(&word), Ok(all));
        for byte in 0..=255 {
            assert_eq!(unescape(&escape(&[byte])), Ok(vec![byte]));
        }
    }

    #[test]
    fn the_empty_word_is_a_lone_percent_sign() {
        assert_eq!(escape(b""), "%");
        assert_eq!(unescape("%"), Ok(Vec::new()));
    }

    #[test]
    fn words_are_written_as_the_protocol_says() {
        assert_eq!(escape(b"/a/memory.max"), "/a/memory.max");
        assert_eq!(escape("50 % \u{fc}\n".as_bytes()), "50%20%25%20%C3%BC%0A");
        assert_eq!(unescape("a%2fb"), Ok(b"a/b".to_vec()));
    }

    #[test]
    fn a_broken_escape_is_an_error() {
        for word in ["%4", "a%", "%zz", "%+1", "%%"] {
            assert_eq!(unescape(word), Err(BadEscape), "{word}");
        }
    }

    #[test]
    fn what_is_printed_cannot_steer_the_terminal() {
        assert_eq!(printable(b"a\x1b[2J\xff"), "a?[2J\u{fffd}");
    }
}
