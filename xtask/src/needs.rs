//! What the suite uses beside Rust, and how Debian calls it: the one list.
//!
//! [`NEEDED`] is what no run does without; the README's line and `.ci/run` name the same packages,
//! which a test holds them to. [`USEFUL`] widens what is tested: without one, what needs it is
//! skipped and listed.
//!
//! Depends on: nothing. Never: installs in silence, or where [`Install`] forbids it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Failure;

/// How one finds out whether something is there.
enum Probe {
    /// A program of this name is on the path.
    Program(&'static str),
    /// This compiler, for this language, finds this header.
    Compiles(&'static str, &'static str, &'static str),
    /// Python can import it.
    Imports(&'static str),
}

/// A thing the suite uses.
struct Need {
    probe: Probe,
    /// The Debian package; `{}` in it stands for Python's version.
    package: &'static str,
}

const fn program(name: &'static str, package: &'static str) -> Need {
    Need {
        probe: Probe::Program(name),
        package,
    }
}

const NEEDED: &[Need] = &[
    program("git", "git"),
    Need {
        probe: Probe::Compiles("cc", "c", "stdlib.h"),
        package: "gcc",
    },
    Need {
        probe: Probe::Compiles("c++", "c++", "cstdlib"),
        // Brings the C library's headers along.
        package: "g++",
    },
    program("python3", "python3"),
];

const USEFUL: &[Need] = &[
    program("valgrind", "valgrind"),
    program("redis-server", "redis-server"),
    program("redis-benchmark", "redis-tools"),
    program("sqlite3", "sqlite3"),
    program("xz", "xz-utils"),
    program("zstd", "zstd"),
    program("node", "nodejs"),
    program("javac", "default-jdk-headless"),
    Need {
        probe: Probe::Imports("test.test_threading, test._test_multiprocessing"),
        package: "libpython{}-testsuite",
    },
];

/// What may be installed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Install {
    /// Nothing.
    Nothing,
    /// What is needed, as root.
    Needed,
    /// What is useful too; who is not root asks `sudo -n`.
    All,
}

/// The command that gives a Debian what is needed: the README's line, without what getting Rust
/// takes.
pub fn line() -> String {
    format!("apt-get install --yes {}", packages(NEEDED).join(" "))
}

fn packages(needs: &[Need]) -> Vec<String> {
    needs.iter().map(package).collect()
}

fn package(need: &Need) -> String {
    if !need.package.contains("{}") {
        return need.package.to_owned();
    }
    let print = "import sys; print('%d.%d' % sys.version_info[:2])";
    let output = Command::new("python3").args(["-c", print]).output();
    let version = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    need.package.replace("{}", &version.unwrap_or_default())
}

/// Sees to it that what is needed is there, and with [`Install::All`] what is useful.
///
/// # Errors
/// When something that is needed is missing and may not or cannot be installed. What is useful is
/// never an error.
pub fn provide(install: Install) -> Result<(), Failure> {
    components()?;
    let mut missing = missing(NEEDED);
    if !missing.is_empty() {
        let installed = may(install) && apt(&missing);
        missing = self::missing(NEEDED);
        if !missing.is_empty() {
            let why = if installed {
                "still missing"
            } else {
                "missing"
            };
            return Err(format!(
                "{why}: {}; on Debian: {}",
                missing.join(" "),
                line()
            ));
        }
    }
    let missing = self::missing(USEFUL);
    if install == Install::All && !missing.is_empty() {
        apt(&missing);
        let missing = self::missing(USEFUL);
        if !missing.is_empty() {
            println!(
                "still missing, tests that use it are skipped: {}",
                missing.join(" ")
            );
        }
    }
    Ok(())
}

/// The packages of those `needs` that are not there.
fn missing(needs: &[Need]) -> Vec<String> {
    let missing = needs.iter().filter(|need| !is_there(&need.probe));
    missing.map(package).collect()
}

fn is_there(probe: &Probe) -> bool {
    let succeeds = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    match probe {
        Probe::Program(name) => on_path(name),
        Probe::Compiles(compiler, language, header) => {
            let read = ["-x", language, "-E", "-include", header, "/dev/null"];
            succeeds(Command::new(compiler).args(read))
        }
        Probe::Imports(what) => {
            let import = format!("import {what}");
            succeeds(Command::new("python3").args(["-c", &import]))
        }
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Whether this user may install here at all.
fn may(install: Install) -> bool {
    match install {
        Install::Nothing => false,
        Install::Needed => is_root() && on_path("apt-get"),
        Install::All => on_path("apt-get"),
    }
}

fn is_root() -> bool {
    // SAFETY: reads a number.
    unsafe { libc::geteuid() == 0 }
}

/// Installs packages, saying so. False where that failed.
fn apt(packages: &[String]) -> bool {
    if !on_path("apt-get") || !(is_root() || on_path("sudo")) {
        return false;
    }
    println!("installing: {}", packages.join(" "));
    let run = |arguments: &[&str]| {
        let mut command = if is_root() {
            Command::new("env")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "env"]);
            sudo
        };
        command
            .arg("DEBIAN_FRONTEND=noninteractive")
            .args(["apt-get", "-qq"])
            .args(arguments)
            // Its progress is no result of a test.
            .stdout(Stdio::null())
            .stdin(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let install = ["install", "--yes", "--no-install-recommends"];
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    run(&["update"]) && run(&[&install[..], &names[..]].concat())
}

/// Fails where cargo has no formatter or no linter.
fn components() -> Result<(), Failure> {
    for tool in ["fmt", "clippy"] {
        let mut cargo = crate::child::cargo(Path::new("."), &[tool, "--version"]);
        let output = cargo.stdin(Stdio::null()).output();
        if !output.is_ok_and(|output| output.status.success()) {
            return Err(format!(
                "no cargo {tool}; on a Rust from rustup: rustup component add rustfmt clippy"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_and_ci_name_what_is_needed() {
        let read = |name: &str| std::fs::read_to_string(crate::root().join(name)).unwrap();
        let readme = read("README.md");
        assert!(readme.contains(&line()), "README.md: {}", line());
        let ci = format!("needed=({})", packages(NEEDED).join(" "));
        assert!(read(".ci/run").contains(&ci), ".ci/run: {ci}");
        let minimum = read("Cargo.toml");
        let minimum = minimum
            .lines()
            .find_map(|line| line.strip_prefix("rust-version = "))
            .unwrap()
            .trim_matches('"');
        assert!(
            readme.contains(&format!("Rust {minimum}")),
            "README.md: {minimum}"
        );
    }

    #[test]
    fn what_is_missing_is_named_by_its_package() {
        let needs = [
            program("sh", "dash"),
            program("no-such-program", "a-package"),
            Need {
                probe: Probe::Compiles("cc", "c", "no_such_header.h"),
                package: "headers",
            },
            Need {
                probe: Probe::Compiles("cc", "c", "stdlib.h"),
                package: "gcc",
            },
            Need {
                probe: Probe::Imports("sys, no_such_module"),
                package: "python-thing",
            },
        ];
        assert_eq!(missing(&needs), ["a-package", "headers", "python-thing"]);
    }

    #[test]
    fn nothing_is_installed_where_that_is_forbidden() {
        assert!(!may(Install::Nothing));
        assert_eq!(may(Install::Needed), is_root() && on_path("apt-get"));
    }
}
