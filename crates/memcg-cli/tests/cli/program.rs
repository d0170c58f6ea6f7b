//! A real program under the engine that holds memory until its test is over.

use super::run::with_engine;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Python itself: the `python3` in PATH may be a script that starts others before it.
pub fn python() -> String {
    let output = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .expect("there is python3");
    let path = String::from_utf8(output.stdout).expect("text");
    path.trim_end().to_owned()
}

/// A Python program, all in the group /holder; it ends when this is dropped.
pub struct Program {
    exec: Child,
}

impl Program {
    /// Starts `memcg exec OPTIONS -- python3 -c SCRIPT` and waits until the script has been run.
    /// The program then waits for its test.
    pub fn start(folder: &Path, options: &[&str], script: &str) -> Program {
        let script = format!("{script}\nprint('ready', flush=True)\nimport sys\nsys.stdin.read()");
        let python = python();
        let arguments = [
            &["exec", "--group=*=/holder"],
            options,
            &["--", &python, "-c", &script],
        ]
        .concat();
        let mut exec = with_engine(folder, &arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let mut output = BufReader::new(exec.stdout.take().expect("a pipe"));
        output.read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        Program { exec }
    }

    /// The PID of its `memcg exec`.
    pub fn pid(&self) -> String {
        self.exec.id().to_string()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It reads to the end of what nobody writes.
        drop(self.exec.stdin.take());
        let _ = self.exec.wait();
    }
}
