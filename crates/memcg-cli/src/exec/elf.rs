//! The little of an executable's header that decides whether a library can be preloaded into it.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What kind of executable a file is.
#[derive(Debug, PartialEq, Eq)]
pub enum Executable {
    /// An ELF program the dynamic loader at `loader` starts.
    Dynamic {
        /// The path in PT_INTERP.
        loader: PathBuf,
    },
    /// An ELF program without a loader.
    Static,
    /// An ELF program of another machine, word size or byte order.
    Foreign,
    /// A script; the program that runs it.
    Script {
        /// The path after `#!`.
        interpreter: PathBuf,
    },
    /// Something else: the kernel may know it, and what it does not know is given to /bin/sh, as shells do.
    Other,
}

const MAGIC: &[u8] = b"\x7fELF";
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const CLASS_64: u8 = 2;
const NATIVE_ORDER: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };
const PT_INTERP: u32 = 3;
const LONGEST_PATH: u64 = 4096;

/// Looks at the file; `machine` is the ELF number of the machine the library is for.
pub fn look(path: &Path, machine: u16) -> io::Result<Executable> {
    let file = File::open(path)?;
    let head = read(&file, 0, 256)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        return Ok(script(line));
    }
    if !head.starts_with(MAGIC) {
        return Ok(Executable::Other);
    }
    if machine_of(&head) != Some(machine) || head.len() < HEADER {
        return Ok(Executable::Foreign);
    }
    let table = number(&head, 32, 8);
    let size = number(&head, 54, 2);
    let count = number(&head, 56, 2);
    for i in 0..count {
        let entry = read(&file, table.saturating_add(i * size), PROGRAM_HEADER as u64)?;
        if entry.len() < PROGRAM_HEADER {
            return Ok(Executable::Other);
        }
        if number(&entry, 0, 4) == u64::from(PT_INTERP) {
            let length = number(&entry, 32, 8).min(LONGEST_PATH);
            let loader = read(&file, number(&entry, 8, 8), length)?;
            let end = loader.iter().position(|b| *b == 0).unwrap_or(loader.len());
            return Ok(Executable::Dynamic {
                loader: path_of(&loader[..end]),
            });
        }
    }
    Ok(Executable::Static)
}

/// The machine of a 64-bit ELF file in this machine's byte order.
pub fn machine_of(head: &[u8]) -> Option<u16> {
    let native = head.len() >= 20
        && head.starts_with(MAGIC)
        && head[4] == CLASS_64
        && head[5] == NATIVE_ORDER;
    native.then(|| u16::from_ne_bytes([head[18], head[19]]))
}

/// The interpreter is the first word of the line; the kernel gives it the rest as one argument.
fn script(line: &[u8]) -> Executable {
    let line = line.split(|b| *b == b'\n').next().unwrap_or(line);
    let word = line
        .split(|b| *b == b' ' || *b == b'\t')
        .find(|word| !word.is_empty());
    match word {
        Some(word) => Executable::Script {
            interpreter: path_of(word),
        },
        None => Executable::Other,
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// Up to `length` bytes from `offset`; fewer where the file ends.
fn read(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // An offset beyond what a file can have: the header lies, so there is nothing to read.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// A number of `size` bytes in this machine's order. The caller has checked the length.
fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let bytes = bytes[at..at + size].iter();
    let digit = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    if cfg!(target_endian = "little") {
        bytes.rev().fold(0, digit)
    } else {
        bytes.fold(0, digit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn own_machine() -> u16 {
        let own = fs::read("/proc/self/exe").expect("this test");
        machine_of(&own).expect("an ELF file")
    }

    #[test]
    fn a_dynamic_program_names_its_loader() {
        match look(Path::new("/proc/self/exe"), own_machine()).expect("this test") {
            Executable::Dynamic { loader } => assert!(loader.is_absolute(), "{}", loader.display()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_program_of_another_machine_is_foreign() {
        let machine = own_machine() ^ 1;
        assert_eq!(
            look(Path::new("/proc/self/exe"), machine).expect("this test"),
            Executable::Foreign
        );
    }

    #[test]
    fn a_script_names_its_interpreter_without_its_arguments() {
        let interpreter = |line: &[u8]| match script(line) {
            Executable::Script { interpreter } => interpreter,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            interpreter(b" /usr/bin/env python3\nprint()"),
            Path::new("/usr/bin/env")
        );
        assert_eq!(interpreter(b"/bin/sh"), Path::new("/bin/sh"));
        assert_eq!(script(b" \n/bin/sh"), Executable::Other);
    }
}
