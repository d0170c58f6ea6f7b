//! The folders that hold the control sockets: `$MEMCG_DIR`, else `$XDG_RUNTIME_DIR/memcg`, else
//! `/tmp/memcg-UID`.
//!
//! Invariants: only names are looked at; a socket that is listed may have nobody behind it.
//! Depends on: sys.
//! Never: connects.

use crate::sys;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The sockets that may be those of `pid`: ours, and those of the user it belongs to.
pub fn sockets_of(pid: u32) -> Vec<PathBuf> {
    let name = format!("{pid}.sock");
    let mut folders = own_folders();
    // A process of this user's says itself where it was told to put its socket.
    if let Some(folder) = folder_told_to(pid) {
        folders.push(folder);
    }
    // Root may look at everybody's processes, whose sockets are in their users' folders.
    if variable("MEMCG_DIR").is_none()
        && let Ok(process) = fs::metadata(format!("/proc/{pid}"))
        && process.uid() != sys::process::user()
    {
        folders.extend(folders_of(process.uid()));
    }
    folders
        .into_iter()
        .map(|folder| folder.join(&name))
        .collect()
}

/// The sockets in this user's folders, by process id, each id once.
pub fn sockets() -> Vec<(u32, PathBuf)> {
    sockets_of_all(&own_folders())
}

/// The sockets in all folders where that of `pid` may be, by process id, each id once.
pub fn sockets_beside(pid: u32) -> Vec<(u32, PathBuf)> {
    let own = sockets_of(pid);
    let folders = own.iter().filter_map(|socket| socket.parent());
    sockets_of_all(&folders.map(Path::to_path_buf).collect::<Vec<_>>())
}

fn sockets_of_all(folders: &[PathBuf]) -> Vec<(u32, PathBuf)> {
    let mut found: Vec<(u32, PathBuf)> = folders
        .iter()
        .flat_map(|folder| sockets_in(folder))
        .collect();
    found.sort();
    found.dedup_by_key(|(pid, _)| *pid);
    found
}

/// `MEMCG_DIR` as process `pid` was started with, if that is this user's.
fn folder_told_to(pid: u32) -> Option<PathBuf> {
    if fs::metadata(format!("/proc/{pid}")).ok()?.uid() != sys::process::user() {
        return None;
    }
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|b| *b == 0);
    let folder = variables.find_map(|v| v.strip_prefix(b"MEMCG_DIR="))?;
    (!folder.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(folder)))
}

fn sockets_in(folder: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid = path
                .file_name()?
                .to_str()?
                .strip_suffix(".sock")?
                .parse()
                .ok()?;
            Some((pid, path))
        })
        .collect()
}

/// Where this user's processes put their sockets. A process started without `XDG_RUNTIME_DIR` (from
/// cron, by `su`) has its own in /tmp, so both are looked at.
fn own_folders() -> Vec<PathBuf> {
    if let Some(folder) = variable("MEMCG_DIR") {
        return vec![folder.into()];
    }
    let mut folders = Vec::new();
    if let Some(runtime) = variable("XDG_RUNTIME_DIR") {
        folders.push(PathBuf::from(runtime).join("memcg"));
    }
    folders.push(in_tmp(sys::process::user()));
    folders
}

fn folders_of(uid: u32) -> [PathBuf; 2] {
    [PathBuf::from(format!("/run/user/{uid}/memcg")), in_tmp(uid)]
}

fn in_tmp(uid: u32) -> PathBuf {
    PathBuf::from(format!("/tmp/memcg-{uid}"))
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
