//! `PATH:FILE[.KEY]`: the place of a figure, and how it is found in a file's text.
//!
//! A key is looked for in the four forms that cgroup v2 files have: `KEY VALUE` lines,
//! `KEY NAME=VALUE…` lines (`KEY.NAME`), tables with a head (`ROW.COLUMN`), and lists, of which
//! `.lines` is the number of lines.
//!
//! Invariants: the longest name of the engine's table of files that fits is the file.
//! Depends on: `word`, `line`, `number`, and the engine's table of files.
//! Never: reads a file.

use crate::text::line::{Line, Name};
use crate::text::number::Number;
use crate::text::word::{Word, Wrong, show};
use memcg::testing::files::FILES;

/// A file of a group, or of all groups a `*` stands for, and perhaps a key in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The group's path; a component `*` stands for all children.
    pub group: Vec<u8>,
    /// File and key as written: `memory.events.local.max`.
    pub name: String,
    /// As written, for people.
    pub text: String,
}

/// What a file of swap is called. The kernel has some that are not in this build.
const SWAP: [&str; 2] = ["memory.swap.", "memory.zswap."];

impl Reference {
    /// Reads `PATH:FILE[.KEY]`, or `PATH/FILE[.KEY]`. `None` when the word is nothing like it.
    pub fn read(word: &Word) -> Option<Result<Reference, Wrong>> {
        if word.quoted {
            return None;
        }
        let bytes = &word.bytes;
        let colon = (0..bytes.len()).find(|&i| bytes[i] == b':' && begins_a_name(&bytes[i + 1..]));
        let slash =
            || (0..bytes.len()).find(|&i| bytes[i] == b'/' && begins_a_name(&bytes[i + 1..]));
        let Some(split) = colon.or_else(slash) else {
            let looks_so = bytes.starts_with(b"/") && bytes.contains(&b':');
            return looks_so.then(|| {
                let column = word.column + bytes.iter().position(|&b| b == b':').unwrap_or(0) + 1;
                Err(Wrong::new(
                    column,
                    format!(
                        "'{}' names no file: expected PATH:FILE[.KEY], as /a:memory.current",
                        word.show()
                    ),
                ))
            });
        };
        let Ok(name) = core::str::from_utf8(&bytes[split + 1..]) else {
            return Some(Err(Wrong::new(
                word.column + split + 1,
                "the name of a file is expected",
            )));
        };
        Some(Ok(Reference {
            group: bytes[..split].to_vec(),
            name: name.to_owned(),
            text: word.show(),
        }))
    }

    /// The file and the key: the longest name of the table that fits; else all of it is the file.
    pub fn split(&self) -> (&str, Option<&str>) {
        let mut best: Option<&str> = None;
        for file in FILES {
            let rest = self.name.strip_prefix(file.name);
            let fits = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            if fits && best.is_none_or(|best| file.name.len() > best.len()) {
                best = Some(file.name);
            }
        }
        match best {
            Some(file) => (file, self.name[file.len()..].strip_prefix('.')),
            None => (&self.name, None),
        }
    }

    /// Whether the file would show swap, which is not there.
    pub fn needs_swap(&self) -> bool {
        is_of_swap(self.split().0)
    }
}

/// Whether a file that is not in the table would show swap.
pub fn is_of_swap(file: &str) -> bool {
    SWAP.iter().any(|head| file.starts_with(head)) && FILES.iter().all(|f| f.name != file)
}

fn begins_a_name(text: &[u8]) -> bool {
    text.starts_with(b"memory.") || text.starts_with(b"cgroup.")
}

/// Takes `PATH:FILE[.KEY]`.
pub fn reference(line: &mut Line<'_>) -> Result<Reference, Wrong> {
    let word = line.next("PATH:FILE[.KEY]")?;
    Reference::read(word).unwrap_or_else(|| {
        Err(Wrong::new(
            word.column,
            format!(
                "'{}': expected PATH:FILE[.KEY], as /a:memory.current",
                word.show()
            ),
        ))
    })
}

/// Takes `PATH/FILE`, or `PATH:FILE`: the group and the file.
pub fn file(line: &mut Line<'_>) -> Result<(Name, String), Wrong> {
    let word = line.next("PATH/FILE")?;
    if let Some(Ok(reference)) = Reference::read(word) {
        return Ok((reference.group, reference.name));
    }
    let wrong = || {
        Wrong::new(
            word.column,
            format!("'{}': expected PATH/FILE, as /a/memory.max", word.show()),
        )
    };
    let slash = word
        .bytes
        .iter()
        .rposition(|&b| b == b'/')
        .ok_or_else(wrong)?;
    let name = core::str::from_utf8(&word.bytes[slash + 1..]).map_err(|_| wrong())?;
    if name.is_empty() {
        return Err(wrong());
    }
    Ok((word.bytes[..slash].to_vec(), name.to_owned()))
}

/// What a file says, or a key of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number, or `max`.
    Number(Number),
    /// Anything else, white space made single.
    Text(String),
}

impl Value {
    /// Of a text.
    pub fn of(text: &str) -> Value {
        let text = text.trim();
        let number = text.strip_suffix('%').unwrap_or(text);
        Number::read(number.as_bytes()).map_or_else(
            || Value::Text(text.split_whitespace().collect::<Vec<_>>().join(" ")),
            Value::Number,
        )
    }
}

impl core::fmt::Display for Value {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Value::Number(number) => number.fmt(f),
            Value::Text(text) if text.is_empty() => f.write_str("nothing"),
            Value::Text(text) => f.write_str(&show(text.as_bytes())),
        }
    }
}

/// The value of a key in a file's text, or of the whole text. `None`: there is no such key.
pub fn find(text: &str, key: Option<&str>) -> Option<Value> {
    let Some(key) = key else {
        return Some(Value::of(text));
    };
    let is_table = text.lines().next().is_some_and(|head| head.contains('\t'));
    if is_table {
        return cell(text, key).or_else(|| lines(text, key, 1));
    }
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        let rest: Vec<&str> = words.collect();
        if name == key && !rest.is_empty() {
            return Some(Value::of(&rest.join(" ")));
        }
        let field = key.strip_prefix(name).and_then(|k| k.strip_prefix('.'));
        if let Some(field) = field
            && let Some((_, value)) = rest
                .iter()
                .filter_map(|word| word.split_once('='))
                .find(|(name, _)| *name == field)
        {
            return Some(Value::of(value));
        }
    }
    lines(text, key, 0)
}

fn lines(text: &str, key: &str, head: usize) -> Option<Value> {
    let nr = text.lines().filter(|line| !line.trim().is_empty()).count()
        - head.min(text.lines().count());
    (key == "lines").then(|| Value::Number(Number::whole(nr as u64)))
}

/// `ROW.COLUMN` of a table, or `ROW` for its `HELD`. Rows of one name are added up.
fn cell(table: &str, key: &str) -> Option<Value> {
    let mut rows = table.lines();
    let head: Vec<&str> = rows.next()?.split('\t').collect();
    let mut sum: Option<Number> = None;
    for row in rows {
        let cells: Vec<&str> = row.split('\t').collect();
        let Some(rest) = key.strip_prefix(*cells.first()?) else {
            continue;
        };
        let column = match rest.strip_prefix('.') {
            Some(column) => column,
            None if rest.is_empty() => "HELD",
            None => continue,
        };
        let Some(at) = head.iter().position(|h| h.eq_ignore_ascii_case(column)) else {
            continue;
        };
        match Value::of(cells.get(at)?) {
            Value::Number(number) => {
                sum = Some(sum.map_or(number, |sum| sum.plus(number, false)));
            }
            text @ Value::Text(_) => return Some(text),
        }
    }
    sum.map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Result<Reference, Wrong>> {
        Reference::read(&Word {
            bytes: text.into(),
            column: 1,
            quoted: false,
        })
    }

    #[test]
    fn the_longest_name_of_a_file_is_the_file() {
        for (text, group, file, key) in [
            ("/a:memory.current", "/a", "memory.current", None),
            ("/a:memory.events.max", "/a", "memory.events", Some("max")),
            (
                "/:memory.events.local.max",
                "/",
                "memory.events.local",
                Some("max"),
            ),
            ("/a/b/memory.stat.anon", "/a/b", "memory.stat", Some("anon")),
            ("/a:b:memory.max", "/a:b", "memory.max", None),
            (
                "/:memory.owners./a:b/t.held",
                "/",
                "memory.owners",
                Some("/a:b/t.held"),
            ),
            ("/a:memory.bogus.x", "/a", "memory.bogus.x", None),
        ] {
            let reference = read(text).expect("it is one").expect("it is right");
            assert_eq!(reference.group, group.as_bytes());
            assert_eq!(reference.split(), (file, key), "{text}");
        }
        assert!(read("deny").is_none() && read("10M").is_none());
        assert_eq!(
            read("/a:current")
                .expect("nearly")
                .expect_err("wrong")
                .column,
            4
        );
        let swap = read("/a:memory.zswap.max").expect("it is one");
        assert!(swap.expect("it is right").needs_swap());
    }

    #[test]
    fn a_key_is_found_in_every_form_of_file() {
        let number = |n| Some(Value::Number(Number::whole(n)));
        let flat = "low 0\nhigh 12\n";
        assert_eq!(find(flat, Some("high")), number(12));
        assert_eq!(find(flat, Some("hig")), None);
        let nested = "some avg10=0.50 total=7\nfull avg10=0.00 total=3\n";
        assert_eq!(find(nested, Some("full.total")), number(3));
        assert_eq!(find(nested, Some("some.avg10")), Some(Value::of("0.5")));
        let table = "ORIGIN\tSTATE\tHELD\n/a\tended-task\t5\n/a.b\tx\t6\n/a\tx\t7\n";
        assert_eq!(find(table, Some("/a")), number(12));
        assert_eq!(find(table, Some("/a.b.held")), number(6));
        assert_eq!(find(table, Some("/a.state")), Some(Value::of("ended-task")));
        assert_eq!(find(table, Some("lines")), number(3));
        assert_eq!(find("12\n13\n", Some("lines")), number(2));
        assert_eq!(find("", Some("lines")), number(0));
        assert_eq!(find("max\n", None), Some(Value::Number(Number::MAX)));
    }
}
