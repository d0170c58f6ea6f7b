//! Whether a prediction was borne out.

#![forbid(unsafe_code)]

use crate::design::{Better, Experiment, Prediction};
use crate::results::Results;
use serde::Serialize;

/// Times that differ by less than this factor do not differ.
const MARGIN: f64 = 1.1;

/// What the measurement says of a prediction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is so.
    BorneOut,
    /// There is no difference, or too small a one to tell.
    NoDifference,
    /// It is the other way round.
    NotSo,
}

impl Verdict {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Verdict::BorneOut => "borne out",
            Verdict::NoDifference => "no difference",
            Verdict::NotSo => "not so",
        }
    }
}

/// A prediction and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// What was predicted.
    pub prediction: &'static Prediction,
    /// The arm's figure.
    pub value: f64,
    /// That of the arm it is held against.
    pub against: f64,
    /// What that says.
    pub verdict: Verdict,
}

/// Judges all predictions of an experiment.
pub fn judge(experiment: &Experiment, results: &Results) -> Vec<Judged> {
    let judged = experiment.predictions.iter().filter_map(|prediction| {
        let row = experiment.row(prediction.row)?;
        let value = results.median(experiment.arm(prediction.arm)?, row.key)?;
        let against = results.median(experiment.arm(prediction.than)?, row.key)?;
        let margin = if row.unit.is_counted() { 1.0 } else { MARGIN };
        let (low, high) = match (row.better, prediction.wins) {
            (Better::Less, true) | (Better::More, false) => (value, against),
            (Better::Less, false) | (Better::More, true) => (against, value),
        };
        let verdict = if low == high || low.max(high) <= low.min(high) * margin {
            Verdict::NoDifference
        } else if low < high {
            Verdict::BorneOut
        } else {
            Verdict::NotSo
        };
        Some(Judged {
            prediction,
            value,
            against,
            verdict,
        })
    });
    judged.collect()
}
