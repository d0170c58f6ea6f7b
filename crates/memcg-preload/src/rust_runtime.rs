//! Whether an object in this process carries Rust's runtime, whose allocator cannot be refused: its
//! null aborts the process. Then groups whose policy nobody wrote go over their limits instead.
//!
//! Asked at the start where a group has a limit already, and else where a charge was refused: so a
//! process that never meets a limit never looks. The loader counts what it adds; a refusal looks at
//! that count, and only at objects that are new. So nothing of `dlopen` has to be replaced, and its
//! caller stays the program.
//!
//! An object carries it if its `.comment` names rustc, or if its read-only data has paths of the
//! standard library's sources (`/rustc/…/library/std/src/…`, which stripping leaves). What is read
//! is the object's file; where that cannot be opened, the process's own memory, by a call that
//! survives when the object goes meanwhile.
//!
//! Invariants: an object is read once, [`MOST_BYTES`] of it at most. Found stays found.
//! Depends on: `loaded`.
//! Never: allocates. Never runs where nothing was refused, but at the start. Never calls what ends
//! a cancelled thread (`open`, `read`): malloc does not either.

use crate::loaded::{self, Object};
use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use memcg::internal::os::{self, errno};
use memcg::internal::process;
use memchr::memmem::find;

/// How much of one object's constants is read: some 0.3 ms a MiB, from the page cache.
const MOST_BYTES: u64 = 16 << 20;
/// How much is read at a time.
const CHUNK: usize = 64 << 10;
/// What a match may be long.
const OVERLAP: usize = 32;
/// How many objects are remembered.
const MOST_SEEN: usize = 512;

static FOUND: AtomicBool = AtomicBool::new(false);
/// The thread that looks; 0: none.
static LOOKER: AtomicU32 = AtomicU32::new(0);
static LOOK: Look = Look(UnsafeCell::new(State {
    added: 0,
    nr: 0,
    seen: [0; MOST_SEEN],
    chunk: [0; CHUNK],
}));

struct Look(UnsafeCell<State>);
// SAFETY: used by the thread alone that has set `LOOKER` to its own id.
unsafe impl Sync for Look {}

struct State {
    /// The loader's count at the last look.
    added: u64,
    nr: usize,
    seen: [u64; MOST_SEEN],
    chunk: [u8; CHUNK],
}

/// Asks, and once more where that was refused and the process turns out to carry Rust's runtime:
/// then the second answer is the one of a process that does.
#[inline]
pub fn asked<T>(ask: impl Fn() -> T, is_refused: impl Fn(&T) -> bool) -> T {
    // What was asked of a process that was known to carry it is not asked again.
    let was_known = FOUND.load(Ordering::Relaxed);
    let answer = ask();
    if is_refused(&answer) && !was_known && look(true) {
        return ask();
    }
    answer
}

/// Looks at the objects that are new since the last look; answers whether Rust's runtime was found
/// by now. `aloud`: finding it is said on standard error.
pub fn look(aloud: bool) -> bool {
    let _errno = errno::keep();
    let Some(looking) = Looking::begin() else {
        return FOUND.load(Ordering::Relaxed);
    };
    if FOUND.load(Ordering::Relaxed) {
        return true;
    }
    // SAFETY: `looking` says that this thread is the one that looks.
    let state = unsafe { &mut *LOOK.0.get() };
    let mut first = true;
    loaded::each(|object| {
        if core::mem::take(&mut first) {
            if object.nr_added() == state.added {
                return ControlFlow::Break(());
            }
            state.added = object.nr_added();
        }
        if !state.is_new(object) || !state.carries_it(object) {
            return ControlFlow::Continue(());
        }
        process::set_debt_by_default(true);
        FOUND.store(true, Ordering::Relaxed);
        if aloud {
            say(object);
        }
        ControlFlow::Break(())
    });
    drop(looking);
    FOUND.load(Ordering::Relaxed)
}

/// In a fork's child: whoever looked is not there any more.
pub fn in_child() {
    LOOKER.store(0, Ordering::Relaxed);
}

fn say(object: &Object<'_>) {
    let path = object.path().to_bytes();
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let name: &[u8] = if name.is_empty() {
        b"the program"
    } else {
        name
    };
    os::line(&[
        b"memcg: ",
        &name[..name.len().min(100)],
        b" carries Rust's runtime, which aborts where malloc says no: groups go over their max \
          instead, unless their memory.oom.policy is deny",
    ]);
}

/// The right to look, for one thread at a time.
struct Looking;

impl Looking {
    /// How often, a millisecond apart, another thread is asked whether it has done: a look takes a
    /// few of them. It may wait for the loader, on whose lock this thread may sit.
    const TRIES: usize = 100;

    fn begin() -> Option<Self> {
        let me = os::tid();
        for _ in 0..Self::TRIES {
            // Acquire pairs with the Release of `drop`.
            match LOOKER.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Self),
                // A signal handler in the middle of a look.
                Err(other) if other == me => return None,
                Err(_) => {
                    let pause = libc::timespec {
                        tv_sec: 0,
                        tv_nsec: 1_000_000,
                    };
                    // SAFETY: a valid time; the rest is not asked for.
                    unsafe { libc::syscall(libc::SYS_nanosleep, &pause, 0) };
                }
            }
        }
        None
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        // Release pairs with the Acquire of `begin`.
        LOOKER.store(0, Ordering::Release);
    }
}

impl State {
    /// Whether the object was not looked at before; notes it.
    fn is_new(&mut self, object: &Object<'_>) -> bool {
        let mut key = Hash::new();
        key.add(&object.base().to_ne_bytes());
        key.add(object.path().to_bytes());
        for header in object.headers() {
            key.add(&header.p_offset.to_ne_bytes());
            key.add(&header.p_filesz.to_ne_bytes());
        }
        if self.seen[..self.nr].contains(&key.0) {
            return false;
        }
        if self.nr == MOST_SEEN {
            // All are looked at anew, which costs time and nothing else.
            self.nr = 0;
        }
        self.seen[self.nr] = key.0;
        self.nr += 1;
        true
    }

    fn carries_it(&mut self, object: &Object<'_>) -> bool {
        // This library is of Rust itself, and knows what a refusal is.
        if object.contains(look as *const () as usize) {
            return false;
        }
        let source = Source::of(object);
        let mut left = MOST_BYTES;
        if let Source::File(file) = &source
            && let Some(sections) = Sections::of(file)
        {
            let all = |holds| {
                sections
                    .clone()
                    .filter(move |section| section.holds() == holds)
            };
            return all(Holds::Comment).any(|section| has_comment(file, &section))
                || all(Holds::Constants).any(|section| {
                    self.has_path(&mut left, section.sh_size, |at, to| {
                        file.read(section.sh_offset + at, to)
                    })
                });
        }
        // Constants have a part of their own, or in old objects lie with the code.
        let apart = object.parts(libc::PF_R, libc::PF_W | libc::PF_X).count() > 0;
        let without = libc::PF_W | if apart { libc::PF_X } else { 0 };
        object.parts(libc::PF_R, without).any(|part| {
            self.has_path(&mut left, part.p_filesz, |at, to| match &source {
                Source::File(file) => file.read(part.p_offset + at, to),
                Source::Memory => read_memory(object.addresses(part).start + at as usize, to),
            })
        })
    }

    /// Whether among `bytes` bytes that `read` answers, of which `left` may be read, there is a
    /// path of the standard library's sources.
    fn has_path(
        &mut self,
        left: &mut u64,
        bytes: u64,
        read: impl Fn(u64, &mut [u8]) -> usize,
    ) -> bool {
        let end = bytes.min(*left);
        *left -= end;
        let mut at = 0;
        while at < end {
            let chunk = &mut self.chunk[..CHUNK.min((end - at) as usize)];
            let nr = read(at, chunk);
            if has_path(&chunk[..nr]) {
                return true;
            }
            if nr <= OVERLAP {
                return false;
            }
            at += (nr - OVERLAP) as u64;
        }
        false
    }
}

/// FNV-1a.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// Whether a path of the standard library's sources is in `text`.
fn has_path(mut text: &[u8]) -> bool {
    const FOLDER: &[u8] = b"/library/";
    while let Some(at) = find(text, FOLDER) {
        text = &text[at + FOLDER.len()..];
        if text.starts_with(b"std/src/") || text.starts_with(b"alloc/src/") {
            return true;
        }
    }
    false
}

/// Whether a section names rustc near its beginning.
fn has_comment(file: &File, section: &libc::Elf64_Shdr) -> bool {
    let mut text = [0; 1024];
    let nr = file.read(section.sh_offset, &mut text);
    find(&text[..nr.min(section.sh_size as usize)], b"rustc version ").is_some()
}

/// What a section of a file holds, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Strings that are not loaded, as `.comment` has them.
    Comment,
    /// Constants of the program.
    Constants,
    Other,
}

trait Section {
    fn holds(&self) -> Holds;
}

impl Section for libc::Elf64_Shdr {
    fn holds(&self) -> Holds {
        const PROGRAM: u32 = 1;
        const WRITTEN: u64 = 0x1;
        const LOADED: u64 = 0x2;
        const CODE: u64 = 0x4;
        const MERGED_STRINGS: u64 = 0x10 | 0x20;
        let (flags, is_program) = (self.sh_flags, self.sh_type == PROGRAM);
        match flags & (LOADED | WRITTEN | CODE) {
            LOADED if is_program => Holds::Constants,
            0 if is_program && flags & MERGED_STRINGS == MERGED_STRINGS => Holds::Comment,
            _ => Holds::Other,
        }
    }
}

/// The sections of a file, in its order.
#[derive(Clone)]
struct Sections<'a> {
    file: &'a File,
    at: u64,
    left: u16,
}

impl<'a> Sections<'a> {
    /// `None`: the file does not say.
    fn of(file: &'a File) -> Option<Self> {
        let mut head = [0; size_of::<libc::Elf64_Ehdr>()];
        if file.read(0, &mut head) < head.len() || !head.starts_with(b"\x7fELF") {
            return None;
        }
        // SAFETY: integers, of as many bytes.
        let head: libc::Elf64_Ehdr = unsafe { core::mem::transmute(head) };
        let is_known = usize::from(head.e_shentsize) == size_of::<libc::Elf64_Shdr>();
        (is_known && head.e_shnum > 0).then_some(Self {
            file,
            at: head.e_shoff,
            left: head.e_shnum,
        })
    }
}

impl Iterator for Sections<'_> {
    type Item = libc::Elf64_Shdr;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut section = [0; size_of::<libc::Elf64_Shdr>()];
        if self.file.read(self.at, &mut section) < section.len() {
            return None;
        }
        self.at += section.len() as u64;
        // SAFETY: integers, of as many bytes.
        Some(unsafe { core::mem::transmute::<[u8; 64], libc::Elf64_Shdr>(section) })
    }
}

/// Where an object is read from.
enum Source {
    File(File),
    Memory,
}

impl Source {
    fn of(object: &Object<'_>) -> Self {
        let path = match object.path() {
            path if path.is_empty() => c"/proc/self/exe",
            path => path,
        };
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: a terminated string.
        let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
        match c_int::try_from(fd) {
            Ok(fd) if fd >= 0 => Self::File(File(fd)),
            Ok(_) | Err(_) => Self::Memory,
        }
    }
}

struct File(c_int);

impl File {
    /// Reads from `at`; answers how much, 0 also for an error.
    fn read(&self, at: u64, to: &mut [u8]) -> usize {
        // SAFETY: a slice with its length.
        let nr = unsafe { libc::syscall(libc::SYS_pread64, self.0, to.as_mut_ptr(), to.len(), at) };
        nr.try_into().unwrap_or(0)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: opened by `Source::of`, and closed here alone.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }
}

/// Reads the process's own memory; answers how much, 0 where it is not mapped.
fn read_memory(at: usize, to: &mut [u8]) -> usize {
    let into = libc::iovec {
        iov_base: to.as_mut_ptr().cast(),
        iov_len: to.len(),
    };
    let from = libc::iovec {
        iov_base: at as *mut c_void,
        iov_len: to.len(),
    };
    // SAFETY: the first is a slice with its length; the kernel checks the second.
    let nr = unsafe { libc::process_vm_readv(libc::getpid(), &into, 1, &from, 1, 0) };
    nr.try_into().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_standard_library_are_told_from_others() {
        assert!(has_path(b"/rustc/0123/library/std/src/io/mod.rs"));
        assert!(has_path(
            b"x/library/x /usr/src/rustc-1.63/library/alloc/src/raw_vec.rs"
        ));
        assert!(!has_path(b"/usr/lib/library/std/include /library/alloc"));
        assert!(!has_path(b"/library/"));
    }
}
