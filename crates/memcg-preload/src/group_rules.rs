//! Rules that say which group a thread belongs to, by its name.
//!
//! The first rule whose pattern fits decides. Without one it is the thread's family: its name
//! without the number at its end, so `worker-3` and `worker-17` are both `/worker`. The program's
//! own name, which threads have until they are renamed, is a family as it stands (`python3`).
//!
//! Invariants: the rules are set once, before the first task is made.
//! Depends on: nothing of this library; what the engine says of names.
//! Never: makes a group; it only names one.

#![forbid(unsafe_code)]

use memcg::internal::thread::check_group_name;
use std::sync::OnceLock;

struct Rule {
    pattern: Vec<u8>,
    path: Vec<u8>,
}

static RULES: OnceLock<Vec<Rule>> = OnceLock::new();
static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();

/// Reads the rules, one `PATTERN=PATH` a line, and the program's name. Once.
///
/// # Errors
/// A rule whose path has a name no group may have, and why.
pub fn init(text: &[u8], program: &[u8]) -> Result<(), String> {
    let rules = text.split(|&b| b == b'\n').filter_map(|line| {
        let at = line.iter().position(|&b| b == b'=')?;
        Some(Rule {
            pattern: line[..at].to_vec(),
            path: line[at + 1..].to_vec(),
        })
    });
    let rules: Vec<Rule> = rules.collect();
    for rule in &rules {
        if let Err(why) = components(&rule.path).try_for_each(check_group_name) {
            let rule = [&rule.pattern[..], b"=", &rule.path].concat();
            return Err(format!("{}: {why}", String::from_utf8_lossy(&rule)));
        }
    }
    let _ = RULES.set(rules);
    let _ = PROGRAM.set(program.to_vec());
    Ok(())
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|part| !part.is_empty())
}

/// Calls `then` with the components of the path for a thread of that name.
pub fn each_component(name: &[u8], mut then: impl FnMut(&[u8])) {
    let rule = RULES
        .get()
        .and_then(|rules| rules.iter().find(|rule| fits(&rule.pattern, name)));
    match rule {
        Some(rule) => components(&rule.path).for_each(then),
        None => {
            let family = if PROGRAM.get().is_some_and(|own| own == name) {
                name
            } else {
                family(name)
            };
            let mut text = [0u8; 16];
            let len = family.len().min(text.len());
            for (to, &from) in text.iter_mut().zip(family) {
                *to = if from == b'/' || from < 0x20 || from == 0x7f {
                    b'_'
                } else {
                    from
                };
            }
            // As a file's name begins, or as `.` alone, no group's does.
            if check_group_name(&text[..len]).is_err()
                && let Some(dot) = text.iter_mut().find(|byte| **byte == b'.')
            {
                *dot = b'_';
            }
            match &text[..len] {
                b"" => then(b"unnamed"),
                b"_." => then(b"_"),
                clean => then(clean),
            }
        }
    }
}

/// The name without the number at its end and what joins it.
fn family(name: &[u8]) -> &[u8] {
    let stem = name.trim_ascii_end();
    let digits = stem.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return stem;
    }
    let head = &stem[..stem.len() - digits];
    let joint = head
        .iter()
        .rev()
        .take_while(|b| b"-_:#./ ".contains(b))
        .count();
    let family = &head[..head.len() - joint];
    if family.is_empty() { stem } else { family }
}

/// Whether `pattern`, with `*` for any text and `?` for any byte, fits the whole of `name`.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    // Greedy with one point to come back to: linear but for the last star.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&b) if b == b'?' || b == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_lose_their_numbers_and_nothing_else() {
        for (name, stem) in [
            ("worker-3", "worker"),
            ("worker-17", "worker"),
            ("worker3", "worker"),
            ("tokio-rt-worker", "tokio-rt-worker"),
            ("Pool #12", "Pool"),
            ("v8:worker:0", "v8:worker"),
            ("42", "42"),
            ("-7", "-7"),
            ("", ""),
        ] {
            assert_eq!(family(name.as_bytes()), stem.as_bytes(), "{name}");
        }
    }

    #[test]
    fn a_thread_named_as_a_file_has_a_group_of_nearly_that_name() {
        for (name, group) in [
            ("memory.pool-3", "memory_pool"),
            ("cgroup.x", "cgroup_x"),
            ("memory", "memory"),
            ("my.memory.x", "my.memory.x"),
        ] {
            let mut seen = Vec::new();
            each_component(name.as_bytes(), |part| seen.push(part.to_vec()));
            assert_eq!(seen, [group.as_bytes()], "{name}");
        }
    }

    #[test]
    fn a_rule_for_a_group_that_cannot_be_is_refused() {
        let why = init(b"a=/x\nb*=/x/memory.max", b"").unwrap_err();
        assert!(
            why.starts_with("b*=/x/memory.max: a group's name has"),
            "{why}"
        );
    }

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, expected) in [
            ("worker-*", "worker-3", true),
            ("worker-*", "worker", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xxaxxbxxb", true),
            ("*a*b", "xxaxxbxxc", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }
}
