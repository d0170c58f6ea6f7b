//! The process that is looked at.

use crate::client::{Client, ClientError, processes};
use crate::commands::owners;
use crate::failure::{Failure, UNREACHABLE};
use crate::snapshot::{self, Snapshot};
use std::ffi::OsStr;

/// A process and the connection to it.
#[derive(Debug)]
pub struct Source {
    pid: u32,
    client: Client,
}

impl Source {
    /// Connects to the process, or to the program of a `memcg exec`.
    pub fn connect(pid: u32) -> Result<Source, Failure> {
        let (client, pid) = Client::connect(pid)?;
        Ok(Source { pid, client })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its groups now.
    pub fn look(&mut self) -> Result<Snapshot, ClientError> {
        let text = self.client.ask(&[b"snapshot"])?;
        snapshot::parse(&String::from_utf8_lossy(&text)).map_err(ClientError::Garbled)
    }

    /// The owners of a group: a header and a line for each.
    pub fn owners(&mut self, path: &OsStr) -> Result<String, ClientError> {
        owners::ask_for(&mut self.client, path)
    }

    /// How many processes that this one started are under the engine now, each with groups of its
    /// own.
    pub fn started(&self) -> usize {
        processes::below(self.pid)
    }

    /// What [`Source::look`] failed with, as the end of the command.
    pub fn failure(&self, error: ClientError) -> Failure {
        match error {
            ClientError::Garbled(reason) => {
                let advice = "use the memcg of the version the process runs";
                Failure::new(
                    UNREACHABLE,
                    format_args!("top: snapshot of process {}: {reason}: {advice}", self.pid),
                )
            }
            error @ (ClientError::Refused { .. }
            | ClientError::TooLong
            | ClientError::Closed
            | ClientError::Cut { .. }
            | ClientError::Silent
            | ClientError::Io(_)) => error.at("top", "snapshot", self.pid),
        }
    }
}
