//! `exec = "strict"`: code comes from files that may be executed, or that a profile gives, and from nowhere else. The
//! control is an agent without it, for which every way leads to code that runs.

use crate::code::{CODE, OTHER};
use crate::world::{Actor, World, code, on, rule};
use abi::Capability::{AgentSignal, Device, FsExec, FsRead};
use abi::event::Hook;
use anyhow::Result;
use kernel::KernelScope;
use libc::{EACCES, EPERM};
use std::fs;

const RUNS: i64 = 42;
/// Readable, executable, given by a profile, and executable with other code in it.
const FILES: [(&str, [u8; 6]); 4] =
    [("readable", CODE), ("exec/code", CODE), ("profile/code", CODE), ("exec/other", OTHER)];

pub fn run(w: &World) -> Result<()> {
    for folder in ["exec", "profile"] {
        fs::create_dir_all(format!("/data/code/{folder}"))?;
    }
    for (name, bytes) in FILES {
        fs::write(format!("/data/code/{name}"), bytes)?;
    }
    let rules = [
        on(FsRead, "/data/code/readable"),
        on(FsExec, "/data/code/exec"),
        code(on(FsRead, "/data/code/profile")),
        // As far as a manifest can go.
        on(Device, "/dev/zero"),
        on(FsExec, "/dev/zero"),
    ];
    let (a, free) = (w.strict(&rules)?, w.agent(&rules)?);
    own_memory(w, &a, &free);
    files(w, &a, &free);
    behind(w, &a, &free);
    children(w)?;
    w.end(&a)?;
    w.end(&free)
}

fn runs(w: &World, who: &Actor, line: &str) {
    w.same(&format!("{} runs code: {line}", who.name()), &who.tell(line), &RUNS);
}

fn held(w: &World, a: &Actor, free: &Actor, line: &str, errno: i32, hook: Hook) {
    runs(w, free, line);
    w.denied(a, line, errno, hook);
}

fn own_memory(w: &World, a: &Actor, free: &Actor) {
    for way in ["anonymous", "later", "memfd", "shm"] {
        held(w, a, free, &format!("code-{way}"), EPERM, Hook::CodeMemory);
    }
    // No hook sees it: a filter refuses the flag, and there is no record.
    runs(w, free, "code-heap");
    w.same("nor is the heap made so", &a.tell("code-heap"), &-i64::from(EPERM));
}

fn files(w: &World, a: &Actor, free: &Actor) {
    for way in ["file", "file-later"] {
        for given in ["exec", "profile"] {
            runs(w, a, &format!("code-{way} /data/code/{given}/code"));
        }
        let hook = if way == "file" { Hook::MmapFile } else { Hook::FileMprotect };
        held(w, a, free, &format!("code-{way} /data/code/readable"), EACCES, hook);
    }
    for way in ["copied", "both"] {
        let line = format!("code-{way} /data/code/exec/other");
        held(w, a, free, &line, EPERM, Hook::CodeMemory);
    }
    held(w, a, free, "code-device /dev/zero", EPERM, Hook::CodeMemory);
    w.allowed(a, "open /data/code/readable 0");
}

fn behind(w: &World, a: &Actor, free: &Actor) {
    held(w, a, free, "code-traced /data/code/exec/other", EPERM, Hook::CodeMemory);
    // Whether the kernel lets it go past the pages' protection is a setting of its own (proc_mem.force_override).
    w.allowed(free, "open /proc/self/mem 2");
    w.denied(a, "code-mem /data/code/exec/other", EPERM, Hook::CodeMemory);
    w.allowed(a, "open /proc/self/mem 0");
}

/// A child is as strict, whatever is asked for it.
fn children(w: &World) -> Result<()> {
    let parent = w.strict(&[rule(AgentSignal, KernelScope::Everything)])?;
    let out = fs::OpenOptions::new().write(true).open("/dev/null")?;
    let child = w.agent_with(&[], parent.aid.unwrap_or_default(), out.into())?;
    w.denied(&child, "code-later", EPERM, Hook::CodeMemory);
    w.end(&child)?;
    w.end(&parent)
}
