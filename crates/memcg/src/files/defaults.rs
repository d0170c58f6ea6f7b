//! `memory.defaults`: what children of a group that are made later begin with.
//!
//! Invariants: a default is written as the file itself takes it, and read as it was understood.
//! Depends on: `group::template`.
//! Never: a change of a group that is there.

#![forbid(unsafe_code)]

use super::{At, Errno, FileError};
use crate::group::template::Setting;
use crate::group::{MovePolicy, OfflinePolicy, OomPolicy};
use crate::units::{Limit, parse_limit};

/// The policies that a setting counts by number: their names, in that order.
fn names(setting: Setting) -> Option<Vec<&'static str>> {
    match setting {
        Setting::OomPolicy => Some(OomPolicy::ALL.map(|(_, name)| name).to_vec()),
        Setting::Offline => Some(OfflinePolicy::ALL.map(|(_, name)| name).to_vec()),
        Setting::Move => Some(MovePolicy::ALL.map(|(_, name)| name).to_vec()),
        Setting::OomGroup => Some(vec!["0", "1"]),
        Setting::Max
        | Setting::High
        | Setting::Low
        | Setting::Min
        | Setting::KmemMax
        | Setting::DebtMax => None,
    }
}

fn parse(setting: Setting, value: &[u8]) -> Result<u64, FileError> {
    let Some(names) = names(setting) else {
        return parse_limit(value)
            .map(Limit::get)
            .map_err(|why| FileError::invalid(format!("{why}: write bytes, as 100M, or max")));
    };
    let at = names.iter().position(|name| name.as_bytes() == value);
    at.map(|at| at as u64)
        .ok_or_else(|| FileError::invalid(format!("write one of {}", names.join(", "))))
}

fn show(setting: Setting, value: u64) -> String {
    match names(setting) {
        Some(names) => names[value as usize].into(),
        None => Limit::bytes(value).to_string(),
    }
}

fn setting_of(file: &[u8]) -> Result<Setting, FileError> {
    let found = Setting::ALL
        .iter()
        .find(|(_, name)| name.as_bytes() == file);
    found.map(|(setting, _)| *setting).ok_or_else(|| {
        let files = Setting::ALL.map(|(_, name)| name).join(", ");
        let file = String::from_utf8_lossy(file);
        FileError::invalid(format!("'{file}' is no default: there are {files}"))
    })
}

/// A line for each default.
pub fn read(at: At<'_>) -> String {
    let lines = Setting::ALL.iter().filter_map(|&(setting, name)| {
        let value = at.engine.tree.child_default(at.group, setting)?;
        Some(format!("{name}={}\n", show(setting, value)))
    });
    lines.collect()
}

/// One default, as children have it.
pub fn read_one(at: At<'_>, file: &[u8]) -> Result<String, FileError> {
    let setting = setting_of(file)?;
    match at.engine.tree.child_default(at.group, setting) {
        Some(value) => Ok(show(setting, value) + "\n"),
        None => Err(FileError::new(Errno::ENOENT, "no default is set".into())),
    }
}

/// `FILE=VALUE`, several with white space between; `FILE=` takes one back. All or none.
pub fn write(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    let words = value.split(u8::is_ascii_whitespace);
    let words = words.filter(|word| !word.is_empty());
    let mut all = Vec::new();
    for word in words {
        let Some(split) = word.iter().position(|&b| b == b'=') else {
            return Err(FileError::invalid("write FILE=VALUE, as memory.max=64M"));
        };
        let setting = setting_of(&word[..split])?;
        let value = match &word[split + 1..] {
            [] => None,
            value => Some(parse(setting, value)?),
        };
        all.push((setting, value));
    }
    if all.is_empty() {
        return Err(FileError::invalid("write FILE=VALUE, as memory.max=64M"));
    }
    set(at, &all)
}

fn set(at: At<'_>, all: &[(Setting, Option<u64>)]) -> Result<(), FileError> {
    if at.engine.set_child_defaults(at.rec, at.group, all) {
        Ok(())
    } else {
        Err(FileError::new(Errno::ENOMEM, "no memory for it".into()))
    }
}

/// Writes one default.
pub fn write_one(at: At<'_>, file: &[u8], value: &[u8]) -> Result<(), FileError> {
    let setting = setting_of(file)?;
    set(at, &[(setting, Some(parse(setting, value)?))])
}
