//! The door of the engine: what other crates can reach of it beside the face, and where it may be
//! unsafe.
//!
//! Rooms are closed: `lib.rs` opens the hidden modules of [`HIDDEN`] and nothing else. What
//! `internal` opens is counted, so that it cannot grow unnoticed: [`BESIDE_THE_FACE`] is changed
//! together with it. A file that has no unsafe code, nor any below it, forbids it, by itself or in
//! a file above it.

#![forbid(unsafe_code)]

use std::path::Path;

use super::Violation;
use super::lexer::{Kind, Token};
use super::source::Source;
use crate::{Failure, files_below, has_extension};

/// The modules that `lib.rs` may open, each hidden from the documentation.
const HIDDEN: &[&str] = &["internal", "testing"];

/// The line before `pub mod testing;`: what is shipped is built without it.
const TESTING_ONLY: &str = "#[cfg(any(test, feature = \"testing\"))]";

/// Public items that `internal` opens: modules, types, their public fields and functions, and names
/// it passes on.
pub const BESIDE_THE_FACE: usize = 94;

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Open {
    /// Public items of `internal`.
    pub items: usize,
    /// Files with unsafe code.
    pub with_unsafe: usize,
}

/// Checks the sources below `src`: what is wrong, and what was counted.
pub fn check(src: &Path) -> Result<(Vec<Violation>, Open), Failure> {
    let mut sources = Vec::new();
    let mut wrong = Vec::new();
    for path in files_below(src, &|p| has_extension(p, "rs")) {
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let source = Source::new(path.strip_prefix(src).unwrap_or(&path), &text);
        if source.file == "lib.rs" {
            rooms_are_closed(&source, &text, &mut wrong);
        }
        sources.push(source);
    }
    let mut open = Open::default();
    for source in &sources {
        if source.room.as_deref() == Some("internal") {
            open.items += public_items(source, &mut wrong);
        }
        open.with_unsafe += usize::from(has_unsafe(source));
    }
    forbids(&sources, &mut wrong);
    Ok((wrong, open))
}

fn violation(source: &Source, line: usize, what: String) -> Violation {
    Violation {
        file: source.file.clone(),
        line,
        what,
    }
}

/// Whether the tokens from `at` on are `words`.
fn reads(tokens: &[Token], at: usize, words: &[&str]) -> bool {
    let there = tokens.get(at..at + words.len());
    there.is_some_and(|there| there.iter().zip(words).all(|(token, word)| token.is(word)))
}

/// `pub mod` in `lib.rs` is of a hidden module, and that of the tests is built for them only.
fn rooms_are_closed(source: &Source, text: &str, wrong: &mut Vec<Violation>) {
    let tokens = &source.tokens;
    let hides = ["#", "[", "doc", "(", "hidden", ")", "]"];
    for at in (0..tokens.len()).filter(|&at| reads(tokens, at, &["pub", "mod"])) {
        let (name, line) = (tokens[at + 2].text.as_str(), tokens[at].line);
        // The attributes of an item begin behind the last item.
        let ends = |token: &Token| token.is(";") || token.is("}");
        let first = tokens[..at].iter().rposition(ends).map_or(0, |end| end + 1);
        let is_hidden = (first..at).any(|at| reads(tokens, at, &hides));
        if !HIDDEN.contains(&name) || !is_hidden {
            let what = format!("{name} is open to every program; rooms are `pub(crate) mod`");
            wrong.push(violation(source, line, what));
        }
        let above = line.checked_sub(2).and_then(|nr| text.lines().nth(nr));
        if name == "testing" && above != Some(TESTING_ONLY) {
            let what = format!("testing is shipped; above it belongs {TESTING_ONLY}");
            wrong.push(violation(source, line, what));
        }
    }
}

/// How many items a file of `internal` opens. All of a module may not be passed on: nobody would
/// see what.
fn public_items(source: &Source, wrong: &mut Vec<Violation>) -> usize {
    let tokens = &source.tokens;
    let mut items = 0;
    for at in (0..tokens.len()).filter(|&at| tokens[at].is("pub")) {
        match tokens.get(at + 1) {
            Some(next) if next.is("(") => {}
            Some(next) if next.is("use") => {
                let end = tokens[at..].iter().position(|token| token.is(";"));
                let path = &tokens[at + 2..at + end.unwrap_or(tokens.len() - at)];
                if path.iter().any(|token| token.is("*")) {
                    let what = String::from("name what internal passes on, one by one");
                    wrong.push(violation(source, tokens[at].line, what));
                }
                // A name that nothing follows is one that is passed on.
                items += (0..path.len())
                    .filter(|&i| path[i].kind == Kind::Ident && !path[i].is("as"))
                    .filter(|&i| !path.get(i + 1).is_some_and(|n| n.is("::") || n.is("as")))
                    .count();
            }
            _ => items += 1,
        }
    }
    items
}

fn has_unsafe(source: &Source) -> bool {
    let is_it = |token: &Token| token.kind == Kind::Ident && token.is("unsafe");
    source.tokens.iter().any(is_it)
}

/// Every file that can forbid unsafe code does.
fn forbids(sources: &[Source], wrong: &mut Vec<Violation>) {
    let says = |source: &Source| {
        let words = ["forbid", "(", "unsafe_code", ")"];
        (0..source.tokens.len()).any(|at| reads(&source.tokens, at, &words))
    };
    for source in sources {
        let is_below = |other: &&Source| other.module.starts_with(&source.module);
        let is_above = |other: &&Source| source.module.starts_with(&other.module);
        let needs = sources.iter().filter(is_below).any(has_unsafe);
        let forbids = sources.iter().filter(is_above).any(says);
        if !needs && !forbids {
            let what = String::from("no unsafe code is here or below: `#![forbid(unsafe_code)]`");
            wrong.push(violation(source, 1, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: &str, text: &str) -> Source {
        Source::new(Path::new(file), text)
    }

    fn lib(text: &str) -> usize {
        let mut wrong = Vec::new();
        rooms_are_closed(&source("lib.rs", text), text, &mut wrong);
        wrong.len()
    }

    #[test]
    fn the_real_door_is_shut_and_what_is_open_is_counted() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let (wrong, open) = check(&root.join("crates/memcg/src")).unwrap();
        assert_eq!(wrong, []);
        assert_eq!(open.items, BESIDE_THE_FACE);
    }

    #[test]
    fn an_open_room_is_found() {
        assert_eq!(lib("pub(crate) mod kmem;\nmod proof;\npub use api::*;"), 0);
        assert_eq!(lib("pub mod kmem;"), 1);
        assert_eq!(lib("#[doc(hidden)]\npub mod kmem;"), 1);
        assert_eq!(lib("#[doc(hidden)]\npub mod internal;"), 0);
        assert_eq!(lib("pub mod internal;"), 1);
        // What hides another module does not hide this one.
        assert_eq!(lib("#[doc(hidden)]\nmod a;\npub mod internal;"), 1);
        let shipped = "#[doc(hidden)]\npub mod testing;";
        assert_eq!(lib(shipped), 1);
        assert_eq!(
            lib(&format!("#[doc(hidden)]\n{TESTING_ONLY}\npub mod testing;")),
            0
        );
    }

    #[test]
    fn items_are_counted_and_all_of_a_module_is_none() {
        let text = "pub mod a;\npub use crate::x::{self, y as z, w};\npub use crate::v::one;\npub(super) fn f() {}\n\
                    pub struct S { pub field: u32, own: u32 }\nimpl S { pub const fn g() {} fn h() {} }";
        let mut wrong = Vec::new();
        assert_eq!(
            public_items(&source("internal/mod.rs", text), &mut wrong),
            8
        );
        assert_eq!(wrong, []);
        let all = source("internal/mod.rs", "pub use crate::x::*;");
        public_items(&all, &mut wrong);
        assert_eq!(wrong.len(), 1);
    }

    #[test]
    fn what_needs_no_unsafe_code_has_to_forbid_it() {
        let count = |files: &[(&str, &str)]| {
            let sources: Vec<_> = files
                .iter()
                .map(|(file, text)| source(file, text))
                .collect();
            let mut wrong = Vec::new();
            forbids(&sources, &mut wrong);
            wrong.len()
        };
        let (safe, forbidding) = ("fn f() {} // unsafe", "#![forbid(unsafe_code)]\nfn f() {}");
        let needs = "fn f() { unsafe { g() } }";
        assert_eq!(count(&[("a/mod.rs", safe)]), 1);
        assert_eq!(count(&[("a/mod.rs", forbidding), ("a/b.rs", safe)]), 0);
        assert_eq!(count(&[("a/mod.rs", safe), ("a/b.rs", needs)]), 0);
        assert_eq!(
            count(&[("a/mod.rs", safe), ("a/b.rs", needs), ("a/c.rs", safe)]),
            1
        );
        assert_eq!(count(&[("a/b.rs", needs), ("ab.rs", safe)]), 1);
    }
}
