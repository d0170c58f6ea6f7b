//! Counters of the blocks around a line, and how their values are put into its words.
//!
//! `$NAME` and `${NAME}` stand for a counter's value, `$$` is a dollar.
//!
//! Invariants: the innermost block of a name counts; of `$iM` the longest name that there is.
//! Depends on: `word`.
//! Never: a word is split or joined by a counter's value.

use crate::text::word::{Word, Wrong, show};

/// A counter that no block has: how many CPUs there are.
pub const CPUS: &str = "cpus";

/// A counter of a block around a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name, without the dollar.
    pub name: String,
    /// Its value.
    pub value: u64,
}

impl Counter {
    /// A counter of that name and value.
    pub fn new(name: &str, value: u64) -> Counter {
        Counter {
            name: name.to_owned(),
            value,
        }
    }
}

/// Whether a line has a dollar in it, so that its words depend on counters.
pub fn has_counters(words: &[Word]) -> bool {
    words.iter().any(|word| word.bytes.contains(&b'$'))
}

/// The words with the values of the counters put in.
///
/// # Errors
/// The word with a dollar that names no counter.
pub fn put_in(words: &[Word], counters: &[Counter]) -> Result<Vec<Word>, Wrong> {
    words
        .iter()
        .map(|word| {
            let mut bytes = Vec::with_capacity(word.bytes.len());
            let mut rest = word.bytes.as_slice();
            while let Some((&first, tail)) = rest.split_first() {
                if first != b'$' {
                    bytes.push(first);
                    rest = tail;
                    continue;
                }
                if let Some(after) = tail.strip_prefix(b"$") {
                    bytes.push(b'$');
                    rest = after;
                    continue;
                }
                let (value, after) = value_at(tail, counters)
                    .ok_or_else(|| Wrong::new(word.column, no_counter(tail, counters)))?;
                bytes.extend_from_slice(value.to_string().as_bytes());
                rest = after;
            }
            Ok(Word {
                bytes,
                ..word.clone()
            })
        })
        .collect()
}

/// The value named at the head of `text`, as `i` or `{i}`, and what follows.
fn value_at<'a>(text: &'a [u8], counters: &[Counter]) -> Option<(u64, &'a [u8])> {
    if let Some(inside) = text.strip_prefix(b"{") {
        let end = inside.iter().position(|&b| b == b'}')?;
        let name = &inside[..end];
        let found = counters
            .iter()
            .rev()
            .find(|counter| counter.name.as_bytes() == name)?;
        return Some((found.value, &inside[end + 1..]));
    }
    let mut best: Option<&Counter> = None;
    for counter in counters.iter().rev() {
        let is_longer = best.is_none_or(|best| counter.name.len() > best.name.len());
        if text.starts_with(counter.name.as_bytes()) && is_longer {
            best = Some(counter);
        }
    }
    let best = best?;
    Some((best.value, &text[best.name.len()..]))
}

fn no_counter(text: &[u8], counters: &[Counter]) -> String {
    let name: Vec<u8> = text
        .iter()
        .copied()
        .take_while(|b| b.is_ascii_alphanumeric() || b"_{}".contains(b))
        .collect();
    let of_blocks = counters.iter().filter(|c| c.name != CPUS);
    let known: Vec<String> = of_blocks.map(|c| format!("${}", c.name)).collect();
    let what = format!("there is no counter '${}' here", show(&name));
    if known.is_empty() {
        format!("{what}: $i counts inside repeat … end; a dollar is written $$")
    } else {
        format!(
            "{what}: expected {}; a dollar is written $$",
            known.join(", ")
        )
    }
}

/// A step's text, with the counters that were in force: `mkdir /a$i ($i = 3)`.
pub fn with_counters(text: &str, counters: &[Counter]) -> String {
    if !text.contains('$') {
        return text.to_owned();
    }
    let values: Vec<String> = counters
        .iter()
        .filter(|counter| counter.name != CPUS || text.contains(CPUS))
        .map(|counter| format!("${} = {}", counter.name, counter.value))
        .collect();
    format!("{text} ({})", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::word::words;

    fn counter(name: &str, value: u64) -> Counter {
        Counter::new(name, value)
    }

    #[test]
    fn counters_are_put_in_by_the_longest_name_and_the_innermost_block() {
        let counters = [counter("i", 7), counter("in", 8), counter("i", 9)];
        let put = |text: &str| {
            let words = words(text.as_bytes()).expect("a line");
            put_in(&words, &counters).map(|words| words[0].show())
        };
        assert_eq!(put("x$i"), Ok("x9".into()));
        assert_eq!(put("$iM"), Ok("9M".into()));
        assert_eq!(put("$inM"), Ok("8M".into()));
        assert_eq!(put("${i}n$$"), Ok("9n$".into()));
        assert!(put("$j").is_err() && put("$").is_err() && put("${i").is_err());
    }
}
