//! The objects that the dynamic loader has in this process: the program, its libraries, itself.
//!
//! Invariants: an object's headers are read only while the loader's lock keeps the object loaded.
//! Depends on: the C library's `dl_iterate_phdr`.
//! Never: allocates. Never waits for anything but the loader's own lock, which the loader holds
//! only to add an object to its list or take one off.

use core::ffi::{CStr, c_int, c_void};
use core::ops::{ControlFlow, Range};

/// One loaded object, as the loader describes it.
pub struct Object<'a> {
    info: &'a libc::dl_phdr_info,
    headers: &'a [libc::Elf64_Phdr],
}

/// Shows `look` each object in the order of loading, until it breaks.
///
/// Cost: the loader's lock, and some 10 ns an object.
pub fn each(mut look: impl FnMut(&Object<'_>) -> ControlFlow<()>) {
    let mut look: &mut dyn FnMut(&Object<'_>) -> ControlFlow<()> = &mut look;
    // SAFETY: `show` gets the address of `look`, which lives until the call is over, as its last
    // argument.
    unsafe { libc::dl_iterate_phdr(Some(show), (&raw mut look).cast()) };
}

unsafe extern "C" fn show(info: *mut libc::dl_phdr_info, size: usize, look: *mut c_void) -> c_int {
    if size < size_of::<libc::dl_phdr_info>() {
        return 1;
    }
    // SAFETY: `each` has passed the address of its `look`, and uses it nowhere else meanwhile.
    let look = unsafe { &mut *look.cast::<&mut dyn FnMut(&Object<'_>) -> ControlFlow<()>>() };
    // SAFETY: the loader passes a description that is valid during this call, of at least the size
    // checked above; its `dlpi_phdr` are the object's headers, `dlpi_phnum` of them, mapped while
    // the loader's lock is held, which is during this call.
    let object = unsafe {
        let info = &*info;
        Object {
            info,
            headers: core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()),
        }
    };
    c_int::from(look(&object).is_break())
}

impl<'a> Object<'a> {
    /// How many objects the loader has ever added in this process.
    pub fn nr_added(&self) -> u64 {
        self.info.dlpi_adds
    }

    /// How many objects the loader has ever added, and how many it has taken off: as long as both
    /// stay, its list does.
    pub fn counts(&self) -> (u64, u64) {
        (self.info.dlpi_adds, self.info.dlpi_subs)
    }

    /// Where it is mapped: what its own addresses count from.
    pub fn base(&self) -> usize {
        self.info.dlpi_addr as usize
    }

    /// The path it was loaded from; empty for the program itself.
    pub fn path(&self) -> &'a CStr {
        if self.info.dlpi_name.is_null() {
            return c"";
        }
        // SAFETY: the loader's own string, there as long as the object is.
        unsafe { CStr::from_ptr(self.info.dlpi_name) }
    }

    /// Its program headers.
    pub fn headers(&self) -> &'a [libc::Elf64_Phdr] {
        self.headers
    }

    /// Where its parts with all rights of `with` and none of `without` are mapped.
    pub fn parts(&self, with: u32, without: u32) -> impl Iterator<Item = &'a libc::Elf64_Phdr> {
        self.headers.iter().filter(move |header| {
            header.p_type == libc::PT_LOAD
                && header.p_flags & with == with
                && header.p_flags & without == 0
        })
    }

    /// The addresses of one of its headers.
    pub fn addresses(&self, header: &libc::Elf64_Phdr) -> Range<usize> {
        let start = self.base().wrapping_add(header.p_vaddr as usize);
        start..start.wrapping_add(header.p_memsz as usize)
    }

    /// Whether `address` is in one of its parts.
    pub fn contains(&self, address: usize) -> bool {
        self.parts(0, 0)
            .any(|header| self.addresses(header).contains(&address))
    }
}
