//! Who this process is, and whether another one lives.

/// The real user id.
pub fn user() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getuid() }
}

/// The effective user id.
pub fn effective_user() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

/// The real group id.
pub fn group() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getgid() }
}

/// Does a process with this id exist? One we may not signal exists too.
pub fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return false;
    };
    // SAFETY: signal 0 is never delivered; the call only checks.
    let answer = unsafe { libc::kill(pid, 0) };
    answer == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Does the process run? One that has ended and was not waited for yet exists and does not run.
pub fn lives(pid: u32) -> bool {
    // The state follows the name, which stands in parentheses and may hold any.
    let ended = std::fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let name_end = stat.iter().rposition(|b| *b == b')');
        name_end.is_some_and(|end| matches!(stat.get(end + 2), Some(b'Z' | b'X')))
    });
    exists(pid) && !ended
}

/// Stops this process, as the key for it does, until it is continued.
pub fn stop() {
    // SAFETY: takes numbers only.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}
