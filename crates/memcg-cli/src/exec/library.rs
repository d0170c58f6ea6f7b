//! The preload library: carried inside this command, given a file the loader can open.
//!
//! A file is used only if its bytes are the ones carried here: a left-over of another version would
//! misread the environment. `MEMCG_PRELOAD` is the exception, for people who build their own.

use super::elf;
use crate::failure::Failure;
use crate::sys;
use std::env;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file's name, wherever it is.
pub const NAME: &str = "libmemcg_preload.so";
const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libmemcg_preload.so"));
const HASH: &str = include_str!(concat!(env!("OUT_DIR"), "/libmemcg_preload.hash"));

/// The ELF number of the machine the library is for.
pub fn machine() -> u16 {
    elf::machine_of(BYTES).unwrap_or(0)
}

/// A file with the library: the one named by `MEMCG_PRELOAD`, one installed with this command, or
/// one in a cache.
pub fn resolve() -> Result<PathBuf, Failure> {
    if let Some(path) = env::var_os("MEMCG_PRELOAD").filter(|v| !v.is_empty()) {
        return chosen(Path::new(&path));
    }
    if let Some(path) = installed() {
        return Ok(path);
    }
    let mut reason = String::new();
    for (base, folder) in caches() {
        match kept(&base, &folder) {
            Ok(path) => return Ok(path),
            Err(e) => reason = format!("{}: {e}", folder.display()),
        }
    }
    Err(Failure::exec(format_args!(
        "no place for the preload library: {reason}: set XDG_CACHE_HOME or MEMCG_PRELOAD"
    )))
}

/// The user's own choice is taken as it is, if it is there.
fn chosen(path: &Path) -> Result<PathBuf, Failure> {
    let shown = path;
    let path = fs::canonicalize(path).map_err(|e| unusable(shown, &e.to_string()))?;
    if !path.is_file() {
        return Err(unusable(shown, "it is not a file"));
    }
    match elf::machine_of_file(&path) {
        Ok(number) if number == machine() => {}
        Ok(_) => return Err(unusable(shown, "it is a library for another machine")),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            return Err(unusable(shown, "it is not a library"));
        }
        Err(e) => return Err(unusable(shown, &e.to_string())),
    }
    if !loadable(&path) {
        let line = format!(
            "LD_PRELOAD cannot name it: {}: blanks, colons and '$' end a path there",
            path.display()
        );
        return Err(Failure::exec(line));
    }
    Ok(path)
}

fn unusable(shown: &Path, why: &str) -> Failure {
    Failure::exec(format_args!(
        "no preload library: MEMCG_PRELOAD={}: {why}: unset it to use the one memcg carries",
        shown.display()
    ))
}

fn installed() -> Option<PathBuf> {
    let executable = env::current_exe().ok()?;
    let folder = executable.parent()?;
    let prefix = folder
        .parent()
        .map(|prefix| prefix.join("lib/memcg").join(NAME));
    prefix
        .into_iter()
        .chain([folder.join(NAME)])
        .find(|path| loadable(path) && is_ours(path))
}

/// Where the library may be kept: the user's cache, else a folder in /tmp. Each with the folder
/// that must be the user's own already, or not exist yet.
fn caches() -> Vec<(PathBuf, PathBuf)> {
    let home = || absolute("HOME").filter(|home| home.is_dir());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")));
    let fallback = PathBuf::from(format!("/tmp/memcg-{}-lib", sys::process::effective_user()));
    let mut places = Vec::new();
    if let Some(cache) = cache {
        let folder = cache.join("memcg").join(HASH);
        places.push((cache, folder));
    }
    let folder = fallback.join(HASH);
    places.push((fallback, folder));
    places
}

fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// The library's file in `folder`, written if it is not there or not the right one.
fn kept(base: &Path, folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join(NAME);
    if !loadable(&path) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "LD_PRELOAD cannot name a path with blanks, colons or '$'",
        ));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    for directory in folder
        .ancestors()
        .take_while(|directory| directory.starts_with(base))
    {
        check_private(directory)?;
    }
    if sys::files::no_exec(folder) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "nothing may be executed from there (noexec)",
        ));
    }
    if !is_ours(&path) {
        write(&path)?;
    }
    Ok(path)
}

/// Nobody but this user can put another file in the place of ours.
fn check_private(directory: &Path) -> io::Result<()> {
    // Not followed: in /tmp somebody else could have put a link there.
    let meta = fs::symlink_metadata(directory)?;
    let meta = if meta.is_symlink() && meta.uid() == sys::process::effective_user() {
        fs::metadata(directory)?
    } else {
        meta
    };
    if !meta.is_dir() || meta.uid() != sys::process::effective_user() || meta.mode() & 0o022 != 0 {
        let reason = format!(
            "{} is not a folder only its user can write to",
            directory.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    Ok(())
}

fn write(path: &Path) -> io::Result<()> {
    let temporary = path.with_extension(format!("so.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o700)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&temporary)
        .and_then(|mut file| file.write_all(BYTES))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Is the library at `path` the one carried here? The length is asked first: it is cheap and mostly
/// enough.
fn is_ours(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == BYTES.len() as u64)
        && fs::read(path).is_ok_and(|bytes| bytes == BYTES)
}

/// Can `LD_PRELOAD` name this path? The loader splits it at blanks and colons and expands `$`.
fn loadable(path: &Path) -> bool {
    let special = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b':' | b'$');
    let path: &OsStr = path.as_os_str();
    !path.as_bytes().iter().any(special)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Folder {
            Folder(sys::files::make_private_directory(&env::temp_dir()).expect("a folder"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_kept_library_is_written_once_and_repaired_when_it_differs() {
        let base = Folder::new();
        let folder = base.0.join("memcg").join(HASH);
        let path = kept(&base.0, &folder).expect("a library");
        assert_eq!(fs::read(&path).expect("a library"), BYTES);
        let inode = fs::metadata(&path).expect("a file").ino();
        assert_eq!(
            fs::metadata(kept(&base.0, &folder).expect("a library"))
                .expect("a file")
                .ino(),
            inode
        );

        fs::write(&path, vec![0; BYTES.len()]).expect("a broken library");
        kept(&base.0, &folder).expect("a library");
        assert_eq!(fs::read(&path).expect("a library"), BYTES);
        assert_eq!(
            fs::read_dir(&folder).expect("a folder").count(),
            1,
            "nothing is left over"
        );
    }

    #[test]
    fn a_folder_others_can_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let base = Folder::new();
        fs::set_permissions(&base.0, fs::Permissions::from_mode(0o777)).expect("a mode");
        let error =
            kept(&base.0, &base.0.join(HASH)).expect_err("anybody could replace the library");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn paths_the_loader_would_split_are_not_used() {
        for path in ["/a b", "/a:b", "/$ORIGIN/a"] {
            assert!(!loadable(Path::new(path)), "{path}");
        }
        assert!(loadable(Path::new("/usr/lib/memcg/libmemcg_preload.so")));
    }
}
