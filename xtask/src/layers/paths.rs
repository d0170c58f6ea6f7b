//! Which paths a file names, each from the crate's root.
//!
//! Followed are paths that begin with `crate`, `$crate`, `super` and `self`, alone or grouped, and
//! the modules written inline. Not followed are names that a `use` brought into scope (the `use`
//! itself has been judged) and paths that a macro pastes together.

use super::lexer::{Kind, Token};

/// A path that a file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its segments from the crate's root; `*` for all of a module, `as` where the root itself gets
    /// a name.
    pub segments: Vec<String>,
    /// What a `use` calls it, where it says `as`.
    pub renamed: Option<String>,
    /// The line of its last segment.
    pub line: usize,
    /// The place of its first token among the file's.
    pub at: usize,
}

/// Every path in `tokens` that says where it begins, for a file whose items lie in the module
/// `home`.
pub fn named(tokens: &[Token], home: &[String]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut inline: Vec<(usize, String)> = vec![];
    let mut braces = 0usize;
    for (i, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => {
                braces += 1;
                let is_module =
                    i >= 2 && tokens[i - 2].is("mod") && tokens[i - 1].kind == Kind::Ident;
                if is_module {
                    inline.push((braces, tokens[i - 1].text.clone()));
                }
            }
            "}" => {
                if inline.last().is_some_and(|(opened, _)| *opened == braces) {
                    inline.pop();
                }
                braces = braces.saturating_sub(1);
            }
            "crate" | "super" | "self" if token.kind == Kind::Ident => {
                // Within a group a head is followed from the group's beginning.
                let continues = i > 0 && tokens[i - 1].is("::");
                if !continues && !in_group(tokens, i) {
                    let mut here = home.to_vec();
                    here.extend(inline.iter().map(|(_, name)| name.clone()));
                    follow(tokens, i, &here, i, &mut found);
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether the token at `i` is an element of a braced group of a path: `x::{self, super::y}`.
fn in_group(tokens: &[Token], i: usize) -> bool {
    let mut depth = 0usize;
    for j in (0..i).rev() {
        let token = &tokens[j];
        match token.text.as_str() {
            "}" => depth += 1,
            "{" if depth == 0 => return j > 0 && tokens[j - 1].is("::"),
            "{" => depth -= 1,
            "," | "::" | "*" | "as" => {}
            _ if token.kind == Kind::Ident => {}
            // Nothing else occurs in a group of a path.
            _ => return false,
        }
    }
    false
}

/// The paths of the one tree at `i`, in the module `home`.
pub fn from(tokens: &[Token], i: usize, home: &[String]) -> Vec<Named> {
    let mut found = Vec::new();
    follow(tokens, i, home, i, &mut found);
    found
}

/// Follows the path (tree) at `i`, whose segments so far lead to `here`; the index behind it.
fn follow(
    tokens: &[Token],
    i: usize,
    here: &[String],
    first: usize,
    found: &mut Vec<Named>,
) -> usize {
    let Some(token) = tokens.get(i) else { return i };
    let next = match token.text.as_str() {
        "{" => return group(tokens, i, here, first, found),
        "crate" => Some(Vec::new()),
        "super" => Some(here[..here.len().saturating_sub(1)].to_vec()),
        "self" => Some(here.to_vec()),
        _ => None,
    };
    let mut record = |segments: Vec<String>| {
        let renamed = is(tokens, i + 1, "as").then(|| tokens.get(i + 2)).flatten();
        found.push(Named {
            segments,
            renamed: renamed.map(|t| t.text.clone()),
            line: token.line,
            at: first,
        });
    };
    match next {
        Some(next) if is(tokens, i + 1, "::") => follow(tokens, i + 2, &next, first, found),
        Some(next) if next.is_empty() && is(tokens, i + 1, "as") => {
            record(vec![String::from("as")]);
            skip(tokens, i)
        }
        // In a group, `self` is the module itself.
        Some(next) => {
            if i > first && !next.is_empty() {
                record(next);
            }
            i + 1
        }
        None if token.kind == Kind::Ident || token.is("*") => {
            let mut next = here.to_vec();
            next.push(token.text.clone());
            let goes_on = tokens.get(i + 2).is_some_and(|t| {
                t.is("{") || t.is("*") || (t.kind == Kind::Ident && is(tokens, i + 1, "::"))
            });
            if is(tokens, i + 1, "::") && goes_on {
                return follow(tokens, i + 2, &next, first, found);
            }
            record(next);
            skip(tokens, i)
        }
        None => skip(tokens, i),
    }
}

/// Follows each element of the group that opens at `i`; the index behind it.
fn group(
    tokens: &[Token],
    i: usize,
    here: &[String],
    first: usize,
    found: &mut Vec<Named>,
) -> usize {
    let mut i = i + 1;
    while i < tokens.len() && !tokens[i].is("}") {
        i = if tokens[i].is(",") {
            i + 1
        } else {
            skip(tokens, follow(tokens, i, here, first, found))
        };
    }
    i + 1
}

/// The index of the `,` or `}` that ends the group's element at `i`.
fn skip(tokens: &[Token], mut i: usize) -> usize {
    let mut depth = 0usize;
    while i < tokens.len() {
        match tokens[i].text.as_str() {
            "{" => depth += 1,
            "}" | "," if depth == 0 => return i,
            "}" => depth -= 1,
            _ => {}
        }
        i += 1;
    }
    i
}

/// The names that `lib.rs` makes of others' items: (name, first segment of its path).
pub fn reexports(tokens: &[Token]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        if token.is("use") && token.kind == Kind::Ident {
            leaves(tokens, i + 1, None, &mut found);
        }
    }
    found
}

/// Collects the leaves of the use tree at `i`, whose first segment so far is `first`.
fn leaves(
    tokens: &[Token],
    mut i: usize,
    mut first: Option<String>,
    found: &mut Vec<(String, String)>,
) {
    let mut last = None;
    while let Some(token) = tokens.get(i) {
        match token.text.as_str() {
            "::" => {}
            "crate" | "self" if first.is_none() => {}
            "as" => last = tokens.get(i + 1).map(|t| t.text.clone()),
            "{" => {
                let mut element = i + 1;
                while element < tokens.len() && !tokens[element].is("}") {
                    if !tokens[element].is(",") {
                        leaves(tokens, element, first.clone(), found);
                    }
                    element = skip(tokens, element);
                    element += usize::from(is(tokens, element, ","));
                }
                return;
            }
            _ if token.kind != Kind::Ident => break,
            "self" => {}
            name => {
                first.get_or_insert_with(|| name.to_owned());
                if !(i > 0 && tokens[i - 1].is("as")) {
                    last = Some(name.to_owned());
                }
            }
        }
        i += 1;
    }
    if let (Some(last), Some(first)) = (last, first)
        && last != first
    {
        found.push((last, first));
    }
}

/// The macros a file defines.
pub fn macros(tokens: &[Token]) -> Vec<String> {
    let defines = |w: &&[Token]| w[0].is("macro_rules") && w[1].is("!") && w[2].kind == Kind::Ident;
    tokens
        .windows(3)
        .filter(defines)
        .map(|w| w[2].text.clone())
        .collect()
}

fn is(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|t| t.is(text))
}
