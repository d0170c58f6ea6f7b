//! What the machine and its settings leave this process: resident bytes, and the least limit.
//!
//! Invariants: what the kernel does not say is no limit, and no resident byte.
//! Depends on: /proc/self, the cgroup file system at its usual place, `getrlimit`.
//! Never: the heap: files are read into the stack.

use super::errno;
use crate::units::PAGE_SIZE;
use core::ffi::CStr;

/// No limit.
pub const NONE: u64 = u64::MAX;

/// Resident bytes of this process; 0 when the kernel does not say. Cost: a read of /proc.
#[must_use]
pub fn resident() -> u64 {
    let mut text = [0; 128];
    let statm = read(c"/proc/self/statm", &mut text);
    let pages = words(statm).nth(1).and_then(number).unwrap_or(0);
    pages.saturating_mul(page_size())
}

/// The least of the machine's memory, RLIMIT_AS, RLIMIT_DATA and the limits of the process's cgroup
/// and those above it. Cost: a read of a file for each level of the cgroup.
#[must_use]
pub fn least_limit() -> u64 {
    let _errno = errno::keep();
    let mut least = physical()
        .min(rlimit(libc::RLIMIT_AS))
        .min(rlimit(libc::RLIMIT_DATA));
    let mut text = [0; 4096];
    let mine = read(c"/proc/self/cgroup", &mut text);
    for line in mine.split(|&b| b == b'\n') {
        // Version 2 is "0::/path"; of version 1 the memory controller's line counts.
        let mut parts = line.splitn(3, |&b| b == b':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if controllers.is_empty() {
            least = least.min(of_cgroup(b"/sys/fs/cgroup", path, b"/memory.max"));
        } else if controllers.split(|&b| b == b',').any(|c| c == b"memory") {
            let file = b"/memory.limit_in_bytes";
            least = least.min(of_cgroup(b"/sys/fs/cgroup/memory", path, file));
        }
    }
    least
}

/// The least limit at `path` below `top`, and above it.
fn of_cgroup(top: &[u8], path: &[u8], file: &[u8]) -> u64 {
    let (mut least, mut path) = (NONE, path);
    loop {
        let mut name = [0; 4096];
        let mut len = 0;
        for piece in [top, path, file] {
            // One byte stays for the end.
            if len + piece.len() >= name.len() {
                return least;
            }
            name[len..len + piece.len()].copy_from_slice(piece);
            len += piece.len();
        }
        if let Ok(name) = CStr::from_bytes_until_nul(&name) {
            let mut text = [0; 64];
            let limit = words(read(name, &mut text)).next().and_then(number);
            least = least.min(limit.unwrap_or(NONE));
        }
        match path.iter().rposition(|&b| b == b'/') {
            Some(at) if !path.is_empty() => path = &path[..at],
            Some(_) | None => return least,
        }
    }
}

/// The machine's memory, in bytes.
#[must_use]
pub fn machine_bytes() -> u64 {
    physical()
}

/// The limit of the process's address space (RLIMIT_AS), in bytes, if there is one.
#[must_use]
pub fn address_space() -> Option<u64> {
    let limit = rlimit(libc::RLIMIT_AS);
    (limit != NONE).then_some(limit)
}

fn physical() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    u64::try_from(pages).map_or(NONE, |pages| pages.saturating_mul(page_size()))
}

fn page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(PAGE_SIZE)
}

fn rlimit(which: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct is ours and lives through the call.
    match unsafe { libc::getrlimit(which, &mut limit) } {
        0 if limit.rlim_cur != libc::RLIM_INFINITY => limit.rlim_cur,
        _ => NONE,
    }
}

/// What of a file fits into `into`; empty where it cannot be read.
fn read<'a>(name: &CStr, into: &'a mut [u8]) -> &'a [u8] {
    let _errno = errno::keep();
    // SAFETY: the name ends with NUL; a descriptor is made, or none.
    let fd = unsafe { libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return &[];
    }
    let mut len = 0;
    while len < into.len() {
        let room = &mut into[len..];
        // SAFETY: `fd` is open, and `room` is ours and as long as said.
        let n = unsafe { libc::read(fd, room.as_mut_ptr().cast(), room.len()) };
        match usize::try_from(n) {
            Ok(n) if n > 0 => len += n,
            Ok(_) | Err(_) => break,
        }
    }
    // SAFETY: opened above, and nobody else's.
    unsafe { libc::close(fd) };
    &into[..len]
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

fn number(word: &[u8]) -> Option<u64> {
    core::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_resident_within_what_the_machine_has() {
        let (resident, limit) = (resident(), least_limit());
        assert!(resident > 0 && limit > 0);
        assert!(limit <= physical());
    }

    #[test]
    fn resident_bytes_follow_what_is_touched() {
        // Other tests come and go beside this one, by less than half of it.
        let before = resident();
        let pages = vec![1_u8; 256 << 20];
        assert!(
            std::hint::black_box(&pages)
                .iter()
                .step_by(4096)
                .all(|&b| b == 1)
        );
        assert!(resident() >= before + (128 << 20));
    }
}
