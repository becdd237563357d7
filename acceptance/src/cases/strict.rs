//! `exec = "strict"`: an agent's machine code comes from files that it may execute, or its profiles give.

use super::Case;
use crate::world::World;
use abi::Capability;
use anyhow::{Context as _, Result, ensure};
use std::fs;

/// The table.
pub const CASES: &[Case] = &[Case {
    name: "strict.code",
    promise: "with `exec = \"strict\"` what may be read is not loaded as code, and no memory becomes code",
    run: code,
}];

/// Starts what Python has of compiled modules, and then does what a manifest of that kind forbids.
const PROGRAM: &str = r#"
import ctypes, json, mmap, sqlite3, ssl, sys
def tried(what):
    try:
        what()
        return "did"
    except OSError as error:
        return "refused"
print(tried(lambda: mmap.mmap(-1, 4096, prot=7)), tried(lambda: ctypes.CDLL(sys.argv[1])))
"#;

fn code(world: &World) -> Result<String> {
    let library = world.ctx.work.join("library.so").display().to_string();
    let own = libz()?;
    fs::copy(&own, &library).with_context(|| own)?;
    let (free, free_name) = said(world, "readable", &library)?;
    ensure!(free == "did did", "the control: {free}");
    ensure!(world.ctx.coconut.explain(&free_name)?.denials.is_empty(), "the control was denied");
    let (strict, name) = said(world, "strict", &library)?;
    ensure!(strict == "refused refused", "{strict}");
    // The two, and nothing of what a Python program does otherwise.
    let denials = world.ctx.coconut.explain(&name)?.denials;
    let of = |capability: Capability| denials.iter().filter(move |d| d.capability == capability);
    let memory: Vec<_> = of(Capability::Forbidden).collect();
    let file: Vec<_> = of(Capability::FsExec).collect();
    ensure!(
        matches!(memory.as_slice(), [one] if one.manifest_line.as_deref() == Some("exec = \"readable\"")),
        "{denials:?}"
    );
    ensure!(matches!(file.as_slice(), [one] if one.object == library), "{denials:?}");
    ensure!(denials.len() == 2, "{denials:?}");
    Ok(file[0].tried.clone())
}

/// What the program says, and the name of the agent that it ran as.
fn said(world: &World, exec: &str, library: &str) -> Result<(String, String)> {
    let name = world.ctx.unique(exec);
    let text = format!(
        "[agent]\nname = \"{name}\"\ntenant = \"maya\"\nexec = \"{exec}\"\n\
         command = [\"/usr/bin/python3\", \"-I\", \"-c\", {PROGRAM:?}, {library:?}]\n\n\
         [capabilities]\n\"fs.read\" = [\"@python\", {library:?}]\n"
    );
    let manifest = world.file(&format!("{name}.toml"), &text)?;
    let ran = world.expect(0, &["run", "--allow-unsigned", "--manifest", &manifest])?;
    Ok((ran.stdout.trim().to_owned(), name))
}

/// A library that every image has, with nothing that it needs beside the C library.
fn libz() -> Result<String> {
    let found = fs::read_dir("/usr/lib/x86_64-linux-gnu")?
        .flatten()
        .map(|entry| entry.path().display().to_string())
        .find(|path| path.contains("/libz.so.1."));
    found.context("no libz in /usr/lib/x86_64-linux-gnu")
}
