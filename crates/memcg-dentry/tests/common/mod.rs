//! Trees for the tests.

use std::fs;
use std::path::Path;

/// Makes `dirs` directories `d0`, `d1`, … of `files` files `f0`, `f1`, … each.
pub fn plant(root: &Path, dirs: usize, files: usize) {
    for dir in 0..dirs {
        let dir = root.join(format!("d{dir}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..files {
            fs::write(dir.join(format!("f{file}")), "").unwrap();
        }
    }
}
