//! `write`, `read`, `print`: files of groups.
//!
//! Invariants: a write ends the tasks that it has told to die before the next step runs.
//! Depends on: `expect::check`, for figures.
//! Never: a file of pages is read as if it were empty.

use crate::actor::{Actor, Said};
use crate::expect::check;
use crate::text::line::{Line, Name};
use crate::text::reference::{self, Reference, Value};
use crate::text::word::Wrong;
use crate::world::World;
use crate::world::fault::{Fault, Needs};
use memcg_term::size::human;

/// The file whose writes reclaim memory.
const RECLAIM: &str = "memory.reclaim";

/// `PATH/FILE VALUE…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    group: Name,
    file: String,
    /// The words of the value, as they were.
    value: Vec<Name>,
}

impl Write {
    /// Whether it asks for memory to be reclaimed.
    pub fn reclaims(&self) -> bool {
        self.file == RECLAIM
    }
}

/// Reads `PATH/FILE VALUE…`.
pub fn write_of(line: &mut Line<'_>) -> Result<Write, Wrong> {
    let (group, file) = reference::file(line)?;
    let mut value = vec![line.next("a value")?.bytes.clone()];
    while let Some(word) = line.peek() {
        value.push(word.bytes.clone());
        line.skip(1);
    }
    Ok(Write { group, file, value })
}

/// Writes a file.
pub fn write(actor: &Actor<'_>, Write { group, file, value }: &Write) -> Result<(), Fault> {
    if reference::is_of_swap(file) {
        return Err(Fault::lacks(file, Needs::Swap));
    }
    let mut value = value.join(&b' ');
    if file == "cgroup.procs" || file == "cgroup.threads" {
        // Ids are not known beforehand: a task's name stands for its own.
        if let Some(id) = actor.world.task_id(value.trim_ascii()) {
            value = id.to_string().into_bytes();
        }
    }
    World::with(|_, rec| actor.reader.write(rec, group, file.as_bytes(), &value))??;
    if file == "cgroup.kill" {
        actor.world.bury();
    } else {
        // A limit that was lowered may have killed a task.
        actor.world.bury_after_oom();
    }
    Ok(())
}

/// `PATH/FILE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    group: Name,
    file: String,
}

/// Reads `PATH/FILE`.
pub fn file(line: &mut Line<'_>) -> Result<File, Wrong> {
    let (group, file) = reference::file(line)?;
    Ok(File { group, file })
}

/// Prints a file as it is.
pub fn read(actor: &Actor<'_>, file: &File) -> Result<Said, Fault> {
    Ok(Said {
        output: Some(actor.read(&file.group, &file.file)?),
        found: None,
    })
}

/// Reads `PATH:FILE[.KEY]`.
pub fn figure(line: &mut Line<'_>) -> Result<Reference, Wrong> {
    reference::reference(line)
}

/// Prints a figure.
pub fn print(actor: &Actor<'_>, reference: &Reference) -> Result<Said, Fault> {
    let value = check::figure(actor, reference)?;
    let text = &reference.text;
    let output = match &value {
        // A file as it is, when all of it is asked for.
        Value::Text(_) if reference.split().1.is_none() => {
            let lines = actor.read(&reference.group, reference.split().0)?;
            let one_line = lines.trim_end().lines().count() <= 1;
            let separator = if one_line { " " } else { "\n" };
            format!("{text}{separator}{lines}")
        }
        Value::Number(number) => match number.bytes() {
            Some(bytes) if bytes >= 1024 => format!("{text} {number} ({})\n", human(bytes)),
            Some(_) | None => format!("{text} {number}\n"),
        },
        Value::Text(_) => format!("{text} {value}\n"),
    };
    Ok(Said {
        output: Some(output),
        found: Some(value.to_string()),
    })
}
