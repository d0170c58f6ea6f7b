//! `cargo xtask`: what the project does to itself. One command tests everything, the others are its
//! steps and the release.
//!
//! The standard library and libc only, so that it builds in seconds.

mod bench;
mod child;
mod dist;
mod docs;
mod each;
mod examples;
mod fresh;
mod layers;
mod needs;
mod output;
mod picture;
mod preload;
mod references;
mod scenarios;
mod signals;
mod sim;
mod skips;
mod storm;
mod suite;
mod svg;
mod temporary;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  test [--quick] [--strict] [--no-install | --install]
                   everything: format, lints, layers, release build, tests, doc tests, documentation, loom, examples,
                   scenarios, docs, preload, instructions of the hit paths; stops at the first failure and lists what was
                   not tested. --quick leaves out loom, preload and instructions. --strict fails when something was
                   skipped because this machine lacks it. As root on a Debian it installs what it needs and lacks;
                   --install also what optional tests use (with sudo -n where it is not root), --no-install nothing
  layers           the rooms of crates/memcg/src use only rooms above them; no allocating collections below api;
                   every unsafe block argued; no file too long or without a head
  circles          files of a crate that use each other in a circle, with the way around
  docs             run the commands in the ```console blocks of README.md and docs/**/*.md
  examples         run every example of every crate
  scenarios [NAME...]
                   run scenarios/**/*.scn, or those whose path has NAME in it (exit 77 skips)
  preload [--long] [NAME...]
                   run tests/preload/*.sh, or those with NAME in their names, against the release build (exit 77 skips)
  sim [--minutes N] [--seed S]
                   histories of ever new seeds on the release build, held against an auditor's own books, for N minutes
                   (10); a history that fails is made short and printed, with its seed
  storm [--seconds N]
                   noisy neighbours under each policy on both flavours of tokio's runtime, for N seconds (600): no abort,
                   exact books, and the others' slowest percent within 1.2 of the same load without limits
  bench [--quick] [NAME...]
                   against other allocators, in rounds (bench/README.md); --instructions and --gate count instead,
                   --instructions --where [NAME...] shows in which functions
  fresh [--quick] [--keep] [STAGE...]
                   by hand, as root: makes bare Debian 12 roots with mmdebstrap and runs in them, from a clone of HEAD and
                   with this Rust, what the README says (stage readme), .ci/run (ci), and the suite where programs are
                   missing (missing). --keep leaves the roots until the next run
  picture          draw docs/top.svg, the README's picture: `memcg top` of a real run of tests/programs/tenants.py
  dist [DIR]       release build laid out in DIR (default target/dist/memcg-VERSION-TARGET), and a .tar.gz beside it
  help             this text

Exit status: 0 all is well, 1 something failed, 2 the command line is wrong.
";

/// The commands, for whoever must know whether one exists.
pub const COMMANDS: &[&str] = &[
    "test",
    "layers",
    "circles",
    "docs",
    "examples",
    "scenarios",
    "preload",
    "sim",
    "storm",
    "bench",
    "fresh",
    "picture",
    "dist",
    "help",
];

/// What went wrong, in one line for people.
pub type Failure = String;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = root();
    if words.iter().any(|word| matches!(*word, "--help" | "-h")) || words[..] == ["help"] {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    signals::end_programs_with_us();
    let outcome = match words[..] {
        ["test", ref rest @ ..] => match suite::options(rest) {
            Some(options) => return suite::run(&root, options),
            None => {
                eprint!("{HELP}");
                return ExitCode::from(2);
            }
        },
        ["fresh", ref rest @ ..] => match fresh::options(rest) {
            Some(options) => fresh::run(&root, &options),
            None => {
                eprint!("{HELP}");
                return ExitCode::from(2);
            }
        },
        ["layers"] => layers::run(&root),
        ["circles"] => layers::circles::run(&root),
        ["docs"] => docs::run(&root),
        ["examples"] => examples::run(&root),
        ["scenarios", ref rest @ ..] => scenarios::run(&root, rest),
        ["preload", "--long", ref rest @ ..] => preload::run(&root, true, rest),
        ["preload", ref rest @ ..] => preload::run(&root, false, rest),
        ["storm", ref rest @ ..] => match storm::options(rest) {
            Some(seconds) => storm::run(&root, seconds),
            None => {
                eprint!("{HELP}");
                return ExitCode::from(2);
            }
        },
        ["sim", ref rest @ ..] => match sim::options(rest) {
            Some(options) => sim::run(&root, options),
            None => {
                eprint!("{HELP}");
                return ExitCode::from(2);
            }
        },
        ["bench", ref rest @ ..] => bench::run(&root, rest),
        ["picture"] => picture::run(&root),
        ["dist"] => dist::run(&root, None),
        ["dist", dir] if !dir.starts_with('-') => dist::run(&root, Some(Path::new(dir))),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(counted) => {
            println!("{counted}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What a step found out: how many things passed, how many were left out, and a word about it.
#[derive(Debug, Default)]
pub struct Counted {
    /// Tests, commands, scripts or examples that passed.
    pub passed: u64,
    /// Those that were skipped or ignored.
    pub ignored: u64,
    /// What the summary says beside the numbers; may be empty.
    pub note: String,
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ok: {} passed, {} skipped", self.passed, self.ignored)?;
        if self.note.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.note)
        }
    }
}

/// The repository: the folder above this crate.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent()
        .map_or_else(|| here.clone(), Path::to_path_buf)
}

/// Whether `name` has one of `parts` in it, or there are none.
pub fn is_named(name: &str, parts: &[&str]) -> bool {
    parts.is_empty() || parts.iter().any(|part| name.contains(part))
}

/// Where cargo builds: `CARGO_TARGET_DIR`, else `target` in the repository.
pub fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |dir| root.join(PathBuf::from(dir)))
}

/// All files below `dir` for which `wanted` holds, sorted; none if there is no such folder.
pub fn files_below(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if wanted(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Whether `path` ends in `.extension`.
pub fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}
