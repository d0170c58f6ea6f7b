//! The report: the last snapshot, which the library writes at the program's end.
//!
//! A program that is killed, or leaves by `_exit`, writes none; then the last snapshot its socket gave has to do.

use super::child::End;
use super::options::Options;
use super::watch::Seen;
use crate::failure::Failure;
use crate::output::note;
use crate::snapshot::{self, LOW_COVERAGE, Snapshot, table};
use crate::sys;
use crate::terminal;
use std::env;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf, absolute};

/// A place for the report.
pub struct Report {
    path: PathBuf,
    /// The folder made for a report nobody asked to keep.
    private: Option<PathBuf>,
}

impl Report {
    /// A place for the report, if one is wanted: the user's FILE, or a private one that is deleted afterwards.
    pub fn prepare(options: &Options) -> Result<Option<Report>, Failure> {
        match (&options.report, &options.top) {
            (Some(path), _) => Report::kept(path).map(Some),
            (None, Some(_)) => Report::private().map(Some),
            (None, None) => Ok(None),
        }
    }

    /// For a program that will write none: an older report must not be taken for this run's.
    pub fn remove_older(options: &Options) -> Result<(), Failure> {
        options
            .report
            .as_ref()
            .map_or(Ok(()), |path| Report::kept(path).map(drop))
    }

    /// Where it is to be written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn kept(path: &Path) -> Result<Report, Failure> {
        let fail = |e: io::Error| {
            Failure::exec(format_args!(
                "cannot write the report: {}: {e}",
                path.display()
            ))
        };
        // The program may change its folder.
        let path = absolute(path).map_err(fail)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        if !fs::metadata(folder).map_err(fail)?.is_dir() {
            return Err(fail(ErrorKind::NotADirectory.into()));
        }
        // An older report must not be taken for this run's.
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => fs::remove_file(&path).map_err(fail)?,
            Ok(_) => {
                let line = format!(
                    "cannot write the report: {}: it exists and is not a regular file",
                    path.display()
                );
                return Err(Failure::usage(line));
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(fail(e)),
        }
        Ok(Report {
            path,
            private: None,
        })
    }

    fn private() -> Result<Report, Failure> {
        let parent = env::temp_dir();
        let made = absolute(&parent).and_then(|parent| sys::files::make_private_directory(&parent));
        let folder = made.map_err(|e| {
            Failure::exec(format_args!(
                "no place for a report: {}: {e}",
                parent.display()
            ))
        })?;
        Ok(Report {
            path: folder.join("report"),
            private: Some(folder),
        })
    }

    /// After the program's end: says what was wrong with the report, if anything, and with `show` prints the final table.
    pub fn conclude(&self, end: &End, seen: Option<Seen>, show: bool) {
        let last = match self.read() {
            Ok(snapshot) => Some(snapshot),
            Err(reason) => {
                note(&self.missing(&reason, end, seen.as_ref()));
                seen.map(|seen| seen.snapshot)
            }
        };
        if let Some(snapshot) = last.filter(|_| show) {
            print_final(&snapshot);
        }
    }

    fn read(&self) -> Result<Snapshot, String> {
        let text = fs::read(&self.path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => String::from("the program wrote none"),
            _ => e.to_string(),
        })?;
        snapshot::parse(&String::from_utf8_lossy(&text))
            .map_err(|e| format!("it cannot be read: {e}"))
    }

    /// The line for a missing report; a FILE that was asked for gets the last snapshot instead.
    fn missing(&self, reason: &str, end: &End, seen: Option<&Seen>) -> String {
        let how = match end {
            End::Signal(signal) => format!("signal {signal} killed it"),
            End::Exit(_) => String::from("it may have left by _exit or changed its user"),
        };
        let instead = match seen {
            Some(seen) if self.private.is_none() => match replace(&self.path, &seen.text) {
                Ok(()) => String::from("the last snapshot seen was written"),
                Err(e) => format!("the last snapshot seen could not be written: {e}"),
            },
            Some(_) => String::from("the last snapshot seen follows"),
            None => String::from("no snapshot was seen either"),
        };
        format!("no final report: {reason} ({how}): {instead}")
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(folder) = &self.private {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn print_final(snapshot: &Snapshot) {
    let mut lines = table::lines(snapshot, None);
    // The coverage line says what the footer says, and is one a script can look for.
    lines.pop();
    let stderr = io::stderr();
    let text = terminal::text(&lines, terminal::colour(&stderr));
    let _ = stderr.lock().write_all(text.as_bytes());
    note(&table::coverage(snapshot));
    if snapshot.accounting != "on" {
        note(&format!(
            "warning: accounting was {} at the end: the numbers are incomplete",
            snapshot.accounting
        ));
    }
    if snapshot.coverage < LOW_COVERAGE {
        note(
            "warning: coverage is below 70 %: the rest is code, mapped memory or another allocator's: limits do not reach it",
        );
    }
}
