//! `cargo xtask fresh`: what the README and `.ci/run` promise of a machine that has nothing, tried
//! on one.
//!
//! mmdebstrap makes a bare Debian 12 (its `minbase`), from the mirrors that this machine's apt
//! uses. Each stage gets a copy of it, with a clone of HEAD and this machine's Rust, read-only, and
//! runs as root in a chroot, in mount and process namespaces of its own: when it ends, its mounts
//! and all its processes are gone. Cargo starts without a cache. The folder is in the temporary
//! directory and goes at the end.
//!
//! * `missing`: what the README's line names is there, but Python and a C++ compiler. It runs
//!   `cargo xtask test --no-install`, which must name them and build nothing.
//! * `readme`: what the README's line names is there. It runs the README's commands up to
//!   `cargo xtask test`.
//! * `ci`: nothing is there. It runs `.ci/run`.
//!
//! Depends on: child, docs, needs. Never: part of the suite (it needs root, a mirror and an hour).

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::child::stream_limited;
use crate::{Counted, Failure, docs, needs};

const RELEASE: &str = "bookworm";
const STAGES: &[&str] = &["missing", "readme", "ci"];

/// What a run's folder is called, before the number of its process. With `--keep` it stays until
/// the next run.
const PREFIX: &str = "memcg-fresh-";

/// How long a stage may take.
const LIMIT: Duration = Duration::from_secs(3 * 3600);

/// What enters a root and runs a command there; it is read by a bash in the new namespaces.
/// Arguments: the root, Rust's folder, the command.
const ENTER: &str = r#"
set -eu
root=$1 rust=$2 command=$3
mkdir -p "$root/opt/rust"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount --bind "$rust" "$root/opt/rust"
mount -o remount,bind,ro "$root/opt/rust"
exec chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 ${CA:+CARGO_HTTP_CAINFO="$CA"} \
    PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    bash -euc "cd ~/memcg; $command"
"#;

/// Where Debian keeps the certificates that its machine trusts; a copy goes into each root.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const COPIED_CERTIFICATES: &str = "etc/certificates-of-the-host.crt";

/// What a run is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    quick: bool,
    keep: bool,
    stages: Vec<String>,
}

/// The options of a command line; `None` where it is wrong.
pub fn options(words: &[&str]) -> Option<Options> {
    let mut options = Options {
        quick: false,
        keep: false,
        stages: Vec::new(),
    };
    for &word in words {
        match word {
            "--quick" => options.quick = true,
            "--keep" => options.keep = true,
            stage if STAGES.contains(&stage) => options.stages.push(stage.to_owned()),
            _ => return None,
        }
    }
    if options.stages.is_empty() {
        options.stages = STAGES.iter().map(|&stage| stage.to_owned()).collect();
    }
    Some(options)
}

/// A folder that goes when this does; the mounts below it went with their namespaces.
struct Temporary {
    path: PathBuf,
    keep: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.keep {
            println!("kept: {}", self.path.display());
        } else if let Err(e) = std::fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {e}", self.path.display());
        }
    }
}

/// Makes the roots and runs the stages; stops at the first that fails.
///
/// # Errors
/// When a stage fails, or no root can be made here.
pub fn run(root: &Path, options: &Options) -> Result<Counted, Failure> {
    remove_orphans();
    let has_tool = Command::new("mmdebstrap").arg("--version").output().is_ok();
    if !has_tool {
        return Err("no mmdebstrap here; install it: apt-get install mmdebstrap".into());
    }
    let sources = sources()?;
    let rust = asked(Command::new("rustc").args(["--print", "sysroot"]))?;
    let folder = Temporary {
        path: std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id())),
        keep: options.keep,
    };
    let folder = &folder.path;
    std::fs::create_dir(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let list = folder.join("sources.list");
    std::fs::write(&list, sources).map_err(|e| format!("cannot write {}: {e}", list.display()))?;
    let bare = folder.join("bare");
    println!("==== a bare {RELEASE} in {}", bare.display());
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=minbase", RELEASE])
        .arg(&bare)
        .arg(&list);
    stream_limited(&mut make, LIMIT)?;
    let mut counted = Counted::default();
    for stage in &options.stages {
        println!("\n==== stage {stage}");
        let place = folder.join(stage);
        stream_limited(Command::new("cp").arg("-a").arg(&bare).arg(&place), LIMIT)?;
        let mut clone = Command::new("git");
        clone
            .args(["clone", "--quiet"])
            .arg(root)
            .arg(place.join("root/memcg"));
        stream_limited(&mut clone, LIMIT)?;
        let mut enter = Command::new("unshare");
        if Path::new(CERTIFICATES).exists() {
            let copy = place.join(COPIED_CERTIFICATES);
            std::fs::copy(CERTIFICATES, &copy)
                .map_err(|e| format!("cannot write {}: {e}", copy.display()))?;
            enter.env("CA", Path::new("/").join(COPIED_CERTIFICATES));
        }
        enter
            .args(["--mount", "--pid", "--fork", "--kill-child"])
            .args(["bash", "-c", ENTER, "enter"])
            .arg(&place)
            .args([&rust, &script(root, stage, options.quick)?]);
        let done = stream_limited(&mut enter, LIMIT).map_err(|e| {
            let why = e.rsplit(": ").next().unwrap_or_default().to_owned();
            format!("stage {stage}: {why}")
        })?;
        println!("==== stage {stage}: ok");
        counted.passed += done.passed + 1;
        counted.ignored += done.ignored;
        if !options.keep {
            let _ = std::fs::remove_dir_all(&place);
        }
    }
    Ok(counted)
}

/// Removes the folders of runs that a signal ended.
fn remove_orphans() {
    for entry in std::fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if pid
            .is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
        {
            println!(
                "removing {}, left by a run that was ended",
                entry.path().display()
            );
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// What a stage runs.
fn script(root: &Path, stage: &str, quick: bool) -> Result<String, Failure> {
    let update = "apt-get update -qq";
    let quick = if quick { " --quick" } else { "" };
    Ok(match stage {
        "missing" => format!(
            "{update}; apt-get install -qq --yes git gcc libc6-dev >/dev/null\n\
             if cargo xtask test{quick} --no-install >said 2>&1; then exit 1; fi\n\
             cat said; grep -qF 'missing: g++ python3; on Debian: {}' said\n\
             ! grep -q '====' said",
            needs::line()
        ),
        "readme" => {
            let mut script = format!("{update}; {} >/dev/null\n", needs::line());
            for command in readme(root)? {
                let more = if command == SUITE { quick } else { "" };
                script.push_str(&format!("echo '$' {command:?}\n{command}{more}\n"));
            }
            script
        }
        _ => format!(".ci/run{quick}"),
    })
}

/// The README's command that runs the suite.
const SUITE: &str = "cargo xtask test";

/// The README's commands that are run in the repository, from its first to [`SUITE`].
fn readme(root: &Path) -> Result<Vec<String>, Failure> {
    let path = root.join("README.md");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut commands = docs::commands_of(&text)?;
    let Some(suite) = commands.iter().position(|command| command == SUITE) else {
        return Err(format!("README.md does not say `{SUITE}`"));
    };
    commands.truncate(suite + 1);
    // Others are told to `memcg` as installed, or are beside the point here.
    commands.retain(|command| command.starts_with("cargo "));
    Ok(commands)
}

/// The lines of a sources.list: what this machine's apt has of Debian's release.
fn sources() -> Result<String, Failure> {
    let format = "$(ORIGIN) $(CODENAME) $(REPO_URI) $(RELEASE) $(COMPONENT)";
    let mut indexes = Command::new("apt-get");
    indexes.args(["indextargets", "--format", format, "Created-By: Packages"]);
    let lines = sources_in(&asked(&mut indexes)?);
    if lines.is_empty() {
        return Err(format!("this machine's apt has no Debian {RELEASE}"));
    }
    Ok(lines)
}

fn sources_in(indexes: &str) -> String {
    let mut lines = String::new();
    for index in indexes.lines() {
        if let ["Debian", codename, uri, suite, "main"] = index.split(' ').collect::<Vec<_>>()[..]
            && codename.starts_with(RELEASE)
        {
            let line = format!("deb {uri} {suite} main\n");
            if !lines.contains(&line) {
                lines.push_str(&line);
            }
        }
    }
    lines
}

/// What a command prints.
fn asked(command: &mut Command) -> Result<String, Failure> {
    let output = command.output();
    let name = command.get_program().display();
    let output = output.map_err(|e| format!("cannot run {name}: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_machines_own() {
        let indexes = "Debian bookworm http://a.test/debian/ bookworm main\n\
                       Debian bookworm http://a.test/debian/ bookworm contrib\n\
                       Debian bookworm-security http://a.test/security/ bookworm-security main\n\
                       Debian trixie http://a.test/debian/ trixie main\n\
                       Other bookworm http://b.test/ bookworm main\n\
                       Debian bookworm http://a.test/debian/ bookworm main\n";
        assert_eq!(
            sources_in(indexes),
            "deb http://a.test/debian/ bookworm main\n\
             deb http://a.test/security/ bookworm-security main\n"
        );
    }

    #[test]
    fn the_readme_ends_its_first_commands_with_the_suite() {
        let commands = readme(&crate::root()).unwrap();
        assert!(commands.len() >= 2, "{commands:?}");
        assert_eq!(commands.last().unwrap(), SUITE);
    }

    #[test]
    fn stages_are_known_ones_and_all_by_default() {
        assert_eq!(options(&["--quick"]).unwrap().stages, STAGES);
        assert_eq!(options(&["ci", "--keep"]).unwrap().stages, ["ci"]);
        assert_eq!(options(&["cd"]), None);
    }
}
