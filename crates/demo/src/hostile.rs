//! Two sides of one attack: by a hostile agent on a victim agent, and by ordinary processes.

use crate::Context;
use crate::agent::{Agent, Spec};
use crate::attacks::{self, Attack, Target, Who};
use crate::control::{Process, User};
use crate::progress::STALLED;
use crate::scene::Scene;
use anyhow::{Context as _, Result, bail};
use api::agent::AgentDetail;
use probe::{Outcome, Victim};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// Longest wait for one line of a probe. What takes so long does not go on any more.
pub const PATIENCE: Duration = STALLED;
/// Cgroups for the control's attacks; removed afterwards.
pub const SCRATCH: &str = "/sys/fs/cgroup/coconut-demo-control";
/// A program that an attacker may read and not run.
pub const READABLE: &str = "/usr/bin/id";
/// One that it may not even read.
pub const HIDDEN: &str = "/usr/bin/env";

/// One side: its scene, and the attacks on it.
pub struct Side {
    /// Files and listeners.
    pub scene: Scene,
    /// What is tried, in order.
    pub attacks: Vec<Attack>,
}

impl Side {
    fn new(scene: Scene, target: &Target) -> Side {
        let attacks = [
            attacks::reading(&scene),
            attacks::key_theft(&scene),
            attacks::writing(&scene),
            attacks::network(&scene),
            attacks::processes(target),
            attacks::leaked(target),
            attacks::privileges(&scene, target),
            attacks::limits(target),
        ];
        Side { scene, attacks: attacks.concat() }
    }
}

/// What came of the attack by an agent.
pub struct Attacked {
    /// The attacked side.
    pub side: Side,
    /// One for each of the side's attacks.
    pub outcomes: Vec<Outcome>,
    /// What the attacker may do: reading and writing its own.
    pub own: Vec<Outcome>,
    /// The attacker after its end.
    pub attacker: AgentDetail,
    /// The victim after the attack.
    pub victim: AgentDetail,
}

fn victim_args(scene: &Scene, key: Option<&str>) -> Vec<String> {
    let mut args: Vec<String> =
        ["victim", "--secret", &scene.secret, "--file"].map(str::to_owned).into();
    args.push(scene.theirs("secret.txt"));
    if let Some(key) = key {
        args.extend(["--key".to_owned(), key.to_owned()]);
    }
    args
}

fn key_name() -> String {
    format!("coconut-demo-{}", std::process::id())
}

/// A handle of a process.
///
/// # Errors
/// When there is none.
pub fn pidfd(pid: u32) -> Result<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = Pid::from_raw(pid as i32).context("no process id")?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Every attack by ordinary processes; no outcome where only root could and we are not.
///
/// # Errors
/// When the scene cannot be set or the probe does not answer.
pub fn control_side(ctx: &Context) -> Result<(Side, Vec<Option<Outcome>>)> {
    let user = User::of_agents()?;
    let scene = Scene::set(&ctx.work, "control", user, &ctx.probe)?;
    let key = key_name();
    let victim = Process::start(user, &ctx.probe, &victim_args(&scene, Some(&key)), None)?;
    let told: Victim = victim.json(PATIENCE).context("the control's victim")?;
    let scratch = Scratch::make();
    let target = Target {
        pid: victim.pid,
        address: told.address,
        length: told.length,
        fd: told.fd,
        cgroup: format!("{SCRATCH}/other"),
        own_cgroup: format!("{SCRATCH}/own"),
        key,
        readable_program: READABLE.to_owned(),
        hidden_program: HIDDEN.to_owned(),
    };
    let side = Side::new(scene, &target);
    let root = rustix::process::geteuid().is_root();
    let mut outcomes = Vec::new();
    for attack in &side.attacks {
        let who = match attack.who {
            Who::User | Who::UserIfThere => user,
            Who::Root if root => User::ROOT,
            Who::Root | Who::Nobody => {
                outcomes.push(None);
                continue;
            }
        };
        outcomes.push(Some(try_plain(ctx, who, attack, victim.pid)?));
    }
    drop((victim, scratch));
    Ok((side, outcomes))
}

/// One attack by an ordinary process; its stdin is a pidfd of the victim, as the agent's is.
fn try_plain(ctx: &Context, who: User, attack: &Attack, victim: u32) -> Result<Outcome> {
    let args = ["try".to_owned(), attack.spec()];
    let process = Process::start(who, &ctx.probe, &args, Some(pidfd(victim)?))?;
    process.json(PATIENCE).with_context(|| format!("control of {}", attack.spec()))
}

/// What attacker and victim have to themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Namespaces {
    /// Everything, as agents are unless their manifest says otherwise.
    Own,
    /// `/proc`, `/tmp` and the IPC namespace are one for both.
    Shared,
}

impl Namespaces {
    /// The agent of a specification, in these namespaces: only a manifest can ask for shared ones.
    fn house(self, ctx: &Context, mut spec: Spec) -> Result<Spec> {
        if self == Self::Own {
            return Ok(spec);
        }
        let program = spec.command.remove(0);
        let text = format!(
            "[agent]\nname = \"{}\"\ntenant = \"{}\"\ncommand = [{program:?}]\n\
             namespaces = \"shared\"\n\n[memory]\nram = \"256MiB\"\n",
            spec.name, spec.tenant
        );
        let path = ctx.work.join(format!("{}.toml", spec.name));
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        spec.tenant.clear();
        spec.manifest = Some(path);
        Ok(spec)
    }
}

/// Every attack by one agent on another.
///
/// # Errors
/// When an agent cannot be started or the probe does not answer.
pub fn agent_side(ctx: &Context, namespaces: Namespaces) -> Result<Attacked> {
    let user = User::of_agents()?;
    let place = if namespaces == Namespaces::Own { "agent" } else { "sharer" };
    let scene = Scene::set(&ctx.work, place, user, &ctx.probe)?;
    // The key of the keyring is planted by an ordinary process: the agent's victim might not be let.
    let planter_args = victim_args(&scene, Some(&key_name()));
    let planter = Process::start(user, &ctx.probe, &planter_args, None)?;
    let _: Victim = planter.json(PATIENCE).context("planting the key")?;
    let victim = start_victim(ctx, &scene, namespaces)?;
    let told: Victim = match victim.json(PATIENCE) {
        Ok(told) => told,
        Err(error) => bail!("the victim did not start: {error:#}: {}", victim.complaints()),
    };
    let detail = ctx.coconut.show(&victim.name)?;
    let target = Target {
        pid: host_pid(&detail)?,
        address: told.address,
        length: told.length,
        fd: told.fd,
        cgroup: detail.cgroup.clone(),
        own_cgroup: "@self".to_owned(),
        key: key_name(),
        readable_program: READABLE.to_owned(),
        hidden_program: HIDDEN.to_owned(),
    };
    let side = Side::new(scene, &target);
    let (own, outcomes, attacker) = attack(ctx, &side, target.pid, namespaces)?;
    let victim_after = ctx.coconut.show(&victim.name)?;
    drop((victim, planter));
    Ok(Attacked { side, outcomes, own, attacker, victim: victim_after })
}

fn start_victim(ctx: &Context, scene: &Scene, namespaces: Namespaces) -> Result<Agent> {
    let mut command = vec![ctx.probe_arg()];
    command.extend(victim_args(scene, None));
    // A pipe that stays open while we live: the victim ends when its stdin does.
    let (stdin, keep) = rustix::pipe::pipe()?;
    std::mem::forget(keep);
    let spec = Spec {
        name: ctx.unique("victim"),
        tenant: "maya".to_owned(),
        caps: vec![format!("fs.read={}", scene.theirs("secret.txt"))],
        stdin: Some(stdin),
        command,
        ..Spec::default()
    };
    Agent::start(&ctx.coconut, namespaces.house(ctx, spec)?)
}

/// The victim's process as everybody outside sees it.
///
/// # Errors
/// When there is none in its cgroup.
pub fn host_pid(detail: &AgentDetail) -> Result<u32> {
    let procs = std::fs::read_to_string(Path::new(&detail.cgroup).join("cgroup.procs"));
    let procs = procs.with_context(|| detail.cgroup.clone())?;
    let is_probe = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|b| *b == 0).any(|word| word == b"victim"))
    };
    let found = procs.lines().filter_map(|l| l.parse().ok()).find(is_probe);
    found.with_context(|| format!("no victim in {}", detail.cgroup))
}

fn attack(
    ctx: &Context,
    side: &Side,
    victim: u32,
    namespaces: Namespaces,
) -> Result<(Vec<Outcome>, Vec<Outcome>, AgentDetail)> {
    let own = side.scene.own_dir();
    let mut caps =
        vec![format!("fs.read={own}"), format!("fs.write={own}"), format!("fs.read={READABLE}")];
    caps.extend(side.scene.helper.as_ref().map(|h| format!("fs.exec={}", h.display())));
    let mut command = vec![ctx.probe_arg(), "try".to_owned()];
    command.push(format!("read-own={own}/notes.txt"));
    command.push(format!("create-own={own}"));
    command.extend(side.attacks.iter().map(Attack::spec));
    let spec = Spec {
        name: ctx.unique("hostile"),
        tenant: "mallory".to_owned(),
        caps,
        stdin: Some(pidfd(victim)?),
        command,
        ..Spec::default()
    };
    let agent = Agent::start(&ctx.coconut, namespaces.house(ctx, spec)?)?;
    let name = agent.name.clone();
    let mut outcomes = Vec::new();
    for n in 0..side.attacks.len() + 2 {
        let line = agent.json::<Outcome>(PATIENCE);
        outcomes.push(line.with_context(|| format!("attempt {n}: {}", agent.complaints()))?);
    }
    let ran = agent.end(PATIENCE)?;
    if ran.code != 0 {
        bail!("the hostile agent ended with {}: {}", ran.code, ran.stderr);
    }
    let rest = outcomes.split_off(2);
    Ok((outcomes, rest, ctx.coconut.show(&name)?))
}

/// Two cgroups outside Coconut, for the control.
pub struct Scratch;

impl Scratch {
    /// Makes them, where the caller is root.
    pub fn make() -> Scratch {
        for dir in ["own", "other"] {
            // Fails for everybody but root; then no control of root is made either.
            let _ = std::fs::create_dir_all(format!("{SCRATCH}/{dir}"));
        }
        for parent in ["/sys/fs/cgroup", SCRATCH] {
            let _ = std::fs::write(format!("{parent}/cgroup.subtree_control"), "+memory +cpu");
        }
        Scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for dir in ["/own", "/other", ""] {
            let _ = std::fs::remove_dir(format!("{SCRATCH}{dir}"));
        }
    }
}
