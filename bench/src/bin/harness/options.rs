//! The command line of the harness; `cargo xtask bench` fills in the folders.

use memcg_bench::rows::{ROWS, Row};
use std::path::PathBuf;

const USAGE: &str = "\
usage: harness --images DIR --bench DIR [--preload FILE] [--memcg TEXT] [--quick | --rounds N] [--json] [--no-save] [--peers A,B]
               [--instructions [--where] | --gate | --gate-write] [NAME...]

NAME is a row, the beginning of one (pair, tenants), rows, own, pools or programs. Without any: all.
--where shows the functions that execute a row's instructions, of memcg and of the peers named.";

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Time.
    Measure,
    /// Count instructions.
    Instructions,
    /// Count memcg's and compare.
    Gate,
}

/// See [`USAGE`].
pub struct Options {
    /// Where the images are.
    pub images: PathBuf,
    /// The folder `bench`.
    pub bench: PathBuf,
    /// Where images with line tables are.
    pub lined: Option<PathBuf>,
    /// memcg's preload library.
    pub preload: Option<PathBuf>,
    /// What the images of memcg were built from.
    pub memcg: String,
    /// How often each is run.
    pub rounds: usize,
    /// JSON instead of tables.
    pub json: bool,
    /// Keep the results in `bench/results`.
    pub save: bool,
    /// What to do.
    pub mode: Mode,
    /// Write the instruction counts down as the gate's.
    pub write: bool,
    /// Show where instructions are.
    pub breakdown: bool,
    peers: Vec<String>,
    names: Vec<String>,
}

impl Options {
    /// Reads the arguments.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            images: PathBuf::new(),
            bench: PathBuf::new(),
            lined: None,
            preload: None,
            memcg: "unknown".to_owned(),
            rounds: 31,
            json: false,
            save: true,
            mode: Mode::Measure,
            write: false,
            breakdown: false,
            peers: Vec::new(),
            names: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| USAGE.to_owned());
            match argument.as_str() {
                "--images" => options.images = value()?.into(),
                "--bench" => options.bench = value()?.into(),
                "--lined" => options.lined = Some(value()?.into()),
                "--preload" => options.preload = Some(value()?.into()),
                "--memcg" => options.memcg = value()?,
                "--quick" => options.rounds = 5,
                "--rounds" => {
                    options.rounds = value()?
                        .parse()
                        .ok()
                        .filter(|&n| n > 0)
                        .ok_or_else(|| USAGE.to_owned())?;
                }
                "--json" => options.json = true,
                "--no-save" => options.save = false,
                "--peers" => options.peers = value()?.split(',').map(str::to_owned).collect(),
                "--instructions" => options.mode = Mode::Instructions,
                "--where" => (options.mode, options.breakdown) = (Mode::Instructions, true),
                "--gate" => options.mode = Mode::Gate,
                "--gate-write" => (options.mode, options.write) = (Mode::Gate, true),
                name if !name.starts_with('-') => options.names.push(name.to_owned()),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }

    /// Where a peer's image is, or would be.
    pub fn image(&self, peer: &str) -> PathBuf {
        self.images.join(peer)
    }

    /// Whether a thing of that name, of a kind of that name, is asked for.
    pub fn wants(&self, name: &str, kind: &str) -> bool {
        self.names.is_empty()
            || self
                .names
                .iter()
                .any(|n| name == n || kind == n || name.starts_with(&format!("{n}-")))
    }

    /// Whether a row is asked for, also through one that is read from its runs.
    pub fn wants_row(&self, row: &Row) -> bool {
        let kind = if row.own { "own" } else { "rows" };
        self.wants(row.name, kind)
            || row.pools && self.wants(row.name, "pools")
            || ROWS
                .iter()
                .any(|other| other.of == row.name && self.wants(other.name, kind))
    }

    /// Whether a peer is asked for.
    pub fn wants_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer == name)
    }

    /// Whether a peer is asked for by its name.
    pub fn names_peer(&self, name: &str) -> bool {
        self.peers.iter().any(|peer| peer == name)
    }

    /// The names asked for.
    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    /// Whether everything is asked for.
    pub fn is_whole(&self) -> bool {
        self.names.is_empty() && self.peers.is_empty()
    }
}
