//! What was measured, and medians, ratios and means of it.

use memcg_bench::rows::Unit;
use std::collections::HashMap;

/// One run.
#[derive(Clone, Copy)]
pub struct Sample {
    /// CPU an operation.
    pub cpu_ns: f64,
    /// Wall time an operation.
    pub wall_ns: f64,
    /// The row's own value.
    pub value: f64,
    /// A ratio, where the row has one.
    pub extra: f64,
    /// Peak resident size of the process.
    pub peak_kib: f64,
}

impl Sample {
    /// The number of a row of that unit.
    pub fn number(&self, unit: Unit) -> f64 {
        match unit {
            Unit::Cpu => self.cpu_ns,
            Unit::Wall => self.wall_ns,
            Unit::Bytes | Unit::Value => self.value,
            Unit::Ratio => self.extra,
            Unit::Peak => self.peak_kib,
        }
    }
}

/// All runs, by row and peer; `None` where a run failed, so that rounds stay aligned.
#[derive(Default)]
pub struct Samples(HashMap<(String, String), Vec<Option<Sample>>>);

/// Median, least and most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

/// Of some numbers; `None` of none.
pub fn spread(mut numbers: Vec<f64>) -> Option<Spread> {
    numbers.retain(|n| n.is_finite());
    numbers.sort_by(f64::total_cmp);
    Some(Spread {
        median: *numbers.get(numbers.len() / 2)?,
        least: *numbers.first()?,
        most: *numbers.last()?,
    })
}

/// The geometric mean; `None` of none.
pub fn geomean(numbers: &[f64]) -> Option<f64> {
    let sum: f64 = numbers.iter().map(|n| n.ln()).sum();
    (!numbers.is_empty()).then(|| (sum / numbers.len() as f64).exp())
}

impl Samples {
    /// Adds a run.
    pub fn add(&mut self, row: &str, peer: &str, sample: Sample) {
        self.runs_mut(row, peer).push(Some(sample));
    }

    /// Notes a run that failed.
    pub fn skip(&mut self, row: &str, peer: &str) {
        self.runs_mut(row, peer).push(None);
    }

    fn runs_mut(&mut self, row: &str, peer: &str) -> &mut Vec<Option<Sample>> {
        self.0.entry((row.to_owned(), peer.to_owned())).or_default()
    }

    /// The numbers of a row's rounds.
    pub fn numbers(&self, row: &str, peer: &str, unit: Unit) -> Vec<Option<f64>> {
        let runs = self.0.get(&(row.to_owned(), peer.to_owned()));
        runs.map(|runs| runs.iter().map(|run| run.map(|s| s.number(unit))).collect())
            .unwrap_or_default()
    }

    /// Their spread.
    pub fn spread(&self, row: &str, peer: &str, unit: Unit) -> Option<Spread> {
        spread(
            self.numbers(row, peer, unit)
                .into_iter()
                .flatten()
                .collect(),
        )
    }

    /// The spread of the ratios to a baseline, each within its round.
    pub fn ratio(&self, row: &str, peer: &str, baseline: &str, unit: Unit) -> Option<Spread> {
        let (ours, theirs) = (
            self.numbers(row, peer, unit),
            self.numbers(row, baseline, unit),
        );
        spread(
            ours.iter()
                .zip(&theirs)
                .filter_map(|(a, b)| Some((*a)? / (*b)?))
                .collect(),
        )
    }

    /// The geometric mean of the rows' median ratios; `None` if a row lacks one.
    pub fn geomean(&self, rows: &[&str], peer: &str, baseline: &str, unit: Unit) -> Option<f64> {
        let all: Option<Vec<f64>> = rows
            .iter()
            .map(|row| self.ratio(row, peer, baseline, unit).map(|s| s.median))
            .collect();
        geomean(&all?)
    }

    /// Makes a row out of two: `row` less `part`, by round.
    pub fn less(&mut self, row: &str, part: &str, named: &str, peers: &[&str]) {
        for peer in peers {
            let key = |row: &str| (row.to_owned(), (*peer).to_owned());
            let (Some(whole), Some(parts)) = (self.0.get(&key(row)), self.0.get(&key(part))) else {
                continue;
            };
            let made = whole.iter().zip(parts).map(|(whole, part)| {
                let (whole, part) = ((*whole)?, (*part)?);
                // Two runs may differ by more than the part: no number then, rather than a
                // flattering one.
                let (cpu_ns, wall_ns) = (whole.cpu_ns - part.cpu_ns, whole.wall_ns - part.wall_ns);
                (cpu_ns > 0.0).then_some(Sample {
                    cpu_ns,
                    wall_ns,
                    ..whole
                })
            });
            let made = made.collect();
            self.0.insert(key(named), made);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_means_are_what_they_say() {
        let got = spread(vec![3.0, 1.0, f64::NAN, 2.0]).unwrap();
        assert_eq!(
            got,
            Spread {
                median: 2.0,
                least: 1.0,
                most: 3.0
            }
        );
        assert_eq!(spread(vec![]), None);
        assert!((geomean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        let mut samples = Samples::default();
        for (a, b) in [(1.0, 2.0), (10.0, 20.0), (100.0, 100.0)] {
            for (peer, n) in [("a", a), ("b", b)] {
                samples.add(
                    "row",
                    peer,
                    Sample {
                        cpu_ns: n,
                        wall_ns: n,
                        value: n,
                        extra: 0.0,
                        peak_kib: n,
                    },
                );
            }
        }
        let got = samples.ratio("row", "a", "b", Unit::Cpu).unwrap();
        assert_eq!((got.median, got.most), (0.5, 1.0));
    }
}
