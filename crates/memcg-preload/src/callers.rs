//! Who calls malloc: the program, the dynamic loader, or the C library; and, of the C library,
//! whether for itself or for its caller.
//!
//! What the loader and the C library need for themselves is never refused: a tenant at its limit
//! who is the first to use a thread-local variable of a library, to print, or to make a thread must
//! not end the process, nor leave it without its time zone or its exit handlers. What the C library
//! hands to its caller (`strdup`, `getline`, `fopen`) is refused as the caller's own malloc would
//! be. What it needs for itself is a list of names, [`OWN`]. Its functions that are not exported
//! have no names in a stripped library; so all calls between malloc and the program are looked at,
//! as the unwinder tells them, and one listed name among them is enough. A listed function may have
//! jumped into one without a name, as `__cxa_atexit` does, and is no call then; so for a function
//! without a name the listed ones are searched for a jump to it.
//!
//! Invariants: the ranges are set once, before a group can have a limit, and the loader and the C
//! library are never unloaded.
//! Depends on: `loaded`; the unwinder of libgcc.
//! Never: allocates, waits or takes a lock. Never unwinds unless the C library has been refused: a
//! program's own refusal costs four comparisons.

use crate::loaded::{self, Object};
use core::ffi::{CStr, c_int, c_void};
use core::ops::{ControlFlow, Range};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Who calls malloc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// Anything but the following.
    Program,
    /// The dynamic loader, which needs memory for nobody but itself.
    Loader,
    /// The C library: [`is_own_need`] tells for whom. Also a place in this library, where the
    /// compiler has put a function of ours between malloc's caller and the look at it.
    Library,
}

impl Caller {
    /// Whose code `address` is, to which malloc is to return; 0 is the program's.
    #[inline]
    pub fn of(address: usize) -> Self {
        if LOADER.contains(address) {
            Self::Loader
        } else if C_LIBRARY.contains(address) || THIS.contains(address) {
            Self::Library
        } else {
            Self::Program
        }
    }
}

/// A range of addresses that is set once; empty before.
struct Code {
    start: AtomicUsize,
    bytes: AtomicUsize,
}

impl Code {
    const fn none() -> Self {
        Self {
            start: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    fn set(&self, range: &Range<usize>) {
        self.start.store(range.start, Relaxed);
        self.bytes.store(range.len(), Relaxed);
    }

    #[inline]
    fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.start.load(Relaxed)) < self.bytes.load(Relaxed)
    }
}

static LOADER: Code = Code::none();
static C_LIBRARY: Code = Code::none();
static THIS: Code = Code::none();
/// Where the C library is mapped, and where its dynamic section is.
static BASE: AtomicUsize = AtomicUsize::new(0);
static DYNAMIC: AtomicUsize = AtomicUsize::new(0);

mod anchors {
    unsafe extern "C" {
        pub safe fn __tls_get_addr();
        pub safe fn gnu_get_libc_version();
    }
}

/// Finds the loader's code, the C library's and this library's own. Once, before the first limit.
pub fn find() {
    let loader = anchors::__tls_get_addr as *const () as usize;
    let c_library = anchors::gnu_get_libc_version as *const () as usize;
    loaded::each(|object| {
        let code = code_of(object);
        if code.contains(&loader) {
            LOADER.set(&code);
        } else if code.contains(&c_library) {
            C_LIBRARY.set(&code);
            BASE.store(object.base(), Relaxed);
            let dynamic = object
                .headers()
                .iter()
                .find(|header| header.p_type == libc::PT_DYNAMIC);
            DYNAMIC.store(
                dynamic.map_or(0, |header| object.addresses(header).start),
                Relaxed,
            );
        } else if code.contains(&(find as *const () as usize)) {
            THIS.set(&code);
        }
        ControlFlow::Continue(())
    });
}

/// From the first to the last of an object's code.
fn code_of(object: &Object<'_>) -> Range<usize> {
    object
        .parts(libc::PF_X, 0)
        .map(|header| object.addresses(header))
        .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
        .unwrap_or(0..0)
}

/// Exported functions of the C library that need memory for the library itself, whoever calls them.
const OWN: &[&[u8]] = &[
    // Threads: their records, the values of their keys, handlers of forks.
    b"pthread_create",
    b"pthread_getattr_np",
    b"pthread_setspecific",
    b"__pthread_setspecific",
    b"pthread_atfork",
    b"__register_atfork",
    b"thrd_create",
    b"tss_set",
    // Buffers of streams.
    b"_IO_file_doallocate",
    b"_IO_wfile_doallocate",
    b"_IO_default_doallocate",
    b"_IO_wdefault_doallocate",
    b"_IO_doallocbuf",
    b"_IO_wdoallocbuf",
    // Locales, and the conversions of their characters, looked up once.
    b"setlocale",
    b"newlocale",
    b"__newlocale",
    b"duplocale",
    b"__duplocale",
    b"fwide",
    b"btowc",
    b"wctob",
    b"mbrtowc",
    b"__mbrtowc",
    b"mbsrtowcs",
    b"mbsnrtowcs",
    b"mbrtoc16",
    b"mbrtoc32",
    b"mbtowc",
    b"mblen",
    b"mbrlen",
    b"__mbrlen",
    b"wcrtomb",
    b"wcsrtombs",
    b"wcsnrtombs",
    b"c16rtomb",
    b"c32rtomb",
    b"wctomb",
    // What is to run when a thread or the process ends.
    b"on_exit",
    b"__cxa_atexit",
    b"__cxa_at_quick_exit",
    b"__cxa_thread_atexit_impl",
    // The time zone, read once.
    b"tzset",
    b"localtime",
    b"localtime_r",
    b"mktime",
    b"timelocal",
    b"strftime",
    b"strftime_l",
    b"wcsftime",
    b"wcsftime_l",
];

/// How the names of the name service and of the resolver begin: their configuration and modules.
const OWN_PREFIXES: &[&[u8]] = &[b"__nss_", b"__res_", b"__resolv_"];

/// Whether the C library, which has called malloc, needs the memory for itself.
///
/// Cost: some microseconds: a walk up the stack to the program, and for each function of the C
/// library on the way one pass over its symbols. Some 100 more the first time that a function
/// without a name is met.
#[cold]
pub fn is_own_need() -> bool {
    let Some(symbols) = Symbols::of_c_library() else {
        return false;
    };
    let mut walk = Walk {
        symbols,
        is_inside: false,
        is_own: false,
        nr: 0,
    };
    // SAFETY: `step` gets the address of `walk`, which lives until the call is over.
    unsafe { _Unwind_Backtrace(step, (&raw mut walk).cast()) };
    walk.is_own
}

struct Walk {
    symbols: Symbols,
    /// Whether the functions of this library, the first of the stack, are behind.
    is_inside: bool,
    is_own: bool,
    nr: usize,
}

/// No stack of calls inside the C library is longer.
const MOST_CALLS: usize = 64;

#[link(name = "gcc_s")]
unsafe extern "C" {
    fn _Unwind_Backtrace(
        step: unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        with: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
    fn _Unwind_GetRegionStart(context: *mut c_void) -> usize;
}

const GO_ON: c_int = 0;
const STOP: c_int = 4;

unsafe extern "C" fn step(context: *mut c_void, walk: *mut c_void) -> c_int {
    // SAFETY: the unwinder passes a context that is valid during the call.
    let (address, function) = unsafe { (_Unwind_GetIP(context), _Unwind_GetRegionStart(context)) };
    // SAFETY: `is_own_need` has passed the address of its `walk`, and uses it nowhere meanwhile.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    walk.nr += 1;
    if walk.nr > MOST_CALLS {
        return STOP;
    }
    if THIS.contains(address) && !walk.is_inside {
        return GO_ON;
    }
    walk.is_inside = true;
    // The call ends before the address it returns to, which may be the next function's.
    walk.is_own = LOADER.contains(address)
        || C_LIBRARY.contains(address) && walk.symbols.is_own(address - 1, function);
    if walk.is_own || !C_LIBRARY.contains(address) {
        return STOP;
    }
    GO_ON
}

fn is_own(name: &[u8]) -> bool {
    OWN.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The dynamic symbols of the C library.
struct Symbols {
    base: usize,
    first: *const libc::Elf64_Sym,
    nr: usize,
    names: *const libc::c_char,
}

/// Tags of a dynamic section.
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_HASH: u64 = 4;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

impl Symbols {
    /// `None` where the C library was not found, or does not say what it exports.
    fn of_c_library() -> Option<Self> {
        let (base, mut at) = (BASE.load(Relaxed), DYNAMIC.load(Relaxed));
        let (mut names, mut first, mut hash, mut gnu_hash) = (0, 0, 0, 0);
        while at != 0 {
            // SAFETY: `find` took the address from the header of the C library's dynamic section,
            // which is an array of pairs of words, ended by a pair of tag 0, and stays mapped.
            let [tag, value] = unsafe { *(at as *const [u64; 2]) };
            // The loader has made addresses of the values, on most machines.
            let address = match value as usize {
                value if value < base => base + value,
                value => value,
            };
            match tag {
                0 => break,
                DT_STRTAB => names = address,
                DT_SYMTAB => first = address,
                DT_HASH => hash = address,
                DT_GNU_HASH => gnu_hash = address,
                _ => {}
            }
            at += size_of::<[u64; 2]>();
        }
        let nr = match (hash, gnu_hash) {
            (0, 0) => return None,
            // SAFETY: by the ELF format the second word of the table is the number of symbols.
            (hash, _) if hash != 0 => unsafe { *(hash as *const u32).add(1) as usize },
            // SAFETY: the address of the C library's table of that format.
            (_, gnu_hash) => unsafe { nr_by_gnu_hash(gnu_hash) },
        };
        (names != 0 && first != 0).then_some(Self {
            base,
            first: first as *const _,
            nr,
            names: names as *const _,
        })
    }

    /// Whether the function that `address` is in, and that begins at `function`, is a listed one or
    /// one that a listed one jumps to.
    fn is_own(&self, address: usize, function: usize) -> bool {
        let (mut named, mut own) = (false, false);
        self.each(|symbol, name| {
            if ((address - self.base) as u64).wrapping_sub(symbol.st_value) < symbol.st_size {
                named = true;
                own |= is_own(name());
            }
        });
        own || !named && self.is_jumped_to(function)
    }

    /// Whether a listed function jumps to `function`. Remembered.
    fn is_jumped_to(&self, function: usize) -> bool {
        static KNOWN: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];
        let place = &KNOWN[function / 16 % KNOWN.len()];
        let known = place.load(Relaxed);
        if known >> 1 == function {
            return known & 1 != 0;
        }
        let mut found = false;
        self.each(|symbol, name| {
            let start = self.base + symbol.st_value as usize;
            if !found && C_LIBRARY.contains(start) && is_own(name()) {
                // SAFETY: the library's code, as far as its symbol tells that the function goes.
                let code = unsafe {
                    core::slice::from_raw_parts(start as *const u8, symbol.st_size as usize)
                };
                found = jumps(code, start, function);
            }
        });
        place.store(function << 1 | usize::from(found), Relaxed);
        found
    }

    /// Each exported function, with what tells a name of it; a function may have several.
    fn each(&self, mut look: impl FnMut(&libc::Elf64_Sym, &dyn Fn() -> &'static [u8])) {
        const FUNCTION: u8 = 2;
        for n in 0..self.nr {
            // SAFETY: the table has `nr` symbols, by the library's own hash table.
            let symbol = unsafe { &*self.first.add(n) };
            if symbol.st_shndx != 0 && symbol.st_info & 0xf == FUNCTION {
                look(symbol, &|| {
                    // SAFETY: by the ELF format a symbol's name is a terminated string at that
                    // offset of the table of strings; the library stays loaded.
                    let name = unsafe { CStr::from_ptr(self.names.add(symbol.st_name as usize)) };
                    name.to_bytes()
                });
            }
        }
    }
}

/// Whether there is a jump to `to` in code that lies at `start`.
#[cfg(target_arch = "x86_64")]
fn jumps(code: &[u8], start: usize, to: usize) -> bool {
    const JUMP: u8 = 0xe9;
    const CONDITION: u8 = 0x80;
    // The last byte of the operation and the distance from behind it. What only looks like one is a
    // matter of 2^-32.
    code.windows(5).enumerate().any(|(at, bytes)| {
        let distance = i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        (bytes[0] == JUMP || bytes[0] & 0xf0 == CONDITION)
            && (start + at + 5).wrapping_add_signed(distance as isize) == to
    })
}

/// Whether there is a jump to `to` in code that lies at `start`.
#[cfg(target_arch = "aarch64")]
fn jumps(code: &[u8], start: usize, to: usize) -> bool {
    const JUMP: u32 = 0b000101;
    code.chunks_exact(4).enumerate().any(|(n, bytes)| {
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        // The lowest 26 bits are the distance in words.
        let distance = (word << 6) as i32 >> 4;
        word >> 26 == JUMP && (start + 4 * n).wrapping_add_signed(distance as isize) == to
    })
}

/// The number of symbols of which a GNU hash table tells: one more than the last that is in a
/// chain.
///
/// # Safety
/// `table` is the address of such a table, of a loaded 64-bit object.
unsafe fn nr_by_gnu_hash(table: usize) -> usize {
    let words = table as *const u32;
    // SAFETY: the format: the number of buckets, the first symbol that is hashed, the number of
    // 64-bit words of the filter, a shift, the filter, the buckets, and a word for each hashed
    // symbol, whose lowest bit ends a chain. A bucket is the first symbol of its chain, or 0.
    unsafe {
        let [buckets, skipped, filter] = [0, 1, 2].map(|n| *words.add(n) as usize);
        let first = words.add(4 + 2 * filter);
        let Some(mut last) = (0..buckets).map(|n| *first.add(n) as usize).max() else {
            return 0;
        };
        if last < skipped {
            return skipped;
        }
        while *first.add(buckets + last - skipped) & 1 == 0 {
            last += 1;
        }
        last + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_and_the_c_library_are_found_with_their_symbols() {
        find();
        assert_eq!(
            Caller::of(anchors::__tls_get_addr as *const () as usize),
            Caller::Loader
        );
        let strdup = libc::strdup as *const () as usize;
        assert_eq!(Caller::of(strdup), Caller::Library);
        assert_eq!(Caller::of(0), Caller::Program);
        let symbols = Symbols::of_c_library().unwrap();
        let mut at = None;
        symbols.each(|symbol, name| {
            if name() == b"strdup" {
                at = Some(symbols.base + symbol.st_value as usize);
            }
        });
        assert_eq!(at, Some(strdup));
        assert!(!symbols.is_own(strdup, strdup));
        let setlocale = libc::setlocale as *const () as usize;
        assert!(symbols.is_own(setlocale, setlocale));
    }

    #[test]
    fn names_are_told_whole_or_by_how_they_begin() {
        assert!(is_own(b"__cxa_atexit") && is_own(b"__nss_lookup"));
        assert!(!is_own(b"__cxa_atexit_") && !is_own(b"nss") && !is_own(b""));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn jumps_are_found_forwards_and_backwards() {
        let forwards = [0x90, 0xe9, 0x10, 0, 0, 0];
        assert!(jumps(&forwards, 0x1000, 0x1016));
        let backwards = [0x0f, 0x84, 0xf0, 0xff, 0xff, 0xff, 0x90];
        assert!(jumps(&backwards, 0x1000, 0xff6));
        assert!(!jumps(&forwards, 0x1000, 0x1015) && !jumps(&[0xe9; 4], 0, 0));
    }
}
