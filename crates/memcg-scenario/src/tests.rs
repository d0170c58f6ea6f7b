//! The parser: every command is read, anything else is refused with its place.

use crate::command::{Command, Node};
use crate::parser::{DEEPEST, SyntaxError, parse};
use proptest::prelude::*;

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
        let Some(Command::Alloc { size, count, .. }) = &step.command else {
            panic!("{text} allocates")
        };
        assert_eq!((*size, *count), (1 << 20, Some(800)), "{text}");
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
        lines in prop::collection::vec(prop::collection::vec(0..WORDS.len(), 0..7), 0..12)
    ) {
        let text: Vec<String> = lines
            .iter()
            .map(|line| line.iter().map(|&i| WORDS[i]).collect::<Vec<_>>().join(" "))
            .collect();
        let text = text.join("\n");
        if let Err(wrong) = parse(text.as_bytes()) {
            prop_assert!(is_a_place(text.as_bytes(), &wrong), "{wrong:?}\n{text}");
        }
    }
}

const WORDS: &[&str] = &[
    "mkdir",
    "rmdir",
    "write",
    "read",
    "print",
    "task",
    "move",
    "exit",
    "share",
    "cache",
    "swap",
    "zswap",
    "set",
    "repeat",
    "parallel",
    "end",
    "expect",
    "within",
    "fails",
    "alloc",
    "fill",
    "reserve",
    "free",
    "give",
    "map",
    "touch",
    "unmap",
    "sync",
    "walk",
    "/a",
    "/a/memory.max",
    "/a:memory.current",
    "/*:memory.stat.anon",
    "t",
    "x$i",
    "$",
    "$$",
    "${i}",
    "1M",
    "64x10",
    "x3",
    "x",
    "==",
    "~",
    "<=",
    "has",
    "+",
    "-",
    "±3%",
    "±",
    "3%",
    "+-1M",
    "gone",
    "intact",
    "in",
    "t:held",
    "ENOMEM",
    "5s",
    "anon",
    "file=/x",
    "size=64",
    "reclaimable",
    "registered",
    "hold",
    "kmem-id",
    "nowait",
    "reserves",
    "2x$cpus",
    "x:left",
    "\"a b\"",
    "\"",
    "#",
    "as",
    "n",
    "0",
    "1",
    "3",
];
