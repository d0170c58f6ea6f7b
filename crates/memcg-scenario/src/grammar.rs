//! One command from the words of its line.

use crate::amount;
use crate::command::{Cache, Command, GivesUp, Name, Needs};
use crate::figures::{expect, file, reference};
use crate::line::Line;
use crate::words::{Word, Wrong};

/// The first words that are no task's name.
pub const KEYWORDS: [&str; 22] = [
    "mkdir",
    "rmdir",
    "write",
    "read",
    "print",
    "task",
    "move",
    "exit",
    "share",
    "cache",
    "swap",
    "zswap",
    "set",
    "repeat",
    "parallel",
    "end",
    "expect",
    "within",
    "fails",
    "subsystem",
    "reap",
    "kmem-id",
];

/// What a task does.
const VERBS: [&str; 12] = [
    "alloc", "fill", "reserve", "free", "give", "take", "hold", "map", "touch", "unmap", "sync",
    "walk",
];

/// Error numbers a command may fail with.
const ERRNOS: &[&str] = &[
    "EACCES",
    "EAGAIN",
    "EBUSY",
    "ECANCELED",
    "EDQUOT",
    "EEXIST",
    "EFAULT",
    "EFBIG",
    "EINTR",
    "EINVAL",
    "EIO",
    "EISDIR",
    "ENAMETOOLONG",
    "ENODEV",
    "ENOENT",
    "ENOMEM",
    "ENOSPC",
    "ENOSYS",
    "ENOTDIR",
    "ENOTEMPTY",
    "EOPNOTSUPP",
    "EOVERFLOW",
    "EPERM",
    "ERANGE",
    "EROFS",
    "ESRCH",
    "ETIMEDOUT",
];

/// The command of a line with a word at least.
pub fn command(words: &[Word]) -> Result<Command, Wrong> {
    let mut line = Line::new(words);
    let command = one(&mut line)?;
    line.end()?;
    Ok(command)
}

fn one(line: &mut Line<'_>) -> Result<Command, Wrong> {
    let first = line.next("a command")?;
    let keyword = KEYWORDS.iter().find(|keyword| first.is(keyword));
    match keyword.copied().unwrap_or("") {
        "mkdir" => Ok(Command::Mkdir(paths(line)?)),
        "rmdir" => Ok(Command::Rmdir(paths(line)?)),
        "write" => {
            let (group, file) = file(line)?;
            let mut value = vec![line.next("a value")?.bytes.clone()];
            while let Some(word) = line.peek() {
                value.push(word.bytes.clone());
                line.skip(1);
            }
            Ok(Command::Write { group, file, value })
        }
        "read" => {
            let (group, file) = file(line)?;
            Ok(Command::Read { group, file })
        }
        "print" => Ok(Command::Print(reference(line)?)),
        "task" => {
            let name = new_name(line, "a name for the task")?;
            let group = path(line)?;
            let adj = oom_score_adj(line)?;
            Ok(Command::Task { name, group, adj })
        }
        "move" => {
            let task = name(line, "the name of a task")?;
            let group = path(line)?;
            let policy = line.peek().map(Word::show);
            line.skip(usize::from(policy.is_some()));
            Ok(Command::Move {
                task,
                group,
                policy,
            })
        }
        "exit" => Ok(Command::Exit(name(line, "the name of a task")?)),
        "share" => {
            for what in ["a tag", "the task that maps it", "the task that shall"] {
                name(line, what)?;
            }
            Ok(lacking("share", Needs::Pages))
        }
        "swap" => {
            amount::size(line.next("a size")?)?;
            if line.peek().is_some() {
                line.next("a file")?;
            }
            Ok(lacking("swap", Needs::Pages))
        }
        "zswap" => {
            amount::size(line.next("a size")?)?;
            Ok(lacking("zswap", Needs::Pages))
        }
        "cache" => cache(line),
        "reap" => Ok(Command::Reap),
        "kmem-id" => Ok(Command::KmemId(path(line)?)),
        "subsystem" => subsystem(line),
        "set" => Ok(Command::Set {
            option: line.next("an option")?.show(),
            value: line.next("its value")?.show(),
        }),
        "expect" => Ok(Command::Expect(expect(line)?)),
        "within" => {
            let time = amount::time(line.next("a time, as 5s")?)?;
            if !line.take("expect") {
                return Err(Wrong::new(line.column(), "'expect' is expected here"));
            }
            Ok(Command::Within(time, expect(line)?))
        }
        "fails" => fails(line),
        word @ ("repeat" | "parallel" | "end") => Err(Wrong::new(
            first.column,
            format!("'{word}' cannot stand here: expected a command"),
        )),
        _ => by_task(first, line),
    }
}

fn by_task(first: &Word, line: &mut Line<'_>) -> Result<Command, Wrong> {
    let verb = line
        .peek()
        .and_then(|word| VERBS.iter().find(|verb| word.is(verb)))
        .copied();
    let Some(verb) = verb else {
        let what = match line.peek() {
            Some(word) => format!(
                "'{}' is no command and '{}' nothing a task does",
                first.show(),
                word.show()
            ),
            None => format!("'{}' is no command", first.show()),
        };
        return Err(Wrong::new(
            first.column,
            format!(
                "{what}: expected {}, or a task's name and {}",
                KEYWORDS.join(" "),
                VERBS.join(" ")
            ),
        ));
    };
    line.skip(1);
    let task = first.bytes.clone();
    match verb {
        "alloc" => {
            let tag = name(line, "a tag")?;
            let (size, count) = size_and_count(line)?;
            let cache = of_cache(line)?;
            Ok(Command::Alloc {
                task,
                tag,
                size,
                count: Some(count),
                cache,
                may_wait: !line.take("nowait"),
            })
        }
        "fill" => Ok(Command::Alloc {
            task,
            tag: name(line, "a tag")?,
            size: amount::size(line.next("the size of an object")?)?,
            count: None,
            cache: of_cache(line)?,
            may_wait: !line.take("nowait"),
        }),
        "reserve" => Ok(Command::Reserve {
            task,
            tag: name(line, "a tag")?,
            bytes: amount::size(line.next("a size")?)?,
        }),
        "free" => Ok(Command::Free {
            task,
            tag: name(line, "a tag")?,
        }),
        "hold" => Ok(Command::Hold {
            task,
            tag: name(line, "a tag")?,
        }),
        "give" => Ok(Command::Give {
            task,
            tag: name(line, "a tag")?,
            to: name(line, "the task that gets it")?,
        }),
        "take" => Ok(Command::Take {
            task,
            tag: name(line, "a tag")?,
        }),
        "map" => {
            name(line, "a tag")?;
            amount::size(line.next("a size")?)?;
            let kind = line.next("anon, shmem or file=PATH")?;
            if !kind.is("anon") && !kind.is("shmem") && !kind.bytes.starts_with(b"file=") {
                return Err(Wrong::new(
                    kind.column,
                    format!("'{}': expected anon, shmem or file=PATH", kind.show()),
                ));
            }
            Ok(lacking("map", Needs::Pages))
        }
        "touch" => {
            let tag = name(line, "a tag")?;
            if !line.take("read") {
                line.take("write");
            }
            if line.peek().is_some() {
                offset(line.next("an offset")?)?;
                amount::size(line.next("a length")?)?;
                return Ok(lacking("touch OFFSET LEN", Needs::Pages));
            }
            Ok(Command::Touch { task, tag })
        }
        "walk" => {
            let cache = name(line, "a cache")?;
            let dir = line.next("a directory")?.bytes.clone();
            Ok(Command::Walk { task, cache, dir })
        }
        verb => {
            name(line, "a tag")?;
            Ok(lacking(verb, Needs::Pages))
        }
    }
}

fn lacking(what: &'static str, needs: Needs) -> Command {
    Command::Lacking { what, needs }
}

fn offset(word: &Word) -> Result<u64, Wrong> {
    memcg::testing::units::parse_size(&word.bytes).map_err(|why| {
        Wrong::new(
            word.column,
            format!("'{}' is no offset: {why}", word.show()),
        )
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

/// `[cache=C]`
fn of_cache(line: &mut Line<'_>) -> Result<Option<Name>, Wrong> {
    let Some(word) = line.peek() else {
        return Ok(None);
    };
    match word.bytes.strip_prefix(b"cache=") {
        Some([]) => Err(Wrong::new(
            word.column + 6,
            "the name of a cache is expected",
        )),
        Some(name) => {
            line.skip(1);
            Ok(Some(name.to_vec()))
        }
        None => Ok(None),
    }
}

/// `cache C size=N [accounted|noaccount] [layout=…] [school=…] [reclaimable|registered]`, or `dentry`, which may go without a size
fn cache(line: &mut Line<'_>) -> Result<Command, Wrong> {
    let mut cache = Cache {
        name: new_name(line, "a name for the cache")?,
        bytes: 0,
        is_accounted: true,
        is_per_group: false,
        is_slab: false,
        is_dentry: false,
        gives_up: None,
    };
    while let Some(word) = line.peek() {
        line.skip(1);
        match word.bytes.as_slice() {
            b"dentry" | b"reclaimable" | b"registered"
                if cache.is_dentry || cache.gives_up.is_some() =>
            {
                return Err(Wrong::new(
                    word.column,
                    format!(
                        "'{}': its objects are given up in one way: expected one of dentry reclaimable registered",
                        word.show()
                    ),
                ));
            }
            b"reclaimable" => cache.gives_up = Some(GivesUp::ByList),
            b"registered" => cache.gives_up = Some(GivesUp::ByFunction),
            b"accounted" => cache.is_accounted = true,
            b"noaccount" => cache.is_accounted = false,
            b"layout=shared" => cache.is_per_group = false,
            b"layout=pergroup" => cache.is_per_group = true,
            b"school=slub" => cache.is_slab = false,
            b"school=slab" => cache.is_slab = true,
            b"dentry" => cache.is_dentry = true,
            bytes if bytes.starts_with(b"size=") => {
                cache.bytes = amount::size(&Word {
                    bytes: bytes[5..].to_vec(),
                    column: word.column + 5,
                    quoted: false,
                })?;
            }
            _ => {
                return Err(Wrong::new(
                    word.column,
                    format!(
                        "'{}': expected size=N accounted noaccount layout=shared layout=pergroup school=slub school=slab dentry reclaimable registered",
                        word.show()
                    ),
                ));
            }
        }
    }
    if cache.bytes == 0 && !cache.is_dentry {
        return Err(Wrong::new(line.column(), "the line ends: expected size=N"));
    }
    Ok(Command::Cache(cache))
}

/// `subsystem NAME [refuses PATH] [evictable=SIZE | evicts TAG] [reserves TASK SIZE]`
fn subsystem(line: &mut Line<'_>) -> Result<Command, Wrong> {
    let name = new_name(line, "a name for the subsystem")?;
    let (mut refuses, mut evictable, mut evicts, mut reserves) = (None, 0, None, None);
    while let Some(word) = line.peek() {
        line.skip(1);
        if word.is("refuses") {
            refuses = Some(path(line)?);
        } else if word.is("evicts") {
            evicts = Some(self::name(line, "a tag")?);
        } else if word.is("reserves") {
            let task = self::name(line, "the name of a task")?;
            reserves = Some((task, amount::size(line.next("a size")?)?));
        } else if let Some(size) = word.bytes.strip_prefix(b"evictable=") {
            evictable = amount::size(&Word {
                bytes: size.to_vec(),
                column: word.column + 10,
                quoted: false,
            })?;
        } else {
            return Err(Wrong::new(
                word.column,
                format!(
                    "'{}': expected refuses PATH, evictable=SIZE, evicts TAG or reserves TASK SIZE",
                    word.show()
                ),
            ));
        }
    }
    Ok(Command::Subsystem {
        name,
        refuses,
        evictable,
        evicts,
        reserves,
    })
}

fn fails(line: &mut Line<'_>) -> Result<Command, Wrong> {
    let errno = line.next("an error's name, as ENOMEM")?;
    if !ERRNOS.iter().any(|name| errno.is(name)) {
        return Err(Wrong::new(
            errno.column,
            format!(
                "'{}' is no error a command fails with: expected one of {}",
                errno.show(),
                ERRNOS.join(" ")
            ),
        ));
    }
    let at = line.column();
    let command = one(line)?;
    if matches!(
        command,
        Command::Fails { .. } | Command::Expect(_) | Command::Within(..)
    ) {
        return Err(Wrong::new(
            at,
            "an expectation has no error: expected a command that acts",
        ));
    }
    Ok(Command::Fails {
        errno: errno.show(),
        command: Box::new(command),
    })
}

/// `SIZE`, `SIZExCOUNT`, `SIZE xCOUNT`, `SIZE x COUNT`.
fn size_and_count(line: &mut Line<'_>) -> Result<(u64, u64), Wrong> {
    let word = line.next("a size, as 64 or 1Mx800")?;
    let (size, mut count) = amount::size_by_count(word)?;
    if count == 1 && !word.bytes.contains(&b'x') || amount::size(word).is_ok() {
        if line.take("x") {
            count = amount::count(line.next("a count")?)?;
        } else if let Some(next) = line.peek()
            && next.bytes.first() == Some(&b'x')
        {
            line.skip(1);
            count = amount::count(&Word {
                bytes: next.bytes[1..].to_vec(),
                column: next.column + 1,
                quoted: false,
            })?;
        }
    }
    Ok((size, count))
}

/// The path of a group.
pub fn path(line: &mut Line<'_>) -> Result<Name, Wrong> {
    let word = line.next("the path of a group")?;
    if word.quoted || word.bytes.starts_with(b"/") {
        return Ok(word.bytes.clone());
    }
    Err(Wrong::new(
        word.column,
        format!("'{}': expected the path of a group, as /a", word.show()),
    ))
}

fn paths(line: &mut Line<'_>) -> Result<Vec<Name>, Wrong> {
    let mut all = vec![path(line)?];
    while line.peek().is_some() {
        all.push(path(line)?);
    }
    Ok(all)
}

/// A name; `what` it should be.
pub fn name(line: &mut Line<'_>, what: &str) -> Result<Name, Wrong> {
    let word = line.next(what)?;
    if word.bytes.is_empty() {
        return Err(Wrong::new(word.column, format!("expected {what}")));
    }
    Ok(word.bytes.clone())
}

fn new_name(line: &mut Line<'_>, what: &str) -> Result<Name, Wrong> {
    let word = line.next(what)?;
    if word.bytes.is_empty() || word.bytes.contains(&b'/') || word.bytes.contains(&b':') {
        return Err(Wrong::new(
            word.column,
            format!("'{}': expected {what}, without / and :", word.show()),
        ));
    }
    if KEYWORDS.iter().any(|keyword| word.is(keyword)) {
        return Err(Wrong::new(
            word.column,
            format!("'{}' is a command: expected {what}", word.show()),
        ));
    }
    Ok(word.bytes.clone())
}
