//! A folder that is gone when the test is over.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of its own for one test.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it.
    pub fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Short: a socket's path has room for 107 bytes.
        let path = std::env::temp_dir().join(format!("memcg-t-{}-{number}", process::id()));
        fs::create_dir(&path).expect("a new folder");
        Folder(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes an executable file into it and says where it is.
    pub fn program(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let source = self.0.join(format!("{name}.source"));
        fs::write(&source, bytes).expect("a file");
        self.copy(&source, name)
    }

    /// Copies an executable file into it and says where it is.
    ///
    /// Another process copies: a file this one has open for writing, a child another test has just
    /// forked has open too, and executing it fails as busy.
    pub fn copy(&self, source: &Path, name: &str) -> PathBuf {
        let path = self.0.join(name);
        let copied = Command::new("cp").arg(source).arg(&path).status();
        assert!(copied.expect("there is cp").success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
