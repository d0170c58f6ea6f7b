//! What the documents say about the sources is so: names of the glossary, and functions of the
//! numbered traces.
//!
//! * In `docs/glossary.md`, each name in backticks in a table's third column is an identifier of
//!   `crates/memcg/src`.
//! * In any document, `` `ROOM/FILE.rs:FUNCTION` `` names a file below `crates/memcg/src` (or below
//!   the repository) with a function of that name.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::Path;

use crate::{Counted, Failure, files_below, has_extension};

/// Where the engine's sources are.
const ENGINE: &str = "crates/memcg/src";

/// Checks all documents.
pub fn check(root: &Path) -> Result<Counted, Failure> {
    let mut documents = vec![root.join("README.md")];
    documents.extend(files_below(&root.join("docs"), &|p| has_extension(p, "md")));
    let mut counted = Counted::default();
    let mut failures = 0;
    let mut fail = |at: String| {
        println!("docs {at} ... FAILED");
        failures += 1;
    };
    for document in documents.iter().filter(|d| d.exists()) {
        let name = document.strip_prefix(root).unwrap_or(document).display();
        let text =
            std::fs::read_to_string(document).map_err(|e| format!("cannot read {name}: {e}"))?;
        for (line, file, function) in functions(&text) {
            if defines(root, file, function) {
                counted.passed += 1;
            } else {
                fail(format!("{name}:{line}: there is no {file}:{function}"));
            }
        }
    }
    let glossary = root.join("docs/glossary.md");
    let text = std::fs::read_to_string(&glossary)
        .map_err(|e| format!("cannot read {}: {e}", glossary.display()))?;
    let known = identifiers(&root.join(ENGINE));
    for (line, term) in terms(&text) {
        if known.contains(term) {
            counted.passed += 1;
        } else {
            let at = format!("docs/glossary.md:{line}");
            fail(format!("{at}: `{term}` is no identifier of {ENGINE}"));
        }
    }
    if failures == 0 {
        Ok(counted)
    } else {
        Err(format!("references that lead nowhere: {failures}"))
    }
}

/// What stands in backticks in a line, outside blocks of code.
fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_block = false;
    let lines = text.lines().enumerate().filter(move |(_, line)| {
        let fences = line.trim_start().starts_with("```");
        in_block ^= fences;
        !in_block && !fences
    });
    lines.flat_map(|(i, line)| line.split('`').skip(1).step_by(2).map(move |q| (i + 1, q)))
}

/// The functions a text names as `FILE.rs:FUNCTION`: line, file, function.
fn functions(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    quoted(text).filter_map(|(line, quoted)| {
        let (file, function) = quoted.split_once(".rs:")?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_function = !function.is_empty()
            && function.chars().all(is_name)
            && !function.starts_with(|c: char| c.is_ascii_digit());
        is_function.then(|| (line, &quoted[..file.len() + 3], function))
    })
}

/// The names in the third columns of a text's tables: line, name.
fn terms(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let rows = text.lines().enumerate();
    rows.flat_map(|(i, line)| {
        let column = line.split('|').nth(3).unwrap_or("");
        column
            .split('`')
            .skip(1)
            .step_by(2)
            .map(move |t| (i + 1, t))
    })
}

/// Whether the file, below the engine's sources or the repository, defines the function.
fn defines(root: &Path, file: &str, function: &str) -> bool {
    [root.join(ENGINE), root.to_path_buf()].iter().any(|base| {
        let text = std::fs::read_to_string(base.join(file)).unwrap_or_default();
        let words: Vec<&str> = text
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .collect();
        words.windows(2).any(|w| w == ["fn", function])
    })
}

/// Every word of the sources below `dir`, comments apart.
fn identifiers(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files_below(dir, &|p| has_extension(p, "rs")) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let (tokens, _) = crate::layers::lexer::lex(&text);
        found.extend(tokens.into_iter().map(|token| token.text));
    }
    found
}

#[test]
fn functions_and_terms_are_read_where_they_stand() {
    let text =
        "1. `group/cell.rs:resolve` and `x.rs:12`, `a.rs:b c`\n```\n`no.rs:code`\n```\n`y.rs:f`";
    let found: Vec<_> = functions(text).collect();
    assert_eq!(found, [(1, "group/cell.rs", "resolve"), (5, "y.rs", "f")]);
    let table = "| term | meaning | code |\n| a | uses `b` | `C`, `d_e` |\n";
    assert_eq!(terms(table).collect::<Vec<_>>(), [(2, "C"), (2, "d_e")]);
}

#[test]
fn a_function_that_is_not_there_is_not_found() {
    let root = crate::root();
    assert!(defines(&root, "xtask/src/references.rs", "defines"));
    assert!(!defines(&root, "xtask/src/references.rs", "refuses"));
    assert!(!defines(&root, "xtask/src/nowhere.rs", "defines"));
}
