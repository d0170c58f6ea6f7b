//! What holds for every experiment, whatever it measures; and for the ways results are told.

#![forbid(unsafe_code)]

use crate::design::{Arm, Better, Experiment, Plot, Unit, less, loses, more, wins};
use crate::judge::{Verdict, judge};
use crate::results::Results;
use crate::runner::Outcome;
use crate::sheet::Sheet;
use crate::tools::Setting;
use crate::{EXPERIMENTS, json, page, text};
use std::time::Duration;

#[test]
fn every_arm_was_predicted_to_win_a_row_and_to_lose_one() {
    for experiment in EXPERIMENTS {
        for arm in experiment.arms {
            // That one wins against another is told of either.
            let told = |wins: bool| {
                experiment.predictions.iter().any(|prediction| {
                    prediction.arm == arm.name && prediction.wins == wins
                        || prediction.than == arm.name && prediction.wins != wins
                })
            };
            assert!(told(true), "{}/{} wins nothing", experiment.name, arm.name);
            assert!(
                told(false),
                "{}/{} loses nothing",
                experiment.name,
                arm.name
            );
        }
    }
}

#[test]
fn predictions_are_about_arms_and_rows_that_there_are() {
    for experiment in EXPERIMENTS {
        for prediction in experiment.predictions {
            assert!(
                experiment.row(prediction.row).is_some(),
                "{}",
                prediction.row
            );
            assert!(
                experiment.arm(prediction.arm).is_some(),
                "{}",
                prediction.arm
            );
            assert!(
                experiment.arm(prediction.than).is_some(),
                "{}",
                prediction.than
            );
            assert_ne!(prediction.arm, prediction.than);
        }
        for (n, row) in experiment.rows.iter().enumerate() {
            let same = experiment.rows[..n]
                .iter()
                .find(|other| other.key == row.key);
            assert!(same.is_none(), "{} twice", row.key);
        }
    }
}

const SMALL: Experiment = Experiment {
    name: "small",
    title: "a <small> one",
    source: "nobody",
    what: "nothing",
    arms: &[
        Arm {
            name: "a",
            title: "the first",
        },
        Arm {
            name: "b",
            title: "the other",
        },
    ],
    rows: &[
        less("time", Unit::Ns, "time"),
        less("bytes", Unit::Bytes, "bytes"),
        more("found", Unit::Count, "found"),
    ],
    plots: &[Plot {
        key: "course",
        title: "the course",
        across: "rounds",
        unit: Unit::Bytes,
    }],
    predictions: &[
        wins("a", "time", "b", "X", "it is faster"),
        wins("a", "bytes", "b", "X", "it is smaller"),
        loses("a", "found", "b", "X", "it finds less"),
    ],
    run: |_, _, _| {},
};

fn sheet(time: f64, bytes: u64, found: u64) -> Sheet {
    let mut sheet = Sheet::default();
    sheet.set("time", time);
    sheet.count("bytes", bytes);
    sheet.count("found", found);
    sheet.point("course", 1.0, bytes as f64);
    sheet.point("course", 2.0, 0.0);
    sheet
}

fn outcome() -> Outcome {
    let mut results = Results::default();
    for time in [104.0, 100.0, 900.0] {
        results.add(0, sheet(time, 4096, 3));
        results.add(1, sheet(105.0, 5000, 2));
    }
    Outcome {
        experiments: vec![(&SMALL, results)],
        setting: Setting {
            scale: 1000,
            seed: 7,
        },
        nr_runs: 3,
        took: Duration::from_secs(1),
    }
}

#[test]
fn a_prediction_is_held_against_the_median_and_times_must_differ_clearly() {
    let outcome = outcome();
    let (experiment, results) = &outcome.experiments[0];
    let verdicts: Vec<Verdict> = judge(experiment, results)
        .iter()
        .map(|judged| judged.verdict)
        .collect();
    assert_eq!(
        verdicts,
        [Verdict::NoDifference, Verdict::BorneOut, Verdict::NotSo]
    );
    assert_eq!(results.range(0, "time"), Some((100.0, 900.0)));
    assert!(results.unsteady(experiment).is_empty());
    let mut other = results.clone();
    other.add(1, sheet(1.0, 5001, 2));
    assert_eq!(other.unsteady(experiment), [("b", "bytes")]);
    assert_eq!(
        experiment.row("found").map(|row| row.better),
        Some(Better::More)
    );
}

#[test]
fn the_table_says_every_figure_and_every_verdict() {
    let text = text::report(&outcome());
    for part in [
        "small: a <small> one",
        "4.0K",
        "4.9K",
        "104 ns",
        "no difference  a wins against b: it is faster (X: a 104 ns, b 105 ns)",
        "borne out",
        "not so         a loses against b: it finds less (X: a 3, b 2)",
        "scale 1000, seed 7, 3 runs of each; 1.0 s",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn json_has_every_figure_by_name() {
    let report = json::report(&outcome());
    let a = &report["experiments"]["small"]["arms"]["a"];
    assert_eq!(a["counted"]["bytes"], 4096.0);
    assert_eq!(a["timed"]["time"]["most"], 900.0);
    assert_eq!(a["plots"]["course"][0][1], 4096.0);
    let predictions = &report["experiments"]["small"]["predictions"];
    assert_eq!(predictions[1]["verdict"], "borne-out");
}

#[test]
fn the_page_needs_nothing_else_and_shows_names_as_they_are() {
    let html = page::page(&outcome());
    for never in [
        "<script",
        "http:",
        "https:",
        "src=",
        "url(",
        "@import",
        "<link",
        "<small> one",
    ] {
        assert!(!html.contains(never), "{never}");
    }
    for part in [
        "a &lt;small&gt; one",
        "<polyline class=\"l c0\"",
        "prefers-color-scheme",
        "4.0K",
        "</html>",
    ] {
        assert!(html.contains(part), "no {part:?}");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
}
