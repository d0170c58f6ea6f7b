//! The results for programs.

#![forbid(unsafe_code)]

use crate::judge::judge;
use crate::runner::Outcome;
use serde_json::{Map, Value, json};

/// Everything, by name.
pub fn report(outcome: &Outcome) -> Value {
    let mut experiments = Map::new();
    for (experiment, results) in &outcome.experiments {
        let mut arms = Map::new();
        for (nr, arm) in experiment.arms.iter().enumerate() {
            let (mut counted, mut timed, mut points) = (Map::new(), Map::new(), Map::new());
            for row in experiment.rows {
                let Some((value, (low, high))) =
                    results.median(nr, row.key).zip(results.range(nr, row.key))
                else {
                    continue;
                };
                if row.unit.is_counted() {
                    counted.insert(row.key.into(), json!(value));
                } else {
                    timed.insert(
                        row.key.into(),
                        json!({"ns": value, "least": low, "most": high}),
                    );
                }
            }
            for plot in experiment.plots {
                points.insert(plot.key.into(), json!(results.points(nr, plot.key)));
            }
            let about =
                json!({"title": arm.title, "counted": counted, "timed": timed, "plots": points});
            arms.insert(arm.name.into(), about);
        }
        let rows: Map<String, Value> = experiment
            .rows
            .iter()
            .map(|row| {
                let about = json!({"title": row.title, "unit": row.unit, "better": row.better});
                (row.key.to_owned(), about)
            })
            .collect();
        let predictions: Vec<Value> = judge(experiment, results)
            .iter()
            .map(|judged| {
                let prediction = judged.prediction;
                json!({
                    "by": prediction.by,
                    "arm": prediction.arm,
                    "wins": prediction.wins,
                    "row": prediction.row,
                    "than": prediction.than,
                    "says": prediction.says,
                    "value": judged.value,
                    "against": judged.against,
                    "verdict": judged.verdict,
                })
            })
            .collect();
        let unsteady: Vec<String> = results
            .unsteady(experiment)
            .iter()
            .map(|(arm, row)| format!("{arm}/{row}"))
            .collect();
        let about = json!({
            "title": experiment.title,
            "source": experiment.source,
            "what": experiment.what,
            "rows": rows,
            "arms": arms,
            "predictions": predictions,
            "unsteady": unsteady,
        });
        experiments.insert(experiment.name.into(), about);
    }
    json!({
        "scale": outcome.setting.scale,
        "seed": outcome.setting.seed,
        "runs": outcome.nr_runs,
        "seconds": outcome.took.as_secs_f64(),
        "experiments": experiments,
    })
}
