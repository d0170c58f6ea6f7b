//! The tables, for a terminal and for Markdown.

use crate::layout::{lay_out, show};
use crate::machine;
use crate::options::Options;
use crate::peers::{IMAGES, POOLS, short, version};
use crate::programs::{ALL, BELOW};
use crate::stats::Samples;
use memcg_bench::rows::{ROWS, Unit};
use std::fmt::Write as _;

/// Everything there is to tell.
pub struct Report<'a> {
    /// What was asked.
    pub options: &'a Options,
    /// What was measured.
    pub samples: &'a Samples,
    /// Images that are not there.
    pub missing: &'a [&'a str],
    /// Runs that failed, one line each.
    pub failures: &'a [String],
    /// How long it took.
    pub seconds: f64,
}

/// Which rows.
#[derive(Clone, Copy)]
pub enum Of {
    /// Those that all images have.
    All,
    /// Those that memcg and pools of reservations have.
    Pools,
    /// memcg's.
    Memcg,
}

/// A row of a table: rows of images and of programs look the same here.
pub struct Line {
    /// Its name.
    pub name: &'static str,
    /// The row whose samples it reads.
    pub of: &'static str,
    /// Its number.
    pub unit: Unit,
    /// For people.
    pub what: &'static str,
}

impl Report<'_> {
    /// Rows of all images that have numbers, of memcg and the pools, or of memcg alone.
    pub fn lines(&self, of: Of) -> Vec<Line> {
        let rows = ROWS.iter().filter(|row| match of {
            Of::All => !row.own,
            Of::Pools => row.pools,
            Of::Memcg => row.own && !row.pools,
        });
        let lines = rows.map(|row| Line {
            name: row.name,
            of: row.of,
            unit: row.unit,
            what: row.what,
        });
        lines.filter(|line| self.any(line)).collect()
    }

    /// Programs that have numbers, CPU and peak.
    pub fn programs(&self) -> Vec<Line> {
        let lines = ALL.iter().flat_map(|program| {
            [Unit::Cpu, Unit::Peak].map(|unit| Line {
                name: program.name,
                of: program.name,
                unit,
                what: program.what,
            })
        });
        lines.filter(|line| self.any(line)).collect()
    }

    fn any(&self, line: &Line) -> bool {
        let names = IMAGES
            .iter()
            .map(|p| p.name)
            .chain(POOLS.iter().map(|p| p.name))
            .chain(BELOW.iter().map(|b| b.name));
        names
            .into_iter()
            .any(|peer| self.samples.spread(line.of, peer, line.unit).is_some())
    }

    /// The tables of rows and programs.
    pub fn tables(&self, markdown: bool) -> String {
        let mut out = String::new();
        let images: Vec<&str> = IMAGES
            .iter()
            .map(|p| p.name)
            .filter(|n| !self.missing.contains(n))
            .collect();
        let below: Vec<&str> = BELOW
            .iter()
            .filter(|b| b.library(self.options).is_some())
            .map(|b| b.name)
            .collect();
        if markdown {
            self.head(&mut out);
        }
        let (rows, programs) = (self.lines(Of::All), self.programs());
        self.table(
            &mut out,
            markdown,
            "Medians: CPU an operation (peak RSS, bytes where so named)",
            &rows,
            &images,
            None,
        );
        self.table(
            &mut out,
            markdown,
            "Ratio to mimalloc3",
            &rows,
            &images,
            Some("mimalloc3"),
        );
        self.table(
            &mut out,
            markdown,
            "Programs: CPU and peak RSS",
            &programs,
            &below,
            None,
        );
        self.table(
            &mut out,
            markdown,
            "Programs, ratio to mimalloc3",
            &programs,
            &below,
            Some("mimalloc3"),
        );
        if markdown {
            self.table(
                &mut out,
                markdown,
                "Ratio to glibc",
                &rows,
                &images,
                Some("glibc"),
            );
            self.table(
                &mut out,
                markdown,
                "Programs, ratio to glibc",
                &programs,
                &below,
                Some("glibc"),
            );
        }
        let books: Vec<&str> = ["memcg"]
            .into_iter()
            .chain(POOLS.iter().map(|pool| pool.name))
            .collect();
        let reservations = self.lines(Of::Pools);
        self.table(
            &mut out,
            markdown,
            "Reservations, beside pools of DataFusion",
            &reservations,
            &books,
            None,
        );
        self.table(
            &mut out,
            markdown,
            "Reservations, ratio to memcg",
            &reservations,
            &books,
            Some("memcg"),
        );
        self.table(
            &mut out,
            markdown,
            "memcg's own",
            &self.lines(Of::Memcg),
            &["memcg"],
            None,
        );
        out
    }

    /// A line for each image or program that failed.
    pub fn failed(&self) -> String {
        let line = |failure| format!("failed: {failure}\n");
        self.failures.iter().map(line).collect()
    }

    fn head(&self, out: &mut String) {
        let _ = writeln!(out, "# Benchmarks of {}\n", machine::day());
        let facts = machine::facts();
        for (name, value) in &facts {
            let _ = writeln!(out, "- {name}: {value}");
        }
        let _ = writeln!(out, "- memcg: {}", self.options.memcg);
        let _ = writeln!(
            out,
            "- rounds: {}, {:.0} s in all; median [least-most]",
            self.options.rounds, self.seconds
        );
        for peer in IMAGES
            .iter()
            .chain(POOLS)
            .filter(|peer| !self.missing.contains(&peer.name))
        {
            let said = machine::said(
                &self.options.image(peer.name).to_string_lossy(),
                &["version"],
            );
            let package = version(peer.package)
                .map(|v| format!("{} {v}", peer.package))
                .unwrap_or_default();
            let _ = writeln!(out, "- {}: {package} {said} ({})", peer.name, peer.flags);
        }
        if !self.missing.is_empty() {
            let _ = writeln!(out, "- not built here: {}", self.missing.join(", "));
        }
    }

    fn table(
        &self,
        out: &mut String,
        markdown: bool,
        title: &str,
        lines: &[Line],
        peers: &[&str],
        to: Option<&str>,
    ) {
        let peers: Vec<&str> = peers
            .iter()
            .copied()
            .filter(|peer| {
                lines
                    .iter()
                    .any(|line| self.samples.spread(line.of, peer, line.unit).is_some())
            })
            .collect();
        let to_missing = to.is_some_and(|to| !peers.contains(&to));
        if lines.is_empty() || peers.is_empty() || to_missing {
            return;
        }
        let mut rows = vec![vec![String::new()]];
        rows[0].extend(peers.iter().map(|peer| short(peer).to_owned()));
        for line in lines {
            let name = if line.unit == Unit::Peak && line.name == line.of {
                format!("{} RSS", line.name)
            } else {
                line.name.to_owned()
            };
            let mut row = vec![name];
            for peer in &peers {
                let spread = match to {
                    None => self.samples.spread(line.of, peer, line.unit),
                    Some(to) => self.samples.ratio(line.of, peer, to, line.unit),
                };
                row.push(match (spread, to) {
                    (None, _) => "-".to_owned(),
                    (Some(s), None) if markdown => format!(
                        "{} [{}-{}]",
                        show(s.median, line.unit),
                        show(s.least, line.unit),
                        show(s.most, line.unit)
                    ),
                    (Some(s), None) => show(s.median, line.unit),
                    (Some(s), Some(_)) if markdown => {
                        format!("{:.2} [{:.2}-{:.2}]", s.median, s.least, s.most)
                    }
                    (Some(s), Some(_)) => format!("{:.2}", s.median),
                });
            }
            if to.is_none() && peers.len() == 1 {
                row.push(line.what.to_owned());
                rows[0].resize(3, String::new());
            }
            rows.push(row);
        }
        lay_out(out, markdown, title, &rows);
    }
}
