//! `--group GLOB=PATH` and `--set PATH/FILE=VALUE`, checked before anything is started.
//!
//! The library gets them one a line, so no part may hold a control character.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Which threads belong to which group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRule {
    text: Vec<u8>,
}

/// A value for a file of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    text: Vec<u8>,
    /// Where the file's name begins, behind the last slash of the group's path.
    name_at: usize,
}

impl GroupRule {
    /// Reads `GLOB=PATH`; the error says what is wrong with it.
    pub fn parse(text: &OsStr) -> Result<GroupRule, String> {
        let text = text.as_bytes();
        let (glob, path) = split_once(text, b'=').ok_or("there is no '=': write GLOB=PATH")?;
        if glob.is_empty() {
            return Err("GLOB is empty: '*' matches every name".into());
        }
        no_control(glob, "GLOB")?;
        check_path(path)?;
        Ok(GroupRule {
            text: text.to_vec(),
        })
    }

    /// The rule as it was given.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

impl Setting {
    /// Reads `PATH/FILE=VALUE`; the error says what is wrong with it.
    pub fn parse(text: &OsStr) -> Result<Setting, String> {
        let text = text.as_bytes();
        let (file, value) =
            split_once(text, b'=').ok_or("there is no '=': write PATH/FILE=VALUE")?;
        let slash = file
            .iter()
            .rposition(|b| *b == b'/')
            .ok_or("there is no '/': write PATH/FILE=VALUE")?;
        let (path, name) = (&file[..slash], &file[slash + 1..]);
        check_path(if path.is_empty() { b"/" } else { path })?;
        if name.is_empty() {
            return Err("FILE is empty: write PATH/FILE=VALUE, such as /a/memory.max=1G".into());
        }
        no_control(name, "FILE")?;
        if value.is_empty() {
            return Err("VALUE is empty".into());
        }
        no_control(value, "VALUE")?;
        Ok(Setting {
            text: text.to_vec(),
            name_at: slash + 1,
        })
    }

    /// The path of the group.
    pub fn path(&self) -> &[u8] {
        match self.name_at {
            1 => b"/",
            at => &self.text[..at - 1],
        }
    }

    /// The setting as it was given.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

/// A group's path: absolute, of names the engine accepts.
fn check_path(path: &[u8]) -> Result<(), String> {
    let Some(names) = path.strip_prefix(b"/") else {
        return Err("PATH must begin with '/'".into());
    };
    if names.is_empty() {
        return Ok(());
    }
    for name in names.split(|b| *b == b'/') {
        match name {
            b"" => return Err("PATH has an empty name in it".into()),
            b"." | b".." => return Err("PATH must not contain '.' or '..'".into()),
            long if long.len() > 255 => {
                return Err("a name in PATH is longer than 255 bytes".into());
            }
            file if [&b"memory."[..], b"cgroup."]
                .iter()
                .any(|p| file.starts_with(p)) =>
            {
                return Err(
                    "a name in PATH begins with 'memory.' or 'cgroup.', as files' names do".into(),
                );
            }
            name => no_control(name, "PATH")?,
        }
    }
    Ok(())
}

fn no_control(text: &[u8], what: &str) -> Result<(), String> {
    match text.iter().any(u8::is_ascii_control) {
        true => Err(format!("{what} has a control character in it")),
        false => Ok(()),
    }
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = text.iter().position(|b| *b == at)?;
    Some((&text[..position], &text[position + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<GroupRule, String> {
        GroupRule::parse(OsStr::new(text))
    }

    fn setting(text: &str) -> Result<Setting, String> {
        Setting::parse(OsStr::new(text))
    }

    #[test]
    fn good_rules_are_kept_as_they_were_given() {
        for text in ["worker-*=/workers", "*=/", "a b=/x y/z", "q?=/a=b"] {
            assert_eq!(rule(text).expect(text).as_bytes(), text.as_bytes());
        }
        let long = format!("x=/{}", "n".repeat(255));
        assert!(rule(&long).is_ok());
    }

    #[test]
    fn bad_rules_are_refused_before_anything_starts() {
        let long = format!("x=/{}", "n".repeat(256));
        for text in [
            "",
            "a",
            "=/a",
            "a=",
            "a=b",
            "a=/b/",
            "a=//b",
            "a=/./b",
            "a=/b/..",
            "a=/b\n",
            "a\n=/b",
            "a=/memory.max",
            "a=/b/cgroup.x",
            &long,
        ] {
            assert!(rule(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn good_settings_are_kept_as_they_were_given() {
        for text in [
            "/memory.max=1G",
            "/a/b/memory.high=max",
            "/a/memory.reclaim=1M swappiness=10",
        ] {
            assert_eq!(setting(text).expect(text).as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn bad_settings_are_refused_before_anything_starts() {
        for text in [
            "",
            "/memory.max",
            "memory.max=1",
            "a/memory.max=1",
            "/a/=1",
            "/a/memory.max=",
            "/a/../x=1",
            "/memory.a/memory.max=1",
            "/x=1\n",
        ] {
            assert!(setting(text).is_err(), "{text:?}");
        }
    }
}
