//! `memcg lab`: every experiment in its small form, and what must come out whatever the machine:
//! what is counted.

use super::folder::Folder;
use super::run::memcg;
use serde_json::Value;

fn lab(options: &[&str]) -> Value {
    let folder = Folder::new();
    let outcome = memcg(folder.path(), &[&["lab", "--json"], options].concat());
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

/// Predictions about counted rows that are known not to be borne out, and how: this engine does
/// better than what was published.
const KNOWN: &[(&str, &str, &str, &str)] = &[
    // A dead cache's magazines are passed by, so nothing waits for the reaper.
    ("dead-caches", "slab", "held_last", "no-difference"),
];

#[test]
fn what_was_predicted_of_counted_figures_is_so_in_every_experiment() {
    let folder = Folder::new();
    let page = folder.path().join("lab.html");
    let page = page.to_str().expect("text");
    let report = lab(&["--quick", "--seed", "3", "--html", page]);
    let experiments = report["experiments"].as_object().expect("experiments");
    let mut nr = 0;
    for (name, experiment) in experiments {
        for prediction in experiment["predictions"].as_array().expect("predictions") {
            let text = |key: &str| prediction[key].as_str().expect("text").to_owned();
            let (arm, row) = (text("arm"), text("row"));
            // What a cache of directories' entries keeps hangs on the age of the directories'
            // times, here a moment; its own tests hold it to the same predictions.
            if experiment["rows"][&row]["unit"] == "ns" || name == "dentries" {
                continue;
            }
            nr += 1;
            let known = KNOWN
                .iter()
                .find(|known| (known.0, known.1, known.2) == (name, &arm, &row));
            let expected = known.map_or("borne-out", |known| known.3);
            assert_eq!(text("verdict"), expected, "{name}: {prediction:#}");
        }
        for (arm, figures) in experiment["arms"].as_object().expect("arms") {
            let of = |kind: &str| figures[kind].as_object().map_or(0, serde_json::Map::len);
            let rows = experiment["rows"]
                .as_object()
                .map_or(0, serde_json::Map::len);
            assert_eq!(of("counted") + of("timed"), rows, "{name}/{arm}");
        }
    }
    assert!(experiments.len() >= 6 && nr >= 30, "{nr} predictions");
    let html = std::fs::read_to_string(page).expect("a page");
    assert!(html.contains("<svg") && html.ends_with("</html>\n"));
    assert!(!html.contains("<script") && !html.contains("http"));
}

fn counted(report: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (name, experiment) in report["experiments"].as_object().expect("experiments") {
        if name == "dentries" {
            // Whether a directory's entries are asked for again depends on the age of its times.
            continue;
        }
        assert_eq!(experiment["unsteady"], Value::Array(Vec::new()), "{name}");
        for (arm, figures) in experiment["arms"].as_object().expect("arms") {
            all.push((format!("{name}/{arm}"), figures["counted"].clone()));
        }
    }
    all
}

#[test]
fn the_same_seed_counts_the_same_and_another_does_not() {
    let run = |seed: &str, runs: &str| {
        let all = ["--scale", "1000", "--runs", runs, "--seed", seed];
        counted(&lab(&all))
    };
    let first = run("11", "2");
    assert_eq!(first, run("11", "1"));
    assert_ne!(first, run("12", "1"));
}

#[test]
fn what_there_is_is_listed_and_what_there_is_not_is_refused() {
    let folder = Folder::new();
    let listed = memcg(folder.path(), &["lab", "--list"]);
    for name in ["dead-caches", "ids", "moves"] {
        assert!(listed.printed().lines().any(|line| line.starts_with(name)));
    }
    let outcome = memcg(folder.path(), &["lab", "caches"]);
    outcome.is_error(2, &["no such experiment: 'caches'", "dead-caches"]);
    let outcome = memcg(
        folder.path(),
        &["lab", "ids", "--html", "/no/such/folder/x"],
    );
    outcome.is_error(1, &["cannot write: /no/such/folder/x"]);
    memcg(folder.path(), &["lab", "--scale", "1"]).is_error(2, &["--scale"]);
}

#[test]
fn a_table_is_printed_for_each_experiment_with_what_was_predicted() {
    let folder = Folder::new();
    let outcome = memcg(folder.path(), &["lab", "moves", "--quick"]);
    // It may say on stderr how far it is.
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    let text = outcome.stdout.as_str();
    for part in [
        "moves: a task moves",
        "transfer",
        "borne out      leaky loses against paged: ",
        "scale 2000, seed 1, one run of each; ",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}
