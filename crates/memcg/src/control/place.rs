//! The socket's place: a directory of the user's own, and a name for each process.
//!
//! Invariants: only the process that made a socket removes its name.
//! Depends on: the environment (`MEMCG_DIR`, `XDG_RUNTIME_DIR`).
//! Never: uses a directory that is another user's or that others can write; removes what is no
//! socket.

use crate::sync::atomic::{AtomicPtr, Ordering};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

struct Place {
    /// The process that made the socket. A child of a fork has another pid.
    pid: u32,
    path: PathBuf,
}

/// Where this process's socket is; null: it has none. It is not under a lock, which a fork could
/// leave locked. What it points to is never freed, so an exit may read it at any time.
static PLACE: AtomicPtr<Place> = AtomicPtr::new(core::ptr::null_mut());

fn place() -> Option<&'static Place> {
    // Acquire pairs with the Release store of `publish`.
    // SAFETY: the pointer is null, or that of a box which `publish` has leaked: it is valid for
    // ever, and nobody changes what it points to.
    unsafe { PLACE.load(Ordering::Acquire).as_ref() }
}

/// Remembers where the socket is to be, for [`unlink`].
pub(super) fn publish(path: PathBuf) {
    let pid = std::process::id();
    // Bound again it is at the same place: that costs nothing.
    if !place().is_some_and(|known| known.pid == pid && known.path == path) {
        let place = Box::into_raw(Box::new(Place { pid, path }));
        // Release pairs with the Acquire load of `place`: who sees the pointer sees the place.
        PLACE.store(place, Ordering::Release);
    }
}

/// In the child of a fork: forgets the place, which is the parent's.
pub(super) fn forget() {
    // No Acquire needs this Release: who loads null reads nothing by it.
    PLACE.store(core::ptr::null_mut(), Ordering::Release);
}

/// Takes the socket's name away. In the process that made it only.
pub(super) fn unlink() {
    // The child of a vfork has the parent's memory: what is not its own it leaves as it is.
    if let Some(place) = place()
        && place.pid == std::process::id()
    {
        remove_socket(&place.path);
    }
}

/// Removes a socket's name; whatever else has that name stays.
pub(super) fn remove_socket(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let _ = fs::remove_file(path);
    }
}

/// The folder for sockets, by environment and user.
fn folder() -> PathBuf {
    let var = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    var("MEMCG_DIR")
        .or_else(|| var("XDG_RUNTIME_DIR").map(|dir| dir.join("memcg")))
        .unwrap_or_else(|| PathBuf::from(format!("/tmp/memcg-{}", crate::os::ids::euid())))
}

/// The path for this process's socket; the folder is made, mode 0700, or found to be ours and
/// nobody else's.
pub(super) fn socket_path() -> io::Result<PathBuf> {
    let folder = folder();
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => {
            return Err(io::Error::new(
                e.kind(),
                format!("{}: {e}", folder.display()),
            ));
        }
    }
    let found = fs::symlink_metadata(&folder)?;
    if !found.is_dir()
        || found.uid() != crate::os::ids::euid()
        || found.permissions().mode() & 0o022 != 0
    {
        let why = format!(
            "{}: not a folder of this user's that others cannot write",
            folder.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(folder.join(format!("{}.sock", std::process::id())))
}
