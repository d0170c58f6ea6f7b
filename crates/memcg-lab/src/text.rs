//! The results on a terminal: a table for each experiment, and what was predicted.

#![forbid(unsafe_code)]

use crate::design::{Experiment, Unit};
use crate::judge::{Judged, judge};
use crate::results::Results;
use crate::runner::Outcome;
use memcg_term::size::human;
use memcg_term::table::{Align, Table};

/// A figure for people.
pub fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => human(value as u64),
        Unit::Count if value >= 1e6 => format!("{:.2} M", value / 1e6),
        Unit::Count => format!("{value:.0}"),
        Unit::Ns if value >= 1e9 => format!("{:.2} s", value / 1e9),
        Unit::Ns if value >= 1e6 => format!("{:.1} ms", value / 1e6),
        Unit::Ns if value >= 1e4 => format!("{:.1} µs", value / 1e3),
        Unit::Ns if value >= 100.0 => format!("{value:.0} ns"),
        Unit::Ns => format!("{value:.1} ns"),
    }
}

/// What there is.
pub fn list(experiments: &[&Experiment]) -> String {
    let mut table = Table::new([("NAME", Align::Left), ("WHAT", Align::Left)]);
    for experiment in experiments {
        table.push(vec![experiment.name.into(), experiment.title.into()]);
    }
    table.text()
}

/// Everything.
pub fn report(outcome: &Outcome) -> String {
    let mut text = String::new();
    for (experiment, results) in &outcome.experiments {
        text += &one(experiment, results);
        text.push('\n');
    }
    text += &format!(
        "scale {}, seed {}, {} of each; {:.1} s\n",
        outcome.setting.scale,
        outcome.setting.seed,
        match outcome.nr_runs {
            1 => "one run".to_owned(),
            nr => format!("{nr} runs"),
        },
        outcome.took.as_secs_f64()
    );
    text
}

fn one(experiment: &Experiment, results: &Results) -> String {
    let mut text = format!(
        "{}: {}\n  {}\n  {}\n\n",
        experiment.name, experiment.title, experiment.source, experiment.what
    );
    let columns = experiment.arms.iter().map(|arm| (arm.name, Align::Right));
    let mut table = Table::new([("", Align::Left)].into_iter().chain(columns));
    for row in experiment.rows {
        let cells = (0..experiment.arms.len()).map(|arm| {
            results
                .median(arm, row.key)
                .map_or_else(|| "-".to_owned(), |value| figure(value, row.unit))
        });
        table.push([row.title.to_owned()].into_iter().chain(cells).collect());
    }
    text += &table.text();
    text.push('\n');
    for judged in judge(experiment, results) {
        text += &sentence(experiment, &judged);
    }
    for (arm, row) in results.unsteady(experiment) {
        text += &format!("not the same in every run: {row} of {arm}\n");
    }
    text
}

fn sentence(experiment: &Experiment, judged: &Judged) -> String {
    let prediction = judged.prediction;
    let unit = experiment
        .row(prediction.row)
        .map_or(Unit::Count, |row| row.unit);
    format!(
        "{:<13}  {} {} against {}: {} ({}: {} {}, {} {})\n",
        judged.verdict.text(),
        prediction.arm,
        if prediction.wins { "wins" } else { "loses" },
        prediction.than,
        prediction.says,
        prediction.by,
        prediction.arm,
        figure(judged.value, unit),
        prediction.than,
        figure(judged.against, unit),
    )
}
