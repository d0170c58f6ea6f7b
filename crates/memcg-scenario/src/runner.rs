//! Walks through a scenario: steps in order, blocks as often as they say, until a step fails. At
//! the end the books are audited.
//!
//! Invariants: the first step that fails is the one that is reported.
//! Depends on: `parser`, `verbs::table`, `actor`, `report`, `audit`.
//! Never: a thread of a `parallel` block outlives the block.

#![forbid(unsafe_code)]

use crate::actor::Actor;
use crate::audit;
use crate::parser::{self, Node, Step};
use crate::report::Report;
use crate::text::counter::{CPUS, Counter, put_in, with_counters};
use crate::text::word::Wrong;
use crate::verbs::table::{self, Command, How};
use crate::world::World;
use crate::world::fault::Fault;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The step that did not do what it says.
#[derive(Debug)]
pub struct Failed {
    /// Its line; 0 is the end of the scenario.
    pub line: usize,
    /// The step as written.
    pub text: String,
    /// Why.
    pub fault: Fault,
}

/// Runs a scenario from its begin to its end, and audits the books: with what the scenario has left
/// behind, and once more when that is freed.
///
/// # Errors
/// The step that did not do what it says, or the end of the scenario when the books do not add up.
pub fn run(nodes: &[Node], report: &Report) -> Result<(), Failed> {
    let world = World::new();
    let stop = AtomicBool::new(false);
    let walker = Walker {
        actor: Actor::new(&world, true),
        report,
        stop: &stop,
    };
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    walker.walk(nodes, &mut vec![Counter::new(CPUS, cpus)])?;
    drop(walker);
    at_the_end(&world).map_err(|fault| Failed {
        line: 0,
        text: "the end".into(),
        fault,
    })
}

fn at_the_end(world: &World) -> Result<(), Fault> {
    audit::books("after the last step")?;
    world.clear();
    audit::nothing_left()?;
    audit::books("when all is freed")
}

struct Walker<'a> {
    actor: Actor<'a>,
    report: &'a Report,
    /// Another thread's step failed.
    stop: &'a AtomicBool,
}

impl Walker<'_> {
    fn walk(&self, nodes: &[Node], counters: &mut Vec<Counter>) -> Result<(), Failed> {
        for node in nodes {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            match node {
                Node::Step(step) => self.step(step, counters)?,
                Node::Block {
                    how,
                    head,
                    counter,
                    body,
                } => {
                    let count = times(head, *how, counters)?;
                    match how {
                        How::Repeat => self.repeat(count, counter, body, counters)?,
                        How::Parallel => self.parallel(count, counter, body, counters)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn repeat(
        &self,
        count: u64,
        name: &str,
        body: &[Node],
        counters: &mut Vec<Counter>,
    ) -> Result<(), Failed> {
        for value in 1..=count {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            counters.push(Counter::new(name, value));
            let walked = self.walk(body, counters);
            counters.pop();
            walked?;
        }
        Ok(())
    }

    fn parallel(
        &self,
        count: u64,
        name: &str,
        body: &[Node],
        counters: &[Counter],
    ) -> Result<(), Failed> {
        let first = Mutex::new(None);
        let (world, report, stop) = (self.actor.world, self.report, self.stop);
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for value in 1..=count {
                let mut counters = counters.to_vec();
                counters.push(Counter::new(name, value));
                let first = &first;
                threads.push(scope.spawn(move || {
                    let walker = Walker {
                        actor: Actor::new(world, false),
                        report,
                        stop,
                    };
                    if let Err(failed) = walker.walk(body, &mut counters) {
                        stop.store(true, Ordering::Relaxed);
                        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert(failed);
                    }
                }));
            }
            // Joined, not only counted: a thread gives its stock back when it is gone.
            for thread in threads {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
        match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(failed) => Err(failed),
            None => Ok(()),
        }
    }

    fn step(&self, step: &Step, counters: &[Counter]) -> Result<(), Failed> {
        self.report.begins(step.line);
        let begin = Instant::now();
        let done = command(step, counters).and_then(|command| {
            let said = command.run(&self.actor)?;
            Ok((said, command.is_expectation()))
        });
        match done {
            Ok((said, is_expectation)) => {
                self.report
                    .done(step, counters, &said, is_expectation, begin.elapsed());
                Ok(())
            }
            Err(fault) => {
                self.report.failed(step, counters, &fault, begin.elapsed());
                Err(Failed {
                    line: step.line,
                    text: with_counters(&step.text, counters),
                    fault,
                })
            }
        }
    }
}

/// What a step means here.
fn command<'a>(step: &'a Step, counters: &[Counter]) -> Result<Cow<'a, Command>, Fault> {
    if let Some(command) = &step.command {
        return Ok(Cow::Borrowed(command));
    }
    let words = put_in(&step.words, counters).map_err(wrong)?;
    table::command(&words).map(Cow::Owned).map_err(wrong)
}

fn times(head: &Step, how: How, counters: &[Counter]) -> Result<u64, Failed> {
    let read = put_in(&head.words, counters).and_then(|words| parser::head(&words, how));
    read.map(|(count, _)| count).map_err(|why| Failed {
        line: head.line,
        text: head.text.clone(),
        fault: wrong(why),
    })
}

fn wrong(why: Wrong) -> Fault {
    Fault::Wrong(format!("column {}: {}", why.column, why.message))
}
