//! One run of an image, in its own process.

use crate::options::Options;
use crate::stats::Sample;
use memcg_bench::rows::Row;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Runs a row of a peer.
pub fn image(options: &Options, row: &Row, peer: &str) -> Result<Sample, String> {
    let mut command = Command::new(options.image(peer));
    command.arg(row.name).stdin(Stdio::null());
    if !row.threads && !row.own {
        pin(&mut command);
    }
    let output = command.output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{}: {}",
            output.status,
            said.lines().next().unwrap_or("")
        ));
    }
    let line = String::from_utf8_lossy(&output.stdout);
    let field = |name: &str| -> Result<f64, String> {
        line.split_whitespace()
            .find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
            .ok_or_else(|| format!("no {name} in {line:?}"))
    };
    let ops = field("ops")?;
    Ok(Sample {
        cpu_ns: field("cpu_ns")? / ops,
        wall_ns: field("wall_ns")? / ops,
        value: field("value")?,
        extra: field("extra")?,
        peak_kib: field("peak_kib")?,
    })
}

/// Makes a command run on the last CPU only.
pub fn pin(command: &mut Command) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    // SAFETY: sched_setaffinity is one system call; nothing is allocated between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let mut set: libc::cpu_set_t = core::mem::zeroed();
            libc::CPU_SET(cpus - 1, &mut set);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
            Ok(())
        });
    }
}
