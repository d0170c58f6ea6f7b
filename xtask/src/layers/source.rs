//! One source file: its tokens, where it stands in the tree of modules, and which of it is compiled
//! for tests only.

use std::path::Path;

use super::lexer::{Comment, Kind, Token, lex};

/// A file of the crate.
pub struct Source {
    /// Its path below `src`, with `/`.
    pub file: String,
    /// The room it belongs to; `None` for `lib.rs`.
    pub room: Option<String>,
    /// The module its items lie in: empty for `lib.rs`, `["ROOM"]` for `ROOM.rs`, `["ROOM", "x"]`
    /// for `ROOM/x.rs`.
    pub module: Vec<String>,
    /// How many lines it has.
    pub nr_lines: usize,
    /// Whether its first line of text is `//!`.
    pub begins_with_inner_doc: bool,
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// For each token, whether it is compiled for tests (or loom) only.
    pub in_tests: Vec<bool>,
    /// The modules it declares in other files for tests only.
    test_modules: Vec<String>,
    comments: Vec<Comment>,
}

impl Source {
    /// Reads `text`, the file at `path` below `src`.
    pub fn new(path: &Path, text: &str) -> Self {
        let file = path.to_string_lossy().replace('\\', "/");
        let mut modules: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
        if modules.last() == Some(&"mod") || modules == ["lib"] || modules == ["main"] {
            modules.pop();
        }
        let (tokens, comments) = lex(text);
        let (in_tests, test_modules) = test_only(&tokens);
        Self {
            room: modules.first().map(|room| (*room).to_owned()),
            module: modules.iter().map(|name| (*name).to_owned()).collect(),
            nr_lines: text.lines().count(),
            begins_with_inner_doc: text.trim_start().starts_with("//!"),
            tokens,
            in_tests,
            test_modules,
            comments,
            file,
        }
    }

    /// Whether a comment that says SAFETY ends at most `reach` lines above `line`, or stands on it.
    pub fn argued(&self, line: usize, reach: usize) -> bool {
        self.comments
            .iter()
            .any(|c| c.text.contains("SAFETY") && c.first <= line && c.last + reach >= line)
    }

    /// Whether `line`, or a comment that ends right above it, says `alloc-ok: REASON`.
    pub fn has_excuse(&self, line: usize) -> bool {
        self.comments.iter().any(|c| {
            let reason = c
                .text
                .split_once("alloc-ok:")
                .map(|(_, reason)| reason.trim());
            reason.is_some_and(|r| !r.is_empty()) && c.first <= line && c.last + 1 >= line
        })
    }
}

/// Marks the files that others declare as `#[cfg(test)] mod NAME;`, and all below them.
pub fn mark_test_files(sources: &mut [Source]) {
    let mut heads = Vec::new();
    for source in sources.iter() {
        let base = source.file.trim_end_matches(".rs");
        let base = base.strip_suffix("/mod").unwrap_or(base);
        let base = if base == "lib" || base == "mod" {
            String::new()
        } else {
            format!("{base}/")
        };
        heads.extend(
            source
                .test_modules
                .iter()
                .map(|name| format!("{base}{name}")),
        );
    }
    for source in sources {
        let file = source.file.as_str();
        if heads
            .iter()
            .any(|h| file == format!("{h}.rs") || file.starts_with(&format!("{h}/")))
        {
            source.in_tests.fill(true);
        }
    }
}

/// For each token, whether an attribute around it says `cfg(test)` or `cfg(loom)`; and the modules
/// so declared that are in other files.
fn test_only(tokens: &[Token]) -> (Vec<bool>, Vec<String>) {
    let mut marks = vec![false; tokens.len()];
    let mut modules = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let inner = is(tokens, i + 1, "!");
        let open = if inner { i + 2 } else { i + 1 };
        if !(is(tokens, i, "#") && is(tokens, open, "[")) {
            i += 1;
            continue;
        }
        let close = matching(tokens, open);
        if !says_test(&tokens[open..close.min(tokens.len())]) {
            i = close + 1;
            continue;
        }
        if inner {
            // The file's own attribute; an inner one of an inline module would be rare, and marks
            // too much.
            marks[i..].fill(true);
            break;
        }
        let end = end_of_item(tokens, close + 1);
        marks[i..end].fill(true);
        let item = &tokens[close + 1..end];
        let at = item
            .iter()
            .position(|t| t.is("mod") && t.kind == Kind::Ident);
        if let (Some(at), true) = (at, item.last().is_some_and(|t| t.is(";"))) {
            modules.extend(item.get(at + 1).map(|name| name.text.clone()));
        }
        i = end;
    }
    (marks, modules)
}

/// Whether an attribute, given from its `[`, is a `cfg` that holds only under `test` or `loom`.
fn says_test(attribute: &[Token]) -> bool {
    is(attribute, 1, "cfg") && is(attribute, 2, "(") && needs_test(attribute, 3).0
}

/// Whether the condition at `i` holds only under `test` or `loom`, and the index behind it:
/// `all(…)` if one part does, `any(…)` if every part does, `not(…)` and all others never.
fn needs_test(tokens: &[Token], mut i: usize) -> (bool, usize) {
    let Some(word) = tokens.get(i) else {
        return (false, i + 1);
    };
    i += 1;
    if !is(tokens, i, "(") {
        let simple = word.is("test") || word.is("loom");
        while i < tokens.len() && !is(tokens, i, ",") && !is(tokens, i, ")") {
            i += 1;
        }
        return (simple, i);
    }
    let end = matching(tokens, i);
    let mut parts = Vec::new();
    i += 1;
    while i < end {
        let (part, next) = needs_test(tokens, i);
        parts.push(part);
        i = next + usize::from(is(tokens, next, ","));
    }
    let needs = match word.text.as_str() {
        "all" => parts.contains(&true),
        "any" => !parts.is_empty() && !parts.contains(&false),
        _ => false,
    };
    (needs, end + 1)
}

/// The end (exclusive) of the item, field or statement that begins at `start`, further attributes
/// included.
fn end_of_item(tokens: &[Token], mut start: usize) -> usize {
    while is(tokens, start, "#") && is(tokens, start + 1, "[") {
        start = matching(tokens, start + 1) + 1;
    }
    // These go on to their semicolon even past a pair of braces.
    let head = tokens[start.min(tokens.len())..]
        .iter()
        .take_while(|t| t.kind == Kind::Ident || t.is("(") || t.is(")"));
    let mut words = head.map(|t| t.text.as_str());
    let to_semicolon = words.any(|w| ["use", "static", "type", "let"].contains(&w))
        || (is(tokens, start, "const")
            && !is(tokens, start + 1, "fn")
            && !is(tokens, start + 1, "unsafe"));
    let is_item = [
        "fn", "mod", "impl", "struct", "enum", "trait", "union", "extern", "pub", "unsafe",
        "const", "async",
    ]
    .iter()
    .any(|word| is(tokens, start, word));
    let mut i = start;
    while i < tokens.len() {
        match tokens[i].text.as_str() {
            ";" => return i + 1,
            "," if !is_item && !to_semicolon => return i + 1,
            "}" | ")" | "]" => return i,
            "{" if !to_semicolon => return matching(tokens, i) + 1,
            "{" | "(" | "[" => i = matching(tokens, i),
            _ => {}
        }
        i += 1;
    }
    tokens.len()
}

/// The index of the bracket that closes the one at `open`; the last token if none does.
fn matching(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i;
                }
            }
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

fn is(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|t| t.is(text))
}
