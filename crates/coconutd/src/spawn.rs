//! Spawning an agent, in the design's order; a step that fails undoes those before it and is named.

use crate::error::{Answer, Refusal};
use crate::identity::Caller;
use crate::source::{self, Prepared};
use crate::state::{Daemon, Info};
use crate::stdio::{Handed, Leash};
use crate::users::{self, RunAs};
use crate::{change, clock, digest, reap, rules, translate};
use abi::{AgentId, AgentState, Entry, Kind, Verdict};
use api::agent::SpawnRequest;
use api::broker::{BROKER_PORT, LaneEvent};
use manifest::{EffectiveRule, Implied, Origin, Rule};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use supervisor::{Admission, Event};
use uuid::Uuid;

/// Where an agent's programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Spawns an agent.
///
/// # Errors
/// Names the step that refused; nothing is left behind.
pub async fn spawn(daemon: &Arc<Daemon>, caller: Caller, request: SpawnRequest) -> Answer<AgentId> {
    if daemon.is_stopping() {
        return Err(stopping());
    }
    let worker = daemon.clone();
    let handed = take_stdio(daemon, &caller, &request)?;
    let plan = blocking(move || plan(&worker, caller, &request, handed)).await?;
    let parent = plan.parent();
    let made = {
        let _one_at_a_time = daemon.policy.lock().await;
        let worker = daemon.clone();
        blocking(move || plan.admit_and_make(&worker)).await?
    };
    let worker = daemon.clone();
    let (aid, process, leash) = blocking(move || made.start(&worker)).await?;
    reap::watch(daemon, aid, process, leash);
    if parent.is_some() {
        let _one_at_a_time = daemon.policy.lock().await;
        change::refresh_signals(daemon, parent);
    }
    Ok(aid)
}

fn stopping() -> Refusal {
    Refusal::new(api::ErrorCode::Unavailable, "coconutd is stopping")
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|error| {
        Err(Refusal::failed(format!("the daemon's own code failed: {error}")))
    })
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
    rules: Vec<EffectiveRule>,
    run_as: RunAs,
    uuid: Uuid,
    env: Vec<String>,
    cwd: PathBuf,
    handed: Option<Handed>,
    program_digest: String,
}

fn plan(
    daemon: &Daemon,
    caller: Caller,
    request: &SpawnRequest,
    handed: Option<Handed>,
) -> Answer<Plan> {
    let prepared = source::prepare(daemon, &caller, request)?;
    let manifest = &prepared.manifest;
    let rules = manifest
        .effective(&daemon.profiles, &implied(daemon))
        .map_err(|error| Refusal::usage(error.to_string()).step("manifest"))?;
    let rules = daemon.paths.real(rules);
    let run_as = users::run_as(daemon, &caller, manifest.agent.user.as_deref())
        .map_err(|refusal| refusal.step("user"))?;
    let program_digest = check_program(manifest).map_err(|refusal| refusal.step("digest"))?;
    let asked = request.cwd.clone().map(PathBuf::from);
    let own = manifest.agent.cwd.as_ref().map(|path| PathBuf::from(path.as_str()));
    let cwd = asked.or(own).unwrap_or_else(|| PathBuf::from("/"));
    let env = request.env.clone();
    let uuid = Uuid::now_v7();
    Ok(Plan { caller, prepared, rules, run_as, uuid, env, cwd, handed, program_digest })
}

/// What `infer`, `agent.spawn` and the like need on this machine to be of use.
fn implied(daemon: &Daemon) -> Implied {
    let config = &daemon.config;
    let parse = |text: String| text.parse::<Rule>().ok();
    let unix = |path: PathBuf| parse(format!("ipc.unix={}", path.display()));
    let loopback = parse(format!("net.connect=127.0.0.1:{BROKER_PORT}"));
    Implied {
        infer: [loopback, unix(config.broker_socket())].into_iter().flatten().collect(),
        api: [unix(config.api_socket()), unix(config.stdio_socket())]
            .into_iter()
            .flatten()
            .collect(),
    }
}

/// The program's digest, checked against the manifest's if that names one.
fn check_program(manifest: &manifest::Manifest) -> Answer<String> {
    let program = &manifest.agent.command[0];
    let found = digest::of_file(Path::new(program)).map_err(|error| {
        let refusal = Refusal::failed(format!("cannot read {program}: {error}"));
        refusal.hint("the command must be the path of a program that exists")
    })?;
    match manifest.agent.digest {
        Some(wanted) if wanted.to_string() != found => Err(Refusal::new(
            api::ErrorCode::Integrity,
            format!("{program} is not what the manifest names: its SHA-256 is {found}"),
        )
        .hint("restore the program, or have the manifest signed for the new one")),
        _ => Ok(found),
    }
}

impl Plan {
    /// Admission, cgroup and rights. The policy lock is held: from here on, what is taken from
    /// the parent is taken from this agent too.
    fn admit_and_make(self, daemon: &Daemon) -> Answer<Made> {
        if daemon.is_stopping() {
            return Err(stopping());
        }
        let aid = self.admit(daemon).map_err(|refusal| refusal.step("attenuation"))?;
        match self.make(daemon, aid) {
            Ok(()) => Ok(Made { plan: self, aid }),
            Err(refusal) => {
                undo(daemon, aid, &refusal);
                Err(refusal)
            }
        }
    }

    fn parent(&self) -> Option<AgentId> {
        match self.caller {
            Caller::Agent { aid, .. } => Some(aid),
            _ => None,
        }
    }

    fn admit(&self, daemon: &Daemon) -> Answer<AgentId> {
        let manifest = &self.prepared.manifest;
        let admission = Admission {
            uuid: self.uuid,
            parent: self.parent(),
            name: manifest.agent.name.clone(),
            tenant: manifest.agent.tenant.clone(),
            children: manifest.agent.children,
            weight: manifest.weight,
            rules: self.rules.clone(),
        };
        let mut inner = daemon.inner();
        let aid = inner.supervisor.admit(admission, clock::boot_ns()).map_err(|error| {
            Refusal::denied(error.to_string())
                .hint("a child may hold only what its parent holds: `coconut cap ls` shows it")
        })?;
        let log_file = match self.handed {
            Some(_) => None,
            None => Some(log_path(daemon, self.uuid).display().to_string()),
        };
        inner.info.insert(aid, self.info(log_file));
        inner.admitted += 1;
        Ok(aid)
    }

    fn info(&self, log_file: Option<String>) -> Info {
        Info {
            command: self.prepared.manifest.agent.command.clone(),
            uid: self.run_as.uid,
            owner: self.caller.uid(),
            pid: None,
            started_ns: clock::wall_ns(),
            ended_ns: None,
            origin: self.prepared.origin.clone(),
            program_digest: Some(self.program_digest.clone()),
            log_file,
            ending: None,
            kernel_denials: 0,
            daemon_denials: 0,
            uses: 0,
            last_counters: None,
            tokens: 0,
            calls: 0,
            exit: tokio::sync::watch::Sender::new(None),
        }
    }

    fn make(&self, daemon: &Daemon, aid: AgentId) -> Answer<()> {
        let manifest = &self.prepared.manifest;
        let new = kernel::NewAgent {
            aid,
            agent: self.uuid,
            parent: self.parent().unwrap_or(AgentId::NOBODY),
            tenant: manifest.agent.tenant.clone(),
            weight: manifest.weight,
            ram_max: manifest.memory.ram,
            swap_max: manifest.memory.ssd,
            pids_max: Some(daemon.config.pids_max),
        };
        daemon.kernel.create_agent(&new).map_err(|error| Refusal::from(error).step("cgroup"))?;
        let weight = daemon.inner().supervisor.tenant_weight(&manifest.agent.tenant);
        daemon
            .kernel
            .set_tenant_weight(&manifest.agent.tenant, weight)
            .map_err(|error| Refusal::from(error).step("cgroup"))?;
        let agent = daemon.inner().supervisor.get(aid)?.clone();
        let wrong = |text: String| {
            Refusal::usage(text)
                .hint("create the path first, or correct the manifest")
                .step("rights")
        };
        rules::check(&agent).map_err(wrong)?;
        let rules = rules::kernel_rules(daemon, &agent, &[]).map_err(wrong)?;
        daemon.kernel.apply(aid, &rules).map_err(|error| Refusal::from(error).step("rights"))
    }

    /// Records first, then the process.
    fn start(&self, daemon: &Daemon, aid: AgentId) -> Answer<kernel::Process> {
        let (mut entries, state) = self.records(daemon, aid);
        for entry in entries.drain(..) {
            daemon.sink.record(entry);
        }
        daemon.sink.written().map_err(|error| Refusal::failed(error).step("record"))?;
        if let Some(state) = state {
            daemon.kernel.set_state(aid, state).map_err(|e| Refusal::from(e).step("state"))?;
        }
        let stdio = self.stdio(daemon).map_err(|error| {
            Refusal::failed(format!("cannot prepare its standard files: {error}")).step("stdio")
        })?;
        let launch = kernel::Launch {
            argv: self.prepared.manifest.agent.command.iter().map(OsString::from).collect(),
            env: self.environment(),
            cwd: self.cwd.clone(),
            uid: self.run_as.uid,
            gid: self.run_as.gid,
            groups: self.run_as.groups.clone(),
            stdio,
            tmp_size: daemon.config.tmp_size,
        };
        daemon.kernel.launch(aid, launch).map_err(|error| Refusal::from(error).step("launch"))
    }

    /// `spawn`, its grants, what is degraded, and the step to `Attested`.
    fn records(&self, daemon: &Daemon, aid: AgentId) -> (Vec<Entry>, Option<AgentState>) {
        let origin = &self.prepared.origin;
        let mut inner = daemon.inner();
        let mut spawn = inner.entry(aid, Kind::Spawn);
        spawn.object = self.prepared.manifest.agent.command.join(" ");
        spawn.detail = format!(
            "name={} manifest={} signed={} authorizer={} program={} uid={}",
            self.prepared.manifest.agent.name,
            origin.digest,
            origin.signed,
            translate::word(&origin.authorizer),
            self.program_digest,
            self.run_as.uid,
        );
        let mut entries = vec![spawn];
        if let Some(text) = &self.prepared.degraded {
            let mut entry = inner.entry(aid, Kind::Degraded);
            entry.object.clone_from(text);
            entries.push(entry);
        }
        entries.extend(self.grants(&inner, aid));
        let step = inner.step(aid, Event::Attest);
        let state = step.map(|(state, entry)| {
            entries.push(entry);
            state
        });
        (entries, state)
    }

    /// One record for each right of the manifest's own, one for each profile.
    fn grants(&self, inner: &crate::state::Inner, aid: AgentId) -> Vec<Entry> {
        let Ok(agent) = inner.supervisor.get(aid) else { return Vec::new() };
        let mut profiles: BTreeMap<&str, usize> = BTreeMap::new();
        let mut entries = Vec::new();
        let authorizer = translate::word(&self.prepared.origin.authorizer);
        for held in agent.held() {
            if let Origin::Profile { name } = &held.origin {
                *profiles.entry(name).or_default() += 1;
                continue;
            }
            let mut entry = inner.entry(aid, Kind::Grant);
            entry.capability = held.rule.capability();
            entry.verdict = Verdict::Allow;
            entry.object = held.rule.value();
            let origin = translate::word(&crate::view::source(&held.origin));
            entry.detail = format!("rule={} from={origin} authorizer={authorizer}", held.id);
            entries.push(entry);
        }
        for (name, count) in profiles {
            let mut entry = inner.entry(aid, Kind::Grant);
            entry.verdict = Verdict::Allow;
            entry.object = format!("@{name}");
            entry.detail = format!("rules={count} from=profile authorizer={authorizer}");
            entries.push(entry);
        }
        entries
    }

    fn stdio(&self, daemon: &Daemon) -> std::io::Result<[OwnedFd; 3]> {
        if let Some(handed) = &self.handed {
            let [a, b, c] = &handed.descriptors;
            return Ok([a.try_clone()?, b.try_clone()?, c.try_clone()?]);
        }
        std::fs::create_dir_all(&daemon.config.agent_logs)?;
        let path = log_path(daemon, self.uuid);
        let out = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
        let input: OwnedFd = File::open("/dev/null")?.into();
        Ok([input, out.try_clone()?.into(), out.into()])
    }

    /// The manifest's variables, then the request's, then ours: the last wins.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let agent = &self.prepared.manifest.agent;
        let mut env: HashMap<String, String> = HashMap::new();
        for (name, value) in [("PATH", PATH), ("HOME", "/tmp"), ("LANG", "C.UTF-8")] {
            env.insert(name.to_owned(), value.to_owned());
        }
        env.extend(agent.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        let asked = self.env.iter().filter_map(|variable| variable.split_once('='));
        env.extend(asked.map(|(name, value)| (name.to_owned(), value.to_owned())));
        env.insert("COCONUT_AGENT".into(), self.uuid.to_string());
        env.insert("COCONUT_TENANT".into(), agent.tenant.clone());
        if self.rules.iter().any(|r| r.rule.capability() == abi::Capability::Infer) {
            env.insert("OPENAI_BASE_URL".into(), format!("http://127.0.0.1:{BROKER_PORT}/v1"));
            env.entry("OPENAI_API_KEY".into()).or_insert_with(|| "coconut".into());
        }
        env.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn activate(&self, daemon: &Daemon, aid: AgentId, pid: u32) {
        let mut inner = daemon.inner();
        if let Some(info) = inner.info.get_mut(&aid) {
            info.pid = Some(pid);
        }
        let step = inner.step(aid, Event::Activate);
        let lane = inner.lane(aid, clock::boot_ns());
        let doomed = inner.info.get(&aid).is_some_and(|info| info.ending.is_some());
        drop(inner);
        daemon.expiry.notify_one();
        // Whoever ended it in between found no process yet.
        if doomed && let Err(error) = daemon.kernel.kill(aid) {
            tracing::error!(?aid, %error, "cannot kill");
        }
        if let Some((state, entry)) = step {
            daemon.sink.record(entry);
            if let Err(error) = daemon.kernel.set_state(aid, state) {
                tracing::warn!(%error, "the kernel did not take the state");
            }
        }
        if let Some(lane) = lane {
            daemon.lanes.tell(LaneEvent::Set { lane });
        }
    }
}

/// An agent that the kernel knows, without a process.
struct Made {
    plan: Plan,
    aid: AgentId,
}

impl Made {
    fn start(self, daemon: &Daemon) -> Answer<(AgentId, kernel::Process, Option<Leash>)> {
        let Made { plan, aid } = self;
        match plan.start(daemon, aid) {
            Ok(process) => {
                plan.activate(daemon, aid, process.pid);
                Ok((aid, process, plan.handed.map(|handed| handed.leash)))
            }
            Err(refusal) => {
                undo(daemon, aid, &refusal);
                Err(refusal)
            }
        }
    }
}

/// Nothing of the agent stays but its records, which say what refused.
fn undo(daemon: &Daemon, aid: AgentId, refusal: &Refusal) {
    let ignore = |what: &str, done: kernel::Result<()>| {
        if let Err(error) = done {
            tracing::debug!(%error, "undoing a spawn: {what}");
        }
    };
    ignore("kill", daemon.kernel.kill(aid));
    ignore("remove", daemon.kernel.remove_agent(aid));
    daemon.names.forget(aid.0);
    daemon.pins.forget(aid.0);
    let mut inner = daemon.inner();
    let attested = inner.supervisor.get(aid).is_ok_and(|a| a.state() == AgentState::Attested);
    if attested {
        let mut exit = inner.entry(aid, Kind::Exit);
        exit.object = "never started".into();
        let step = refusal.0.step.clone().unwrap_or_default();
        exit.detail = format!("step={step} why={}", translate::word(&refusal.0.error));
        daemon.sink.record(exit);
        if let Some((_, entry)) = inner.step(aid, Event::Terminate(supervisor::End::Failed)) {
            daemon.sink.record(entry);
        }
    }
    if let Some(info) = inner.info.remove(&aid)
        && let Some(file) = info.log_file
    {
        let _ = std::fs::remove_file(file);
    }
    if let Err(error) = inner.supervisor.withdraw(aid) {
        tracing::debug!(%error, "undoing a spawn: withdraw");
    }
}

fn log_path(daemon: &Daemon, uuid: Uuid) -> PathBuf {
    daemon.config.agent_logs.join(format!("{uuid}.log"))
}
