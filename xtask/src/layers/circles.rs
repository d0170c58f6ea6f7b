//! Files of a crate that use each other in a circle.
//!
//! File A uses file B where a path in A leads to a module or an item in B; an item that a module
//! only passes on (`pub use`) is its maker's. A module and the modules inside it are one thing:
//! what they use of each other does not count. What is compiled for tests only does not count
//! either. Names reached by method calls alone are not seen.

use std::collections::BTreeMap;
use std::path::Path;

use super::Violation;
use super::lexer::{Kind, Token};
use super::paths::{self, Named};
use super::source::{self, Source};
use crate::{Counted, Failure, files_below, has_extension};

/// Files that use each other in a circle, by their places in the list, each once; with a way
/// around.
#[derive(Debug, PartialEq, Eq)]
pub struct Circle {
    /// The files that all reach each other.
    pub files: Vec<usize>,
    /// A shortest way around: (file, line of the use of the next).
    pub way: Vec<(usize, usize)>,
}

/// The circles among the files of one crate.
pub fn find(sources: &[Source]) -> Vec<Circle> {
    let uses = edges(sources);
    let mut circles = Vec::new();
    let mut is_told = vec![false; sources.len()];
    let reached: Vec<Vec<bool>> = (0..sources.len()).map(|f| reachable(&uses, f)).collect();
    for first in 0..sources.len() {
        if is_told[first] || !reached[first][first] {
            continue;
        }
        let files: Vec<usize> = (0..sources.len())
            .filter(|&other| reached[first][other] && reached[other][first])
            .collect();
        for &file in &files {
            is_told[file] = true;
        }
        circles.push(Circle {
            way: way_around(&uses, first),
            files,
        });
    }
    circles
}

/// For each file the files it uses, with a line.
type Uses = Vec<BTreeMap<usize, usize>>;

fn edges(sources: &[Source]) -> Uses {
    let tree = Modules::of(sources);
    sources
        .iter()
        .enumerate()
        .map(|(me, source)| {
            let mut found = BTreeMap::new();
            for named in paths::named(&source.tokens, &source.module) {
                if source.in_tests.get(named.at) == Some(&true) {
                    continue;
                }
                let target = tree.file_of(&named.segments, 0);
                let is_kin = |a: &[String], b: &[String]| a.starts_with(b) || b.starts_with(a);
                if let Some(target) = target
                    && target != me
                    && !is_kin(&sources[target].module, &source.module)
                {
                    found.entry(target).or_insert(named.line);
                }
            }
            found
        })
        .collect()
}

/// Which files `first` reaches by one use or more.
fn reachable(uses: &Uses, first: usize) -> Vec<bool> {
    let mut seen = vec![false; uses.len()];
    let mut open: Vec<usize> = uses[first].keys().copied().collect();
    while let Some(file) = open.pop() {
        if !std::mem::replace(&mut seen[file], true) {
            open.extend(uses[file].keys());
        }
    }
    seen
}

/// A shortest way from `first` back to itself.
fn way_around(uses: &Uses, first: usize) -> Vec<(usize, usize)> {
    let mut before: BTreeMap<usize, usize> = BTreeMap::new();
    let mut open = std::collections::VecDeque::from([first]);
    'search: while let Some(file) = open.pop_front() {
        for &next in uses[file].keys() {
            if next == first {
                before.insert(first, file);
                break 'search;
            }
            before.entry(next).or_insert_with(|| {
                open.push_back(next);
                file
            });
        }
    }
    let mut way = Vec::new();
    let mut at = first;
    while let Some(&file) = before.get(&at) {
        way.push((file, uses[file][&at]));
        at = file;
        if at == first {
            break;
        }
    }
    way.reverse();
    way
}

/// A crate's modules: where each lies, what it defines and what it passes on.
struct Modules<'a> {
    files: BTreeMap<&'a [String], usize>,
    /// By file: name passed on → the path it stands for.
    passed_on: Vec<BTreeMap<String, Vec<String>>>,
    /// By file: modules of which everything is passed on.
    all_of: Vec<Vec<Vec<String>>>,
    defined: Vec<Vec<String>>,
}

/// How many times a name may be passed on; more is a circle of `pub use`.
const PASSED_ON_MAX: usize = 16;

impl<'a> Modules<'a> {
    fn of(sources: &'a [Source]) -> Self {
        let mut tree = Self {
            files: BTreeMap::new(),
            passed_on: Vec::new(),
            all_of: Vec::new(),
            defined: Vec::new(),
        };
        for (file, source) in sources.iter().enumerate() {
            tree.files.insert(&source.module, file);
            tree.defined.push(definitions(&source.tokens));
        }
        for source in sources {
            let mut names = BTreeMap::new();
            let mut all_of = Vec::new();
            for (name, segments) in passed_on(source, &tree.files) {
                match name {
                    Some(name) => drop(names.insert(name, segments)),
                    None => all_of.push(segments),
                }
            }
            tree.passed_on.push(names);
            tree.all_of.push(all_of);
        }
        tree
    }

    /// The file in which what the path leads to is written; `None` outside the crate's files.
    fn file_of(&self, segments: &[String], hops: usize) -> Option<usize> {
        let (module, rest) = (0..=segments.len()).rev().find_map(|n| {
            let file = self.files.get(&segments[..n])?;
            Some((*file, &segments[n..]))
        })?;
        let Some(name) = rest.first() else {
            return Some(module);
        };
        if hops < PASSED_ON_MAX && !self.defined[module].contains(name) {
            if let Some(target) = self.passed_on[module].get(name) {
                let mut target = target.clone();
                target.extend(rest[1..].iter().cloned());
                return self.file_of(&target, hops + 1);
            }
            for from in &self.all_of[module] {
                let mut target = from.clone();
                target.extend(rest.iter().cloned());
                let file = self.file_of(&target, hops + 1)?;
                if self.defined[file].contains(name) {
                    return Some(file);
                }
            }
        }
        Some(module)
    }
}

/// What `use` brings into a file, whoever may see it: (name, or none for `*`; the path from the
/// crate's root).
fn passed_on(
    source: &Source,
    files: &BTreeMap<&[String], usize>,
) -> Vec<(Option<String>, Vec<String>)> {
    let tokens = &source.tokens;
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        if !token.is("use") || token.kind != Kind::Ident || source.in_tests[i] {
            continue;
        }
        let Some(head) = tokens.get(i + 1) else { break };
        // A path that begins with a module of this file's, without `self::`.
        let mut child = source.module.clone();
        child.push(head.text.clone());
        let begins = ["crate", "super", "self"].contains(&head.text.as_str());
        if !begins && !files.contains_key(&child[..]) {
            continue;
        }
        let named = paths::from(tokens, i + 1, &source.module);
        for Named {
            segments, renamed, ..
        } in named
        {
            let Some(last) = segments.last() else {
                continue;
            };
            if last == "*" {
                found.push((None, segments[..segments.len() - 1].to_vec()));
            } else {
                let name = renamed.unwrap_or_else(|| last.clone());
                found.push((Some(name), segments));
            }
        }
    }
    found
}

/// The names of the items a file defines, at any depth.
fn definitions(tokens: &[Token]) -> Vec<String> {
    const MAKES: [&str; 9] = [
        "fn", "struct", "enum", "trait", "union", "const", "static", "type", "mod",
    ];
    tokens
        .windows(2)
        .filter(|w| MAKES.contains(&w[0].text.as_str()) && w[1].kind == Kind::Ident)
        .map(|w| w[1].text.clone())
        .collect()
}

/// The crates below `root`: for each its name and its sources, paths relative to the crate's own
/// root file.
pub fn crates(root: &Path) -> Result<Vec<(String, Vec<Source>)>, Failure> {
    let mut found: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    let mut homes = vec![root.join("xtask"), root.join("bench")];
    homes.extend(
        std::fs::read_dir(root.join("crates"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path()),
    );
    for home in homes {
        let src = home.join("src");
        for path in files_below(&src, &|p| has_extension(p, "rs")) {
            let text = std::fs::read_to_string(&path)
                .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            let mut crate_root = src.clone();
            if let Ok(binary) = path.strip_prefix(src.join("bin")) {
                let Some(first) = binary.components().next() else {
                    continue;
                };
                crate_root = src.join("bin").join(first);
                if crate_root == path {
                    // A program of one file.
                    continue;
                }
            }
            let name = crate_root.strip_prefix(root).unwrap_or(&crate_root);
            let relative = path.strip_prefix(&crate_root).unwrap_or(&path);
            let mut source = Source::new(relative, &text);
            if relative == Path::new("main.rs") {
                source.module.clear();
            }
            found
                .entry(name.display().to_string())
                .or_default()
                .push(source);
        }
    }
    Ok(found
        .into_iter()
        .map(|(name, mut sources)| {
            source::mark_test_files(&mut sources);
            (name, sources)
        })
        .collect())
}

/// The circles of every crate below `root`, as violations of one line each.
pub fn check(root: &Path) -> Result<Vec<Violation>, Failure> {
    let mut violations = Vec::new();
    for (name, sources) in crates(root)? {
        for circle in find(&sources) {
            let file = |at: usize| sources[at].file.as_str();
            let way: Vec<_> = circle
                .way
                .iter()
                .map(|&(at, line)| format!("{}:{line}", file(at)))
                .collect();
            let (first, line) = circle.way[0];
            let what = format!(
                "{} files use each other in a circle: {} (all: {})",
                circle.files.len(),
                way.join(" → "),
                circle
                    .files
                    .iter()
                    .map(|&f| file(f))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            violations.push(Violation {
                file: format!("{name}/{}", file(first)),
                line,
                what,
            });
        }
    }
    Ok(violations)
}

/// `cargo xtask circles`.
pub fn run(root: &Path) -> Result<Counted, Failure> {
    let violations = check(root)?;
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() {
        Ok(Counted::default())
    } else {
        Err(format!("{} circles of files", violations.len()))
    }
}
