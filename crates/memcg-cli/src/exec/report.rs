//! The report: the last snapshot, which the library writes at the program's end.
//!
//! A program that is killed writes none; then the last snapshot its socket gave has to do.
//!
//! Invariants: a report that is read is this run's; a private one is gone when the command ends.
//! Depends on: options, child, watch, summary.
//! Never: removes a file of the user's that is no regular file.

use super::child::End;
use super::options::Options;
use super::summary;
use super::watch::Seen;
use crate::failure::Failure;
use crate::output::note;
use crate::snapshot::{self, Snapshot};
use crate::sys;
use std::collections::HashSet;
use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf, absolute};

/// A place for the report.
pub struct Report {
    path: PathBuf,
    /// The user asked for the file, and keeps it.
    is_kept: bool,
    /// A folder of our own, deleted afterwards: for a report nobody asked to keep, and for the ids
    /// of processes that the program started.
    private: Option<PathBuf>,
}

impl Report {
    /// A place for the report, if one is wanted: the user's FILE, or a private one that is deleted
    /// afterwards.
    pub fn prepare(options: &Options) -> Result<Option<Report>, Failure> {
        if options.report.is_none() && !options.is_summary_wanted() {
            return Ok(None);
        }
        let kept = options.report.as_deref().map(kept).transpose()?;
        let private = match private() {
            Ok(folder) => Some(folder),
            // Where there is no place for temporary files, less is said at the end.
            Err(_) if kept.is_some() || options.top.is_none() => None,
            Err(failure) => return Err(failure),
        };
        let is_kept = kept.is_some();
        let path = kept.or_else(|| Some(private.as_ref()?.join("report")));
        Ok(path.map(|path| Report {
            path,
            is_kept,
            private,
        }))
    }

    /// For a program that will write none: an older report must not be taken for this run's.
    pub fn remove_older(options: &Options) -> Result<(), Failure> {
        options
            .report
            .as_ref()
            .map_or(Ok(()), |path| kept(path).map(drop))
    }

    /// Where it is to be written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where processes that the program starts leave their ids.
    pub fn started_path(&self) -> Option<PathBuf> {
        Some(self.private.as_ref()?.join("started"))
    }

    /// After the program's end: says what was wrong with the report, if anybody asked for it, and
    /// the summary that `options` ask for.
    pub fn conclude(&self, end: &End, seen: Option<Seen>, options: &Options) {
        let last = match self.read() {
            Ok(snapshot) => Some(snapshot),
            Err(reason) => {
                if self.is_kept || options.top.is_some() {
                    note(&self.missing(&reason, end, seen.as_ref()));
                }
                seen.map(|seen| seen.snapshot)
            }
        };
        if let Some(snapshot) = last {
            summary::show(&snapshot, self.started(), options);
        }
    }

    /// How many processes the program started under the engine.
    fn started(&self) -> usize {
        let ids = self.started_path().and_then(|path| fs::read(path).ok());
        ids.unwrap_or_default()
            .chunks_exact(4)
            .collect::<HashSet<_>>()
            .len()
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "std's enum of errors is open"
    )]
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
            Some(seen) if self.is_kept => match replace(&self.path, &seen.text) {
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

/// The place of a report that the user keeps; an older one there is removed.
fn kept(path: &Path) -> Result<PathBuf, Failure> {
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
    Ok(path)
}

/// A new folder of our own, with an empty file for the ids of processes.
fn private() -> Result<PathBuf, Failure> {
    let parent = env::temp_dir();
    let made = absolute(&parent).and_then(|parent| sys::files::make_private_directory(&parent));
    let made = made.and_then(|folder| fs::write(folder.join("started"), "").map(|()| folder));
    made.map_err(|e| {
        Failure::exec(format_args!(
            "no place for a report: {}: {e}",
            parent.display()
        ))
    })
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
