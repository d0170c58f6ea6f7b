//! glibc's functions to look at and tune its allocator (`mallinfo`, `malloc_info`, `malloc_trim`,
//! `mallopt`, …), answered for this library's allocator.
//!
//! Invariants: nothing here changes what is allocated; `malloc_trim` gives back free pages only.
//! Depends on: step_aside, next_malloc.
//! Never: allocates for the text it makes.

use crate::next_malloc;
use crate::step_aside::is_aside;
use core::ffi::{c_char, c_int};
use core::fmt::Write;
use memcg::internal::malloc;
use memcg::internal::os::hook::{Function, function_at};
use memcg::internal::os::{self, errno};

/// The names below, found once for each call: none of them is frequent.
fn next<F: Function>(name: &core::ffi::CStr) -> F {
    // SAFETY: every caller names the type of the function it looks up.
    unsafe { function_at(next_malloc::next(name).cast()) }
}

/// Gives back to the kernel what nobody uses; 1 if that was anything.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(pad: usize) -> c_int {
    if is_aside() {
        return next::<extern "C" fn(usize) -> c_int>(c"malloc_trim")(pad);
    }
    let _errno = errno::keep();
    let before = malloc::stat();
    malloc::trim();
    let after = malloc::stat();
    c_int::from(after.spare < before.spare || after.mapped < before.mapped)
}

/// glibc's tuning. Nothing in it applies here; all of it is accepted, since programs take a refusal
/// for an error.
#[unsafe(no_mangle)]
pub extern "C" fn mallopt(what: c_int, value: c_int) -> c_int {
    if is_aside() {
        return next::<extern "C" fn(c_int, c_int) -> c_int>(c"mallopt")(what, value);
    }
    1
}

/// What the allocator has, as glibc counts: `arena` mapped, `uordblks` in use, `fordblks` free,
/// `keepcost` to be trimmed.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo2() -> libc::mallinfo2 {
    if is_aside() {
        return next::<extern "C" fn() -> libc::mallinfo2>(c"mallinfo2")();
    }
    let stat = malloc::stat();
    // SAFETY: integers.
    let mut info: libc::mallinfo2 = unsafe { core::mem::zeroed() };
    info.arena = stat.mapped;
    info.uordblks = stat.live;
    info.fordblks = stat.uncollected + stat.free + stat.spare;
    info.keepcost = stat.spare;
    info
}

/// As [`mallinfo2`] in `int`s; what does not fit is the largest.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo() -> libc::mallinfo {
    let full = mallinfo2();
    let int = |n: usize| c_int::try_from(n).unwrap_or(c_int::MAX);
    libc::mallinfo {
        arena: int(full.arena),
        ordblks: int(full.ordblks),
        smblks: int(full.smblks),
        hblks: int(full.hblks),
        hblkhd: int(full.hblkhd),
        usmblks: int(full.usmblks),
        fsmblks: int(full.fsmblks),
        uordblks: int(full.uordblks),
        fordblks: int(full.fordblks),
        keepcost: int(full.keepcost),
    }
}

/// What the allocator has, to standard error.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_stats() {
    if is_aside() {
        next::<extern "C" fn()>(c"malloc_stats")();
        return;
    }
    let mut text = Text::default();
    summary(&mut text);
    os::line(&[text.as_bytes()]);
}

/// What the allocator has, as XML.
///
/// # Safety
/// As malloc_info: an open stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_info(options: c_int, stream: *mut libc::FILE) -> c_int {
    if is_aside() {
        type Info = extern "C" fn(c_int, *mut libc::FILE) -> c_int;
        return next::<Info>(c"malloc_info")(options, stream);
    }
    if options != 0 {
        errno::set(libc::EINVAL);
        return -1;
    }
    let stat = malloc::stat();
    let mut text = Text::default();
    let _ = writeln!(
        text,
        "<malloc version=\"memcg\">\n<total type=\"live\" size=\"{}\"/>\n<total type=\"free\" size=\"{}\"/>\n\
         <total type=\"spare\" size=\"{}\"/>\n<system type=\"current\" size=\"{}\"/>\n</malloc>\0",
        stat.live, stat.free, stat.spare, stat.mapped
    );
    // SAFETY: the caller's stream; the text ends with a zero.
    if unsafe { libc::fputs(text.as_bytes().as_ptr().cast(), stream) } < 0 {
        return -1;
    }
    0
}

/// Says in one line what the allocator has.
pub fn summary(text: &mut Text) {
    let stat = malloc::stat();
    let _ = write!(
        text,
        "memcg: {} bytes live, {} free in slabs, {} spare, {} mapped",
        stat.live, stat.free, stat.spare, stat.mapped
    );
}

/// A short text without the heap; what does not fit is cut off.
pub struct Text([u8; 480], usize);

impl Default for Text {
    fn default() -> Self {
        Self([0; 480], 0)
    }
}

impl Text {
    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }

    /// As a C string: with a zero behind.
    pub fn as_ptr(&mut self) -> *const c_char {
        let end = self.1.min(self.0.len() - 1);
        self.0[end] = 0;
        self.0.as_ptr().cast()
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.0.len() - self.1;
        let len = text.len().min(room);
        self.0[self.1..self.1 + len].copy_from_slice(&text.as_bytes()[..len]);
        self.1 += len;
        Ok(())
    }
}
