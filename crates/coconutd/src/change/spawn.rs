//! Spawning an agent; a step that fails undoes those before it and is named.

mod given;
mod made;
mod plan;
mod run;

use super::{Counted, blocking, whole};
use crate::authority::source::Prepared;
use crate::authority::users::RunAs;
use crate::caller::Caller;
use crate::error::{Answer, Refusal};
use crate::handed::Handed;
use crate::output::Output;
use crate::reap;
use crate::registry::Line;
use crate::rights::Wanted;
use crate::state::Daemon;
use crate::tree::Tree;
use abi::AgentId;
use api::agent::SpawnRequest;
use made::undo;
use plan::{parent_of, plan};
use resolve::programs::Program;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

/// Spawns an agent.
///
/// # Errors
/// Names the step that refused; nothing is left behind.
pub async fn spawn(daemon: &Arc<Daemon>, caller: Caller, request: SpawnRequest) -> Answer<AgentId> {
    let handed = take_stdio(daemon, &caller, &request)?;
    let daemon = daemon.clone();
    whole(&daemon.clone(), async move {
        let _starting = Counted::one_more(&daemon, |daemon| &daemon.starting);
        let plan = plan(&daemon, caller, &request, handed).await?;
        let room = daemon.sink.room().await?;
        let tree = plan.tree(&daemon)?;
        let (aid, records) = {
            let _tree = tree.lock().await;
            blocking(|| plan.make(&daemon, &tree, room))?
        };
        let started = plan.start(&daemon, aid, records).await;
        match started {
            Ok(process) => {
                plan.activate(&daemon, aid);
                plan.keep_lines(&daemon, aid);
                blocking(|| daemon.remember());
                let pump = plan.output.map(Output::start);
                reap::watch(&daemon, aid, process, plan.handed.map(|handed| handed.leash), pump);
                Ok(aid)
            }
            Err(refusal) => {
                blocking(|| undo(&daemon, aid, &refusal));
                Err(refusal)
            }
        }
    })
    .await
}

impl Plan {
    /// Whose lock is held while it is made.
    fn tree(&self, daemon: &Daemon) -> Answer<Arc<Tree>> {
        let Some(parent) = parent_of(&self.caller) else { return Ok(Arc::default()) };
        let tree = daemon.inner().info.get(&parent).map(|info| info.tree.clone());
        tree.ok_or_else(|| Refusal::denied("the parent is not known").step("attenuation"))
    }

    /// What the next daemon reads on from, and whom it listens to.
    fn keep_lines(&self, daemon: &Daemon, aid: AgentId) {
        if let Some(output) = &self.output {
            daemon.registry.keep(Line::Output, aid, output.reading());
        }
        if let Some(handed) = &self.handed {
            daemon.registry.keep(Line::Leash, aid, handed.leash.as_fd());
        }
    }
}

fn take_stdio(daemon: &Daemon, caller: &Caller, request: &SpawnRequest) -> Answer<Option<Handed>> {
    let Some(stdio) = &request.stdio else { return Ok(None) };
    let handed = daemon.stdio.take(stdio.token, caller);
    handed.map(Some).ok_or_else(|| {
        Refusal::usage("no descriptors were handed over under this token")
            .hint("an agent may hand on pipes, sockets and terminals only, no files")
            .step("stdio")
    })
}

/// Where an agent lives that says nothing else: its own, and empty.
const HOME: &str = "/tmp";

/// Everything that was decided before anything is made.
struct Plan {
    caller: Caller,
    prepared: Prepared,
    wanted: Wanted,
    program: Program,
    run_as: RunAs,
    uuid: Uuid,
    env: Vec<String>,
    cwd: PathBuf,
    handed: Option<Handed>,
    stdio: [OwnedFd; 3],
    output: Option<Output>,
    /// Its command line, as it may be shown.
    shown: Vec<String>,
}
