//! `cargo xtask picture`: the README's picture, `docs/top.svg`: what `memcg top --once` prints of
//! the tenants of `tests/programs/tenants.py`.
//!
//! Invariants: the figures are of a real run of the release build; only the process id is replaced.
//! Depends on: child, svg.
//! Never: runs in CI: figures differ a little from run to run.

#![forbid(unsafe_code)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::child::build_release;
use crate::svg::{self, Tone};
use crate::{Counted, Failure, target_dir};

/// The limits in the picture: one tenant is near its own.
const LIMITS: [&str; 2] = ["/acme/memory.max=80M", "/zeta/memory.max=80M"];
/// The process id in the picture.
const PID: &str = "4242";

/// Draws it.
pub fn run(root: &Path) -> Result<Counted, Failure> {
    build_release(root)?;
    let memcg = target_dir(root).join("release/memcg");
    let table = tenants(root, &memcg)?;
    let lines: Vec<(Tone, &str)> = [(Tone::Typed, "$ memcg top --once")]
        .into_iter()
        .chain(table.lines().map(|line| (tone(line), line)))
        .collect();
    let path = root.join("docs/top.svg");
    let svg = svg::picture(
        "memcg top: the groups of a process and what each holds",
        &lines,
    );
    std::fs::write(&path, svg).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(Counted {
        note: format!("docs/top.svg: {} lines", lines.len()),
        ..Counted::default()
    })
}

fn tone(line: &str) -> Tone {
    match line.split_whitespace().next() {
        Some("GROUP") => Tone::Head,
        Some("process" | "coverage") => Tone::Faint,
        _ => Tone::Plain,
    }
}

/// The table of the tenants while they hold what they keep.
fn tenants(root: &Path, memcg: &Path) -> Result<String, Failure> {
    let mut command = Command::new(memcg);
    command.current_dir(root).arg("exec");
    for limit in LIMITS {
        command.args(["--set", limit]);
    }
    command
        .args(["--", "python3", "tests/programs/tenants.py", "wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut exec = command
        .spawn()
        .map_err(|e| format!("cannot run {}: {e}", memcg.display()))?;
    let table = look(memcg, &mut exec);
    // The tenants leave when nobody can write to them any more.
    drop(exec.stdin.take());
    let ended = exec.wait().map_err(|e| format!("cannot wait: {e}"))?;
    match table {
        Ok(table) if ended.success() => Ok(table),
        Ok(_) => Err(format!("the tenants ended badly: {ended}")),
        Err(why) => Err(why),
    }
}

fn look(memcg: &Path, exec: &mut Child) -> Result<String, Failure> {
    let stdout = exec.stdout.take().ok_or("the tenants have no output")?;
    let mut said = String::new();
    BufReader::new(stdout)
        .read_line(&mut said)
        .map_err(|e| format!("cannot read what the tenants say: {e}"))?;
    if !said.ends_with("bytes kept\n") {
        return Err(format!("the tenants said {said:?}"));
    }
    // The PID of `memcg exec` stands for its program's.
    let output = Command::new(memcg)
        .args(["top", &exec.id().to_string(), "--once"])
        .env("NO_COLOR", "1")
        .output()
        .map_err(|e| format!("cannot run {}: {e}", memcg.display()))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("memcg top: {}: {}", output.status, why.trim()));
    }
    with_pid(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| String::from("memcg top does not begin with the process"))
}

/// The table with the process id of the picture.
fn with_pid(table: &str) -> Option<String> {
    let rest = table.strip_prefix("process ")?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    (digits > 0).then(|| format!("process {PID}{}", &rest[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_id_is_replaced() {
        let table = "process 17 (python3), up 1.0 s\nGROUP  CURRENT\n/       17\n";
        let shown = with_pid(table).expect("a table");
        assert_eq!(shown, table.replace("process 17", "process 4242"));
        assert_eq!(with_pid("GROUP"), None);
    }

    #[test]
    fn the_picture_in_the_repository_shows_the_tenants_under_the_columns_there_are() {
        let root = crate::root();
        let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
        let svg = read("docs/top.svg");
        for name in ["acme", "zeta", "umbrella", "$ memcg top --once"] {
            assert!(svg.contains(&format!(">{name}</text>")), "{name}");
        }
        // The columns as the command has them: the first table of its source.
        let source = read("crates/memcg-cli/src/snapshot/table.rs");
        let table = source.split("Table::new([").nth(1).expect("a table");
        let table = table.split("]);").next().expect("its columns");
        let columns: Vec<&str> = table.split('"').skip(1).step_by(2).collect();
        assert!(columns.len() > 5, "{columns:?}");
        for column in columns {
            let heading = "<text class=\"h\" ";
            let drawn = svg.lines().filter(|line| line.starts_with(heading));
            assert!(
                drawn
                    .into_iter()
                    .any(|line| line.ends_with(&format!(">{column}</text>"))),
                "{column}: run `cargo xtask picture`"
            );
        }
    }
}
