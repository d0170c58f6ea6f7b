//! The command on a terminal: a pseudo-terminal whose other end this test is.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use vt100::Parser;

/// What the programs of these tests are given for anything to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal with one program on it.
pub struct Pty {
    master: Option<File>,
    slave: Option<OwnedFd>,
    parser: Arc<Mutex<Parser>>,
    bytes: Arc<Mutex<Vec<u8>>>,
    child: Child,
    before: libc::termios,
    hung_up: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Pty {
    /// Starts the program as the leader of a session whose terminal this is.
    pub fn start(command: Command, rows: u16, columns: u16) -> Pty {
        Pty::start_with(command, rows, columns, |_| {})
    }

    /// The same; `change` may give the program other files.
    pub fn start_with(
        mut command: Command,
        rows: u16,
        columns: u16,
        change: impl FnOnce(&mut Command),
    ) -> Pty {
        let (mut master, mut slave) = (-1, -1);
        let size = window(rows, columns);
        // SAFETY: the first two are written, the size is read, the rest may be null.
        let opened = unsafe {
            let (name, modes) = (std::ptr::null_mut(), std::ptr::null());
            libc::openpty(&mut master, &mut slave, name, modes, &size)
        };
        assert_eq!(opened, 0, "a pseudo-terminal");
        // SAFETY: both were just opened and nothing else owns them.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        for fd in [master.as_raw_fd(), slave.as_raw_fd()] {
            // SAFETY: takes numbers only. Programs other tests start must not keep the terminal
            // open.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        let before = modes_of(&slave);
        let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
        command.stdin(end()).stdout(end()).stderr(end());
        command.env("TERM", "xterm-256color");
        let terminal = slave.as_raw_fd();
        // SAFETY: two system calls, which are async-signal-safe; the descriptor is open until the
        // program starts.
        unsafe {
            command.pre_exec(move || {
                libc::setsid();
                match libc::ioctl(terminal, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        change(&mut command);
        let child = command.spawn().expect("it starts");
        let parser = Arc::new(Mutex::new(Parser::new(number(rows), number(columns), 100)));
        let bytes = Arc::default();
        let (screen, log) = (Arc::clone(&parser), Arc::clone(&bytes));
        let output = master.try_clone().expect("a descriptor");
        let hung_up = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&hung_up);
        let reader = thread::spawn(move || read(output, &screen, &log, &stop));
        Pty {
            master: Some(master),
            slave: Some(slave),
            parser,
            bytes,
            child,
            before,
            hung_up,
            reader: Some(reader),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        let master = self.master.as_mut().expect("it is not hung up");
        master.write_all(keys.as_bytes()).expect("it is read");
    }

    /// Makes the terminal another size.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let mut parser = self.parser.lock().expect("no reader panics");
        parser.screen_mut().set_size(number(rows), number(columns));
        let master = self.master.as_ref().expect("it is not hung up");
        let size = window(rows, columns);
        // SAFETY: TIOCSWINSZ reads one `winsize`.
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    }

    /// Hangs up.
    pub fn hang_up(&mut self) {
        self.hung_up.store(true, Ordering::Relaxed);
        drop(self.reader.take().map(JoinHandle::join));
        drop((self.master.take(), self.slave.take()));
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        let parser = self.parser.lock().expect("no reader panics");
        parser.screen().contents()
    }

    /// Whether anything on the screen has a colour.
    pub fn is_coloured(&self) -> bool {
        let parser = self.parser.lock().expect("no reader panics");
        let (rows, columns) = parser.screen().size();
        let cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |c| (row, c)));
        cells
            .filter_map(|(row, column)| parser.screen().cell(row, column))
            .any(|cell| (cell.fgcolor(), cell.bgcolor()) != Default::default())
    }

    /// Everything that was written so far.
    pub fn written(&self) -> String {
        let bytes = self.bytes.lock().expect("no reader panics");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    pub fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(start.elapsed() < PATIENCE, "not {what}:\n{screen}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the screen shows `text`.
    #[track_caller]
    pub fn shows(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.pid()).expect("a process id");
        // SAFETY: takes numbers only; the program was not waited for yet.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits until the program has stopped.
    #[track_caller]
    pub fn wait_stopped(&self) {
        let pid = libc::pid_t::try_from(self.pid()).expect("a process id");
        let mut status = 0;
        // SAFETY: the status is written; the program is this process's child and not reaped by
        // being stopped.
        let answer = unsafe { libc::waitpid(pid, &mut status, libc::WUNTRACED) };
        assert_eq!(answer, pid);
        assert!(ExitStatus::from_raw(status).stopped_signal().is_some());
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "no end:\n{}", self.screen());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asserts that the terminal is as the program found it: modes, screen, cursor.
    #[track_caller]
    pub fn is_given_back(&self) {
        let now = modes_of(self.slave.as_ref().expect("it is not hung up"));
        let flags = |m: &libc::termios| (m.c_iflag, m.c_oflag, m.c_cflag, m.c_lflag, m.c_cc);
        assert_eq!(flags(&now), flags(&self.before));
        // What was written last may still be on its way here.
        let start = Instant::now();
        let mut left = (true, true);
        while left != (false, false) && start.elapsed() < PATIENCE {
            let parser = self.parser.lock().expect("no reader panics");
            let screen = parser.screen();
            left = (screen.alternate_screen(), screen.hide_cursor());
            drop(parser);
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(left, (false, false), "the screen and the cursor");
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.hung_up.store(true, Ordering::Relaxed);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(mut output: File, screen: &Mutex<Parser>, log: &Mutex<Vec<u8>>, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let mut ready = libc::pollfd {
            fd: output.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one `pollfd`, which lives through the call.
        if unsafe { libc::poll(&mut ready, 1, 20) } < 1 {
            continue;
        }
        let Ok(n @ 1..) = output.read(&mut buffer) else {
            return;
        };
        log.lock()
            .expect("no test panics with it")
            .extend(&buffer[..n]);
        let mut parser = screen.lock().expect("no test panics with it");
        parser.process(&buffer[..n]);
    }
}

fn modes_of(terminal: &OwnedFd) -> libc::termios {
    // SAFETY: all zeroes is a valid `termios`, and the call fills it.
    unsafe {
        let mut modes = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &mut modes), 0);
        modes
    }
}

fn window(rows: u16, columns: u16) -> libc::winsize {
    libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn number(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).expect("a size")
}
