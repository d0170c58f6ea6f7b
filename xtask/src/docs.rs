//! `cargo xtask docs`: the commands that the documents show are run, and do what they show.
//!
//! Every block fenced as ` ```console ` in README.md and docs/**/*.md is a session of one bash, in
//! the repository, with the release `memcg` on its PATH:
//!
//! * `$ COMMAND` runs; it goes on over lines that end in `\`, and over lines `> …` right below it.
//!   It must exit with 0, or with N where the line ends in `# exits N`.
//! * Any other line is output. Numbers (with a decimal part, with K, M or G) stand for any number
//!   and white space for any white space; then each line shown must be a line of what the command
//!   wrote, standard error included. Order is not compared, and the line `…` stands for anything.
//! * Commands that would run the documents again (`cargo xtask test`, `cargo xtask docs`,
//!   `.ci/run`) are only looked up.
//!
//! Blocks with other tags are not run: use ` ```sh ` for what needs a network or another machine.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::child::{Ended, build_release, how_it_ended, run_limited, scratch};
use crate::references;
use crate::skips::{self, Kind as SkipKind};
use crate::{COMMANDS, Counted, Failure, files_below, has_extension, target_dir};

/// How long a block may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Separates what one command wrote from the next one's; followed by its exit status.
const MARK: &str = "@@ xtask docs: command ended: ";

/// One command of a session and what its document says about it.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    line: usize,
    command: String,
    exits: i32,
    output: Vec<(usize, String)>,
}

/// What to do with a command.
#[derive(Debug, PartialEq, Eq)]
enum Kind<'a> {
    Run,
    /// Would run us again: `cargo xtask WORD`.
    Xtask(&'a str),
    /// Would run us again: the script at this path.
    Script(&'a str),
}

/// Builds the release and runs all blocks. Every failure is printed; the result is an error if
/// there was one.
pub fn run(root: &Path) -> Result<Counted, Failure> {
    let references = references::check(root)?;
    build_release(root)?;
    let mut documents = vec![root.join("README.md")];
    documents.extend(files_below(&root.join("docs"), &|p| has_extension(p, "md")));
    let dir = scratch(root, "docs")?;
    // The documents write there; cargo may have been told to build elsewhere.
    std::fs::create_dir_all(root.join("target")).map_err(|e| format!("cannot make target: {e}"))?;
    let mut counted = Counted::default();
    let mut failures = 0;
    for document in documents.iter().filter(|d| d.exists()) {
        let name = document
            .strip_prefix(root)
            .unwrap_or(document)
            .display()
            .to_string();
        let text =
            std::fs::read_to_string(document).map_err(|e| format!("cannot read {name}: {e}"))?;
        let blocks = blocks(&text).map_err(|(line, why)| format!("{name}:{line}: {why}"))?;
        for block in blocks {
            for (shown, problem) in block.iter().zip(session(root, &dir, &block)?) {
                let at = format!("{name}:{}", shown.line);
                match problem {
                    None if kind(&shown.command) == Kind::Run => {
                        println!("docs {at} ... ok");
                        counted.passed += 1;
                    }
                    None => {
                        println!("docs {at} ... not run: it would run the documents again");
                        let what = format!("docs {at}: $ {}", shown.command);
                        skips::note(SkipKind::LeftOut, &what);
                        counted.ignored += 1;
                    }
                    Some(problem) => {
                        println!("docs {at} ... FAILED: $ {}\n    {problem}", shown.command);
                        failures += 1;
                    }
                }
            }
        }
    }
    if failures == 0 {
        counted.passed += references.passed;
        Ok(counted)
    } else {
        Err(format!(
            "commands that do not do what the documents show: {failures}"
        ))
    }
}

/// The commands of a document's sessions, in order.
///
/// # Errors
/// Where the document has a session that is none.
pub fn commands_of(text: &str) -> Result<Vec<String>, Failure> {
    let blocks = blocks(text).map_err(|(line, why)| format!("line {line}: {why}"))?;
    let shown = blocks.into_iter().flatten();
    Ok(shown.map(|shown| shown.command).collect())
}

/// The sessions of a document, or the line and reason of what is no session.
fn blocks(text: &str) -> Result<Vec<Vec<Shown>>, (usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    while let Some((begin, line)) = lines.next() {
        let opening = line.trim_start();
        // Three or more of one sign: "`~`" at the head of a line is text.
        let fence: String = match opening.chars().next() {
            Some(sign @ ('`' | '~')) => opening.chars().take_while(|&c| c == sign).collect(),
            Some(_) | None => continue,
        };
        if fence.len() < 3 {
            continue;
        }
        let tag = opening[fence.len()..].trim();
        let indent = line.len() - opening.len();
        let mut body = Vec::new();
        let closed = lines.by_ref().any(|(n, line)| {
            let closing = line.trim();
            let closes =
                closing.starts_with(&fence) && closing.trim_start_matches(&fence[..1]).is_empty();
            if !closes {
                let inside = line
                    .get(indent..)
                    .filter(|_| line[..indent].trim().is_empty());
                body.push((n, inside.unwrap_or(line)));
            }
            closes
        });
        if !closed {
            return Err((begin, String::from("the block is never closed")));
        }
        if tag == "console" {
            let session = commands(&body)?;
            if session.is_empty() {
                return Err((
                    begin,
                    String::from("a console block without a line `$ COMMAND`"),
                ));
            }
            blocks.push(session);
        }
    }
    Ok(blocks)
}

/// The commands of one block.
fn commands(body: &[(usize, &str)]) -> Result<Vec<Shown>, (usize, String)> {
    let mut session: Vec<Shown> = Vec::new();
    for &(line, text) in body {
        if let Some(command) = text.strip_prefix("$ ") {
            session.push(Shown {
                line,
                command: command.to_owned(),
                exits: 0,
                output: Vec::new(),
            });
            continue;
        }
        let Some(shown) = session.last_mut() else {
            if text.trim().is_empty() {
                continue;
            }
            return Err((
                line,
                String::from("output before the first command of the block"),
            ));
        };
        let continued = text.strip_prefix("> ").filter(|_| shown.output.is_empty());
        if shown.output.is_empty() && shown.command.ends_with('\\') {
            shown.command.push('\n');
            shown.command.push_str(continued.unwrap_or(text));
        } else if let Some(more) = continued {
            shown.command.push('\n');
            shown.command.push_str(more);
        } else if !text.trim().is_empty() {
            shown.output.push((line, text.to_owned()));
        }
    }
    for shown in &mut session {
        if let Some((command, status)) = shown.command.rsplit_once("# exits ") {
            shown.exits = status.trim().parse().map_err(|_| {
                (
                    shown.line,
                    format!("`# exits {status}` names no exit status"),
                )
            })?;
            shown.command = command.trim_end().to_owned();
        }
    }
    Ok(session)
}

/// Runs one session; for each command, what was not as shown.
fn session(root: &Path, dir: &Path, block: &[Shown]) -> Result<Vec<Option<String>>, Failure> {
    let mut script = String::from("exec 2>&1\n");
    for shown in block {
        let command = match kind(&shown.command) {
            Kind::Run => shown.command.as_str(),
            Kind::Xtask(_) | Kind::Script(_) => "true",
        };
        script.push_str(&format!("{command}\nprintf '\\n{MARK}%d\\n' \"$?\"\n"));
    }
    let (file, out) = (dir.join("session.sh"), dir.join("output"));
    std::fs::write(&file, script).map_err(|e| format!("cannot write {}: {e}", file.display()))?;

    let install = dir.join("install");
    let release = target_dir(root).join("release");
    let mut path = std::ffi::OsString::from(&release);
    path.push(":");
    path.push(install.join("bin"));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let ended = run_limited(
        Command::new("bash")
            .arg(&file)
            .current_dir(root)
            .env("PATH", path)
            .env("CARGO_INSTALL_ROOT", &install)
            .env("CARGO_TERM_COLOR", "never")
            .env("NO_COLOR", "1")
            .env_remove("LD_LIBRARY_PATH"),
        LIMIT,
        &out,
        None,
    )?;
    let written = std::fs::read(&out).map_err(|e| format!("cannot read {}: {e}", out.display()))?;
    let written = String::from_utf8_lossy(&written).into_owned();
    let end = match ended {
        // A session may end itself: `exec`, `exit`.
        Ended::With(status) => match status.code() {
            Some(code) => Ok(code),
            None => Err(how_it_ended(status)),
        },
        Ended::TimedOut => Err(format!("not done after {} s", LIMIT.as_secs())),
    };
    Ok(judge(root, block, &written, &end))
}

/// Compares what a session wrote, and how it ended, with what is shown.
fn judge(
    root: &Path,
    block: &[Shown],
    written: &str,
    end: &Result<i32, String>,
) -> Vec<Option<String>> {
    let mark = format!("\n{MARK}");
    let mut parts = written.split(mark.as_str());
    let mut output = parts.next().unwrap_or_default();
    let mut running = true;
    let mut verdicts = Vec::new();
    for shown in block {
        if !running {
            verdicts.push(Some(String::from("not reached: the session had ended")));
            continue;
        }
        let (status, next) = match parts.next() {
            Some(part) => {
                let (status, rest) = part.split_once('\n').unwrap_or((part, ""));
                (
                    status.parse().map_err(|_| String::from("no exit status")),
                    rest,
                )
            }
            None => {
                running = false;
                (end.clone(), "")
            }
        };
        verdicts.push(problem(root, shown, output, &status));
        output = next;
    }
    verdicts
}

/// What is not as shown about one command; `None` if all is.
fn problem(
    root: &Path,
    shown: &Shown,
    output: &str,
    status: &Result<i32, String>,
) -> Option<String> {
    match kind(&shown.command) {
        Kind::Run => {}
        Kind::Xtask(word) => {
            let known = COMMANDS.contains(&word);
            return (!known).then(|| format!("there is no `cargo xtask {word}`"));
        }
        Kind::Script(path) => {
            return (!root.join(path).is_file()).then(|| format!("there is no {path}"));
        }
    }
    let tail = || {
        let lines: Vec<&str> = output.lines().collect();
        let last = &lines[lines.len().saturating_sub(20)..];
        last.iter()
            .map(|line| format!("\n      | {line}"))
            .collect::<String>()
    };
    match status {
        Err(why) => return Some(format!("{why}{}", tail())),
        Ok(status) if *status != shown.exits => {
            return Some(format!(
                "exit status {status}, not {}{}",
                shown.exits,
                tail()
            ));
        }
        Ok(_) => {}
    }
    let written: Vec<String> = output.lines().map(shape).collect();
    shown
        .output
        .iter()
        .find(|(_, line)| line.trim() != "…" && !written.contains(&shape(line)))
        .map(|(n, line)| format!("no line of the output is like line {n}, `{line}`{}", tail()))
}

/// Whether a command would run the documents again.
fn kind(command: &str) -> Kind<'_> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["cargo", "xtask", word @ ("test" | "docs"), ..] => Kind::Xtask(word),
        [script @ (".ci/run" | "./.ci/run"), ..] => Kind::Script(script),
        _ => Kind::Run,
    }
}

/// A line with numbers and white space made alike.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            shape.push(' ');
            rest = rest.trim_start();
        } else if first.is_ascii_digit() {
            shape.push('#');
            rest = after_number(rest);
        } else {
            shape.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    shape
}

/// What follows the number at the head of `text`: digits, `.` and digits, one of K, M, G.
fn after_number(text: &str) -> &str {
    let digits = |text: &str| text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let mut rest = &text[text.len() - digits(text)..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let left = digits(fraction);
        if left < fraction.len() {
            rest = &fraction[fraction.len() - left..];
        }
    }
    rest.strip_prefix(['K', 'M', 'G']).unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> std::path::PathBuf {
        crate::root()
    }

    fn verdicts(document: &str) -> Vec<Option<String>> {
        let folder = crate::temporary::Folder::new("docs");
        let mut all = Vec::new();
        for block in blocks(document).unwrap() {
            all.extend(session(&root(), folder.path(), &block).unwrap());
        }
        all
    }

    #[test]
    fn a_session_that_does_what_it_shows_passes() {
        let document = "text\n\n```console\n$ X=12; echo \"used   $X bytes\"\nused 7 bytes\n$ false  # exits 1\n\
                        $ printf '%s\\n' a \\\n    b $X\na\n…\nb\n$ echo to stderr >&2\nto stderr\n```\n\
                        ```sh\n$ exit 9\n```\n  ```console\n  $ cat <<END\n  > one\n  > END\n  one\n  ```\n";
        assert_eq!(verdicts(document), vec![None; 5]);
    }

    #[test]
    fn what_is_not_as_shown_is_found() {
        let wrong_output = verdicts("```console\n$ echo 12 apples\n9 pears\n```\n");
        assert!(
            wrong_output[0].as_ref().unwrap().contains("line 3"),
            "{wrong_output:?}"
        );
        let wrong_status = verdicts("```console\n$ false\n$ true  # exits 3\n```\n");
        assert!(
            wrong_status[0]
                .as_ref()
                .unwrap()
                .contains("exit status 1, not 0")
        );
        assert!(
            wrong_status[1]
                .as_ref()
                .unwrap()
                .contains("exit status 0, not 3")
        );
    }

    #[test]
    fn a_session_that_ends_itself_reaches_nothing_more() {
        let ended = verdicts("```console\n$ echo x; exit 4  # exits 4\nx\n$ echo y\n```\n");
        assert_eq!(ended[0], None);
        assert!(ended[1].as_ref().unwrap().contains("not reached"));
    }

    #[test]
    fn commands_that_would_run_us_again_are_looked_up() {
        assert_eq!(
            verdicts("```console\n$ cargo xtask test --quick\n…\n```\n"),
            vec![None]
        );
        assert_eq!(kind("cargo xtask layers"), Kind::Run);
        assert_eq!(kind(".ci/run"), Kind::Script(".ci/run"));
    }

    #[test]
    fn a_line_that_begins_with_marked_words_is_no_fence() {
        let text = "`~` is a sign\n~~`x`~~ is struck\n~~~console\n$ true\n~~~\n";
        assert_eq!(blocks(text).unwrap().len(), 1);
    }

    #[test]
    fn malformed_blocks_are_refused() {
        assert_eq!(blocks("```console\n$ true\n").unwrap_err().0, 1);
        assert_eq!(blocks("\n```console\nno command\n```\n").unwrap_err().0, 3);
        assert_eq!(blocks("```console\n```\n").unwrap_err().0, 1);
        assert_eq!(
            blocks("```console\n$ a # exits never\n```\n")
                .unwrap_err()
                .0,
            2
        );
    }

    #[test]
    fn numbers_and_white_space_are_alike() {
        assert_eq!(shape("  peak 12.3M  of 64 ms."), "peak # of # ms.");
        assert_eq!(shape("peak\t7K of 5 ms."), "peak # of # ms.");
        assert_eq!(shape("v1.2.3"), "v#.#");
        assert_eq!(shape("worker-3 é"), "worker-# é");
        assert_ne!(shape("a 1"), shape("b 1"));
    }
}
