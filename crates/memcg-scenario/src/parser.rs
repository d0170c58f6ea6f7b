//! A scenario's text as blocks and steps, or the place where it is wrong.
//!
//! Invariants: any bytes are read, or refused with a line and a column, in time linear in their
//! length.
//! Depends on: `text`, `verbs::table`.
//! Never: a panic, or recursion deeper than [`DEEPEST`].

#![forbid(unsafe_code)]

use crate::text::counter::{CPUS, Counter, has_counters, put_in};
use crate::text::number;
use crate::text::word::{Word, Wrong, words};
use crate::verbs::table::{self, Command, How, Reads};

/// How deep blocks may nest.
pub const DEEPEST: usize = 16;

/// One line that is a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its line, from 1.
    pub line: usize,
    /// As written, without comment.
    pub text: String,
    /// Its words, when they depend on counters; else none.
    pub words: Vec<Word>,
    /// What it means, when that does not depend on counters.
    pub command: Option<Command>,
}

/// A piece of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A command.
    Step(Step),
    /// `repeat` or `parallel`, to its `end`.
    Block {
        /// How.
        how: How,
        /// Its head; the first word after the keyword is how often.
        head: Step,
        /// The name of its counter.
        counter: String,
        /// What it repeats.
        body: Vec<Node>,
    },
}

/// What is wrong in a scenario, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// What is there, and what was expected.
    pub message: String,
}

/// A block that is not closed yet.
struct Open {
    how: How,
    head: Step,
    counter: String,
    before: Vec<Node>,
}

/// Reads a scenario.
///
/// # Errors
/// The first place that is wrong.
pub fn parse(text: &[u8]) -> Result<Vec<Node>, SyntaxError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut open: Vec<Open> = Vec::new();
    let mut nodes = Vec::new();
    for (i, line) in text.split(|&b| b == b'\n').enumerate() {
        let line_number = i + 1;
        let at = |wrong: Wrong| SyntaxError {
            line: line_number,
            column: wrong.column,
            message: wrong.message,
        };
        let words = words(line).map_err(at)?;
        let Some(first) = words.first() else { continue };
        let step = Step {
            line: line_number,
            text: written(line, &words),
            words: Vec::new(),
            command: None,
        };
        let verb = table::find(first).map(|verb| verb.reads);
        if matches!(verb, Some(Reads::End)) {
            if let Some(word) = words.get(1) {
                return Err(at(too_much(word)));
            }
            let Some(block) = open.pop() else {
                return Err(at(Wrong::new(
                    first.column,
                    "'end' without a block: expected a command",
                )));
            };
            let body = std::mem::replace(&mut nodes, block.before);
            nodes.push(Node::Block {
                how: block.how,
                head: block.head,
                counter: block.counter,
                body,
            });
            continue;
        }
        // What a line means may depend on counters; whether it can mean anything does not.
        let blocks = open.iter().map(|block| Counter::new(&block.counter, 1));
        let counters: Vec<Counter> = core::iter::once(Counter::new(CPUS, 1))
            .chain(blocks)
            .collect();
        let tried = put_in(&words, &counters).map_err(at)?;
        if let Some(Reads::Block(how)) = verb {
            let (_, counter) = head(&tried, how).map_err(at)?;
            if open.len() == DEEPEST {
                return Err(at(Wrong::new(
                    first.column,
                    format!("blocks nest at most {DEEPEST} deep"),
                )));
            }
            open.push(Open {
                how,
                head: Step { words, ..step },
                counter,
                before: std::mem::take(&mut nodes),
            });
            continue;
        }
        let command = table::command(&tried).map_err(at)?;
        let step = if has_counters(&words) {
            Step { words, ..step }
        } else {
            Step {
                command: Some(command),
                ..step
            }
        };
        nodes.push(Node::Step(step));
    }
    match open.pop() {
        None => Ok(nodes),
        Some(block) => Err(SyntaxError {
            line: block.head.line,
            column: block.head.words.first().map_or(1, |word| word.column),
            message: "this block is never closed: expected a line 'end'".into(),
        }),
    }
}

/// How often a block runs, and the name of its counter: `repeat 100`, `parallel 8 as t`,
/// `parallel 2x$cpus`.
///
/// # Errors
/// Where the line is wrong.
pub fn head(words: &[Word], how: How) -> Result<(u64, String), Wrong> {
    let mut line = table::line(words);
    line.next("a block")?;
    let what = "how often, a number";
    let word = line.next(what)?;
    let count = number::times(word)?;
    if how == How::Parallel && !(1..=256).contains(&count) {
        return Err(Wrong::new(
            word.column,
            format!("'{}': expected 1 to 256 threads", word.show()),
        ));
    }
    let mut counter = String::from("i");
    if line.take("as") {
        let word = line.next("a name for the counter")?;
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        if !word.bytes.iter().all(is_name) || word.bytes.first().is_none_or(u8::is_ascii_digit) {
            return Err(Wrong::new(
                word.column,
                format!(
                    "'{}': expected a counter's name: letters, digits, _",
                    word.show()
                ),
            ));
        }
        counter = word.show();
    }
    line.end()?;
    Ok((count, counter))
}

fn too_much(word: &Word) -> Wrong {
    Wrong::new(
        word.column,
        format!(
            "'{}' is too much: expected the end of the line",
            word.show()
        ),
    )
}

/// The line as a person wrote it, without indentation and comment.
fn written(line: &[u8], words: &[Word]) -> String {
    let Some(first) = words.first() else {
        return String::new();
    };
    let text: String = String::from_utf8_lossy(line)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .skip(first.column - 1)
        .collect();
    let (mut in_quotes, mut is_escaped, mut before) = (false, false, ' ');
    let comment = text.char_indices().find(|&(_, c)| {
        let begins = c == '#' && !in_quotes && before == ' ';
        in_quotes ^= c == '"' && !is_escaped && (in_quotes || before == ' ');
        is_escaped = c == '\\' && in_quotes && !is_escaped;
        before = c;
        begins
    });
    let end = comment.map_or(text.len(), |(at, _)| at);
    text[..end].trim_end().to_owned()
}
