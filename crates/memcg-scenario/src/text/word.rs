//! A line of a scenario as words, each with its column.
//!
//! Words are separated by blanks. `"…"` is one word with anything in it (`\n \t \r \\ \" \xHH`);
//! `#` at the head of a word begins a comment.
//!
//! Invariants: a word is bytes, for a group's name need not be text; columns count characters
//! from 1.
//! Depends on: nothing.
//! Never: a panic, or more than O(length) steps, whatever the bytes are.

/// What is wrong in a line, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The column, in characters from 1.
    pub column: usize,
    /// What is there, and what was expected.
    pub message: String,
}

impl Wrong {
    /// Something wrong at a column.
    pub fn new(column: usize, message: impl Into<String>) -> Wrong {
        Wrong {
            column,
            message: message.into(),
        }
    }
}

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its bytes, without quotes.
    pub bytes: Vec<u8>,
    /// Where it begins.
    pub column: usize,
    /// Whether it was in quotes. Such a word is a value, never a keyword.
    pub quoted: bool,
}

impl Word {
    /// The word as a person can read it on one line.
    pub fn show(&self) -> String {
        show(&self.bytes)
    }

    /// Whether it is this keyword.
    pub fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.bytes == keyword.as_bytes()
    }
}

/// Bytes as a person can read them on one line.
pub fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// The words of a line that has no newline. O(length).
pub fn words(line: &[u8]) -> Result<Vec<Word>, Wrong> {
    let mut all = Vec::new();
    let (mut at, mut column) = (0, 1);
    loop {
        let blanks = line[at..].iter().take_while(|&&b| is_blank(b)).count();
        at += blanks;
        column += blanks;
        let rest = &line[at..];
        let (bytes, length) = match rest.first() {
            None | Some(b'#') => return Ok(all),
            Some(b'"') => quoted(rest).map_err(|wrong| from(wrong, column))?,
            Some(_) => plain(rest).map_err(|wrong| from(wrong, column))?,
        };
        all.push(Word {
            bytes,
            column,
            quoted: rest[0] == b'"',
        });
        at += length;
        column += characters(&rest[..length]);
    }
}

/// `wrong` of a word, as a place in the line where the word begins at `column`.
fn from(wrong: Wrong, column: usize) -> Wrong {
    Wrong::new(column + wrong.column - 1, wrong.message)
}

/// The number of characters in `text`. A byte that is part of none counts as one.
fn characters(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).chars().count()
}

/// A word without quotes at the head of `text`, and its length. Columns count from its head.
fn plain(text: &[u8]) -> Result<(Vec<u8>, usize), Wrong> {
    let end = text.iter().take_while(|&&b| !is_blank(b)).count();
    match text[..end].iter().position(|&b| b < b' ' || b == 0x7f) {
        None => Ok((text[..end].to_vec(), end)),
        Some(bad) => Err(Wrong::new(
            characters(&text[..bad]) + 1,
            format!(
                "a control character (0x{0:02x}): expected it in quotes, as \\x{0:02x}",
                text[bad]
            ),
        )),
    }
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r')
}

/// A word in quotes at the head of `text`, and its length with the quotes. Columns count from its
/// head.
fn quoted(text: &[u8]) -> Result<(Vec<u8>, usize), Wrong> {
    let mut bytes = Vec::new();
    let mut i = 1;
    loop {
        match &text[i..] {
            [] => return Err(Wrong::new(1, "this quote is never closed on its line")),
            [b'"'] => return Ok((bytes, i + 1)),
            [b'"', next, ..] if is_blank(*next) => return Ok((bytes, i + 1)),
            [b'"', ..] => {
                return Err(Wrong::new(
                    characters(&text[..=i]) + 1,
                    "a blank is expected after a closing quote",
                ));
            }
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |d: u8| char::from(d).to_digit(16).unwrap_or(0) as u8;
                bytes.push(digit(*high) << 4 | digit(*low));
                i += 4;
            }
            [b'\\', escaped, ..] if b"ntr\\\"".contains(escaped) => {
                bytes.push(match escaped {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    other => *other,
                });
                i += 2;
            }
            [b'\\', ..] => {
                return Err(Wrong::new(
                    characters(&text[..i]) + 1,
                    "after a backslash one of n t r \\ \" xHH is expected",
                ));
            }
            [byte, ..] => {
                bytes.push(*byte);
                i += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        let words = words(line.as_bytes()).expect("a line");
        words.iter().map(Word::show).collect()
    }

    #[test]
    fn words_are_separated_by_blanks_and_comments_end_a_line() {
        assert_eq!(texts(" a  b\tc\r"), ["a", "b", "c"]);
        assert_eq!(texts("a#b # c d"), ["a#b"]);
        assert_eq!(texts("# nothing"), [""; 0]);
        assert_eq!(texts(r#"write "a b" """#), ["write", "a b", ""]);
        assert_eq!(words(br#""\n\x41\\""#).expect("a line")[0].bytes, b"\nA\\");
        let line = words("± b".as_bytes()).expect("a line");
        assert_eq!((line[0].column, line[1].column), (1, 3));
    }

    #[test]
    fn what_is_no_word_is_refused_with_its_column() {
        for (line, column) in [
            (&b"a \"b"[..], 3),
            (b"a \"\\q\"", 4),
            (b"a \"b\"c", 6),
            (b"a b\x01", 4),
        ] {
            let wrong = words(line).expect_err("it is wrong");
            assert_eq!(wrong.column, column, "{}", wrong.message);
        }
    }
}
