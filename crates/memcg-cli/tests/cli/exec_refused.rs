//! `memcg exec`: programs it does not start, and why.

use super::folder::Folder;
use super::run::{Outcome, command, memcg, outcome};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn exec(program: &Path) -> Outcome {
    memcg(
        Folder::new().path(),
        &["exec", "--", program.to_str().expect("text")],
    )
}

/// An ELF header like this test's own, with a program header for `loader` if there is one. It is
/// looked at and never run.
fn elf(loader: Option<&str>) -> Vec<u8> {
    let mut file = fs::read("/proc/self/exe").expect("this test")[..64].to_vec();
    file[32..40].copy_from_slice(&64u64.to_ne_bytes());
    file[54..56].copy_from_slice(&56u16.to_ne_bytes());
    file[56..58].copy_from_slice(&u16::from(loader.is_some()).to_ne_bytes());
    if let Some(loader) = loader {
        let mut entry = [0; 56];
        entry[0..4].copy_from_slice(&3u32.to_ne_bytes());
        entry[8..16].copy_from_slice(&120u64.to_ne_bytes());
        entry[32..40].copy_from_slice(&(loader.len() as u64 + 1).to_ne_bytes());
        file.extend_from_slice(&entry);
        file.extend_from_slice(loader.as_bytes());
        file.push(0);
    }
    file
}

#[test]
fn a_program_that_is_not_there_is_127() {
    memcg(
        Folder::new().path(),
        &["exec", "--", "no-such-program-here"],
    )
    .is_error(127, &["not found", "no-such-program-here"]);
    exec(Path::new("./no/such/program")).is_error(127, &["not found"]);
}

#[test]
fn a_file_that_is_no_program_is_126() {
    let folder = Folder::new();
    let path = folder.program("data", b"just text\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    exec(&path).is_error(126, &["chmod +x"]);
    exec(folder.path()).is_error(126, &["directory"]);
    exec(&folder.program("script", b"#!/no/such/interpreter\n"))
        .is_error(126, &["interpreter /no/such/interpreter"]);
    exec(&folder.program("odd", &elf(Some("/no/such/ld.so"))))
        .is_error(126, &["loader /no/such/ld.so"]);
}

#[test]
fn a_program_the_library_cannot_be_put_under_is_125() {
    let folder = Folder::new();
    let fixed = folder.program("fixed", &elf(None));
    exec(&fixed).is_error(
        125,
        &["statically linked", "the engine cannot be put under it"],
    );
    exec(&folder.program("musl", &elf(Some("/lib/ld-musl-x86_64.so.1")))).is_error(125, &["musl"]);
    let mut foreign = elf(None);
    foreign[18] ^= 1;
    exec(&folder.program("foreign", &foreign)).is_error(125, &["another machine"]);
    let mut narrow = elf(None);
    (narrow[4], narrow[18]) = (1, 3);
    exec(&folder.program("narrow", &narrow)).is_error(125, &["(32-bit x86)", "MEMCG=off"]);
    let script = format!("#! {} -x\n", fixed.display());
    exec(&folder.program("script", script.as_bytes()))
        .is_error(125, &["statically linked", "fixed, which runs", "script"]);
    let by_script = format!("#!{}\n", folder.path().join("script").display());
    exec(&folder.program("again", by_script.as_bytes())).is_error(125, &["fixed, which runs"]);
    for line in ["#!/usr/bin/env fixed", "#!/usr/bin/env -S A=1 fixed -x"] {
        let script = folder.program("by-env", line.as_bytes());
        let mut run = command(folder.path(), &["exec", script.to_str().expect("text")]);
        let run = run.env("PATH", folder.path()).output().expect("it starts");
        outcome(run).is_error(125, &["statically linked", "fixed, which runs"]);
    }
}

#[test]
fn a_damaged_program_is_126() {
    let folder = Folder::new();
    let whole = elf(Some("/lib64/ld-linux-x86-64.so.2"));
    for length in [10, 40, 100] {
        let path = folder.program(&format!("cut-{length}"), &whole[..length]);
        exec(&path).is_error(126, &["damaged ELF file"]);
    }
}

#[test]
fn a_library_that_is_none_is_refused_before_the_program_starts() {
    let folder = Folder::new();
    let mut foreign = elf(None);
    foreign[18] ^= 1;
    for (name, bytes, why) in [
        ("text", b"no library\n".to_vec(), "it is not a library"),
        ("foreign", foreign, "for another machine"),
    ] {
        let path = folder.program(name, &bytes);
        let mut run = command(folder.path(), &["exec", "echo", "started"]);
        let run = run.env("MEMCG_PRELOAD", path).output().expect("it starts");
        outcome(run).is_error(125, &["no preload library", why, "unset it"]);
    }
}

#[test]
fn a_program_with_another_users_rights_is_125_and_one_with_ones_own_runs() {
    let folder = Folder::new();
    let path = folder.copy(Path::new("/bin/true"), "true");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).expect("a mode");
    assert_eq!(exec(&path).code(), 0);
    // Only root can give a file away.
    if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).expect("a mode");
        exec(&path).is_error(125, &["setuid"]);
    }
}

#[test]
fn a_script_runs_by_its_interpreter() {
    let folder = Folder::new();
    let path = folder.program("script", b"#!/bin/sh\necho \"$1\"; exit 5\n");
    let output = memcg(
        folder.path(),
        &["exec", path.to_str().expect("text"), "hello"],
    );
    assert_eq!((output.code(), output.stdout.as_str()), (5, "hello\n"));
}

#[test]
fn a_script_without_a_first_line_runs_by_the_shell() {
    let folder = Folder::new();
    let path = folder.program("script", b"exit 5\n");
    assert_eq!(exec(&path).code(), 5);
}
