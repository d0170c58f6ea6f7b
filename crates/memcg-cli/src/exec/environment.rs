//! What the child's environment tells the library. The engine reads it once, at start.

use super::library;
use super::options::Options;
use super::report::Report;
use super::rules::{GroupRule, Setting};
use crate::failure::Failure;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Command;

/// The kernel takes at most 128 KiB in one variable, its name and the end included.
const LONGEST: usize = 128 * 1024 - 32;

/// Sets the variables for `command`; everything else is inherited.
pub fn set(
    command: &mut Command,
    options: &Options,
    library: &Path,
    report: Option<&Report>,
) -> Result<(), Failure> {
    command.env(
        "LD_PRELOAD",
        preload(library, env::var_os("LD_PRELOAD").as_deref()),
    );
    if !options.keep_python_malloc && env::var_os("PYTHONMALLOC").is_none() {
        // Python's own allocator takes arenas by mmap and hides its objects in them.
        command.env("PYTHONMALLOC", "malloc");
    }
    let groups = lines(
        "--group and --rules",
        options.rules().map(GroupRule::as_bytes),
    )?;
    if !groups.is_empty() {
        command.env("MEMCG_GROUPS", groups);
    }
    let settings = lines("--set", options.settings.iter().map(Setting::as_bytes))?;
    if !settings.is_empty() {
        command.env("MEMCG_SET", settings);
    }
    if options.no_thread {
        command.env("MEMCG_NO_THREAD", "1");
    }
    if options.throttle {
        command.env("MEMCG_THROTTLE", "1");
    }
    if options.strict {
        command.env("MEMCG_STRICT", "1");
    }
    if let Some(report) = report {
        command.env("MEMCG_REPORT", report.path());
        if let Some(path) = report.started_path() {
            command.env("MEMCG_STARTED", path);
        }
        // The library names the process that writes the report. One named by an outer `memcg exec`
        // is not ours.
        command.env_remove("MEMCG_REPORT_PID");
    }
    Ok(())
}

/// For a program that runs without the engine: an outer `memcg exec` may have put the library into
/// `LD_PRELOAD`.
pub fn clean(command: &mut Command) {
    let Some(before) = env::var_os("LD_PRELOAD") else {
        return;
    };
    let rest: Vec<&[u8]> = named(&before)
        .filter(|other| {
            Path::new(OsStr::from_bytes(other)).file_name() != Some(library::NAME.as_ref())
        })
        .collect();
    match rest.len() {
        0 => command.env_remove("LD_PRELOAD"),
        _ => command.env("LD_PRELOAD", OsString::from_vec(rest.join(&b':'))),
    };
}

/// The library before those that were to be preloaded already, and only once.
fn preload(library: &Path, before: Option<&OsStr>) -> OsString {
    let mut value = library.as_os_str().as_bytes().to_vec();
    for other in named(before.unwrap_or_default()) {
        if other != library.as_os_str().as_bytes() {
            value.push(b':');
            value.extend_from_slice(other);
        }
    }
    OsString::from_vec(value)
}

/// The libraries `LD_PRELOAD` names.
fn named(value: &OsStr) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|b| *b == b':' || *b == b' ')
        .filter(|name| !name.is_empty())
}

/// One entry a line; `what` says which option there is too much of.
fn lines<'a>(what: &str, entries: impl Iterator<Item = &'a [u8]>) -> Result<OsString, Failure> {
    let text = entries.collect::<Vec<_>>().join(&b'\n');
    match text.len() {
        ..=LONGEST => Ok(OsString::from_vec(text)),
        length => Err(Failure::usage(format_args!(
            "too many of {what}: {length} bytes: at most {LONGEST} can be passed on: use wider GLOBs, \
             or `memcg set` once the program runs"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_comes_first_and_only_once() {
        let library = Path::new("/l.so");
        assert_eq!(preload(library, None), "/l.so");
        assert_eq!(preload(library, Some(OsStr::new(""))), "/l.so");
        assert_eq!(
            preload(library, Some(OsStr::new("/a.so:/b.so"))),
            "/l.so:/a.so:/b.so"
        );
        assert_eq!(
            preload(library, Some(OsStr::new("/l.so /a.so"))),
            "/l.so:/a.so"
        );
    }
}
