//! Spawning an agent; a step that fails undoes those before it and is named.

mod given;

use super::children::{processes, spawn_count};
use super::{Counted, blocking, sets, whole};
use crate::authority::key;
use crate::authority::source::{self, Prepared};
use crate::authority::users::{self, RunAs};
use crate::caller::Caller;
use crate::error::{Answer, Refusal};
use crate::handed::Handed;
use crate::output::Output;
use crate::owner::Owner;
use crate::port::Ready;
use crate::registry::Line;
use crate::rights::{Wanted, launch, wanted};
use crate::sink::Durable;
use crate::state::{Daemon, Info};
use crate::tree::Tree;
use crate::{clock, reap};
use abi::{AgentId, AgentState, Capability, Kind};
use api::agent::SpawnRequest;
use manifest::{AbsPath, Digest, Namespaces};
use resolve::programs::Program;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use supervisor::{Admission, Event};
use uuid::Uuid;

/// How long it takes until the kernel is told again what it did not take.
const AGAIN: Duration = Duration::from_millis(500);

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

async fn plan(
    daemon: &Daemon,
    caller: Caller,
    request: &SpawnRequest,
    handed: Option<Handed>,
) -> Answer<Plan> {
    let prepared = source::prepare(daemon, &caller, request)?;
    let manifest = &prepared.manifest;
    let wrong_user = |refusal: Refusal| refusal.step("user");
    let user = manifest.agent.user.as_deref();
    let run_as = users::run_as(daemon, &caller, user).map_err(wrong_user)?;
    let program = program(daemon, manifest).await.map_err(|refusal| refusal.step("digest"))?;
    let parent = parent_of(&caller);
    let wanted = wanted::wanted(daemon, manifest, &program, parent).await?;
    if let Some(signer) = &prepared.signer {
        let own = users::run_as(daemon, &caller, None).map_err(wrong_user)?;
        let user = user.filter(|_| own.uid != run_as.uid);
        key::check(daemon, signer, &manifest.agent.tenant, &wanted, user).await?;
    }
    let asked = request.cwd.clone().map(PathBuf::from);
    let own = manifest.agent.cwd.as_ref().map(|path| PathBuf::from(path.as_str()));
    let cwd = asked.or(own).unwrap_or_else(|| PathBuf::from("/"));
    let env = request.env.clone();
    let uuid = Uuid::now_v7();
    let tenant = &manifest.agent.tenant;
    let (stdio, output) =
        standard_files(daemon, uuid, tenant, handed.as_ref()).map_err(|error| {
            Refusal::failed(format!("cannot prepare its standard files: {error}")).step("stdio")
        })?;
    let shown = manifest::secrets::masked(&manifest.agent.command);
    Ok(Plan {
        caller,
        prepared,
        wanted,
        program,
        run_as,
        uuid,
        env,
        cwd,
        handed,
        stdio,
        output,
        shown,
    })
}

fn parent_of(caller: &Caller) -> Option<AgentId> {
    match caller {
        Caller::Agent { aid, .. } => Some(*aid),
        _ => None,
    }
}

/// The program, held from now until it runs; its digest is the manifest's, if that names one.
async fn program(daemon: &Daemon, manifest: &manifest::Manifest) -> Answer<Program> {
    let path = AbsPath::parse(&manifest.agent.command[0])
        .map_err(|error| Refusal::usage(error.to_string()))?;
    let program = daemon.lookup.program(&path).await.map_err(|error| {
        Refusal::chain(api::ErrorCode::Failed, &error)
            .or_hint("the command must be the path of a program that exists")
    })?;
    let found = Digest(program.digest);
    match manifest.agent.digest {
        Some(wanted) if wanted != found => Err(Refusal::new(
            api::ErrorCode::Integrity,
            format!("{path} is not what the manifest names: its SHA-256 is {found}"),
        )
        .hint("restore the program, or have the manifest signed for the new one")),
        _ => Ok(program),
    }
}

type Standard = ([OwnedFd; 3], Option<Output>);

fn standard_files(
    daemon: &Daemon,
    uuid: Uuid,
    tenant: &str,
    handed: Option<&Handed>,
) -> std::io::Result<Standard> {
    if let Some(handed) = handed {
        let [a, b, c] = &handed.descriptors;
        return Ok(([a.try_clone()?, b.try_clone()?, c.try_clone()?], None));
    }
    let input: OwnedFd = File::open("/dev/null")?.into();
    let (output, out) = Output::new(daemon.shelf.keep(uuid, tenant)?)?;
    Ok(([input, out.try_clone()?, out], Some(output)))
}

impl Plan {
    /// Whose lock is held while it is made.
    fn tree(&self, daemon: &Daemon) -> Answer<Arc<Tree>> {
        let Some(parent) = parent_of(&self.caller) else { return Ok(Arc::default()) };
        let tree = daemon.inner().info.get(&parent).map(|info| info.tree.clone());
        tree.ok_or_else(|| Refusal::denied("the parent is not known").step("attenuation"))
    }

    /// Admission, cgroup and rights. The tree's lock is held: from here on, what is taken from the
    /// parent is taken from this agent too. Its records are on their way when this returns.
    fn make(
        &self,
        daemon: &Arc<Daemon>,
        tree: &Arc<Tree>,
        room: crate::sink::Room,
    ) -> Answer<(AgentId, Durable)> {
        let aid = self.admit(daemon, tree).map_err(|refusal| refusal.step("attenuation"))?;
        match self.make_in_kernel(daemon, aid) {
            Ok(()) => {
                let due = {
                    let mut inner = daemon.inner();
                    let records = self.records(&mut inner, aid);
                    room.owe(records)
                };
                // The next daemon has to know whom it finds.
                daemon.remember();
                Ok((aid, room.pay(due)))
            }
            Err(refusal) => {
                undo(daemon, aid, &refusal);
                Err(refusal)
            }
        }
    }

    fn admit(&self, daemon: &Daemon, tree: &Arc<Tree>) -> Answer<AgentId> {
        let manifest = &self.prepared.manifest;
        let admission = Admission {
            uuid: self.uuid,
            parent: parent_of(&self.caller),
            name: manifest.agent.name.clone(),
            tenant: manifest.agent.tenant.clone(),
            children: manifest.agent.children,
            weight: manifest.weight,
            memory: manifest.memory,
            sets: self.wanted.sets.iter().map(|set| set.set().clone()).collect(),
        };
        let info = self.info(tree);
        let mut inner = daemon.inner();
        let aid = inner.supervisor.admit(admission, clock::boot_ns()).map_err(|error| {
            Refusal::denied(error.to_string())
                .hint("a child may hold only what its parent holds: `coconut cap ls` shows it")
        })?;
        inner.enter(aid, info);
        inner.admitted += 1;
        Ok(aid)
    }

    fn info(&self, tree: &Arc<Tree>) -> Info {
        let namespaces = self.prepared.manifest.agent.namespaces;
        let log_file = self.output.as_ref().map(|output| output.path().display().to_string());
        Info {
            uuid: self.uuid,
            command: self.shown.clone(),
            uid: self.run_as.uid,
            owner: self.caller.uid(),
            pid: None,
            pidfd: None,
            tree: tree.clone(),
            kernel: Arc::new(Owner::default()),
            sets: Vec::new(),
            numbers: VecDeque::new(),
            namespaces,
            launch: launch::given(&self.stdio, namespaces),
            started_ns: clock::wall_ns(),
            ended_ns: None,
            origin: self.prepared.origin.clone(),
            program_digest: Some(Digest(self.program.digest).to_string()),
            log_file,
            ending: None,
            kernel_denials: 0,
            daemon_denials: 0,
            uses: 0,
            last_counters: None,
            tokens: 0,
            calls: 0,
            exited: None,
            exit: None,
            footing: None,
        }
    }

    fn make_in_kernel(&self, daemon: &Daemon, aid: AgentId) -> Answer<()> {
        let manifest = &self.prepared.manifest;
        let (held, weight, children, tenant_weight) = {
            let inner = daemon.inner();
            let agent = inner.supervisor.get(aid)?;
            let children = agent.held_of(Capability::AgentSpawn).filter_map(spawn_count).max();
            let tenant_weight = inner.supervisor.tenant_weight(&agent.tenant);
            (agent.sets().to_vec(), agent.weight, children, tenant_weight)
        };
        let refused = |step: &'static str| move |e: kernel::Error| Refusal::from(e).step(step);
        let sets = sets::kernel_sets(daemon, &held, None).map_err(refused("rights"))?;
        let ids = sets::ids(&sets).map_err(refused("rights"))?;
        let new = kernel::NewAgent {
            aid,
            agent: self.uuid,
            parent: parent_of(&self.caller).unwrap_or(AgentId::NOBODY),
            tenant: manifest.agent.tenant.clone(),
            weight,
            ram_max: manifest.memory.ram,
            swap_max: manifest.memory.ssd,
            pids_max: Some(processes(daemon.config.pids_max, children)),
            may_spawn: children.is_some(),
            namespaces: match manifest.agent.namespaces {
                Namespaces::Own => kernel::Namespaces::Own { tmp_size: daemon.config.tmp_size },
                Namespaces::Shared => kernel::Namespaces::Shared,
            },
        };
        daemon.kernel.create_agent(&new, &ids).map_err(refused("cgroup"))?;
        if let Some(info) = daemon.inner().info.get_mut(&aid) {
            sets::remember(info, &held, &sets, &ids);
            info.sets = sets;
        }
        let tenant = &manifest.agent.tenant;
        daemon.kernel.set_tenant_weight(tenant, tenant_weight).map_err(refused("cgroup"))
    }

    /// Its process is made while its records are written, and its program runs once they are. Among many
    /// the records come first: then they are synced together, and what that saves is work, not waiting.
    async fn start(
        &self,
        daemon: &Daemon,
        aid: AgentId,
        records: Durable,
    ) -> Answer<kernel::Process> {
        let written = async move {
            records.written().await.map_err(|error| Refusal::from(error).step("record"))
        };
        if daemon.starting.load(Ordering::Relaxed) > 1 {
            written.await?;
            return blocking(|| self.go(daemon, aid, self.prepare(daemon, aid)?));
        }
        let ready = blocking(|| self.prepare(daemon, aid))?;
        written.await?;
        blocking(|| self.go(daemon, aid, ready))
    }

    fn prepare(&self, daemon: &Daemon, aid: AgentId) -> Answer<Box<dyn Ready>> {
        tell(daemon, aid).map_err(|e| Refusal::from(e).step("state"))?;
        let launch = self.launch().map_err(|error| {
            Refusal::failed(format!("cannot hand its files on: {error}")).step("launch")
        })?;
        let ready = daemon.kernel.prepare(aid, launch);
        ready.map_err(|error| Refusal::from(error).step("launch"))
    }

    fn go(&self, daemon: &Daemon, aid: AgentId, ready: Box<dyn Ready>) -> Answer<kernel::Process> {
        let refused = |text: String| Refusal::failed(text).step("launch");
        if daemon.inner().info.get(&aid).is_none_or(|info| info.ending.is_some()) {
            return Err(refused("it was ended before it ran".to_owned()));
        }
        let process = ready.go().map_err(|error| Refusal::from(error).step("launch"))?;
        if self.program.guarded() && !self.program.holds() {
            let real = &self.program.real;
            return Err(refused(format!("{real} was written to while it was started")));
        }
        let pidfd = process.pidfd.try_clone().map_err(|e| Refusal::failed(e.to_string()))?;
        let footing = daemon.kernel.footing(aid).ok();
        let mut inner = daemon.inner();
        if let Some(info) = inner.info.get_mut(&aid) {
            info.pid = Some(process.pid);
            info.pidfd = Some(Arc::new(pidfd));
            info.footing = footing;
        }
        inner.supervisor.touch(aid);
        drop(inner);
        Ok(process)
    }

    fn launch(&self) -> std::io::Result<kernel::Launch> {
        let [input, output, error] = &self.stdio;
        let interpreter = self.program.interpreter.as_ref();
        Ok(kernel::Launch {
            program: self.program.file.try_clone()?,
            interpreter: interpreter.map(|program| program.file.try_clone()).transpose()?,
            argv: self.prepared.manifest.agent.command.iter().map(OsString::from).collect(),
            env: self.environment(),
            cwd: self.cwd.clone(),
            uid: self.run_as.uid,
            gid: self.run_as.gid,
            groups: self.run_as.groups.clone(),
            stdio: [input.try_clone()?, output.try_clone()?, error.try_clone()?],
        })
    }

    fn activate(&self, daemon: &Arc<Daemon>, aid: AgentId) {
        let (due, doomed) = {
            let mut inner = daemon.inner();
            let step = inner.step(aid, Event::Activate);
            let due = daemon.sink.owe(step.into_iter().map(|(_, entry)| entry).collect());
            (due, inner.info.get(&aid).is_some_and(|info| info.ending.is_some()))
        };
        daemon.expiry.notify_one();
        blocking(|| {
            // Whoever ended it in between found no process yet.
            if doomed && let Err(error) = daemon.kernel.kill(aid) {
                tracing::error!(?aid, %error, "cannot kill");
            }
            daemon.sink.pay(due);
            if let Err(error) = tell(daemon, aid) {
                tracing::warn!(%error, "the kernel did not take the state; trying again");
                tokio::spawn(tell_again(daemon.clone(), aid));
            }
        });
    }
}

/// Tells the kernel the agent's state.
fn tell(daemon: &Daemon, aid: AgentId) -> kernel::Result<()> {
    let owner = daemon.inner().info.get(&aid).map(|info| info.kernel.clone());
    owner.map_or(Ok(()), |owner| owner.tell_now(daemon, aid))
}

/// Tells the kernel the state until it takes it, or the agent has ended.
async fn tell_again(daemon: Arc<Daemon>, aid: AgentId) {
    let lives = || daemon.inner().supervisor.get(aid).is_ok_and(|a| !a.state().is_terminal());
    while lives() && blocking(|| tell(&daemon, aid)).is_err() {
        tokio::time::sleep(AGAIN).await;
    }
}

/// Nothing of the agent stays but its records, which say what refused.
fn undo(daemon: &Arc<Daemon>, aid: AgentId, refusal: &Refusal) {
    let due = {
        let mut entries = Vec::new();
        let mut inner = daemon.inner();
        let attested = inner.supervisor.get(aid).is_ok_and(|a| a.state() == AgentState::Attested);
        if attested {
            let mut exit = inner.entry(aid, Kind::Exit);
            exit.object = "never started".into();
            let step = refusal.0.step.clone().unwrap_or_default();
            let why = refusal.0.error.clone();
            exit.body = record::body::Exit { step, why, ..Default::default() }.into();
            entries.push(exit);
        }
        let ended = inner.step(aid, Event::Terminate(supervisor::End::Failed));
        entries.extend(ended.filter(|_| attested).map(|(_, entry)| entry));
        daemon.sink.owe(entries)
    };
    daemon.remember();
    daemon.sink.pay(due);
    match reap::remove_now(daemon, aid) {
        Ok(()) => withdraw(daemon, aid),
        Err(error) => {
            tracing::warn!(?aid, %error, "undoing a spawn: the kernel still has it");
            let daemon = daemon.clone();
            tokio::spawn(async move {
                reap::remove(&daemon, aid).await;
                withdraw(&daemon, aid);
            });
        }
    }
}

fn withdraw(daemon: &Daemon, aid: AgentId) {
    let info = {
        let mut inner = daemon.inner();
        if let Err(error) = inner.supervisor.withdraw(aid) {
            tracing::debug!(%error, "undoing a spawn: withdraw");
        }
        inner.forget(aid)
    };
    // Its sets go with it, outside of the lock.
    drop(info);
    daemon.remember();
}
