//! What is mapped outlives its right: who may have mapped what was taken is known, and nobody else is looked at.

use crate::world::{Actor, Given, World, on};
use abi::Capability::{FsRead, FsWrite};
use anyhow::{Result, anyhow};
use kernel::Remains;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FILE: &str = "/data/ok/f";

pub fn run(w: &World) -> Result<()> {
    by_one_right(w)?;
    by_two_rights(w)?;
    by_a_later_right(w)?;
    by_where_a_rule_stood(w)?;
    its_program(w)?;
    meanwhile(w)
}

/// Takes all rights but these; whether the agent may have mapped what went.
fn left_with(w: &World, what: &str, a: &Actor, rules: &[Given], maps: bool) -> Result<()> {
    let want = if maps { Remains::Mapped } else { Remains::Nothing };
    w.same(what, &w.apply(a, rules)?, &want);
    Ok(())
}

fn mapper(w: &World, rules: &[Given], line: &str) -> Result<(Actor, i64)> {
    let a = w.agent(rules)?;
    let fd = w.allowed(&a, &format!("open {FILE} 0"));
    let at = w.allowed(&a, &line.replace("FD", &fd.to_string()));
    Ok((a, at))
}

fn by_one_right(w: &World) -> Result<()> {
    let (reader, _) = mapper(w, &[on(FsRead, "/data/ok")], "pread FD")?;
    left_with(w, "who has read has nothing mapped", &reader, &[], false)?;
    let (a, _) = mapper(w, &[on(FsRead, "/data/ok"), on(FsRead, "/data/ro")], "mmap FD 1 2")?;
    let ok = on(FsRead, "/data/ok");
    left_with(w, "nor is it by a right on another folder", &a, &[ok], false)?;
    left_with(w, "a private mapping is by its right", &a, &[], true)?;
    w.end(&reader)?;
    w.end(&a)
}

/// The nearer right let it map; what the farther one allows is kept for as long as that.
fn by_two_rights(w: &World) -> Result<()> {
    let (a, _) = mapper(w, &[on(FsRead, "/data/ok"), on(FsRead, FILE)], "mmap FD 1 1")?;
    left_with(w, "the nearer right goes", &a, &[on(FsRead, "/data/ok")], true)?;
    left_with(w, "then the farther", &a, &[], true)?;
    w.end(&a)?;
    let (a, _) = mapper(w, &[on(FsRead, "/data/ok"), on(FsRead, FILE)], "mmap FD 1 1")?;
    left_with(w, "the farther right goes first", &a, &[on(FsRead, FILE)], false)?;
    left_with(w, "then the nearer", &a, &[], true)?;
    w.end(&a)
}

/// Mapped to read by one right, made writable by another.
fn by_a_later_right(w: &World) -> Result<()> {
    let rules = [on(FsRead, "/data/ok"), on(FsWrite, FILE)];
    let a = w.agent(&rules)?;
    let fd = w.allowed(&a, &format!("open {FILE} 2"));
    let at = w.allowed(&a, &format!("mmap {fd} 1 1"));
    left_with(w, "nothing is mapped to write", &a, &[on(FsRead, "/data/ok")], false)?;
    w.apply(&a, &rules)?;
    w.allowed(&a, &format!("mprotect {at} 3"));
    left_with(w, "mprotect() makes it so", &a, &[on(FsRead, "/data/ok")], true)?;
    w.end(&a)
}

/// A rule that followed its name: what it stood on before is mapped still.
fn by_where_a_rule_stood(w: &World) -> Result<()> {
    let old = Arc::new(w.handle(FILE)?);
    let new = Arc::new(w.handle("/data/ok/g")?);
    let scope = kernel::KernelScope::File(Arc::clone(&old));
    let set = w.kernel.make_set(&[kernel::KernelRule {
        capability: FsRead,
        scope,
        expires_ns: 0,
        code: false,
        uses: None,
    }])?;
    let a = w.agent(&[])?;
    let aid = a.aid.unwrap_or_default();
    w.kernel.assign(aid, &[set, w.base()?])?;
    let fd = w.allowed(&a, &format!("open {FILE} 0"));
    w.allowed(&a, &format!("mmap {fd} 1 2"));
    w.kernel.follow(set, 1, Some(&old), Some(&new))?;
    let maps = w.kernel.assign(aid, &[w.base()?])?;
    w.same("by a rule that stands on another file now", &maps, &Remains::Mapped);
    w.end(&a)?;
    w.kernel.drop_set(set)?;
    Ok(())
}

fn its_program(w: &World) -> Result<()> {
    let a = w.agent(&[])?;
    // It is there, with all its libraries.
    w.allowed(&a, "dup 0");
    let maps = w.kernel.assign(a.aid.unwrap_or_default(), &[])?;
    w.same("a program is mapped by the right to run it", &maps, &Remains::Mapped);
    w.end(&a)
}

/// At the very moment: either it is refused, or it is known.
fn meanwhile(w: &World) -> Result<()> {
    let mut unseen = 0;
    for round in 0..30u64 {
        let a = w.agent(&[on(FsRead, "/data/ok")])?;
        let fd = w.allowed(&a, &format!("open {FILE} 0"));
        let aid = a.aid.unwrap_or_default();
        let sets = [w.base()?];
        let kernel = Arc::clone(&w.kernel);
        let revoking = std::thread::spawn(move || kernel.assign(aid, &sets));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(round * 15) {}
        a.start(&format!("mmap {fd} 1 2"));
        let at = a.hear();
        let maps = revoking.join().map_err(|_| anyhow!("assign fell over"))??;
        unseen += u32::from(at >= 0 && maps == Remains::Nothing);
        w.end(&a)?;
    }
    w.same("no mapping beside a revocation goes unseen", &unseen, &0);
    Ok(())
}
