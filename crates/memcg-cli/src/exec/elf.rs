//! What an executable file says about itself, as far as it decides whether a library can be
//! preloaded into it.
//!
//! Headers are read as the kernel reads them: what is wrong there makes a broken program. Symbols
//! are only looked at for advice, so what is wrong with them is passed over.

use object::elf::{self, FileHeader64, SHT_DYNSYM};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{NativeEndian, ReadCache, ReadRef};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What kind of executable a file is.
#[derive(Debug, PartialEq, Eq)]
pub enum Executable {
    /// An ELF program a dynamic loader starts.
    Dynamic(Dynamic),
    /// An ELF program without a loader.
    Static,
    /// An ELF program of another machine, word size or byte order; which.
    Foreign(String),
    /// It begins as an ELF program and does not go on as one.
    Broken,
    /// A script.
    Script(Script),
    /// Something else: the kernel may know it, and what it does not know is given to /bin/sh, as
    /// shells do.
    Other,
}

/// What matters of a dynamically linked program.
#[derive(Debug, PartialEq, Eq)]
pub struct Dynamic {
    /// The path in PT_INTERP.
    pub loader: PathBuf,
    /// The sanitizer it was built with: it replaces malloc and insists on being the first library.
    pub sanitizer: Option<&'static str>,
    /// It exports a malloc of its own, which stands before any library's in the search order.
    pub own_malloc: bool,
}

/// The first line of a script, as the kernel reads it.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    /// The path after `#!`.
    pub interpreter: PathBuf,
    /// The rest of the line, which the interpreter gets as one argument.
    pub argument: Vec<u8>,
}

const MAGIC: &[u8] = b"\x7fELF";
/// As much of a first line as the kernel looks at.
const HEAD: u64 = 256;
const CLASS_64: u8 = 2;
const NATIVE_ORDER: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };

/// Looks at the file; `machine` is the ELF number of the machine the library is for.
pub fn look(path: &Path, machine: u16) -> io::Result<Executable> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        return Ok(script(line).map_or(Executable::Other, Executable::Script));
    }
    if !head.starts_with(MAGIC) {
        return Ok(Executable::Other);
    }
    if head.len() < 20 {
        return Ok(Executable::Broken);
    }
    if machine_of(&head) != Some(machine) {
        return Ok(Executable::Foreign(machine_name(&head)));
    }
    let data = ReadCache::new(File::open(path)?);
    Ok(program(&data).unwrap_or(Executable::Broken))
}

/// The machine of a 64-bit ELF file in this machine's byte order.
pub fn machine_of(head: &[u8]) -> Option<u16> {
    let native = head.len() >= 20
        && head.starts_with(MAGIC)
        && head[4] == CLASS_64
        && head[5] == NATIVE_ORDER;
    native.then(|| u16::from_ne_bytes([head[18], head[19]]))
}

/// The machine of the file at `path`, if it is an ELF file as [`machine_of`] wants it.
pub fn machine_of_file(path: &Path) -> io::Result<u16> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    machine_of(&head).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// What people call the machine a foreign ELF file is for.
fn machine_name(head: &[u8]) -> String {
    let number = [head[18], head[19]];
    let number = match head[5] {
        1 => u16::from_le_bytes(number),
        _ => u16::from_be_bytes(number),
    };
    let known = [
        (3, "x86"),
        (8, "MIPS"),
        (20, "PowerPC"),
        (21, "PowerPC"),
        (22, "s390"),
        (40, "ARM"),
        (62, "x86-64"),
        (183, "AArch64"),
        (243, "RISC-V"),
        (258, "LoongArch"),
    ];
    let name = known.iter().find(|(n, _)| *n == number);
    let name = name.map_or_else(|| format!("machine {number}"), |(_, name)| name.to_string());
    match head[4] {
        CLASS_64 => name,
        _ => format!("32-bit {name}"),
    }
}

/// The kind of an ELF program of this machine; none if its headers are broken.
fn program<'d, R: ReadRef<'d>>(data: R) -> Option<Executable> {
    let header = FileHeader64::<NativeEndian>::parse(data).ok()?;
    let segments = header.program_headers(NativeEndian, data).ok()?;
    let Some(segment) = segments
        .iter()
        .find(|segment| segment.p_type(NativeEndian) == elf::PT_INTERP)
    else {
        return Some(Executable::Static);
    };
    let loader = segment.interpreter(NativeEndian, data).ok().flatten()?;
    let symbols = symbols(header, data).unwrap_or_default();
    Some(Executable::Dynamic(Dynamic {
        loader: path_of(loader),
        sanitizer: symbols.sanitizer,
        own_malloc: symbols.own_malloc,
    }))
}

/// What the dynamic symbols say.
#[derive(Default)]
struct Symbols {
    sanitizer: Option<&'static str>,
    own_malloc: bool,
}

/// Each has the symbol `__NAME_init` where it is linked in, and the library `libNAME.so` where it
/// is not.
const SANITIZERS: [(&str, &str); 5] = [
    ("asan", "AddressSanitizer"),
    ("tsan", "ThreadSanitizer"),
    ("msan", "MemorySanitizer"),
    ("hwasan", "HWAddressSanitizer"),
    ("lsan", "LeakSanitizer"),
];

fn sanitizer(name: &[u8], before: &str, after: &str) -> Option<&'static str> {
    let name = name.strip_prefix(before.as_bytes())?;
    let known = SANITIZERS.iter().find(|(short, _)| {
        name.strip_prefix(short.as_bytes())
            .is_some_and(|rest| rest.starts_with(after.as_bytes()))
    })?;
    Some(known.1)
}

fn symbols<'d, R: ReadRef<'d>>(
    header: &'d FileHeader64<NativeEndian>,
    data: R,
) -> object::read::Result<Symbols> {
    let mut found = Symbols::default();
    let sections = header.sections(NativeEndian, data)?;
    let libraries = sections.dynamic_table(NativeEndian, data)?;
    for entry in libraries.iter().filter(|d| d.tag == elf::DT_NEEDED) {
        let name = libraries.string(entry)?;
        found.sanitizer = found.sanitizer.or(sanitizer(name, "lib", ".so"));
    }
    let mut hook = false;
    let table = sections.symbols(NativeEndian, data, SHT_DYNSYM)?;
    // All names in one piece: there may be a hundred thousand.
    let names = sections.section(table.string_section())?;
    let names = names.data(NativeEndian, data)?;
    for symbol in table.iter() {
        let at = symbol.st_name(NativeEndian) as usize;
        let rest = names.get(at..).unwrap_or_default();
        let name = rest.split(|b| *b == 0).next().unwrap_or_default();
        if name == b"malloc" && !symbol.is_undefined(NativeEndian) {
            found.own_malloc = true;
        }
        hook |= name == b"__sanitizer_malloc_hook";
        found.sanitizer = found.sanitizer.or(sanitizer(name, "__", "_init"));
    }
    // Every sanitizer's malloc offers this hook; linked in by gcc the sanitizer shows nothing else.
    if found.own_malloc && hook {
        found.sanitizer = found.sanitizer.or(Some("a sanitizer"));
    }
    Ok(found)
}

/// The interpreter is the first word of the line; the kernel gives it the rest as one argument.
fn script(line: &[u8]) -> Option<Script> {
    let line = line.split(|b| *b == b'\n').next().unwrap_or(line);
    let line = line.trim_ascii();
    let end = line
        .iter()
        .position(|b| *b == b' ' || *b == b'\t')
        .unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (!word.is_empty()).then(|| Script {
        interpreter: path_of(word),
        argument: rest.trim_ascii().to_vec(),
    })
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const SELF: &str = "/proc/self/exe";

    fn own_machine() -> u16 {
        machine_of_file(Path::new(SELF)).expect("an ELF file")
    }

    #[test]
    fn a_dynamic_program_names_its_loader() {
        match look(Path::new(SELF), own_machine()).expect("this test") {
            Executable::Dynamic(it) => {
                assert!(it.loader.is_absolute(), "{}", it.loader.display());
                assert_eq!((it.sanitizer, it.own_malloc), (None, false));
            }
            other @ (Executable::Static
            | Executable::Foreign(_)
            | Executable::Broken
            | Executable::Script(_)
            | Executable::Other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_program_of_another_machine_is_foreign_and_its_machine_has_a_name() {
        let other = own_machine() ^ 1;
        let found = look(Path::new(SELF), other).expect("this test");
        assert!(matches!(found, Executable::Foreign(_)), "{found:?}");
        let mut head = fs::read(SELF).expect("this test");
        head[18..20].copy_from_slice(&183u16.to_ne_bytes());
        assert_eq!(machine_name(&head), "AArch64");
        head[4] = 1;
        head[18..20].copy_from_slice(&3u16.to_ne_bytes());
        assert_eq!(machine_name(&head), "32-bit x86");
        head[18..20].copy_from_slice(&999u16.to_ne_bytes());
        assert_eq!(machine_name(&head), "32-bit machine 999");
    }

    #[test]
    fn no_cut_of_a_program_is_more_than_broken() {
        let whole = fs::read(SELF).expect("this test");
        let folder = crate::sys::files::make_private_directory(&std::env::temp_dir());
        let folder = folder.expect("a folder");
        let path = folder.join("cut");
        for length in [4, 19, 20, 63, 64, 100, 400, 4096] {
            fs::write(&path, &whole[..length]).expect("a file");
            let found = look(&path, own_machine()).expect("it can be read");
            let right = matches!(found, Executable::Broken | Executable::Dynamic(_));
            assert!(right, "{length}: {found:?}");
            assert!(length >= 400 || found == Executable::Broken, "{length}");
        }
        let _ = fs::remove_dir_all(folder);
    }

    #[test]
    fn a_script_names_its_interpreter_and_one_argument() {
        let parts = |line: &[u8]| {
            let script = script(line).expect("a script");
            (script.interpreter, script.argument)
        };
        assert_eq!(
            parts(b" /usr/bin/env  -S python3 -u \nprint()"),
            ("/usr/bin/env".into(), b"-S python3 -u".to_vec())
        );
        assert_eq!(parts(b"/bin/sh"), ("/bin/sh".into(), Vec::new()));
        assert_eq!(parts(b"/bin/sh\r\n"), ("/bin/sh".into(), Vec::new()));
        assert_eq!(script(b" \n/bin/sh"), None);
    }
}
