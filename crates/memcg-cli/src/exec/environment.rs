//! What the child's environment tells the library. The engine reads it once, at start.

use super::options::Options;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Command;

/// Sets the variables for `command`; everything else is inherited.
pub fn set(command: &mut Command, options: &Options, library: &Path, report: Option<&Path>) {
    command.env(
        "LD_PRELOAD",
        preload(library, env::var_os("LD_PRELOAD").as_deref()),
    );
    if !options.keep_python_malloc && env::var_os("PYTHONMALLOC").is_none() {
        // Python's own allocator takes arenas by mmap and hides its objects in them.
        command.env("PYTHONMALLOC", "malloc");
    }
    if !options.groups.is_empty() {
        command.env(
            "MEMCG_GROUPS",
            lines(options.groups.iter().map(|rule| rule.as_bytes())),
        );
    }
    if !options.settings.is_empty() {
        command.env(
            "MEMCG_SET",
            lines(options.settings.iter().map(|setting| setting.as_bytes())),
        );
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
        command.env("MEMCG_REPORT", report);
        // The library names the process that writes the report. One named by an outer `memcg exec` is not ours.
        command.env_remove("MEMCG_REPORT_PID");
    }
}

/// The library before those that were to be preloaded already, and only once.
fn preload(library: &Path, before: Option<&OsStr>) -> OsString {
    let mut value = library.as_os_str().as_bytes().to_vec();
    for other in before
        .map_or(&b""[..], OsStr::as_bytes)
        .split(|b| *b == b':' || *b == b' ')
    {
        if !other.is_empty() && other != library.as_os_str().as_bytes() {
            value.push(b':');
            value.extend_from_slice(other);
        }
    }
    OsString::from_vec(value)
}

fn lines<'a>(entries: impl Iterator<Item = &'a [u8]>) -> OsString {
    OsString::from_vec(entries.collect::<Vec<_>>().join(&b'\n'))
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
