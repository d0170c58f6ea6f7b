//! Runs: one process each, one after the other, so that no alternative finds what another left.

#![forbid(unsafe_code)]

use crate::design::Experiment;
use crate::results::Results;
use crate::sheet::Sheet;
use crate::tools::Setting;
use memcg::testing::engine::process_engine::engine;
use memcg_term::failure::{Failure, REFUSED};
use memcg_term::output;
use memcg_term::output::{emit_json_line, note};
use std::io::{IsTerminal, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What was run, and what came out.
pub struct Outcome {
    /// The experiments and their results.
    pub experiments: Vec<(&'static Experiment, Results)>,
    /// How large, by which seed.
    pub setting: Setting,
    /// Runs of each alternative.
    pub nr_runs: u32,
    /// How long all of it took.
    pub took: Duration,
}

/// Runs an alternative here and writes its figures as a line of JSON.
pub fn run_here(
    experiments: &[&'static Experiment],
    arm: &str,
    setting: &Setting,
) -> Result<(), Failure> {
    let [experiment] = experiments else {
        return Err(Failure::usage("--arm needs one experiment"));
    };
    if experiment.arm(arm).is_none() {
        return Err(Failure::usage(format_args!(
            "no such alternative: '{arm}' of {}",
            experiment.name
        )));
    }
    // What is put off is done where the experiment says so: what is counted does not depend on a
    // thread's mood.
    engine().options.set_no_thread(true);
    engine().options.set_strict(true);
    let mut sheet = Sheet::default();
    (experiment.run)(arm, setting, &mut sheet);
    emit_json_line(&sheet)
}

/// Runs every alternative of every experiment so many times, those of an experiment in turn.
pub fn run_all(
    experiments: &[&'static Experiment],
    setting: Setting,
    nr_runs: u32,
) -> Result<Outcome, Failure> {
    let nr_arms: usize = experiments.iter().map(|known| known.arms.len()).sum();
    let mut progress = Progress::new(nr_arms * nr_runs as usize);
    let mut outcome = Outcome {
        experiments: Vec::new(),
        setting,
        nr_runs,
        took: Duration::ZERO,
    };
    for &experiment in experiments {
        let mut results = Results::default();
        for run in 0..nr_runs {
            for nr in 0..experiment.arms.len() {
                // Each run begins with another one.
                let arm = (nr + run as usize) % experiment.arms.len();
                progress.next(experiment, arm);
                results.add(arm, spawn(experiment, arm, setting, &mut progress)?);
            }
        }
        outcome.experiments.push((experiment, results));
    }
    outcome.took = progress.end();
    Ok(outcome)
}

fn spawn(
    experiment: &Experiment,
    arm: usize,
    setting: Setting,
    progress: &mut Progress,
) -> Result<Sheet, Failure> {
    let name = experiment.arms[arm].name;
    let failed = |why: String| {
        Failure::new(
            REFUSED,
            format_args!("the experiment failed: {}/{name}: {why}", experiment.name),
        )
    };
    let me = std::env::current_exe().map_err(|why| failed(why.to_string()))?;
    let mut child = Command::new(me)
        .args(["lab", experiment.name, "--arm", name])
        .args(["--scale", &setting.scale.to_string()])
        .args(["--seed", &setting.seed.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|why| failed(why.to_string()))?;
    let text = wait(&mut child, progress).map_err(|why| failed(why.to_string()))?;
    let status = child.wait().map_err(|why| failed(why.to_string()))?;
    if !status.success() {
        return Err(failed(format!("its process ended with {status}")));
    }
    serde_json::from_str(&text).map_err(|why| failed(why.to_string()))
}

/// What the child writes, to its end; progress is shown meanwhile.
fn wait(child: &mut Child, progress: &mut Progress) -> std::io::Result<String> {
    let mut pipe = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let read = pipe.as_mut().map(|pipe| pipe.read_to_string(&mut text));
        read.transpose().map(|_| text)
    });
    while !reader.is_finished() {
        std::thread::sleep(Duration::from_millis(5));
        progress.show();
    }
    reader
        .join()
        .unwrap_or_else(|_| Err(std::io::Error::other("its output could not be read")))
}

/// What is being done, on stderr, once it takes long: a line that changes on a terminal, else a
/// line for each run.
struct Progress {
    start: Instant,
    shown: Instant,
    nr: usize,
    of: usize,
    what: String,
    draws: bool,
    told: usize,
}

/// Nothing is said before.
const SILENT: Duration = Duration::from_secs(2);

impl Progress {
    fn new(of: usize) -> Progress {
        let now = Instant::now();
        Progress {
            start: now,
            shown: now,
            nr: 0,
            of,
            what: String::new(),
            draws: output::can_draw(&std::io::stderr()) && std::io::stderr().is_terminal(),
            told: 0,
        }
    }

    fn next(&mut self, experiment: &Experiment, arm: usize) {
        self.nr += 1;
        self.what = format!("{}/{}", experiment.name, experiment.arms[arm].name);
    }

    fn show(&mut self) {
        let now = Instant::now();
        if now - self.start < SILENT {
            return;
        }
        let said = format!(
            "lab: {} of {}: {}, {} s",
            self.nr,
            self.of,
            self.what,
            (now - self.start).as_secs()
        );
        if self.draws {
            if now - self.shown >= Duration::from_millis(200) {
                self.shown = now;
                // Nobody can be told when stderr is closed.
                let _ = write!(std::io::stderr().lock(), "\r\x1b[Kmemcg: {said}");
            }
        } else if self.told != self.nr {
            self.told = self.nr;
            note(&said);
        }
    }

    fn end(&self) -> Duration {
        if self.draws && self.start.elapsed() >= SILENT {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
        self.start.elapsed()
    }
}
