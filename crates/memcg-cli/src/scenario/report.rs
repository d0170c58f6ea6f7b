//! What is said while a scenario runs: what it prints, each step if asked for, how far it is when it takes long.

use super::act::Said;
use super::command::Step;
use super::runner::with_counters;
use super::words::Counter;
use super::world::Fault;
use crate::failure::Failure;
use crate::output::emit;
use serde::Serialize;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After this long one hears how far it is, and this often.
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

/// See the module.
pub struct Report {
    file: String,
    style: Style,
    begin: Instant,
    line: AtomicUsize,
    steps: AtomicU64,
    expectations: AtomicU64,
    /// Nobody reads, or nothing can be written: why.
    mute: Mutex<Option<Failure>>,
    is_over: Mutex<bool>,
    over: Condvar,
    /// Something stands on the terminal's last line.
    is_shown: AtomicBool,
}

impl Report {
    /// Of a file.
    pub fn new(file: String, style: Style) -> Report {
        Report {
            file,
            style,
            begin: Instant::now(),
            line: AtomicUsize::new(0),
            steps: AtomicU64::new(0),
            expectations: AtomicU64::new(0),
            mute: Mutex::new(None),
            is_over: Mutex::new(false),
            over: Condvar::new(),
            is_shown: AtomicBool::new(false),
        }
    }

    /// A step begins.
    pub fn begins(&self, line: usize) {
        self.line.store(line, Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// A step has done what it says.
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

    /// A step has not.
    pub fn failed(&self, step: &Step, counters: &[Counter], fault: &Fault, took: Duration) {
        if self.style != Style::Json {
            return;
        }
        let (status, errno) = match fault {
            Fault::Lacks { .. } => ("lacking", None),
            Fault::Refused { errno, .. } => ("failed", Some(errno.as_str())),
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

    /// The scenario is over: `why` it did not go through, if so.
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
            _ if why.is_none() => self.say(&format!(
                "{}: ok: {steps} steps, {expectations} expectations, {seconds:.1} s\n",
                self.file
            )),
            _ => {}
        }
    }

    fn json(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.say(&(text + "\n")),
            Err(error) => self.silence(Failure::new(1, format_args!("cannot write JSON: {error}"))),
        }
    }

    fn say(&self, text: &str) {
        self.wipe();
        let mute = self.mute.lock().unwrap_or_else(PoisonError::into_inner);
        if mute.is_some() {
            return;
        }
        drop(mute);
        if let Err(failure) = emit(text) {
            self.silence(failure);
        }
    }

    /// From now on nothing more is written: the scenario goes on, it may have a long way behind it.
    fn silence(&self, failure: Failure) {
        let mut mute = self.mute.lock().unwrap_or_else(PoisonError::into_inner);
        mute.get_or_insert(failure);
    }

    /// Why nothing could be written any more.
    pub fn into_failure(self) -> Option<Failure> {
        self.mute
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
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
