//! Files that an agent has by a descriptor or by number, and nothing beside what they were given for.

use super::Case;
use super::rights::writes;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "lent.modes",
        promise: "a standard file gives what it was opened for: read-only input is not written, a log is appended to and not cut or read",
        run: modes,
    },
    Case {
        name: "lent.numbers",
        promise: "a right ends with its file: who gets its inode number next gets no right",
        run: numbers,
    },
];

/// A file of everybody's in the work folder.
fn file(world: &World, what: &str, text: &str) -> Result<PathBuf> {
    let path = world.ctx.work.join(world.ctx.unique(what));
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666))?;
    Ok(path)
}

/// A shell with these standard files; as an agent, or outside every one as the same user.
fn shell(agent: bool, words: &str, input: &Path, log: &Path) -> Result<String> {
    let mut command = if agent {
        let mut command = Command::new("coconut");
        command.args(["run", "--tenant", "maya", "--cap", "fs.exec=@shell", "--"]);
        command
    } else {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "coconut-agent", "--clear-groups", "--"]);
        command
    };
    let done = command
        .args(["/usr/bin/dash", "-c", words])
        .stdin(File::open(input)?)
        .stdout(OpenOptions::new().append(true).open(log)?)
        .stderr(Stdio::piped())
        .output()
        .context("cannot run a shell")?;
    Ok(String::from_utf8_lossy(&done.stderr).into_owned())
}

fn modes(world: &World) -> Result<String> {
    const HARM: &str = "cat >&2; echo appended; echo HACKED >/proc/self/fd/0; : >/proc/self/fd/1; cat /proc/self/fd/1 >&2";
    for agent in [false, true] {
        let (input, log) = (file(world, "input", "original\n")?, file(world, "log", "earlier\n")?);
        let said = shell(agent, HARM, &input, &log)?;
        let (input, log) = (std::fs::read_to_string(input)?, std::fs::read_to_string(log)?);
        ensure!(said.contains("original"), "standard input is not read: {said}");
        if agent {
            ensure!(input == "original\n", "the input was written: {input:?}");
            ensure!(log == "earlier\nappended\n", "the log is {log:?}");
            ensure!(!said.contains("earlier"), "the log was read: {said}");
        } else {
            ensure!(
                input.contains("HACKED") && log.is_empty(),
                "the control: {input:?} {log:?} {said}"
            );
        }
    }
    Ok(String::new())
}

/// How many files come after the one that went.
const OTHERS: u32 = 200;

/// Makes others' files, and says whether one of them got this number.
fn gets_number(folder: &Path, number: u64) -> Result<bool> {
    let mut got = false;
    for i in 0..OTHERS {
        let path = folder.join(format!("other-{i}"));
        std::fs::write(&path, "STOLEN\n")?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644))?;
        got |= std::fs::metadata(&path)?.ino() == number;
    }
    Ok(got)
}

fn numbers(world: &World) -> Result<String> {
    let folder = world.ctx.work.join(world.ctx.unique("numbers"));
    std::fs::create_dir(&folder)?;
    match ends_with_its_file(world, &folder)? {
        true => Ok(String::new()),
        false => Ok("(this file system gives no number out again)".to_owned()),
    }
}

/// An agent with a right on one file of the folder reads none of those that come after it. True if
/// the file system gives numbers out again: that is the control.
pub(super) fn ends_with_its_file(world: &World, folder: &Path) -> Result<bool> {
    let (note, go) = (folder.join("note"), folder.join("go"));
    let number = |text: &str| -> Result<u64> {
        std::fs::write(&note, text)?;
        Ok(std::fs::metadata(&note)?.ino())
    };
    std::fs::write(&go, "wait\n")?;
    let free = number("note\n")?;
    std::fs::remove_file(&note)?;
    let again = gets_number(folder, free)?;
    for i in 0..OTHERS {
        std::fs::remove_file(folder.join(format!("other-{i}")))?;
    }
    let held = number("note\n")?;
    let name = world.ctx.unique("numbers");
    let at = folder.display();
    let words = format!(
        "until [ \"$(cat {at}/go)\" = now ]; do cat {at}/note; sleep 0.2; done; i=0; \
         while [ $i -lt {OTHERS} ]; do cat {at}/other-$i; i=$((i + 1)); done; echo tried; sleep 600"
    );
    let read = |path: &Path| format!("fs.read={}", path.display());
    world.background(&name, &["fs.exec=@shell", &read(&note), &read(&go)], &words)?;
    writes(world, &name, "note")?;
    std::fs::remove_file(&note)?;
    let other = gets_number(folder, held)?;
    std::fs::write(&go, "now\n")?;
    writes(world, &name, "tried")?;
    let said = world.expect(0, &["logs", &name])?.stdout;
    world.expect(0, &["kill", &name])?;
    ensure!(!said.contains("STOLEN"), "the next file was read by a right on the one before");
    ensure!(!other, "another file has the number of one that an agent may read");
    Ok(again)
}
