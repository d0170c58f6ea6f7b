//! The reference of the language: its commands, options and figures as Markdown tables, made from
//! the tables that the parser and the runner use. docs/scenarios.md has them between markers.
//!
//! Invariants: every verb, option and figure has its row.
//! Depends on: `verbs::table`, `verbs::options`, `expect::figures`.
//! Never: a text that is not in one of those tables.

#![forbid(unsafe_code)]

use crate::expect::figures::FIGURES;
use crate::verbs::options::OPTIONS;
use crate::verbs::table::{Form, Reads, VERBS, Verb};
use std::fmt::Write;

/// The tables, each with the name of its markers in docs/scenarios.md.
#[must_use]
pub fn reference() -> [(&'static str, String); 3] {
    let commands = VERBS.iter().flat_map(|verb| {
        let forms = verb.forms.iter();
        forms.map(|form| [code(&line(verb, form)), form.help.to_owned()])
    });
    let options = OPTIONS.iter().map(|option| {
        let values = option.values.to_owned();
        [code(option.name), values, option.help.to_owned()]
    });
    let figures = FIGURES.iter().map(|figure| {
        let written = format!("{}:{}", figure.of, figure.name);
        [code(&written), figure.help.to_owned()]
    });
    [
        ("commands", table(["command", "what it does"], commands)),
        (
            "options",
            table(["option", "values", "what it decides"], options),
        ),
        ("figures", table(["figure", "what it is"], figures)),
    ]
}

/// A verb as it is written in a line.
fn line(verb: &Verb, form: &Form) -> String {
    let subject = match verb.reads {
        Reads::Task(_) => "TASK ",
        Reads::Line(_) | Reads::Block(_) | Reads::End => "",
    };
    format!("{subject}{} {}", verb.name, form.syntax)
}

fn code(text: &str) -> String {
    format!("`{}`", text.trim_end())
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for row in rows {
        let cells = row.map(|cell| cell.replace('|', "\\|"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Set: the test writes the tables instead of comparing them.
    const WRITE: &str = "MEMCG_WRITE_DOCS";

    #[test]
    fn the_reference_in_the_documentation_is_that_of_the_tables() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scenarios.md");
        let before = std::fs::read_to_string(&path).expect("docs/scenarios.md");
        let mut after = before.clone();
        for (name, table) in reference() {
            let begin = format!("<!-- {name}: from memcg-scenario's tables -->\n");
            let end = format!("<!-- end of {name} -->\n");
            let from = after.find(&begin).expect(&begin) + begin.len();
            let to = from + after[from..].find(&end).expect(&end);
            after.replace_range(from..to, &format!("\n{table}\n"));
        }
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&path, after).expect("docs/scenarios.md");
            return;
        }
        assert!(
            before == after,
            "docs/scenarios.md is not what the tables say: \
             '{WRITE}=1 cargo test -p memcg-scenario the_reference' rewrites it"
        );
    }
}
