//! Where the socket is: a folder of the user's own, one name a process.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

/// The folder, by environment and user.
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

/// The path for this process's socket; the folder is made, mode 0700, or found to be ours and nobody else's.
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
