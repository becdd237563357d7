//! Every denial counted is recorded, whatever the load; nothing is lost when the reader is slow.

use crate::world::{Actor, World, await_that, on};
use abi::Capability::FsRead;
use abi::event::EVENT_DENIAL;
use anyhow::Result;
use kernel::Counters;

pub fn run(w: &World) -> Result<()> {
    names(w)?;
    back_pressure(w)?;
    crowd(w)?;
    gaps(w);
    Ok(())
}

/// An event names its object and the time, process and command of who did it.
fn names(w: &World) -> Result<()> {
    let a = w.agent(&[on(FsRead, "/data/ok")])?;
    let deep = "/data/no/f";
    a.tell(&format!("open {deep} 0"));
    w.drain();
    let event = w.last_denial(a.aid);
    let object = event.map(|e| text(&e.object, e.object_len));
    w.same("a denial names its object", &object, &Some(deep.to_owned()));
    w.same("and the process", &event.map(|e| e.pid), &Some(a.pid));
    w.same("and wants reading", &event.map(|e| e.wanted), &Some(abi::caps::RIGHT_READ));
    a.tell("mkdir /data/no/sub");
    w.drain();
    let object = w.last_denial(a.aid).map(|e| text(&e.object, e.object_len));
    w.same("a new name too", &object, &Some("/data/no/sub".to_owned()));
    a.tell("utimes /data/no/f");
    w.drain();
    let object = w.last_denial(a.aid).map(|e| text(&e.object, e.object_len));
    w.check("and one that is only a dentry", object.as_deref() == Some("/no/f"), || {
        format!("{object:?}")
    });
    w.end(&a)
}

fn text(bytes: &[u8], length: u32) -> String {
    String::from_utf8_lossy(&bytes[..length as usize]).into_owned()
}

/// The reader sleeps while three agents fill the ring several times over.
fn back_pressure(w: &World) -> Result<()> {
    const ROUNDS: u64 = 3000;
    let agents = [w.agent(&[])?, w.agent(&[])?, w.agent(&[on(FsRead, "/data/ok")])?];
    w.drain();
    w.hold()?;
    for (a, path) in agents.iter().zip(["/data/no/f", "/data/no/f", "/data/ok/f"]) {
        a.start(&format!("many-opens {path} {ROUNDS}"));
    }
    let stopped = await_that(|| agents.iter().any(|a| state(a.pid) == 'T'));
    w.check("a slow reader stops who fills the ring", stopped, || {
        let states: String = agents.iter().map(|a| state(a.pid)).collect();
        format!("states {states}")
    });
    w.release();
    let refused: Vec<i64> = agents.iter().map(|a| a.hear()).collect();
    w.same("each goes on and ends", &refused, &vec![ROUNDS as i64, ROUNDS as i64, 0]);
    w.drain();
    let least = [(ROUNDS, 0), (ROUNDS, 0), (0, ROUNDS)];
    for (a, (denials, uses)) in agents.iter().zip(least) {
        recorded(w, a, Counters { denials, uses })?;
        w.end(a)?;
    }
    Ok(())
}

/// What the kernel has counted of an agent is in the ring, all of it, and no less than was done.
fn recorded(w: &World, a: &Actor, least: Counters) -> Result<()> {
    let aid = a.aid.unwrap_or_default();
    let counted = w.kernel.counters(aid)?;
    let told = Counters {
        denials: w.count(|e| e.aid == aid.0 && e.kind == EVENT_DENIAL) as u64,
        uses: w.count(|e| e.aid == aid.0 && e.kind != EVENT_DENIAL) as u64,
    };
    w.check("denials and uses counted are recorded", all_told(counted, told, least), || {
        format!("counted {counted:?}, recorded {told:?}, done {least:?}")
    });
    Ok(())
}

fn all_told(counted: Counters, told: Counters, least: Counters) -> bool {
    let same = (counted.denials, counted.uses) == (told.denials, told.uses);
    same && told.denials >= least.denials && told.uses >= least.uses
}

/// More who are recorded than processors: they are interrupted anywhere.
fn crowd(w: &World) -> Result<()> {
    const ROUNDS: u64 = 15_000;
    let agents = (0..6).map(|_| w.agent(&[on(FsRead, "/data/ok")])).collect::<Result<Vec<_>>>()?;
    for a in &agents {
        a.start(&format!("many-opens /data/ok/f {ROUNDS}"));
    }
    let refused: Vec<i64> = agents.iter().map(|a| a.hear()).collect();
    w.same("all of a crowd go on", &refused, &vec![0; agents.len()]);
    w.drain();
    for a in &agents {
        recorded(w, a, Counters { denials: 0, uses: ROUNDS })?;
        w.end(a)?;
    }
    Ok(())
}

/// Per CPU the sequence has no hole, and comes in order: a reader takes one that is late for missing.
fn gaps(w: &World) {
    let Ok(flow) = w.flow.lock() else { return w.check("the events", false, String::new) };
    w.check("there were events", !flow.next.is_empty(), String::new);
    for (cpu, count) in &flow.next {
        let wrong = flow.wrong.get(cpu);
        w.check(&format!("nothing of CPU {cpu} is missing or late"), wrong.is_none(), || {
            format!("of {count} events the first in a wrong place, and what was due: {wrong:?}")
        });
    }
}

/// The state letter of a process.
fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|s| s.chars().next()).unwrap_or('?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_never_counted_is_seen() {
        let of = |denials, uses| Counters { denials, uses };
        assert!(all_told(of(3, 7), of(3, 7), of(3, 5)));
        for (counted, told, least) in [
            (of(3, 7), of(3, 0), of(3, 0)),
            (of(3, 7), of(3, 6), of(3, 5)),
            (of(3, 7), of(2, 7), of(0, 0)),
            (of(0, 0), of(0, 0), of(3, 0)),
            (of(3, 0), of(3, 0), of(3, 5)),
        ] {
            assert!(!all_told(counted, told, least), "{counted:?} {told:?} {least:?}");
        }
    }
}
