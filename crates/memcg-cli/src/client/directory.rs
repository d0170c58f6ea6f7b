//! Where the sockets are: `$MEMCG_DIR`, else `$XDG_RUNTIME_DIR/memcg`, else `/tmp/memcg-UID`.

use super::connection::Client;
use crate::failure::{Failure, USAGE};
use crate::sys;
use crate::{client::escape::printable, failure::UNREACHABLE};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one process may take to answer when all are asked.
const PATIENCE: Duration = Duration::from_millis(500);

/// A process whose socket answered.
#[derive(Debug)]
pub struct Live {
    /// Its id, by the socket's name.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The connection that was tried.
    pub client: Client,
}

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

/// The processes whose sockets answer, by id. Left-over sockets are passed over.
pub fn live() -> Vec<Live> {
    let mut found: Vec<(u32, PathBuf)> = own_folders()
        .iter()
        .flat_map(|folder| sockets_in(folder))
        .collect();
    found.sort();
    found.dedup_by_key(|(pid, _)| *pid);
    found
        .into_iter()
        .filter_map(|(pid, path)| greet(pid, &path))
        .collect()
}

/// The process to look at when none was named: the only one there is.
pub fn only_one() -> Result<u32, Failure> {
    match live().as_slice() {
        [one] => Ok(one.pid),
        [] => Err(Failure::new(
            UNREACHABLE,
            "no process is under memcg: start one with `memcg exec PROGRAM`",
        )),
        several => {
            let list: Vec<String> = several
                .iter()
                .map(|p| format!("{} ({})", p.pid, p.comm))
                .collect();
            let list = list.join(", ");
            Err(Failure::new(
                USAGE,
                format_args!("several processes are under memcg: {list}: name one by its PID"),
            ))
        }
    }
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

fn greet(pid: u32, path: &Path) -> Option<Live> {
    let mut client = Client::connect_at(path, PATIENCE, PATIENCE).ok()?;
    let hello = client.ask(&[b"hello"]).ok()?;
    let hello = String::from_utf8_lossy(&hello);
    let comm = hello
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("comm="))?;
    let comm = super::escape::unescape(comm).ok()?;
    Some(Live {
        pid,
        comm: printable(&comm),
        client,
    })
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

/// Where this user's processes put their sockets. A process started without `XDG_RUNTIME_DIR` (from cron, by `su`) has
/// its own in /tmp, so both are looked at.
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
