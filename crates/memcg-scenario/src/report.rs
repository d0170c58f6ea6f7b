//! What is said while a scenario runs: what it prints, each step if asked for, how far it is when
//! it takes long.
//!
//! Invariants: once something could not be written, nothing more is; the scenario goes on.
//! Depends on: `parser`, for steps; `actor`, for what they said.
//! Never: decides whether a scenario passed.

#![forbid(unsafe_code)]

use crate::actor::Said;
use crate::parser::Step;
use crate::text::counter::{Counter, with_counters};
use crate::world::fault::Fault;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a scenario runs before the terminal says how far it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// What the scenario prints, and a line at the end.
    Plain,
    /// Every step, with what it found.
    Verbose,
    /// Every step as one line of JSON.
    Json,
}

/// One step, for programs.
#[derive(Serialize)]
struct JsonStep<'a> {
    file: &'a str,
    line: usize,
    command: String,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    seconds: f64,
}

/// The end of a scenario, for programs.
#[derive(Serialize)]
struct JsonEnd<'a> {
    file: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    steps: u64,
    expectations: u64,
    seconds: f64,
}

/// Where the report is written.
struct Output {
    to: Box<dyn Write + Send>,
    /// Why nothing can be written any more, if so.
    mute: Option<io::Error>,
}

/// What is said about one scenario.
pub struct Report {
    file: String,
    style: Style,
    output: Mutex<Output>,
    begin: Instant,
    line: AtomicUsize,
    steps: AtomicU64,
    expectations: AtomicU64,
    is_over: Mutex<bool>,
    over: Condvar,
    /// Whether the terminal's last line says how far it is.
    is_shown: AtomicBool,
}

impl Report {
    /// A report on the scenario called `file`. What is said is written to `to`.
    pub fn new(file: String, style: Style, to: Box<dyn Write + Send>) -> Report {
        Report {
            file,
            style,
            output: Mutex::new(Output { to, mute: None }),
            begin: Instant::now(),
            line: AtomicUsize::new(0),
            steps: AtomicU64::new(0),
            expectations: AtomicU64::new(0),
            is_over: Mutex::new(false),
            over: Condvar::new(),
            is_shown: AtomicBool::new(false),
        }
    }

    /// Notes that a step begins.
    pub fn begins(&self, line: usize) {
        self.line.store(line, Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes and says that a step has done what it says.
    pub fn done(
        &self,
        step: &Step,
        counters: &[Counter],
        said: &Said,
        is_expectation: bool,
        took: Duration,
    ) {
        if is_expectation {
            self.expectations.fetch_add(1, Ordering::Relaxed);
        }
        let output = said.output.as_deref();
        match self.style {
            Style::Plain => {
                if let Some(output) = output {
                    self.say(output);
                }
            }
            Style::Verbose => {
                let mut text = format!("{:>5}  {}", step.line, with_counters(&step.text, counters));
                if let Some(found) = &said.found {
                    text += &format!("  # {found}");
                }
                text.push('\n');
                for line in output.unwrap_or_default().lines() {
                    text += &format!("       {line}\n");
                }
                self.say(&text);
            }
            Style::Json => self.json(&JsonStep {
                file: &self.file,
                line: step.line,
                command: with_counters(&step.text, counters),
                status: "ok",
                found: said.found.as_deref(),
                output,
                errno: None,
                reason: None,
                seconds: took.as_secs_f64(),
            }),
        }
    }

    /// Says, as JSON, why a step has not done what it says. The other styles say it at the end.
    pub fn failed(&self, step: &Step, counters: &[Counter], fault: &Fault, took: Duration) {
        if self.style != Style::Json {
            return;
        }
        let (status, errno) = match fault {
            Fault::Lacks { .. } => ("lacking", None),
            Fault::Refused { errno, .. } => ("failed", Some(errno.name())),
            Fault::Wrong(_) => ("failed", None),
        };
        self.json(&JsonStep {
            file: &self.file,
            line: step.line,
            command: with_counters(&step.text, counters),
            status,
            found: None,
            output: None,
            errno,
            reason: Some(fault.to_string()),
            seconds: took.as_secs_f64(),
        });
    }

    /// Says how the scenario ended; `why` it did not pass, if so.
    pub fn ends(&self, status: &str, why: Option<String>) {
        let (steps, expectations) = (
            self.steps.load(Ordering::Relaxed),
            self.expectations.load(Ordering::Relaxed),
        );
        let seconds = self.begin.elapsed().as_secs_f64();
        match self.style {
            Style::Json => self.json(&JsonEnd {
                file: &self.file,
                status,
                reason: why,
                steps,
                expectations,
                seconds,
            }),
            Style::Plain | Style::Verbose if why.is_none() => self.say(&format!(
                "{}: ok: {steps} steps, {expectations} expectations, {seconds:.1} s\n",
                self.file
            )),
            Style::Plain | Style::Verbose => {}
        }
    }

    fn json(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.say(&(text + "\n")),
            Err(error) => self.output().silence(error.into()),
        }
    }

    fn say(&self, text: &str) {
        self.wipe();
        let mut output = self.output();
        if output.mute.is_none()
            && let Err(why) = output
                .to
                .write_all(text.as_bytes())
                .and_then(|()| output.to.flush())
        {
            output.silence(why);
        }
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing could be written any more, if so.
    pub fn into_failure(self) -> Option<io::Error> {
        let output = self.output.into_inner();
        output.unwrap_or_else(PoisonError::into_inner).mute
    }

    /// Says on a terminal how far it is, while `run` takes long.
    pub fn watch<R>(&self, run: impl FnOnce() -> R) -> R {
        if !std::io::stderr().is_terminal() {
            return run();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| self.tell());
            let done = run();
            *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.over.notify_all();
            done
        })
    }

    fn tell(&self) {
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wait = PATIENCE;
        while !*is_over {
            let woken = self.over.wait_timeout(is_over, wait);
            is_over = woken.unwrap_or_else(PoisonError::into_inner).0;
            if !*is_over {
                self.is_shown.store(true, Ordering::Relaxed);
                eprint!(
                    "\r\x1b[K{}:{}: {} steps, {:.0} s",
                    self.file,
                    self.line.load(Ordering::Relaxed),
                    self.steps.load(Ordering::Relaxed),
                    self.begin.elapsed().as_secs_f64()
                );
                wait = Duration::from_millis(500);
            }
        }
        self.wipe();
    }

    fn wipe(&self) {
        if self.is_shown.swap(false, Ordering::Relaxed) {
            eprint!("\r\x1b[K");
        }
    }
}

impl Output {
    /// Writes nothing more from now on. The scenario goes on: its result still counts.
    fn silence(&mut self, why: io::Error) {
        self.mute.get_or_insert(why);
    }
}
