//! What one run of one arm wrote down, and its way from the arm's process to the lab's.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Figures by row, and points by plot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sheet {
    /// By the row's key.
    pub values: BTreeMap<String, f64>,
    /// By the plot's key: across, up.
    pub points: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Sheet {
    /// Notes a figure.
    pub fn set(&mut self, row: &str, value: f64) {
        self.values.insert(row.to_owned(), value);
    }

    /// Notes a count.
    pub fn count(&mut self, row: &str, value: u64) {
        self.set(row, value as f64);
    }

    /// Notes a point of a plot.
    pub fn point(&mut self, plot: &str, across: f64, up: f64) {
        self.points
            .entry(plot.to_owned())
            .or_default()
            .push((across, up));
    }
}
