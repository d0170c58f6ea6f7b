//! Which names at the crate's root a file's paths reach.
//!
//! Followed are paths that begin with `crate`, `$crate`, `super` and `self`, alone or grouped, and the modules written
//! inline. Not followed are names that a `use` brought into scope (the `use` itself has been judged) and paths that a macro
//! pastes together.

use super::lexer::{Kind, Token};

/// A name right below the crate's root, and where it is used.
#[derive(Debug, PartialEq, Eq)]
pub struct Use {
    /// The name: a room, a re-export, a macro; `*` for all of them; `as` where the root itself gets a name.
    pub name: String,
    /// The line of the name.
    pub line: usize,
}

/// Everything that the paths in `tokens` reach at the crate's root; the items of the file are `depth` modules deep.
pub fn uses(tokens: &[Token], depth: usize) -> Vec<Use> {
    let mut found = Vec::new();
    let mut inline = vec![];
    let mut braces = 0usize;
    for (i, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => {
                braces += 1;
                let is_module =
                    i >= 2 && tokens[i - 2].is("mod") && tokens[i - 1].kind == Kind::Ident;
                if is_module {
                    inline.push(braces);
                }
            }
            "}" => {
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
                braces = braces.saturating_sub(1);
            }
            "crate" | "super" | "self" if token.kind == Kind::Ident => {
                // Within a group a head is followed from the group's beginning.
                let continues = i > 0 && tokens[i - 1].is("::");
                if !continues && !in_group(tokens, i) {
                    follow(tokens, i, depth + inline.len(), &mut found);
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

/// Follows the path (tree) at `i`, which is resolved from a module `depth` deep; the index behind it.
fn follow(tokens: &[Token], i: usize, depth: usize, found: &mut Vec<Use>) -> usize {
    let Some(token) = tokens.get(i) else { return i };
    let next = match token.text.as_str() {
        "{" => return group(tokens, i, depth, found),
        "crate" => Some(0),
        "super" => Some(depth.saturating_sub(1)),
        "self" => Some(depth),
        _ => None,
    };
    match next {
        Some(depth) if is(tokens, i + 1, "::") => follow(tokens, i + 2, depth, found),
        Some(0) if is(tokens, i + 1, "as") => {
            found.push(Use {
                name: String::from("as"),
                line: token.line,
            });
            skip(tokens, i)
        }
        Some(_) => i + 1,
        None => {
            if depth == 0 && (token.kind == Kind::Ident || token.is("*")) {
                found.push(Use {
                    name: token.text.clone(),
                    line: token.line,
                });
            }
            skip(tokens, i)
        }
    }
}

/// Follows each element of the group that opens at `i`; the index behind it.
fn group(tokens: &[Token], i: usize, depth: usize, found: &mut Vec<Use>) -> usize {
    let mut i = i + 1;
    while i < tokens.len() && !tokens[i].is("}") {
        i = if tokens[i].is(",") {
            i + 1
        } else {
            skip(tokens, follow(tokens, i, depth, found))
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
