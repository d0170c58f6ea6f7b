//! What a `memory.max` below what a group holds does: told after it was written.
//!
//! Invariants: silent where the group holds no more than its new limit did allow before, or the
//! engine does not answer.
//! Depends on: client.
//! Never: changes the exit status: the limit was written.

use crate::client::escape::printable;
use crate::client::{Client, ClientError};
use crate::size::human;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A group just before its `memory.max` is written.
#[derive(Debug)]
pub struct Before {
    group: Vec<u8>,
    held: u64,
    policy: String,
}

impl Before {
    /// Looks at the group of `file`, if that is a `memory.max`.
    pub fn look(client: &mut Client, file: &OsStr) -> Option<Before> {
        let group = file.as_bytes().strip_suffix(b"/memory.max")?.to_vec();
        let mut before = Before {
            group,
            held: 0,
            policy: String::new(),
        };
        before.held = before.number(client, "memory.current").ok()??;
        let policy = before.text(client, "memory.oom.policy").ok()?;
        before.policy = chosen(&policy).to_owned();
        Some(before)
    }

    /// What has become of it; `None` if it held no more than the limit that is in force now.
    pub fn compare(&self, client: &mut Client) -> Option<String> {
        let group = printable(&self.group);
        let max = match self.number(client, "memory.max") {
            Ok(max) => max?,
            Err(error) if error.is_gone() => {
                return Some(format!(
                    "{group} held {}: the process has ended since, its memory.oom.policy being {}",
                    human(self.held),
                    self.policy
                ));
            }
            Err(_) => return None,
        };
        let held = self.number(client, "memory.current").ok()??;
        outcome(&group, self.held, held, max, &self.policy)
    }

    /// A file's number; `None` for `max`.
    fn number(&self, client: &mut Client, name: &str) -> Result<Option<u64>, ClientError> {
        Ok(self.text(client, name)?.trim().parse().ok())
    }

    fn text(&self, client: &mut Client, name: &str) -> Result<String, ClientError> {
        let file = [&self.group, b"/".as_slice(), name.as_bytes()].concat();
        let text = client.ask(&[b"get", &file])?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// The word in brackets.
fn chosen(policies: &str) -> &str {
    let word = policies
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    word.map_or("default", |(word, _)| word)
}

fn outcome(group: &str, before: u64, now: u64, max: u64, policy: &str) -> Option<String> {
    if before.max(now) <= max {
        return None;
    }
    let (held, limit) = (human(now), human(max));
    if now <= max {
        return Some(format!(
            "{group} held {}, above its new memory.max of {limit}: what it could give was reclaimed: it holds {held}",
            human(before)
        ));
    }
    let next = match policy {
        "kill" => "tasks of the group are being told to die, those that hold most first",
        "debt" => "it may go on to grow by debt, as far as memory.debt.max says",
        _ => "it gets no more memory (malloc fails) until it has freed enough",
    };
    Some(format!(
        "{group} holds {held}, above its new memory.max of {limit}, and nothing more can be reclaimed: by its \
         memory.oom.policy ({policy}) {next}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;

    #[test]
    fn a_limit_that_everything_fits_in_is_not_talked_about() {
        assert_eq!(outcome("/a", M, M, M, "default"), None);
        assert_eq!(outcome("/a", 0, 0, 0, "default"), None);
    }

    #[test]
    fn what_is_held_and_what_happens_now_is_said() {
        let said = |now, policy| outcome("/a", 8 * M, now, 4 * M, policy).expect("a line");
        assert_eq!(
            said(3 * M, "default"),
            "/a held 8.0M, above its new memory.max of 4.0M: what it could give was reclaimed: it holds 3.0M"
        );
        assert!(said(8 * M, "default").contains("holds 8.0M, above its new memory.max of 4.0M"));
        assert!(said(8 * M, "default").ends_with(
            "(default) it gets no more memory (malloc fails) until it has freed enough"
        ));
        assert!(said(8 * M, "deny").contains("(deny) it gets no more memory"));
        assert!(said(8 * M, "debt").contains("by debt"));
        assert!(said(8 * M, "kill").contains("told to die"));
    }

    #[test]
    fn the_policy_is_the_word_in_brackets() {
        assert_eq!(chosen("default deny [debt] kill\n"), "debt");
        assert_eq!(chosen("no brackets"), "default");
    }
}
