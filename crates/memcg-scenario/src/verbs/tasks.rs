//! `task`, `move`, `exit`: tasks, and the groups they are in.
//!
//! Invariants: what a task holds is freed when it ends.
//! Depends on: `world`.
//! Never: two live tasks of one name.

use crate::actor::Actor;
use crate::text::line::{Line, Name};
use crate::text::word::{Word, Wrong, show};
use crate::world::fault::Fault;
use memcg::testing::os::errno::Errno;
use memcg::{MoveError, MovePolicy, Task, TaskError, root};

/// `NAME PATH [oom_score_adj=N]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    name: Name,
    group: Name,
    adj: i16,
}

/// Reads `NAME PATH [oom_score_adj=N]`.
pub fn new_task(line: &mut Line<'_>) -> Result<NewTask, Wrong> {
    Ok(NewTask {
        name: line.new_name("a name for the task")?,
        group: line.path()?,
        adj: oom_score_adj(line)?,
    })
}

/// `[oom_score_adj=N]`
fn oom_score_adj(line: &mut Line<'_>) -> Result<i16, Wrong> {
    let Some(word) = line.peek() else {
        return Ok(0);
    };
    let Some(said) = word.bytes.strip_prefix(b"oom_score_adj=") else {
        return Ok(0);
    };
    let number = std::str::from_utf8(said).ok().and_then(|n| n.parse().ok());
    let Some(adj) = number.filter(|adj| (-1000..=1000).contains(adj)) else {
        return Err(Wrong::new(
            word.column + 14,
            "expected a number from -1000 to 1000",
        ));
    };
    line.skip(1);
    Ok(adj)
}

/// Makes a task.
pub fn create(actor: &Actor<'_>, new: &NewTask) -> Result<(), Fault> {
    let Some(found) = root().lookup(&new.group) else {
        let message = format!("{}: no such group", show(&new.group));
        return Err(Fault::refused(Errno::ENOENT, message));
    };
    let task = Task::new(&found, &new.name).map_err(|why| {
        let errno = match why {
            TaskError::NoMemory => Errno::ENOMEM,
            // And what is added later: the enum is open.
            TaskError::Gone | _ => Errno::ENODEV,
        };
        Fault::refused(errno, why.to_string())
    })?;
    task.set_oom_score_adj(new.adj);
    actor.world.add_task(&new.name, task)
}

/// `NAME PATH [POLICY]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    task: Name,
    group: Name,
    /// How, if not as the group says.
    policy: Option<String>,
}

/// Reads `NAME PATH [POLICY]`.
pub fn move_of(line: &mut Line<'_>) -> Result<Move, Wrong> {
    let task = line.name("the name of a task")?;
    let group = line.path()?;
    let policy = line.peek().map(Word::show);
    line.skip(usize::from(policy.is_some()));
    Ok(Move {
        task,
        group,
        policy,
    })
}

/// Moves a task, by a policy of its own or as the group says.
pub fn move_task(actor: &Actor<'_>, order: &Move) -> Result<(), Fault> {
    let task = actor.world.task(&order.task)?;
    let Some(group) = root().lookup(&order.group) else {
        let message = format!("{}: no such group", show(&order.group));
        return Err(Fault::refused(Errno::ENOENT, message));
    };
    let policy = match &order.policy {
        Some(policy) => policy.clone(),
        None => chosen(&actor.read(&order.group, "memory.move")?),
    };
    let known = MovePolicy::ALL.iter().find(|(_, name)| *name == policy);
    let Some((policy, _)) = known else {
        let names: Vec<&str> = MovePolicy::ALL.iter().map(|(_, name)| *name).collect();
        let message = format!(
            "'{policy}' is no way to move: there are {}",
            names.join(" ")
        );
        return Err(Fault::refused(Errno::EINVAL, message));
    };
    let moved = task
        .move_to_with(&group, *policy)
        .map_err(|why| refused(actor, &order.task, &why))?;
    actor.world.note_move(&order.task, moved);
    Ok(())
}

fn refused(actor: &Actor<'_>, task: &[u8], why: &MoveError) -> Fault {
    let errno = match why {
        MoveError::Gone => Errno::ENODEV,
        MoveError::Full(_) | MoveError::KmemFull(_) | MoveError::NoMemory => Errno::ENOMEM,
        MoveError::Refused { .. } => Errno::EACCES,
        MoveError::Leaked(bytes) => {
            actor.world.note_leak(task, *bytes);
            Errno::ENOMEM
        }
        // And what is added later: the enum is open.
        MoveError::Busy | MoveError::Moving | MoveError::Scattered | _ => Errno::EAGAIN,
    };
    Fault::refused(errno, why.to_string())
}

/// The word in brackets of a file that shows a choice, or the only word.
fn chosen(text: &str) -> String {
    let mut words = text.split_whitespace();
    let bracketed = words.find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    bracketed.unwrap_or_else(|| text.trim()).to_owned()
}

/// Reads `NAME`.
pub fn name(line: &mut Line<'_>) -> Result<Name, Wrong> {
    line.name("the name of a task")
}

/// Ends a task.
pub fn exit(actor: &Actor<'_>, name: &[u8]) -> Result<(), Fault> {
    actor.world.end_task(name)
}
