//! Text in and out: what people may see of any bytes, numbers as the kernel reads them, keyed lines.

use super::error::FileError;
use crate::engine::Engine;
use crate::units::{Limit, parse_limit, parse_size};
use std::fmt::{self, Write as _};

/// `bytes` on one line: UTF-8 as it stands; control characters, backslashes and what is no UTF-8 as `\ooo`, as the
/// kernel writes them in its own files.
#[must_use]
pub fn visible(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                let mut utf8 = [0; 4];
                octal(&mut out, c.encode_utf8(&mut utf8).as_bytes());
            } else {
                out.push(c);
            }
        }
        octal(&mut out, chunk.invalid());
    }
    out
}

fn octal(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        put(out, format_args!("\\{byte:03o}"));
    }
}

/// `bytes` in a message: quoted, printable, not too long.
pub(super) fn quoted(bytes: &[u8]) -> String {
    const MOST: usize = 40;
    let cut = &bytes[..bytes.len().min(MOST)];
    let dots = if cut.len() < bytes.len() { "…" } else { "" };
    format!("\"{}{dots}\"", visible(cut))
}

/// Appends; a `String` takes everything.
pub(super) fn put(out: &mut String, what: fmt::Arguments<'_>) {
    let _ = out.write_fmt(what);
}

/// Appends a line `key value`.
pub(super) fn key(out: &mut String, key: &str, value: impl fmt::Display) {
    put(out, format_args!("{key} {value}\n"));
}

/// The path a name ends, printable. The caller is pinned.
pub(super) fn path_of_name(engine: &Engine, name: u32) -> String {
    let mut path = Vec::new();
    engine
        .tree
        .with_path(name, |piece| path.extend_from_slice(piece));
    visible(&path)
}

/// The path of a group, printable. The caller is pinned.
pub(super) fn path_of_group(engine: &Engine, index: u32) -> String {
    path_of_name(engine, engine.tree.memcgs.get(index).name())
}

/// What was written, without white space at its ends.
pub(super) fn strip(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// Its words.
pub(super) fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// A decimal number and nothing else.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    let digits = strip(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A limit or `max`.
pub(super) fn limit(value: &[u8]) -> Result<Limit, FileError> {
    parse_limit(value).map_err(|why| {
        FileError::invalid(format!(
            "{}: {why}: write bytes, a size such as 64M, or max",
            quoted(value)
        ))
    })
}

/// A size.
pub(super) fn size(value: &[u8]) -> Result<u64, FileError> {
    parse_size(value).map_err(|why| {
        FileError::invalid(format!(
            "{}: {why}: write bytes or a size such as 64M",
            quoted(value)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_visible_is_one_line_and_keeps_apart_what_differs() {
        assert_eq!(visible("/a b/ü".as_bytes()), "/a b/ü");
        assert_eq!(visible(b"a\tb\n\x7f\\"), "a\\011b\\012\\177\\134");
        assert_eq!(visible(b"x\xffy"), "x\\377y");
        assert_eq!(visible("\u{9b}".as_bytes()), "\\302\\233");
    }

    #[test]
    fn a_number_is_digits_only() {
        assert_eq!(number(b" 12\n"), Some(12));
        for junk in [
            &b""[..],
            b"-1",
            b"+1",
            b"1x",
            b"1 2",
            b"99999999999999999999",
        ] {
            assert_eq!(number(junk), None);
        }
    }
}
