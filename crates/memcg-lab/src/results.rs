//! What all runs of all arms of an experiment wrote down.

#![forbid(unsafe_code)]

use crate::design::Experiment;
use crate::sheet::Sheet;
use crate::tools::median;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// By arm, in the experiment's order; the runs of each.
    arms: Vec<Vec<Sheet>>,
}

impl Results {
    /// Adds a run of an arm.
    pub fn add(&mut self, arm: usize, sheet: Sheet) {
        if self.arms.len() <= arm {
            self.arms.resize(arm + 1, Vec::new());
        }
        self.arms[arm].push(sheet);
    }

    fn values(&self, arm: usize, row: &str) -> Vec<f64> {
        let runs = self.arms.get(arm).map_or(&[][..], Vec::as_slice);
        let mut values: Vec<f64> = runs
            .iter()
            .filter_map(|sheet| sheet.values.get(row).copied())
            .collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The figure in the middle; `None` where the arm has no such row.
    pub fn median(&self, arm: usize, row: &str) -> Option<f64> {
        let mut values = self.values(arm, row);
        (!values.is_empty()).then(|| median(&mut values))
    }

    /// The least and the greatest.
    pub fn range(&self, arm: usize, row: &str) -> Option<(f64, f64)> {
        let values = self.values(arm, row);
        Some((*values.first()?, *values.last()?))
    }

    /// The points of a plot, of the first run.
    pub fn points(&self, arm: usize, plot: &str) -> &[(f64, f64)] {
        let first = self.arms.get(arm).and_then(|runs| runs.first());
        first
            .and_then(|sheet| sheet.points.get(plot))
            .map_or(&[], Vec::as_slice)
    }

    /// What was counted and is not the same in every run: arm and row.
    pub fn unsteady(&self, experiment: &Experiment) -> Vec<(&'static str, &'static str)> {
        let mut all = Vec::new();
        for (i, arm) in experiment.arms.iter().enumerate() {
            for row in experiment.rows.iter().filter(|row| row.unit.is_counted()) {
                if self
                    .range(i, row.key)
                    .is_some_and(|(low, high)| low != high)
                {
                    all.push((arm.name, row.key));
                }
            }
        }
        all
    }
}
