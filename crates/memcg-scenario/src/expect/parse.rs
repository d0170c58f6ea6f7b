//! Expectations from the words of a line.
//!
//! Invariants: the left side is a figure or a sum of figures; `~` has a tolerance.
//! Depends on: `terms`, `text`.
//! Never: asks the engine for anything.

use crate::expect::comparison::{OPERATORS, Operator};
use crate::expect::figures::FIGURES;
use crate::expect::terms::{Expect, Sum, Term};
use crate::text::line::Line;
use crate::text::number::{self, Tolerance};
use crate::text::reference::Reference;
use crate::text::word::Wrong;

/// Takes what `expect` expects.
///
/// # Errors
/// The first word that is wrong.
pub fn expect(line: &mut Line<'_>) -> Result<Expect, Wrong> {
    let first = line.next("PATH:FILE, a TAG or a PATH")?;
    let name = || first.bytes.clone();
    if let Some(word) = line.peek() {
        let one_word = match word.bytes.as_slice() {
            b"gone" if first.bytes.starts_with(b"/") => Some(Expect::Group {
                path: name(),
                there: false,
            }),
            b"there" => Some(Expect::Group {
                path: name(),
                there: true,
            }),
            b"gone" => Some(Expect::Freed(name())),
            b"intact" => Some(Expect::Intact(name())),
            b"killed" => Some(Expect::Killed(name())),
            _ => None,
        };
        if let Some(expect) = one_word {
            line.skip(1);
            return Ok(expect);
        }
        if line.take("in") {
            let path = line.path()?;
            return Ok(Expect::In { task: name(), path });
        }
    }
    line.back();
    let left = sum(line)?;
    let what = "an operator (== != < <= > >= ~ has lacks), gone, there, intact, killed or in";
    let word = line.next(what)?;
    let Some(&(_, operator)) = OPERATORS.iter().find(|(text, _)| word.is(text)) else {
        return Err(Wrong::new(
            word.column,
            format!("'{}': expected {what}", word.show()),
        ));
    };
    if let [(_, Term::Text(text))] = left.as_slice() {
        return Err(Wrong::new(
            first.column,
            format!(
                "'{text}' is no figure: expected PATH:FILE[.KEY], as /a:memory.current, or \
                 TASK:held"
            ),
        ));
    }
    let right = sum(line)?;
    let tolerance = tolerance(line)?;
    if operator == Operator::Close && tolerance.is_none() {
        return Err(Wrong::new(
            line.column(),
            "~ needs how far apart: expected ±TOL% or ±SIZE",
        ));
    }
    Ok(Expect::Compare {
        left,
        operator,
        right,
        tolerance,
    })
}

fn tolerance(line: &mut Line<'_>) -> Result<Option<Tolerance>, Wrong> {
    let Some(word) = line.peek() else {
        return Ok(None);
    };
    let Some(rest) = number::after_sign(&word.bytes) else {
        return Ok(None);
    };
    line.skip(1);
    if rest.is_empty() {
        let next = line.next("a tolerance, as 3% or 1M")?;
        return number::tolerance(&next.bytes, next.column).map(Some);
    }
    number::tolerance(rest, word.column).map(Some)
}

/// `TERM [+ TERM | - TERM]…`
fn sum(line: &mut Line<'_>) -> Result<Sum, Wrong> {
    let mut all = vec![(false, term(line)?)];
    loop {
        let minus = line.peek().is_some_and(|word| word.is("-"));
        if !minus && !line.peek().is_some_and(|word| word.is("+")) {
            return Ok(all);
        }
        line.skip(1);
        all.push((minus, term(line)?));
    }
}

fn term(line: &mut Line<'_>) -> Result<Term, Wrong> {
    let word = line.next("a figure or a value")?;
    if let Some(reference) = Reference::read(word) {
        return reference.map(Term::File);
    }
    if !word.quoted {
        let figure = FIGURES.iter().find_map(|figure| {
            let name = word
                .bytes
                .strip_suffix(figure.name.as_bytes())?
                .strip_suffix(b":")?;
            Some(Term::Of {
                name: name.to_vec(),
                figure,
            })
        });
        if let Some(figure) = figure {
            return Ok(figure);
        }
        if let Some(number) = number::literal(word) {
            return Ok(Term::Number(number, word.show()));
        }
    }
    Ok(Term::Text(word.show()))
}
