//! The process as the kernel sees it: its memory, its name, the machine's nodes.

use std::fs;
use std::sync::OnceLock;

/// Resident bytes of this process; 0 where /proc is not there. Cost: a file read.
#[must_use]
pub fn rss() -> u64 {
    let Ok(text) = fs::read_to_string("/proc/self/statm") else {
        return 0;
    };
    let pages: Option<u64> = text
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok());
    // SAFETY: sysconf takes a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.unwrap_or(0) * u64::try_from(page).unwrap_or(crate::units::PAGE_SIZE)
}

/// The process's name, any bytes.
#[must_use]
pub fn comm() -> Vec<u8> {
    let mut name = fs::read("/proc/self/comm").unwrap_or_default();
    if name.last() == Some(&b'\n') {
        name.pop();
    }
    name
}

/// The machine's only memory node, if it has only one.
#[must_use]
pub fn only_node() -> Option<u32> {
    static NODE: OnceLock<Option<u32>> = OnceLock::new();
    *NODE.get_or_init(|| {
        let text = fs::read_to_string("/sys/devices/system/node/online").ok()?;
        text.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_memory_and_a_name() {
        assert!(rss() > 100 << 10);
        assert!(!comm().is_empty());
    }
}
