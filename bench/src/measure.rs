//! Clocks, resident sizes, and the line an image prints.

use std::fmt;

/// What one run found.
#[derive(Default, Clone, Copy)]
pub struct Run {
    /// Operations in the timed part.
    pub ops: u64,
    /// Its wall time.
    pub wall_ns: u64,
    /// Its CPU time, all threads.
    pub cpu_ns: u64,
    /// What the row is about when that is not its own time: bytes, the 99th percentile in ns, or
    /// all CPU in ns.
    pub value: f64,
    /// A ratio, where a row has one.
    pub extra: f64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ops={} wall_ns={} cpu_ns={} value={} extra={} peak_kib={} rss_kib={}",
            self.ops,
            self.wall_ns,
            self.cpu_ns,
            self.value,
            self.extra,
            status_kib("VmHWM:"),
            status_kib("VmRSS:")
        )
    }
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Monotonic wall time.
pub fn wall_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time of the process.
pub fn cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// The clock of the calling thread's CPU time, for [`cpu_of`] in any thread while this one lives.
pub fn own_clock() -> i32 {
    let mut clock = 0;
    // SAFETY: the thread itself; a valid place.
    unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
    clock
}

/// CPU time of the thread that clock is of.
pub fn cpu_of(clock: i32) -> u64 {
    clock_ns(clock)
}

/// Times `work`, which does `ops` operations.
pub fn measure(ops: u64, work: impl FnOnce()) -> Run {
    let (wall, cpu) = (wall_ns(), cpu_ns());
    work();
    Run {
        cpu_ns: cpu_ns() - cpu,
        wall_ns: wall_ns() - wall,
        ops,
        value: 0.0,
        extra: 0.0,
    }
}

/// A line of /proc/self/status in KiB, read without allocating.
pub fn status_kib(line: &str) -> u64 {
    let mut text = [0u8; 4096];
    // SAFETY: a C string; a buffer of that length; the descriptor is ours.
    let n = unsafe {
        let file = libc::open(c"/proc/self/status".as_ptr(), libc::O_RDONLY);
        let n = libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
        n
    };
    let text = std::str::from_utf8(&text[..n.max(0) as usize]).unwrap_or("");
    text.lines()
        .find_map(|l| l.strip_prefix(line))
        .and_then(|l| l.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// Resident bytes now.
pub fn rss() -> u64 {
    status_kib("VmRSS:") << 10
}

/// A table of zeros from mmap, resident, never freed.
pub fn table<T: Copy>(len: usize) -> &'static mut [T] {
    let bytes = (len * size_of::<T>()).max(1);
    // SAFETY: fresh private pages; the types used here are integers and pointers, for which zeros
    // are values.
    unsafe {
        let p = libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            -1,
            0,
        );
        assert_ne!(p, libc::MAP_FAILED);
        std::slice::from_raw_parts_mut(p.cast(), len)
    }
}

/// Threads a row with threads uses: as many as there are CPUs, 2 to 8.
pub fn threads() -> usize {
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 8)
}

/// Keeps the calling thread, and those it starts, on a CPU: the `index`th, counted round. Left to
/// itself the scheduler at times runs both ends of a queue on one CPU, where handing over costs
/// nothing.
pub fn pin(index: usize) {
    // SAFETY: a question to the C library. Not available_parallelism: that shrinks with the mask.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }.max(1) as usize;
    // SAFETY: integers only; a valid set. Where it is not allowed, the thread stays where it is.
    unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        libc::CPU_SET(index % cpus, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}
