//! Scripts that begin with `#!/usr/bin/env PROGRAM`: which program that is.

use super::elf::Script;
use super::path_search;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The file `env` will run for this script; none if the interpreter is not `env`, or `env` will not
/// find it either.
pub fn program_of(script: &Script) -> Option<PathBuf> {
    if script.interpreter.file_name()? != "env" {
        return None;
    }
    let name = command(&script.argument)?;
    path_search::find(
        OsStr::from_bytes(&name),
        std::env::var_os("PATH").as_deref(),
    )
    .ok()
}

/// The command among what `env` is given. The kernel passes one argument, which env splits if it
/// begins with -S.
fn command(argument: &[u8]) -> Option<Vec<u8>> {
    let split = [&b"-S"[..], b"-vS", b"--split-string="];
    let Some(rest) = split.iter().find_map(|s| argument.strip_prefix(*s)) else {
        // One name, whatever blanks it has; an option alone runs nothing.
        let name = !argument.is_empty() && !argument.starts_with(b"-");
        return name.then(|| argument.to_vec());
    };
    let mut words = rest
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        match word {
            // These take the next word.
            b"-u" | b"--unset" | b"-C" | b"--chdir" => drop(words.next()),
            option if option.starts_with(b"-") => {}
            variable if variable.contains(&b'=') => {}
            name => return Some(name.to_vec()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_found_behind_options_and_variables() {
        for (argument, found) in [
            ("python3", Some("python3")),
            ("-S python3 -u", Some("python3")),
            ("-S -i A=1 -u B perl -w", Some("perl")),
            ("-SA=1 node", Some("node")),
            ("--split-string=node --x", Some("node")),
            ("", None),
            ("-i", None),
            ("-S A=1", None),
        ] {
            let command = command(argument.as_bytes());
            assert_eq!(command.as_deref(), found.map(str::as_bytes), "{argument}");
        }
    }

    #[test]
    fn only_env_is_looked_through() {
        let script = |interpreter: &str| Script {
            interpreter: interpreter.into(),
            argument: b"sh".to_vec(),
        };
        let found = program_of(&script("/usr/bin/env")).expect("there is a shell");
        assert!(found.ends_with("sh"), "{}", found.display());
        assert_eq!(program_of(&script("/bin/sh")), None);
    }
}
