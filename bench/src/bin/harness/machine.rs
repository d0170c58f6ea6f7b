//! What the results were measured on.

use std::process::Command;

/// Names and values, in the order to show them.
pub fn facts() -> Vec<(&'static str, String)> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        cpu.lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .split_once(':')
                    .map(|(_, v)| v.trim().to_owned())
            })
            .unwrap_or_else(|| "unknown".to_owned())
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let model = format!(
        "{} family {} model {}, {cpus} CPUs",
        field("model name"),
        field("cpu family"),
        field("model")
    );
    vec![
        ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("CPU", model),
        ("kernel", said("uname", &["-srm"])),
        ("C library", said("getconf", &["GNU_LIBC_VERSION"])),
        ("rustc", said("rustc", &["--version"])),
        ("C compiler", said("cc", &["--version"])),
        (
            "huge pages",
            read("/sys/kernel/mm/transparent_hugepage/enabled"),
        ),
        ("load when done", read("/proc/loadavg")),
    ]
}

/// A name for the machine that is no host name: the CPU's.
pub fn name() -> String {
    let facts = facts();
    let cpu = facts
        .iter()
        .find(|(name, _)| *name == "CPU")
        .map_or("", |(_, value)| value);
    let words: Vec<String> = cpu
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .take(8)
        .collect();
    words.join("-")
}

/// Today, for a file's name.
pub fn day() -> String {
    said("date", &["-u", "+%Y-%m-%d"])
}

/// The first line a command says.
pub fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
