//! Limits, protections, policies: the `memory.*` files that hold one value.
//!
//! Invariants: a value that was written is read back, rounded as the file says.
//! Depends on: the engine, for drains and reclaim after a limit was written.
//! Never: changes a group that has been removed.

#![forbid(unsafe_code)]

use super::text::number;
use super::{At, Errno, FileError, path_of};
use crate::counter::page_counter::UNLIMITED;
use crate::engine::budget::{InUse, Line};
use crate::engine::group_limits::{Bound, NoReserve, NotSet, RESERVE_MAX};
use crate::group::{OomPolicy, Refusal};
use crate::page::cost_balance::{MOST_SWAPPINESS, Swappiness};
use crate::units::{Limit, parse_limit, parse_size};

pub(super) fn line(bytes: u64) -> String {
    format!("{}\n", Limit::bytes(bytes))
}

pub fn current(at: At<'_>) -> String {
    let mut text = String::with_capacity(24);
    number(&mut text, at.engine.tree.usage(at.group).current);
    text.push('\n');
    text
}

pub fn peak(at: At<'_>) -> String {
    let own = at.reader.and_then(|reader| reader.peak(at.group));
    format!("{}\n", own.unwrap_or_else(|| at.group.counter.peak()))
}

pub fn restart_peak(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    if value.is_empty() {
        return Err(FileError::invalid("write anything, as reset"));
    }
    match at.reader {
        Some(reader) => reader.restart_peak(at.group),
        None => Err(FileError::new(
            Errno::EOPNOTSUPP,
            "a peak starts again for one reader, a connection: a program has Memcg::watch_peak"
                .into(),
        )),
    }
}

fn limit(value: &[u8]) -> Result<u64, FileError> {
    parse_limit(value)
        .map(Limit::get)
        .map_err(|why| FileError::invalid(format!("{why}: write bytes, as 100M, or max")))
}

/// Has a bound of the group set, as it is written.
pub(super) fn set(at: At<'_>, bound: Bound, value: &[u8]) -> Result<(), FileError> {
    let bytes = limit(value)?;
    at.engine
        .set_bound(at.rec, at.group, bound, bytes)
        .map_err(|why| match why {
            NotSet::Gone => gone(),
            NotSet::InUse(bytes) => in_use(InUse(bytes)),
        })
}

fn gone() -> FileError {
    FileError::new(Errno::ENODEV, "the group was removed meanwhile".into())
}

pub fn max(at: At<'_>) -> String {
    line(if at.is_root() {
        at.engine.budget.max()
    } else {
        at.group.counter.max()
    })
}

pub fn set_max(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    set(at, Bound::Max, value)
}

pub fn high(at: At<'_>) -> String {
    if !at.is_root() {
        return line(at.group.counter.high());
    }
    match at.engine.budget.high() {
        Line::Auto => match at.engine.budget.high_in_force() {
            UNLIMITED => "auto\n".into(),
            bytes => format!("auto {bytes}\n"),
        },
        Line::Bytes(bytes) => line(bytes),
    }
}

pub fn set_high(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    if at.is_root() && value == b"auto" {
        at.engine.set_root_high(at.rec, Line::Auto);
        return Ok(());
    }
    set(at, Bound::High, value).map_err(|why| match why.errno {
        Errno::EINVAL if at.is_root() => {
            FileError::new(why.errno, format!("{}, or auto", why.message))
        }
        _ => why,
    })
}

pub fn low(at: At<'_>) -> String {
    line(at.group.counter.low())
}

pub fn set_low(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    set(at, Bound::Low, value)
}

pub fn min(at: At<'_>) -> String {
    line(at.group.counter.min())
}

pub fn set_min(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    set(at, Bound::Min, value)
}

pub fn reserve(at: At<'_>) -> String {
    line(at.group.counter.reserve())
}

pub fn set_reserve(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    let bytes = parse_size(value)
        .map_err(|why| FileError::invalid(format!("{why}: write bytes, as 100M")))?;
    at.engine
        .set_reserve(at.rec, at.group, bytes)
        .map_err(|why| match why {
            NoReserve::Gone => gone(),
            NoReserve::Root => FileError::invalid("the root has nobody to ask"),
            NoReserve::TooLarge => {
                FileError::invalid(format!("a reserve has at most {RESERVE_MAX} bytes"))
            }
            NoReserve::Full(Refusal { group, usage, max }) => FileError::new(
                Errno::ENOMEM,
                format!(
                    "{} cannot guarantee that: {usage} of {} bytes are in use or reserved: \
                     raise its memory.max or free some",
                    group.map_or_else(String::new, |group| path_of(at.engine, group)),
                    Limit::bytes(max),
                ),
            ),
        })
}

pub fn reclaim(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    let mut words = value
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let wanted = parse_size(words.next().unwrap_or_default())
        .map_err(|why| FileError::invalid(format!("{why}: write bytes, as 100M")))?;
    let mut swappiness = Swappiness::default();
    for word in words {
        let value = word
            .strip_prefix(b"swappiness=")
            .and_then(|n| core::str::from_utf8(n).ok());
        swappiness = match value.map(|n| (n, n.parse::<u8>())) {
            Some(("max", _)) => Swappiness::Max,
            Some((_, Ok(weight))) if weight <= MOST_SWAPPINESS => Swappiness::Weight(weight),
            Some(_) | None => {
                return Err(FileError::invalid(
                    "after the size only swappiness=0..200 or swappiness=max",
                ));
            }
        };
    }
    let taken = at
        .engine
        .reclaim_bytes_by(at.rec, at.group, wanted, swappiness);
    if taken < wanted {
        return Err(FileError::new(
            Errno::EAGAIN,
            format!("took back {taken} of {wanted} bytes: the rest is in use"),
        ));
    }
    Ok(())
}

pub fn oom_group(at: At<'_>) -> String {
    format!("{}\n", u8::from(at.group.is_oom_group()))
}

pub fn set_oom_group(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    let on = match value {
        b"0" => false,
        b"1" => true,
        _ => return Err(FileError::invalid("write 0 or 1")),
    };
    at.group.set_oom_group(on);
    Ok(())
}

pub fn oom_policy(at: At<'_>) -> String {
    let words = OomPolicy::ALL.map(|(policy, name)| {
        if policy == at.group.oom_policy() {
            format!("[{name}]")
        } else {
            name.to_string()
        }
    });
    words.join(" ") + "\n"
}

pub fn set_oom_policy(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    let chosen = OomPolicy::ALL
        .iter()
        .find(|(_, name)| name.as_bytes() == value);
    let (policy, _) =
        chosen.ok_or_else(|| FileError::invalid("write default, deny, debt, kill or observe"))?;
    at.engine.set_oom_policy(at.rec, at.group, *policy);
    Ok(())
}

pub fn debt_max(at: At<'_>) -> String {
    line(at.group.debt_max())
}

pub fn set_debt_max(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    let bytes = limit(value)?;
    at.group.set_debt_max(bytes);
    Ok(())
}

/// The root's: `auto`, or as a limit.
fn budget_line(value: &[u8]) -> Result<Line, FileError> {
    if value == b"auto" {
        return Ok(Line::Auto);
    }
    limit(value)
        .map(Line::Bytes)
        .map_err(|why| FileError::new(why.errno, format!("{}, or auto", why.message)))
}

fn in_use(InUse(bytes): InUse) -> FileError {
    let why = format!("the process has {bytes} bytes: with that budget it would end at once");
    FileError::new(Errno::EBUSY, why)
}

pub fn emergency(at: At<'_>) -> String {
    line(at.engine.budget.emergency())
}

pub fn set_emergency(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    at.engine
        .set_emergency(at.rec, budget_line(value)?)
        .map_err(in_use)
}
