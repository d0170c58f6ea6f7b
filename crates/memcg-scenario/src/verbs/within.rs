//! `expect`, `within`: what must hold now, or some time soon.
//!
//! Invariants: `within` looks once at least.
//! Depends on: `expect`.
//! Never: changes anything.

use crate::actor::{Actor, Said};
use crate::expect::check;
use crate::expect::parse;
use crate::expect::terms::Expect;
use crate::text::line::Line;
use crate::text::number;
use crate::text::word::Wrong;
use crate::world::fault::Fault;
use std::time::Duration;

/// Reads an expectation.
pub fn expect_of(line: &mut Line<'_>) -> Result<Expect, Wrong> {
    parse::expect(line)
}

/// Looks whether it holds.
pub fn expect(actor: &Actor<'_>, expect: &Expect) -> Result<Said, Fault> {
    check::check(actor, expect).map(Said::found)
}

/// `TIME expect …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    time: Duration,
    expect: Expect,
}

/// Reads `TIME expect …`.
pub fn within_of(line: &mut Line<'_>) -> Result<Within, Wrong> {
    let time = number::time(line.next("a time, as 5s")?)?;
    if !line.take("expect") {
        return Err(Wrong::new(line.column(), "'expect' is expected here"));
    }
    let expect = parse::expect(line)?;
    Ok(Within { time, expect })
}

/// Looks until it holds, or the time is over.
pub fn within(actor: &Actor<'_>, Within { time, expect }: &Within) -> Result<Said, Fault> {
    check::check_within(actor, *time, expect).map(Said::found)
}
