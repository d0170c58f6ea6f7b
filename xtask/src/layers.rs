//! `cargo xtask layers`: the rooms of the engine use each other in one direction.
//!
//! A room is `crates/memcg/src/ROOM.rs` or the folder of that name. Each may use only rooms before
//! it in [`ORDER`]; `lib.rs` may use all. The sources are read as tokens, so comments and strings
//! do not count, and everything else does, tests and macros included: what a test needs from above
//! belongs above.
//!
//! Beside the direction, every file must have a head (`//!`) and at most [`MAX_LINES`] lines, every
//! `unsafe` block and impl a SAFETY comment close above, and rooms below `api` no allocating
//! collection of the standard library outside tests: they would be allocated by the very allocator
//! they are part of. A line that has to use one all the same, because what it does happens only
//! where that is safe, says so: `// alloc-ok: REASON`, on the line or the one above. What is open
//! to other crates: [`door`].

#![forbid(unsafe_code)]

pub mod circles;
mod door;
pub mod lexer;
mod paths;
mod source;

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Counted, Failure, files_below, has_extension};
use lexer::{Kind, Token};
use source::Source;

/// The rooms, lowest first; rooms on one line are siblings, and neither uses the other.
pub const ORDER: &[&[&str]] = &[
    &["units"],
    &["os"],
    &["sync"],
    &["thread"],
    &["counter"],
    &["group"],
    &["kmem"],
    &["page"],
    &["reclaim"],
    &["offline", "attach"],
    &["engine"],
    &["api"],
    &["files"],
    &["control"],
    // What other crates of the project need beside the API.
    &["internal"],
    // The rooms for tests from outside, and tests that use several rooms.
    &["testing"],
    &["proof"],
];

/// The first room that may use allocating collections.
const FIRST_ALLOCATING: &str = "api";

/// The longest a file may be, in lines.
const MAX_LINES: usize = 600;

/// How far above an `unsafe` its SAFETY comment may end, in lines.
const SAFETY_REACH: usize = 8;

const ALLOCATING_TYPES: &[&str] = &[
    "Vec",
    "VecDeque",
    "String",
    "Box",
    "Rc",
    "Arc",
    "HashMap",
    "HashSet",
    "BTreeMap",
    "BTreeSet",
    "BinaryHeap",
    "LinkedList",
    "CString",
    "OsString",
    "PathBuf",
];
const ALLOCATING_MACROS: &[&str] = &["format", "vec"];
const ALLOCATING_METHODS: &[&str] = &["to_string", "to_vec", "to_owned", "into_boxed_slice"];

/// One broken rule: `FILE:LINE: what`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The file, relative to the folder that was checked.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Checks `crates/memcg/src`.
pub fn run(root: &Path) -> Result<Counted, Failure> {
    let src = root.join("crates/memcg/src");
    let (mut violations, summary) = check(&src)?;
    let (open_doors, open) = door::check(&src)?;
    violations.extend(open_doors);
    if open.items != door::BESIDE_THE_FACE {
        return Err(format!(
            "internal opens {} items beside the face, {} are known: see BESIDE_THE_FACE in xtask/src/layers/door.rs",
            open.items,
            door::BESIDE_THE_FACE
        ));
    }
    for violation in &violations {
        println!("crates/memcg/src/{violation}");
    }
    let circles = circles::check(root)?;
    for violation in &circles {
        println!("{violation}");
    }
    violations.extend(circles);
    if violations.is_empty() {
        Ok(Counted {
            note: format!(
                "{summary}, {} items beside the face, {} files with unsafe",
                open.items, open.with_unsafe
            ),
            ..Counted::default()
        })
    } else {
        Err(format!("{} violations of the layers", violations.len()))
    }
}

/// Checks the sources below `src`: what is wrong, sorted, and a line about what was read.
pub fn check(src: &Path) -> Result<(Vec<Violation>, String), Failure> {
    let mut sources = Vec::new();
    for path in files_below(src, &|p| has_extension(p, "rs")) {
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let relative = path.strip_prefix(src).unwrap_or(&path);
        sources.push(Source::new(relative, &text));
    }
    source::mark_test_files(&mut sources);
    let names = names_at_the_root(&sources);

    let mut violations = Vec::new();
    let mut excused = 0;
    for source in &sources {
        let mut report = |line: usize, what: String| {
            violations.push(Violation {
                file: source.file.clone(),
                line,
                what,
            });
        };
        if !source.begins_with_inner_doc {
            report(
                1,
                String::from("the file must begin with `//!`: what it is, keeps, relies on"),
            );
        }
        if source.nr_lines > MAX_LINES {
            let what = format!("{} lines; a file has at most {MAX_LINES}", source.nr_lines);
            report(MAX_LINES + 1, what);
        }
        unargued_unsafe(source, &mut report);
        let Some(room) = &source.room else { continue };
        let Some(level) = level_of(room) else {
            report(
                1,
                format!("{room} is no room; the order is in xtask/src/layers.rs"),
            );
            continue;
        };
        direction(source, room, level, &names, &mut report);
        if Some(level) < level_of(FIRST_ALLOCATING) {
            excused += allocating(source, &mut report);
        }
    }
    violations.sort();
    violations.dedup();
    let rooms = ORDER.iter().flat_map(|level| level.iter());
    let present = rooms.filter(|r| sources.iter().any(|s| s.room.as_deref() == Some(**r)));
    let summary = format!(
        "{} files in {} rooms, {excused} alloc-ok",
        sources.len(),
        present.count()
    );
    Ok((violations, summary))
}

/// A room's place in the order.
fn level_of(room: &str) -> Option<usize> {
    ORDER.iter().position(|level| level.contains(&room))
}

/// The room behind each name that rooms can reach as `crate::NAME` although it is no room: what
/// `lib.rs` re-exports, and exported macros.
fn names_at_the_root(sources: &[Source]) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for source in sources {
        match &source.room {
            None if source.file == "lib.rs" => {
                for (name, room) in paths::reexports(&source.tokens) {
                    if level_of(&room).is_some() {
                        names.insert(name, room);
                    }
                }
            }
            None => {}
            Some(room) => {
                for name in paths::macros(&source.tokens) {
                    names.insert(name, room.clone());
                }
            }
        }
    }
    names
}

/// Reports every use that goes upwards or sideways.
fn direction(
    source: &Source,
    room: &str,
    level: usize,
    names: &BTreeMap<String, String>,
    report: &mut dyn FnMut(usize, String),
) {
    for used in paths::named(&source.tokens, &source.module) {
        let name = used.segments[0].as_str();
        let target = if level_of(name).is_some() {
            name
        } else if let Some(behind) = names.get(name) {
            behind.as_str()
        } else {
            report(
                used.line,
                format!("{room} uses crate::{name}, which is no room's; name it by its room"),
            );
            continue;
        };
        let place = level_of(target).unwrap_or(usize::MAX);
        let through = if target == name {
            String::new()
        } else {
            format!(" (as crate::{name})")
        };
        if place > level {
            report(
                used.line,
                format!("{room} uses {target}{through}, which is above it"),
            );
        } else if place == level && target != room {
            report(
                used.line,
                format!("{room} uses its sibling {target}{through}"),
            );
        }
    }
}

/// Reports allocating collections outside tests; how many lines were excused.
fn allocating(source: &Source, report: &mut dyn FnMut(usize, String)) -> usize {
    let tokens = &source.tokens;
    let mut excused = std::collections::BTreeSet::new();
    for (i, token) in tokens.iter().enumerate() {
        if source.in_tests[i] || token.kind != Kind::Ident {
            continue;
        }
        let before = |n: usize| i.checked_sub(n).map(|j| &tokens[j]);
        let next = tokens.get(i + 1);
        let name = token.text.as_str();
        let after_dot =
            before(1).is_some_and(|t| t.is(".")) && !before(2).is_some_and(|t| t.is("."));
        let what = if ALLOCATING_TYPES.contains(&name) {
            name.to_owned()
        } else if ALLOCATING_MACROS.contains(&name) && next.is_some_and(|t| t.is("!")) {
            format!("{name}!")
        } else if ALLOCATING_METHODS.contains(&name) && after_dot {
            format!(".{name}()")
        } else if name == "alloc"
            && before(1).is_some_and(|t| t.is("crate"))
            && before(2).is_some_and(|t| t.is("extern"))
        {
            String::from("extern crate alloc")
        } else {
            continue;
        };
        if source.has_excuse(token.line) {
            excused.insert(token.line);
        } else {
            report(
                token.line,
                format!("{what} allocates; below {FIRST_ALLOCATING} use a typed arena"),
            );
        }
    }
    excused.len()
}

/// Reports `unsafe {` and `unsafe impl` without a SAFETY comment.
fn unargued_unsafe(source: &Source, report: &mut dyn FnMut(usize, String)) {
    for pair in source.tokens.windows(2) {
        let [token, next]: &[Token; 2] = pair.try_into().expect("windows of two");
        if token.is("unsafe")
            && (next.is("{") || next.is("impl"))
            && !source.argued(token.line, SAFETY_REACH)
        {
            let what = format!(
                "`unsafe {}` without a SAFETY comment in the {SAFETY_REACH} lines above",
                next.text
            );
            report(token.line, what);
        }
    }
}

#[cfg(test)]
mod tests;
