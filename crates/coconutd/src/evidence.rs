//! What an agent and all below it are at a moment, for whoever has to find out afterwards.

use crate::state::Daemon;
use crate::{clock, view};
use abi::AgentId;
use api::agent::{Evidence, EvidenceOf, EvidenceProcess};
use std::path::Path;

/// All of it; none of one that has been forgotten.
pub fn of(daemon: &Daemon, aid: AgentId) -> Option<Evidence> {
    let records = daemon.sink.records();
    let mut all = vec![aid];
    all.extend(daemon.inner().supervisor.descendants(aid));
    let agents: Vec<EvidenceOf> = all.into_iter().filter_map(|aid| one(daemon, aid)).collect();
    (!agents.is_empty()).then(|| Evidence { taken_ns: clock::wall_ns(), records, agents })
}

fn one(daemon: &Daemon, aid: AgentId) -> Option<EvidenceOf> {
    // One that has ended meanwhile has no processes.
    let processes = daemon.kernel.snapshot(aid).unwrap_or_default();
    Some(EvidenceOf {
        detail: view::detail(daemon, aid)?,
        denials: view::explain(daemon, aid)?,
        processes: processes.into_iter().map(process).collect(),
    })
}

fn process(seen: kernel::Snapshot) -> EvidenceProcess {
    let text = |path: &Path| path.display().to_string();
    EvidenceProcess {
        pid: seen.pid,
        command: manifest::secrets::masked(&seen.command),
        program: text(&seen.program),
        cwd: text(&seen.cwd),
        open: seen.open.iter().map(|(number, target)| (*number, text(target))).collect(),
        status: seen.status,
        maps: seen.maps,
        waits_in: seen.waits_in.into_iter().collect(),
    }
}
