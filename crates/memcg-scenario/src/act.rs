//! What each command does, on the engine.
//!
//! One `Actor` a thread: it reads files as one who has them open, so a peak it starts again is its own.

use crate::command::{Command, Needs};
use crate::look;
use crate::objects::FLAGS;
use crate::reference::{self, Value};
use crate::unchanged::Before;
use crate::words::show;
use crate::world::{Fault, Part, World};
use memcg::testing::engine::Flags;
use memcg::testing::engine::process::engine;
use memcg::testing::files::{self, Reader};
use memcg::{Task, TaskError, root};
use memcg_term::size::human;

/// What a command has to say when it has done what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// For stdout.
    pub output: Option<String>,
    /// What an expectation found.
    pub found: Option<String>,
}

/// Who acts.
pub struct Actor<'a> {
    /// On what.
    pub world: &'a World,
    /// How files are read and written.
    pub reader: Reader,
    /// Whether no other thread acts at the same time.
    pub is_alone: bool,
}

impl<'a> Actor<'a> {
    /// One who acts on a world.
    pub fn new(world: &'a World, is_alone: bool) -> Actor<'a> {
        Actor {
            world,
            reader: Reader::new(engine()),
            is_alone,
        }
    }

    /// Does what the command says.
    pub fn act(&self, command: &Command) -> Result<Said, Fault> {
        match command {
            Command::Print(reference) => self.print(reference),
            Command::Read { group, file } => Ok(Said {
                output: Some(self.read(group, file)?),
                found: None,
            }),
            Command::Expect(expect) => look::check(self, expect).map(found),
            Command::Within(time, expect) => look::check_within(self, *time, expect).map(found),
            Command::Fails { errno, command } => self.fails(errno, command),
            other => self.change(other).map(|()| Said::default()),
        }
    }

    /// The commands that change something and say nothing.
    fn change(&self, command: &Command) -> Result<(), Fault> {
        match command {
            Command::Mkdir(paths) => paths.iter().try_for_each(|path| {
                World::with(|engine, rec| files::mkdir(engine, rec, path))??;
                Ok(())
            }),
            Command::Rmdir(paths) => paths.iter().try_for_each(|path| {
                World::with(|engine, rec| files::rmdir(engine, rec, path))??;
                Ok(())
            }),
            Command::Write { group, file, value } => self.write(group, file, value),
            Command::Task { name, group, adj } => self.new_task(name, group, *adj),
            Command::Move {
                task,
                group,
                policy,
            } => self.move_task(task, group, policy.as_deref()),
            Command::Reap => World::with(|engine, rec| {
                engine.reap(rec);
            }),
            Command::KmemId(path) => self.take_kmem_id(path),
            Command::Subsystem {
                name,
                refuses,
                evictable,
                evicts,
                reserves,
            } => {
                let manner = crate::subsystems::Manner {
                    refuses: refuses.as_deref(),
                    evictable: *evictable,
                    evicts: evicts.as_deref(),
                    reserves: reserves.as_ref().map(|(task, bytes)| (&task[..], *bytes)),
                };
                crate::subsystems::register(self.world, name, &manner)
            }
            Command::Touch { task, tag } => self.touch(task, tag),
            Command::Exit(name) => self.world.end_task(name),
            Command::Alloc {
                task,
                tag,
                size,
                count,
                cache,
                may_wait,
            } => {
                let flags = if *may_wait { FLAGS } else { Flags::NOWAIT };
                self.alloc(task, tag, *size, *count, cache.as_deref(), flags)
            }
            Command::Hold { task, tag } => self.hold(task, tag),
            Command::Cache(plan) => crate::caches::create(self.world, plan),
            Command::Reserve { task, tag, bytes } => {
                let owner = self.world.task(task)?;
                self.world.check_tag(tag, task)?;
                let full = |why: memcg::ReserveError| Fault::refused("ENOMEM", why.to_string());
                let mut charge = owner.try_reserve(0).map_err(full)?;
                charge.resize_with(*bytes, FLAGS).map_err(full)?;
                self.world.hold(tag, task, Part::Reserved(charge))
            }
            Command::Free { task, tag } => {
                self.world.task(task)?;
                self.world.take(tag).map(drop)
            }
            Command::Give { task, tag, to } => {
                self.world.task(task)?;
                self.world.task(to)?;
                self.world.give(tag, task, to)
            }
            Command::Take { task, tag } => self.take(task, tag),
            Command::Walk { task, cache, dir } => {
                let owner = self.world.task(task)?;
                self.world.dentries.walk(task, &owner, cache, dir)
            }
            Command::Lacking { what, needs } => Err(Fault::Lacks {
                what: (*what).to_owned(),
                needs: *needs,
            }),
            Command::Set { option, value } => crate::options::set(self.world, option, value),
            // The others are not handed here.
            _ => Ok(()),
        }
    }

    /// The text of a file.
    pub fn read(&self, group: &[u8], file: &str) -> Result<String, Fault> {
        if reference::is_of_pages(file) {
            return Err(lacks_pages(file));
        }
        let text = World::with(|_, rec| self.reader.read(rec, group, file.as_bytes()))??;
        Ok(text)
    }

    fn print(&self, reference: &reference::Reference) -> Result<Said, Fault> {
        let value = look::figure(self, reference)?;
        let text = &reference.text;
        let output = match &value {
            // A file as it is, when all of it is asked for.
            Value::Text(_) if reference.split().1.is_none() => {
                let lines = self.read(&reference.group, reference.split().0)?;
                let one_line = lines.trim_end().lines().count() <= 1;
                let separator = if one_line { " " } else { "\n" };
                format!("{text}{separator}{lines}")
            }
            Value::Number(number) => match number.bytes() {
                Some(bytes) if bytes >= 1024 => format!("{text} {number} ({})\n", human(bytes)),
                _ => format!("{text} {number}\n"),
            },
            Value::Text(_) => format!("{text} {value}\n"),
        };
        Ok(Said {
            output: Some(output),
            found: Some(value.to_string()),
        })
    }

    fn write(&self, group: &[u8], file: &str, value: &[Vec<u8>]) -> Result<(), Fault> {
        if reference::is_of_pages(file) {
            return Err(lacks_pages(file));
        }
        let mut value = value.join(&b' ');
        if file == "cgroup.procs" || file == "cgroup.threads" {
            // Ids are not known beforehand: a task's name stands for its own.
            if let Some(id) = self.world.task_id(value.trim_ascii()) {
                value = id.to_string().into_bytes();
            }
        }
        World::with(|_, rec| self.reader.write(rec, group, file.as_bytes(), &value))??;
        if file == "cgroup.kill" {
            self.world.bury();
        } else {
            // A limit that was lowered may have cost somebody his life.
            self.world.bury_after_oom();
        }
        Ok(())
    }

    fn new_task(&self, name: &[u8], group: &[u8], adj: i16) -> Result<(), Fault> {
        let Some(found) = root().lookup(group) else {
            return Err(Fault::refused(
                "ENOENT",
                format!("{}: no such group", show(group)),
            ));
        };
        let task = Task::new(&found, name).map_err(|why| {
            let errno = match why {
                TaskError::NoMemory => "ENOMEM",
                _ => "ENODEV",
            };
            Fault::refused(errno, why.to_string())
        })?;
        task.set_oom_score_adj(adj);
        self.world.add_task(name, task)
    }

    fn fails(&self, errno: &str, command: &Command) -> Result<Said, Fault> {
        let before = self.is_alone.then(|| Before::look(self)).transpose()?;
        match self.act(command) {
            Err(Fault::Refused {
                errno: found,
                message,
            }) => {
                if found != errno {
                    return Err(Fault::Wrong(format!(
                        "it fails, but with {found}, not {errno}: {message}"
                    )));
                }
                if let Some(changed) = before
                    .map(|before| before.difference(self, command))
                    .transpose()?
                    .flatten()
                {
                    return Err(Fault::Wrong(format!(
                        "it fails with {errno}, but something has changed: {changed}"
                    )));
                }
                Ok(found_text(format!("{found}: {message}")))
            }
            Err(other) => Err(other),
            Ok(_) => Err(Fault::Wrong(format!(
                "it does not fail, and {errno} is expected"
            ))),
        }
    }
}

fn found(text: String) -> Said {
    found_text(text)
}

fn found_text(text: String) -> Said {
    Said {
        output: None,
        found: Some(text),
    }
}

/// What a file or figure of pages is answered with.
pub fn lacks_pages(what: &str) -> Fault {
    Fault::Lacks {
        what: what.to_owned(),
        needs: Needs::Pages,
    }
}
