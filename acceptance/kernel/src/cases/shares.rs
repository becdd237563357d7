//! Who floods the ring is stopped before anybody else is: others' records have their room.

use crate::world::{Actor, World, await_that, on};
use abi::Capability::FsRead;
use abi::event::EVENT_DENIAL;
use anyhow::Result;
use libc::EACCES;

/// Refusals of the quiet agent while the ring is as full as others can make it.
const QUIET: u64 = 30;
/// Refusals of each that floods it: several rings full.
const FLOOD: i64 = 4_000;

pub fn run(w: &World) -> Result<()> {
    let quiet = w.agent(&[on(FsRead, "/data/ok")])?;
    let floods = (0..3).map(|_| w.agent(&[])).collect::<Result<Vec<Actor>>>()?;
    w.drain();
    w.hold()?;
    for flood in &floods {
        flood.start(&format!("many-opens /data/no/f {FLOOD}"));
    }
    let stopped = await_that(|| floods.iter().all(|flood| state(flood) == 'T'));
    w.check("all who flood the ring are stopped", stopped, || floods.iter().map(state).collect());
    let made = denials(w, &floods)?;
    let refuse = || quiet.tell("open /data/no/f 0") == -i64::from(EACCES);
    let refused = (0..QUIET).take_while(|_| refuse()).count() as u64;
    w.same("the quiet one is refused as ever", &refused, &QUIET);
    w.check("and is not stopped", state(&quiet) != 'T', String::new);
    w.same("nor do the others go on meanwhile", &denials(w, &floods)?, &made);
    w.release();
    let ended: Vec<i64> = floods.iter().map(Actor::hear).collect();
    w.same("they go on and end", &ended, &vec![FLOOD; floods.len()]);
    w.drain();
    for one in floods.iter().chain([&quiet]) {
        let aid = one.aid.unwrap_or_default();
        let counted = w.kernel.counters(aid)?.denials;
        let recorded = w.count(|e| e.aid == aid.0 && e.kind == EVENT_DENIAL) as u64;
        w.same("each denial is recorded", &recorded, &counted);
        w.end(one)?;
    }
    Ok(())
}

/// What the kernel has counted for them.
fn denials(w: &World, agents: &[Actor]) -> Result<u64> {
    let mut sum = 0;
    for agent in agents {
        sum += w.kernel.counters(agent.aid.unwrap_or_default())?.denials;
    }
    Ok(sum)
}

/// The state letter of its process.
fn state(agent: &Actor) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", agent.pid)).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|s| s.chars().next()).unwrap_or('?')
}
