//! Files that an agent has by a descriptor or by number, and nothing beside what they were given for.

use super::Case;
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

/// Makes files until one gets this number; what it holds is another's secret.
fn gets_number(folder: &Path, number: u64) -> Result<Option<PathBuf>> {
    for i in 0..200 {
        let path = folder.join(format!("other-{i}"));
        std::fs::write(&path, "STOLEN\n")?;
        if std::fs::metadata(&path)?.ino() == number {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn numbers(world: &World) -> Result<String> {
    let folder = world.ctx.work.join(world.ctx.unique("numbers"));
    std::fs::create_dir(&folder)?;
    let note = folder.join("note");
    let number = |text: &str| -> Result<u64> {
        std::fs::write(&note, text)?;
        Ok(std::fs::metadata(&note)?.ino())
    };
    // The control: nobody holds the file, and its number goes to another.
    let free = number("note\n")?;
    std::fs::remove_file(&note)?;
    let Some(taken) = gets_number(&folder, free)? else {
        return Ok("(this file system gives no number out again)".to_owned());
    };
    std::fs::remove_file(taken)?;
    let held = number("note\n")?;
    let name = world.ctx.unique("numbers");
    let right = format!("fs.read={}", note.display());
    world.background(&name, &["fs.exec=@shell", &right], "while :; do sleep 1; done")?;
    std::fs::remove_file(&note)?;
    let other = gets_number(&folder, held)?;
    world.expect(0, &["kill", &name])?;
    ensure!(other.is_none(), "{other:?} has the number of a file that an agent may read");
    Ok(String::new())
}
