//! Finding the program as a shell would.

use crate::failure::{Failure, NOT_EXECUTABLE, NOT_FOUND};
use crate::sys;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where programs are looked for without `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The file `program` means: itself if it has a slash in it, else the first executable of that name
/// in `search`.
pub fn find(program: &OsStr, search: Option<&OsStr>) -> Result<PathBuf, Failure> {
    let name = program.to_string_lossy();
    if program.as_bytes().contains(&b'/') {
        let path = Path::new(program);
        return match path.metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(not_executable(program, &e.to_string()))
            }
            Err(e) => Err(Failure::new(
                NOT_FOUND,
                format_args!("not found: {name}: {e}"),
            )),
            Ok(_) => obstacle(path).map_or_else(
                || Ok(path.to_path_buf()),
                |why| Err(not_executable(program, why)),
            ),
        };
    }
    let mut reason = None;
    let search = search.unwrap_or(OsStr::new(DEFAULT_PATH));
    let candidates =
        std::env::split_paths(search).map(|folder| match folder.as_os_str().is_empty() {
            true => Path::new(".").join(program),
            false => folder.join(program),
        });
    for path in candidates.filter(|path| !program.is_empty() && path.exists()) {
        match obstacle(&path) {
            None => return Ok(path),
            Some(why) => reason = reason.or(Some(why)),
        }
    }
    match reason {
        Some(why) => Err(not_executable(program, why)),
        None => Err(Failure::new(
            NOT_FOUND,
            format_args!("not found: '{name}': no folder in PATH has it"),
        )),
    }
}

/// The failure of a program that is there and cannot be run.
pub fn not_executable(program: &OsStr, why: &str) -> Failure {
    Failure::new(
        NOT_EXECUTABLE,
        format_args!("cannot be executed: {}: {why}", program.to_string_lossy()),
    )
}

fn obstacle(path: &Path) -> Option<&'static str> {
    if path.is_dir() {
        Some("it is a directory")
    } else if !path.is_file() {
        Some("it is not a regular file")
    } else if !sys::files::executable(path) {
        Some("permission denied: is it meant to be a program (chmod +x)?")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_the_first_executable_of_its_name() {
        let search = OsStr::new("/nonexistent:/usr/bin:/bin");
        let found = find(OsStr::new("sh"), Some(search)).expect("there is a shell");
        assert!(found.ends_with("bin/sh"));
        assert_eq!(
            find(OsStr::new("/bin/sh"), None).expect("there is a shell"),
            Path::new("/bin/sh")
        );
    }

    #[test]
    fn what_is_not_there_and_what_cannot_run_are_told_apart() {
        let code = |program: &str| {
            find(OsStr::new(program), Some(OsStr::new("/etc:/"))).map_err(|f| f.code())
        };
        assert_eq!(code("no-such-program"), Err(NOT_FOUND));
        assert_eq!(code("./no-such-program"), Err(NOT_FOUND));
        assert_eq!(code(""), Err(NOT_FOUND));
        assert_eq!(code("passwd"), Err(NOT_EXECUTABLE));
        assert_eq!(code("/etc"), Err(NOT_EXECUTABLE));
    }
}
