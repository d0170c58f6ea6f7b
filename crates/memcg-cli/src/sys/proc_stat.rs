//! What the kernel says about a process in `/proc/PID/stat`: its parent, its age, whether it has
//! run `execve` since its fork.
//!
//! Invariants: a process that is gone, or cannot be read, is `None`.
//! Depends on: nothing.
//! Never: signals or stops a process.

use std::fs;
use std::mem::MaybeUninit;
use std::time::Duration;

/// The kernel's flag of a process that has forked and not run `execve` yet.
const FORKNOEXEC: u64 = 0x40;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcStat {
    /// The process that it is a child of.
    pub parent: u32,
    /// It is a copy of its parent that has not become another program yet.
    pub is_fork: bool,
    /// How long ago it was started; a fork's copy and the program it becomes count as one.
    pub age: Duration,
}

impl ProcStat {
    /// Reads it.
    pub fn read(pid: u32) -> Option<ProcStat> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        parse(
            &String::from_utf8_lossy(&text),
            ticks_per_second(),
            since_boot(),
        )
    }
}

/// The name stands in parentheses and may hold any character, so the fields are those behind the
/// last.
fn parse(text: &str, ticks: u64, now: Duration) -> Option<ProcStat> {
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok());
    let started = Duration::from_millis(number(19)? * 1000 / ticks.max(1));
    Some(ProcStat {
        parent: u32::try_from(number(1)?).ok()?,
        is_fork: number(6)? & FORKNOEXEC != 0,
        age: now.saturating_sub(started),
    })
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut is_known = false;
    for task in ids_in(&format!("/proc/{pid}/task")) {
        if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{task}/children")) {
            is_known = true;
            found.extend(
                text.split_ascii_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
    }
    if is_known {
        return found;
    }
    // A kernel without that file.
    let is_child = |id: &u32| ProcStat::read(*id).is_some_and(|stat| stat.parent == pid);
    ids_in("/proc").into_iter().filter(is_child).collect()
}

fn ids_in(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn ticks_per_second() -> u64 {
    // SAFETY: takes a number only, cannot fail for this one.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100)
}

/// The time since the machine started, by the clock that start times of processes are told in.
fn since_boot() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the call fills the one `timespec` it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, time.as_mut_ptr()) };
    // SAFETY: zeroed, which is a valid `timespec`, or filled by the call.
    let time = unsafe { time.assume_init() };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_a_name_that_holds_parentheses() {
        let text = "42 (a) S (b) S 7 42 42 0 -1 4194368 0 0 0 0 0 0 0 0 20 0 1 0 250 0 0";
        let stat = parse(text, 100, Duration::from_secs(4)).expect("a process");
        assert_eq!((stat.parent, stat.is_fork), (7, true));
        assert_eq!(stat.age, Duration::from_millis(1500));
        assert_eq!(parse("42 (a) S 7", 100, Duration::ZERO), None);
    }

    #[test]
    fn a_child_is_found_with_its_parent_and_its_age() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("it starts");
        let stat = ProcStat::read(child.id()).expect("it lives");
        assert_eq!(stat.parent, std::process::id());
        assert!(stat.age < Duration::from_secs(60), "{stat:?}");
        assert!(children(std::process::id()).contains(&child.id()));
        child.kill().expect("it lives");
        child.wait().expect("it ends");
    }
}
