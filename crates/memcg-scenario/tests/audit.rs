//! A run ends with an audit of the engine's books, and books that do not add up fail it.
//!
//! Invariants: one scenario in this process, for the engine is the process's.
//! Depends on: `memcg_scenario`, and the engine's own counters to falsify them.
//! Never: a hook in the runner: the report is written while the scenario runs, and who gets it does
//! the damage.

use memcg::testing::engine::process_engine::engine;
use memcg_scenario::{Style, Verdict};
use std::io::{self, Write};

/// A reader of the report that has the root's books say more is granted than is, when it hears of
/// a step.
struct Falsifier;

impl Write for Falsifier {
    fn write(&mut self, said: &[u8]) -> io::Result<usize> {
        if said.windows(7).any(|text| text == b"falsify") {
            let root = engine().tree.memcgs.get(memcg::testing::group::ROOT);
            root.counter.grant_forced(4096);
        }
        Ok(said.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn books_that_do_not_add_up_after_the_last_step_fail_the_run_with_a_line() {
    let text = b"mkdir /falsify\ntask t /falsify\nt alloc x 1Kx10\nexpect x intact\n";
    let outcome = memcg_scenario::run("a.scn", text, Style::Verbose, Falsifier);
    let Verdict::Failed(why) = outcome.verdict else {
        panic!("the audit found nothing: {outcome:?}")
    };
    let line =
        "a.scn:the end: the engine's books do not add up after the last step: group's grants ";
    assert!(why.starts_with(line), "{why}");
    assert!(outcome.unwritten.is_none());
}
