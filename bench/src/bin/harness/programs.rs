//! Real programs with an allocator put below them by LD_PRELOAD. CPU, wall time and peak resident
//! size are the whole program's, with the children it waited for; redis's are the server's.

use crate::options::Options;
use crate::run::pin;
use crate::stats::Sample;
use memcg_bench::measure::wall_ns;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What may be below a program.
pub struct Below {
    /// The column: as the image's.
    pub name: &'static str,
    /// Candidates for the library, in this order; `@images/` and `@preload` stand for what was
    /// built.
    libraries: &'static [&'static str],
}

/// All of them. The C library too is preloaded: a program may be linked to another allocator.
#[rustfmt::skip]
pub const BELOW: &[Below] = &[
    Below { name: "memcg", libraries: &["@preload"] },
    Below { name: "memcg-off", libraries: &["@preload"] },
    Below { name: "mimalloc3", libraries: &["@images/libmimalloc3.so"] },
    Below { name: "mimalloc2", libraries: &["@images/libmimalloc2.so"] },
    Below { name: "jemalloc", libraries: &["/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "/usr/lib/aarch64-linux-gnu/libjemalloc.so.2", "/usr/lib64/libjemalloc.so.2"] },
    Below { name: "tcmalloc", libraries: &["/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", "/usr/lib/aarch64-linux-gnu/libtcmalloc_minimal.so.4", "/usr/lib64/libtcmalloc_minimal.so.4"] },
    Below { name: "glibc", libraries: &["/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6"] },
];

impl Below {
    /// The library, if it is there.
    pub fn library(&self, options: &Options) -> Option<PathBuf> {
        self.libraries.iter().find_map(|candidate| {
            let path = match *candidate {
                "@preload" => options.preload.clone()?,
                other => match other.strip_prefix("@images/") {
                    Some(name) => options.images.join(name),
                    None => PathBuf::from(other),
                },
            };
            path.exists().then_some(path)
        })
    }
}

/// One program.
pub struct Program {
    /// The row.
    pub name: &'static str,
    /// For people.
    pub what: &'static str,
    /// Why it cannot be run here.
    pub missing: fn(&Scratch) -> Option<String>,
    command: fn(&Options, &Scratch) -> Command,
    /// It runs until a load generator has done its work.
    server: bool,
    threads: bool,
}

/// All of them.
#[rustfmt::skip]
pub const ALL: &[Program] = &[
    Program { name: "python", what: "objects, dicts, JSON, sorting; pymalloc below 512 B", missing: |s| s.python.is_none().then(|| "no python3".into()),
        command: |o, s| python(o, s), server: false, threads: false },
    Program { name: "python-malloc", what: "the same, every object from malloc", missing: |s| s.python.is_none().then(|| "no python3".into()),
        command: |o, s| { let mut c = python(o, s); c.env("PYTHONMALLOC", "malloc"); c }, server: false, threads: false },
    Program { name: "compile", what: "g++ -O2 of a file of templates", missing: |_| without("g++"),
        command: |o, s| { let mut c = Command::new("g++"); c.args(["-O2", "-std=c++17", "-c"]).arg(o.bench.join("programs/templates.cpp")).arg("-o").arg(s.dir.join("templates.o")); c }, server: false, threads: false },
    Program { name: "sqlite", what: "sqlite3 with a script of inserts, joins, indexes", missing: |_| without("sqlite3"),
        command: |o, _| { let mut c = Command::new("sqlite3"); c.args([":memory:", "-init"]).arg(o.bench.join("programs/speed.sql")).arg("select 1;"); c }, server: false, threads: false },
    Program { name: "tokio", what: "tasks that pass messages", missing: |s| (!s.tokio.exists()).then(|| "not built".into()),
        command: |_, s| Command::new(&s.tokio), server: false, threads: true },
    Program { name: "redis", what: "redis-server under redis-benchmark", missing: |_| without("redis-server").or_else(|| without("redis-benchmark")),
        command: |_, s| { let mut c = Command::new("redis-server"); c.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(s.socket()); c }, server: true, threads: true },
];

/// Where programs put what they make, and what was found out once.
pub struct Scratch {
    dir: PathBuf,
    python: Option<PathBuf>,
    tokio: PathBuf,
}

impl Scratch {
    fn socket(&self) -> PathBuf {
        self.dir.join("redis.sock")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Makes the folder.
pub fn prepare(options: &Options) -> Result<Scratch, String> {
    let dir = std::env::temp_dir().join(format!("memcg-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    // The interpreter itself, not a script that finds it.
    let python = crate::machine::said("python3", &["-c", "import sys; print(sys.executable)"]);
    Ok(Scratch {
        dir,
        python: Some(PathBuf::from(python)).filter(|path| path.is_absolute()),
        tokio: options.images.join("tokio-server"),
    })
}

fn python(options: &Options, scratch: &Scratch) -> Command {
    let mut command = Command::new(scratch.python.as_deref().unwrap_or(Path::new("python3")));
    command.arg(options.bench.join("programs/work.py"));
    command
}

fn without(program: &str) -> Option<String> {
    let found = std::env::var_os("PATH")
        .is_some_and(|all| std::env::split_paths(&all).any(|dir| dir.join(program).exists()));
    (!found).then(|| format!("no {program}"))
}

/// Runs a program once.
pub fn run(
    options: &Options,
    scratch: &Scratch,
    program: &Program,
    below: &Below,
) -> Result<Sample, String> {
    let library = below.library(options).ok_or("no library")?;
    let mut command = (program.command)(options, scratch);
    command
        .env("LD_PRELOAD", library)
        .current_dir(&scratch.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if below.name == "memcg-off" {
        command.env("MEMCG", "off");
    }
    if !program.threads {
        pin(&mut command);
    }
    let start = wall_ns();
    let child = command.spawn().map_err(|e| e.to_string())?;
    let driven = if program.server {
        drive_redis(scratch)
    } else {
        Ok(())
    };
    let (status, usage) = wait(child)?;
    driven?;
    if status != 0 {
        return Err(format!("status {status}"));
    }
    let ns = |time: libc::timeval| time.tv_sec as f64 * 1e9 + time.tv_usec as f64 * 1e3;
    Ok(Sample {
        cpu_ns: ns(usage.ru_utime) + ns(usage.ru_stime),
        wall_ns: (wall_ns() - start) as f64,
        value: 0.0,
        extra: 0.0,
        peak_kib: usage.ru_maxrss as f64,
    })
}

/// Waits for a child; its status and what it used, with the children it waited for.
fn wait(child: Child) -> Result<(i32, libc::rusage), String> {
    let mut status = 0;
    // SAFETY: integers only.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    // SAFETY: our child; two valid places.
    if unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) } < 0 {
        return Err(std::io::Error::last_os_error().to_string());
    }
    Ok((status, usage))
}

/// Waits for the server, gives it work, ends it.
fn drive_redis(scratch: &Scratch) -> Result<(), String> {
    let socket = scratch.socket();
    for _ in 0..500 {
        if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let work = Command::new("redis-benchmark")
        .arg("-s")
        .arg(&socket)
        .args([
            "-q",
            "-n",
            "60000",
            "-r",
            "100000",
            "-d",
            "200",
            "-P",
            "16",
            "-t",
            "set,get,lpush,lpop,sadd,hset,zadd",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|e| e.to_string());
    let ended = std::os::unix::net::UnixStream::connect(&socket)
        .and_then(|mut stream| std::io::Write::write_all(&mut stream, b"SHUTDOWN NOSAVE\r\n"));
    let _ = std::fs::remove_file(&socket);
    ended.map_err(|e| format!("the server did not come up: {e}"))?;
    work.and_then(|status| {
        status
            .success()
            .then_some(())
            .ok_or_else(|| "redis-benchmark failed".to_owned())
    })
}
