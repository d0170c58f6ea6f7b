//! A server that speaks the control socket's protocol and knows its answers by heart.

use super::folder::Folder;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process;
use std::sync::{Arc, Mutex};
use std::thread;

/// A snapshot with two groups below the root.
pub const SNAPSHOT: &str = "\
pid=7 comm=my%20app uptime_ms=1500 rss=2097152 charged=1048576 coverage=50.0 accounting=on
path\tcurrent\tpeak\tmax\thigh\tlow\tmin\treserve\ttasks\tinherited\town\theap\tmapped\treserved\tstocked\tev_low\tev_high\tev_max\tev_oom\tev_oom_kill\tthrottled_us
/\t1048576\t2097152\tmax\tmax\t0\t0\t0\t1\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0
/worker\t4096\t8192\t16384\tmax\t0\t0\t0\t2\t512\t0\t0\t0\t0\t0\t0\t1\t3\t0\t0\t0
/worker/a%20b\t1024\t1024\tmax\tmax\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0
";

/// A server for this process's id; it serves until the test's process ends.
pub struct Server {
    folder: Folder,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers each request line with the bytes beside it; any other with EPROTO.
    pub fn new(answers: &[(&str, &str)]) -> Server {
        let folder = Folder::new();
        let asked = Arc::default();
        Server { folder, asked }.serving(process::id(), answers)
    }

    /// Serves as process `pid` too.
    pub fn serving(self, pid: u32, answers: &[(&str, &str)]) -> Server {
        let socket = self.folder.path().join(format!("{pid}.sock"));
        let listener = UnixListener::bind(socket).expect("a socket");
        let mut known: HashMap<String, String> = answers
            .iter()
            .map(|(line, answer)| (line.to_string(), answer.to_string()))
            .collect();
        known
            .entry("hello".into())
            .or_insert_with(|| ok(&format!("memcg 1 pid={pid} comm=my%20app")));
        let known = Arc::new(known);
        let asked = Arc::clone(&self.asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (known, asked) = (Arc::clone(&known), Arc::clone(&asked));
                thread::spawn(move || converse(stream, &known, &asked));
            }
        });
        self
    }

    /// Where the socket is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The lines that were asked.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

/// A whole answer with this body.
pub fn ok(body: &str) -> String {
    format!("ok {}\n{body}", body.len())
}

/// An answer that is not whole ends with this; the server closes the connection then.
pub const CLOSE: &str = "<close>";

fn converse(stream: UnixStream, known: &HashMap<String, String>, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
        let request = line.trim_end_matches('\n').to_owned();
        asked
            .lock()
            .expect("no test panics with it")
            .push(request.clone());
        let answer = known
            .get(&request)
            .map_or("err EPROTO not a request\n", String::as_str);
        let (answer, close) = match answer.strip_suffix(CLOSE) {
            Some(cut) => (cut, true),
            None => (answer, false),
        };
        if reader.get_mut().write_all(answer.as_bytes()).is_err() || close {
            return;
        }
        line.clear();
    }
}
