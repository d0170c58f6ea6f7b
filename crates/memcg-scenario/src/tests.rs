//! The parser: every command is read, anything else is refused with its place.
//!
//! Invariants: the words of the tests are those of the tables.
//! Depends on: `parser`, the tables.
//! Never: runs a scenario.

#![forbid(unsafe_code)]

use crate::expect::comparison::OPERATORS;
use crate::expect::figures::FIGURES;
use crate::parser::{DEEPEST, Node, SyntaxError, parse};
use crate::verbs::table::{Command, Reads, VERBS};
use memcg::testing::os::errno::Errno;
use proptest::prelude::*;
use std::sync::OnceLock;

const EVERYTHING: &str = include_str!("../tests/everything.scn");

fn wrong(text: &str) -> (usize, usize, String) {
    let SyntaxError {
        line,
        column,
        message,
    } = parse(text.as_bytes()).expect_err(text);
    (line, column, message)
}

fn steps(nodes: &[Node]) -> usize {
    nodes.iter().fold(0, |sum, node| {
        sum + match node {
            Node::Step(_) => 1,
            Node::Block { body, .. } => steps(body),
        }
    })
}

#[test]
fn every_command_of_the_language_is_read() {
    let nodes = parse(EVERYTHING.as_bytes()).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert!(steps(&nodes) > 70, "{}", steps(&nodes));
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_column_and_what_was_expected() {
    for (text, line, column, part) in [
        ("mkdri /a", 1, 1, "'mkdri' is no command"),
        ("\n\n  mkdir", 3, 9, "expected the path of a group"),
        ("mkdir a", 1, 7, "expected the path of a group, as /a"),
        ("t alloc x 1MB", 1, 11, "suffixes are"),
        ("t alloc x 1Mx2y", 1, 14, "is no count"),
        ("t alloc x 0", 1, 11, "at least one byte"),
        ("t alloc x 1M x", 1, 16, "the line ends: expected a count"),
        ("t alloc x 1M 2M", 1, 14, "too much"),
        ("t steal x", 1, 1, "nothing a task does"),
        ("t", 1, 1, "is no command"),
        ("write /a/memory.max", 1, 21, "expected a value"),
        ("write memory 5", 1, 7, "expected PATH/FILE"),
        ("expect /a:memory.current", 1, 26, "an operator"),
        (
            "expect /a:memory.current = 5",
            1,
            26,
            "'=': expected an operator",
        ),
        ("expect /a:memory.current == 5 ±x", 1, 31, "is no tolerance"),
        (
            "expect /a:memory.current == 5 ± 101%",
            1,
            33,
            "is no tolerance",
        ),
        ("expect /a:memory.current ~ 5", 1, 30, "±TOL% or ±SIZE"),
        ("expect /a:current == 5", 1, 11, "names no file"),
        ("expect deny == 5", 1, 8, "is no figure"),
        ("fails ENOENTT rmdir /a", 1, 7, "is no error"),
        ("fails ENOENT expect /a gone", 1, 14, "has no error"),
        ("fails ENOENT repeat 3", 1, 14, "cannot stand here"),
        ("within 5 expect /a gone", 1, 8, "is no time"),
        (
            "within 5s print /a:memory.max",
            1,
            11,
            "'expect' is expected",
        ),
        ("task repeat /a", 1, 6, "is a command"),
        ("task a:b /a", 1, 6, "without / and :"),
        ("task t /a oom_score_adj=-1001", 1, 25, "from -1000 to 1000"),
        ("task t /a adj=1", 1, 11, "too much"),
        ("repeat", 1, 8, "expected how often"),
        ("repeat x\nend", 1, 8, "is no count"),
        ("parallel 0\nend", 1, 10, "1 to 256"),
        ("repeat 2 as 2x\nend", 1, 13, "counter's name"),
        ("repeat 2\nmkdir /a$j\nend", 2, 7, "no counter '$j' here"),
        ("mkdir /a$i", 1, 7, "$i counts inside repeat"),
        ("repeat 3\nmkdir /a", 1, 1, "never closed"),
        ("end", 1, 1, "without a block"),
        ("repeat 1\nend 3", 2, 5, "too much"),
        ("t map r 1M disk", 1, 12, "expected anon, shmem"),
        ("t map r 1M file=", 1, 17, "a path is expected"),
        ("t touch r write 4Q 4K", 1, 17, "is no offset"),
        ("t touch r read 4K", 1, 19, "expected a length"),
        ("t touch r 0 0", 1, 13, "at least one byte"),
        ("share r t", 1, 11, "the task that shall"),
        ("cache c 64", 1, 9, "expected size=N"),
        ("cache c accounted", 1, 19, "expected size=N"),
        ("cache c reclaimable", 1, 21, "expected size=N"),
        ("cache c size=64 reclaimable dentry", 1, 29, "in one way"),
        (
            "cache c size=64 shrinkable",
            1,
            17,
            "reclaimable registered",
        ),
        ("t alloc x 64 cache=c now", 1, 22, "too much"),
        ("t hold", 1, 8, "expected a tag"),
        ("kmem-id a", 1, 9, "path of a group"),
        ("subsystem s reserves t", 1, 24, "expected a size"),
        ("subsystem s evicting", 1, 13, "reserves TASK SIZE"),
        ("subsystem s evicts", 1, 20, "expected a tag"),
        ("repeat 2xx3\nend", 1, 10, "is no count"),
        ("parallel 32x16\nend", 1, 10, "1 to 256"),
        ("mkdir /a$cpu", 1, 7, "$i counts inside repeat"),
        ("write /a/memory.max \"1", 1, 21, "never closed"),
        ("mkdir /ä ö", 1, 10, "'ö'"),
    ] {
        let (at_line, at_column, message) = wrong(text);
        assert_eq!((at_line, at_column), (line, column), "{text}: {message}");
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn blocks_nest_so_deep_and_no_deeper() {
    let nested = |depth: usize| "repeat 1\n".repeat(depth) + &"end\n".repeat(depth);
    assert!(parse(nested(DEEPEST).as_bytes()).is_ok());
    let (line, column, _) = wrong(&nested(100_000));
    assert_eq!((line, column), (DEEPEST + 1, 1));
}

#[test]
fn a_count_may_stand_in_the_size_or_behind_it() {
    for text in [
        "t alloc x 1Mx800",
        "t alloc x 1M x800",
        "t alloc x 1M x 800",
    ] {
        let nodes = parse(text.as_bytes()).expect(text);
        let Node::Step(step) = &nodes[0] else {
            panic!("{text} is a step")
        };
        let Some(Command::Alloc(alloc)) = &step.command else {
            panic!("{text} allocates")
        };
        assert_eq!((alloc.size, alloc.count), (1 << 20, Some(800)), "{text}");
    }
}

/// A place that is in the text, and words.
fn is_a_place(text: &[u8], wrong: &SyntaxError) -> bool {
    let line = text.split(|&b| b == b'\n').nth(wrong.line.wrapping_sub(1));
    let length = line.map(|line| String::from_utf8_lossy(line).chars().count());
    length.is_some_and(|length| (1..=length + 2).contains(&wrong.column))
        && !wrong.message.is_empty()
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_with_a_place(text: Vec<u8>) {
        if let Err(wrong) = parse(&text) {
            prop_assert!(is_a_place(&text, &wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_damaged_scenario_is_read_or_refused_with_a_place(
        changes in prop::collection::vec((0..EVERYTHING.len(), prop::num::u8::ANY, 0..3u8), 1..8)
    ) {
        let mut text = EVERYTHING.as_bytes().to_vec();
        for (at, byte, how) in changes {
            let at = at.min(text.len() - 1);
            match how {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => drop(text.remove(at)),
            }
        }
        if let Err(wrong) = parse(&text) {
            prop_assert!(is_a_place(&text, &wrong), "{wrong:?}");
        }
    }

    #[test]
    fn words_of_the_language_in_any_order_are_read_or_refused_with_a_place(
        lines in prop::collection::vec(prop::collection::vec(0..usize::MAX, 0..7), 0..12)
    ) {
        let words = vocabulary();
        let text: Vec<String> = lines
            .iter()
            .map(|line| {
                let words: Vec<&str> = line.iter().map(|i| &*words[i % words.len()]).collect();
                words.join(" ")
            })
            .collect();
        let text = text.join("\n");
        if let Err(wrong) = parse(text.as_bytes()) {
            prop_assert!(is_a_place(text.as_bytes(), &wrong), "{wrong:?}\n{text}");
        }
    }
}

/// What is written for the words in capitals of a syntax.
const VALUES: [(&str, &str); 21] = [
    ("COMMAND", "rmdir /a"),
    ("COUNT", "3"),
    ("C", "c"),
    ("DIR", "/usr"),
    ("ERRNO", "ENOENT"),
    ("EXPECTATION", "/a gone"),
    ("FILE", "memory.max"),
    ("KEY", "max"),
    ("LEN", "4K"),
    ("NAME", "n"),
    ("N", "64"),
    ("OFFSET", "0"),
    ("OPTION", "strict"),
    ("PATH", "/a"),
    ("POLICY", "stay"),
    ("SIZE", "1M"),
    ("TAG", "x"),
    ("TASK", "t"),
    ("TIME", "5s"),
    ("VALUE", "5"),
    ("…", ""),
];

/// All that a syntax allows: each optional part left out and written, each alternative.
fn written(syntax: &str) -> Vec<String> {
    if let Some(open) = syntax.find('[') {
        let close = open + syntax[open..].find(']').expect("a closing bracket");
        let (before, inside, after) = (
            &syntax[..open],
            &syntax[open + 1..close],
            &syntax[close + 1..],
        );
        let choices = inside.split(" | ").chain([""]);
        return choices
            .flat_map(|choice| written(&format!("{before}{choice}{after}")))
            .collect();
    }
    let mut all = vec![String::new()];
    for word in syntax.split_whitespace() {
        // Of `layout=shared|pergroup` the second is `layout=pergroup`.
        let key = word.split_once('=').map_or("", |(key, _)| key);
        let is_of_key = !key.is_empty() && !key.contains('|');
        let choices: Vec<String> = word
            .split('|')
            .map(|choice| match is_of_key && !choice.contains('=') {
                true => format!("{key}={choice}"),
                false => choice.to_owned(),
            })
            .collect();
        all = all
            .iter()
            .flat_map(|line| {
                choices
                    .iter()
                    .map(move |choice| format!("{line} {}", value(choice)))
            })
            .collect();
    }
    all
}

/// A word of a syntax with values for what stands in capitals.
fn value(word: &str) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let length = rest.chars().take_while(char::is_ascii_uppercase).count();
        let length = if first == '…' {
            first.len_utf8()
        } else {
            length
        };
        if length == 0 {
            text.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (name, after) = rest.split_at(length);
        let known = VALUES.iter().find(|(known, _)| *known == name);
        text += known
            .unwrap_or_else(|| panic!("'{name}' of '{word}' has no value here"))
            .1;
        rest = after;
    }
    text
}

/// Every line that the table of verbs allows, each a scenario of its own.
fn every_line() -> Vec<String> {
    let mut all = Vec::new();
    for verb in VERBS {
        for form in verb.forms {
            for rest in written(form.syntax) {
                all.push(match verb.reads {
                    Reads::Line(_) => format!("{}{rest}", verb.name),
                    Reads::Task(_) => format!("t {}{rest}", verb.name),
                    Reads::Block(_) => format!("{}{rest}\nend", verb.name),
                    Reads::End => format!("repeat 1\n{}{rest}", verb.name),
                });
            }
        }
    }
    all
}

#[test]
fn what_the_table_says_can_be_written_is_read() {
    let lines = every_line();
    assert!(lines.len() > 80, "{}", lines.len());
    for line in lines {
        if let Err(wrong) = parse(line.as_bytes()) {
            panic!("{line}: {wrong:?}");
        }
    }
}

#[test]
fn a_verb_has_one_row_and_a_help_for_each_form() {
    for (i, verb) in VERBS.iter().enumerate() {
        let name = verb.name;
        assert!(VERBS[..i].iter().all(|other| other.name != name), "{name}");
        assert!(!verb.forms.is_empty(), "{name}");
        assert!(
            verb.forms.iter().all(|form| !form.help.is_empty()),
            "{name}"
        );
    }
}

#[test]
fn no_word_that_begins_a_line_can_be_a_name() {
    for verb in VERBS.iter().filter(|verb| verb.begins_a_line()) {
        let (.., message) = wrong(&format!("task {} /a", verb.name));
        assert!(message.contains("is a command"), "{message}");
    }
}

/// The words of the language: those of every line, operators, figures, errors, and odd ones.
fn vocabulary() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<String> = every_line()
            .iter()
            .flat_map(|line| line.split_whitespace())
            .map(str::to_owned)
            .collect();
        all.extend(OPERATORS.iter().map(|(text, _)| (*text).to_owned()));
        all.extend(FIGURES.iter().map(|figure| format!("t:{}", figure.name)));
        all.extend(Errno::TABLE.iter().map(|(name, _)| (*name).to_owned()));
        all.extend(ODD.iter().map(|word| (*word).to_owned()));
        all.sort();
        all.dedup();
        all
    })
}

const ODD: &[&str] = &[
    "/*:memory.stat.anon",
    "x$i",
    "$",
    "$$",
    "${i}",
    "64x10",
    "x3",
    "x",
    "+",
    "-",
    "±3%",
    "±",
    "3%",
    "+-1M",
    "intact",
    "there",
    "killed",
    "in",
    "2x$cpus",
    "\"a b\"",
    "\"",
    "#",
    "0",
];
