//! The program as a child of this process: started, waited for, told the signals this process gets.

use super::start_error;
use crate::failure::Failure;
use crate::sys::signals::{self, Blocked};
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, ExitStatus};

/// Signals that are meant for the program.
const FORWARDED: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// A running program.
pub struct Child {
    process: process::Child,
    blocked: Blocked,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended with this exit code.
    Exit(u8),
    /// This signal killed it.
    Signal(i32),
}

impl End {
    /// The exit code by the shells' convention.
    pub fn code(self) -> u8 {
        match self {
            End::Exit(code) => code,
            End::Signal(signal) => u8::try_from(signal + 128).unwrap_or(u8::MAX),
        }
    }
}

impl Child {
    /// Starts the program. From here on signals do not end this process; [`Child::wait`] forwards
    /// them.
    pub fn start(mut command: Command, program: &OsStr) -> Result<Child, Failure> {
        signals::keep_children();
        let blocked = Blocked::new(&[&FORWARDED[..], &[libc::SIGCHLD]].concat());
        blocked.restore_in(&mut command);
        let process = command
            .spawn()
            .map_err(|e| start_error::explain(program, &e))?;
        Ok(Child { process, blocked })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the end of the program.
    pub fn wait(mut self, program: &OsStr) -> Result<End, Failure> {
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Ok(end_of(status)),
                Ok(None) => {}
                Err(e) => {
                    return Err(Failure::exec(format_args!(
                        "cannot wait: {}: {e}",
                        program.to_string_lossy()
                    )));
                }
            }
            let Some(received) = self.blocked.wait(None) else {
                continue;
            };
            // A signal of the terminal went to the whole foreground process group, and so to the
            // program already.
            if received.signal != libc::SIGCHLD && !received.by_kernel {
                signals::send(self.pid(), received.signal);
            }
        }
    }
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exit(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, Some(signal)) => End::Signal(signal),
        (None, None) => End::Exit(u8::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_by_a_signal_is_128_and_its_number() {
        assert_eq!(end_of(ExitStatus::from_raw(7 << 8)).code(), 7);
        assert_eq!(
            end_of(ExitStatus::from_raw(libc::SIGKILL)),
            End::Signal(libc::SIGKILL)
        );
        assert_eq!(End::Signal(libc::SIGTERM).code(), 143);
    }
}
