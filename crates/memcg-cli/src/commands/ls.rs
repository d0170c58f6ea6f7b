//! `memcg ls`: what is in a group.

use super::{ask, path_parser, pid_parser};
use crate::client::escape::{printable, unescape};
use crate::failure::{Failure, UNREACHABLE};
use crate::output;
use serde::Serialize;
use std::ffi::OsString;

/// What `memcg ls` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg ls 4242
  memcg ls -l 4242 /worker
  memcg ls --dying 4242

Child groups come first and end with a slash.")]
pub struct Options {
    /// The process: its PID, or that of its `memcg exec`
    #[arg(value_name = "PID", value_parser = pid_parser())]
    pid: u32,
    /// The group
    #[arg(value_name = "PATH", default_value = "/", value_parser = path_parser())]
    path: OsString,
    /// Say which files can be read and written
    #[arg(short, long)]
    long: bool,
    /// List the removed groups below that still hold bytes, where groups linger
    #[arg(long, conflicts_with_all = ["long", "json"])]
    dying: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An entry of a group.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Entry {
    /// A child group.
    Group { name: String },
    /// A file; the mode is `r`, `w` or `rw`.
    File { name: String, mode: String },
}

/// Lists the group.
pub fn run(options: &Options) -> Result<(), Failure> {
    if options.dying {
        let file = std::path::Path::new(&options.path).join("memory.dying");
        let text = ask(options.pid, "get", file.as_os_str(), &[])?;
        return output::emit(String::from_utf8_lossy(&text).into_owned());
    }
    let text = ask(options.pid, "ls", &options.path, &[])?;
    let text = String::from_utf8_lossy(&text);
    let mut entries = text
        .lines()
        .map(|line| {
            entry(line).ok_or_else(|| {
                let line = format!(
                    "ls: process {}: an entry is not understood: {}",
                    options.pid,
                    printable(line.as_bytes())
                );
                Failure::new(UNREACHABLE, line)
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    // Stable, so that each kind keeps the engine's order.
    entries.sort_by_key(|entry| matches!(entry, Entry::File { .. }));
    if options.json {
        return output::emit_json(&entries);
    }
    output::emit(
        entries
            .iter()
            .map(|entry| shown(entry, options.long))
            .collect::<String>(),
    )
}

fn entry(line: &str) -> Option<Entry> {
    match line.split_once(' ')? {
        ("d", name) => Some(Entry::Group {
            name: readable(name),
        }),
        ("f", rest) => {
            let (name, mode) = rest.rsplit_once(' ')?;
            Some(Entry::File {
                name: readable(name),
                mode: mode.to_owned(),
            })
        }
        _ => None,
    }
}

fn readable(word: &str) -> String {
    printable(&unescape(word).unwrap_or_else(|_| word.as_bytes().to_vec()))
}

fn shown(entry: &Entry, long: bool) -> String {
    match entry {
        Entry::Group { name } if long => format!("d   {name}/\n"),
        Entry::Group { name } => format!("{name}/\n"),
        Entry::File { name, mode } if long => {
            let bit = |letter: char| if mode.contains(letter) { letter } else { '-' };
            format!("-{}{} {name}\n", bit('r'), bit('w'))
        }
        Entry::File { name, .. } => format!("{name}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_groups_and_files() {
        assert_eq!(entry("d a%20b"), Some(Entry::Group { name: "a b".into() }));
        assert_eq!(
            entry("f memory.max rw"),
            Some(Entry::File {
                name: "memory.max".into(),
                mode: "rw".into()
            })
        );
        for line in ["", "d", "x y", "f memory.max"] {
            assert_eq!(entry(line), None, "{line}");
        }
    }

    #[test]
    fn the_long_form_says_what_can_be_done_with_a_file() {
        let file = |mode: &str| {
            shown(
                &Entry::File {
                    name: "f".into(),
                    mode: mode.into(),
                },
                true,
            )
        };
        assert_eq!(
            (file("r"), file("w"), file("rw")),
            ("-r- f\n".into(), "--w f\n".into(), "-rw f\n".into())
        );
    }
}
