//! Every technique once, by hostile agents on a victim and by ordinary processes, and what is on record of each.

use crate::grounds::Place;
use crate::techniques::{By, Kind, Tried};
use anyhow::{Context as _, Result, bail, ensure};
use api::agent::{AgentDetail, Explanation};
use api::audit::Record;
use demo::Context;
use demo::agent::{Agent, Spec};
use demo::attacks::{Target, Who};
use demo::control::{Process, User};
use demo::hostile::{self, HIDDEN, PATIENCE, READABLE, SCRATCH, Scratch, pidfd};
use demo::isolation::settled;
use probe::{Outcome, Victim};

/// Attempts of one agent: `explain` remembers 64 different refusals of each.
const OF_ONE: usize = 40;
/// Seconds that one attempt may take: what hangs is no refusal, and the others are tried all the same.
const LIMIT: &str = "60";
/// The clock of a record and that of the probe may differ by so much.
const SKEW_NS: u64 = 20_000_000;

/// One technique and all that came of it.
pub struct Try {
    /// What it is aimed at.
    pub kind: Kind,
    /// The technique.
    pub tried: Tried,
    /// By the agent.
    pub seen: Outcome,
    /// By an ordinary process; none where nobody outside can.
    pub plain: Option<Outcome>,
    /// Its denials in the log.
    pub records: Vec<Record>,
    /// Each of them is a line of `coconut explain`.
    pub explained: bool,
}

/// All of it.
pub struct Campaign {
    /// One for each technique.
    pub tries: Vec<Try>,
    /// Denials in the log that are no technique's.
    pub stray: Vec<Record>,
    /// Denials that the kernel counted, of all attackers.
    pub counted: u64,
    /// What of the victim's files was changed, by the agents and by the control.
    pub damage: [Vec<String>; 2],
    /// No attacker may ever hold it, and the control's.
    pub secrets: [String; 2],
    /// The victim afterwards.
    pub victim: AgentDetail,
}

/// Makes it.
///
/// # Errors
/// When the places cannot be made, an agent not started, or the probe does not answer.
pub fn fight(ctx: &Context) -> Result<Campaign> {
    // Numbers that no other run on this machine has.
    let ipc = 0x000c_0c00 + (std::process::id() % 0x1_0000) as i32 * 2;
    let (control, plain) = control_side(ctx, ipc)?;
    let place = Place::set(&ctx.work, &ctx.probe, "attacked", ipc + 1)?;
    let planter =
        Process::start(User::of_agents()?, &ctx.probe, &victim_words(&place, false), None)?;
    let _: Victim = planter.json(PATIENCE).context("planting the key")?;
    let (victim, target) = start_victim(ctx, &place)?;
    let mut campaign = Campaign {
        tries: Vec::new(),
        stray: Vec::new(),
        counted: 0,
        damage: [Vec::new(), control],
        secrets: [place.scene.secret.clone(), plain.1],
        victim: ctx.coconut.show(&victim.name)?,
    };
    let mut plain = plain.0.into_iter();
    for kind in Kind::ALL {
        let mut all = kind.all(&place.grounds(target.clone()));
        while !all.is_empty() {
            let rest = all.split_off(all.len().min(OF_ONE));
            attack(ctx, &place, (kind, all), &mut plain, &mut campaign)?;
            all = rest;
        }
    }
    ensure!(plain.next().is_none(), "there are more controls than techniques");
    campaign.victim = ctx.coconut.show(&victim.name)?;
    campaign.damage[0] = place.damage()?;
    drop((victim, planter));
    Ok(campaign)
}

fn victim_words(place: &Place, shares: bool) -> Vec<String> {
    let mut words: Vec<String> =
        ["victim", "--secret", &place.scene.secret, "--file"].map(str::to_owned).into();
    words.push(place.scene.theirs("secret.txt"));
    match shares {
        true => words.extend(["--ipc".to_owned(), place.ipc.to_string()]),
        false => words.extend(["--key".to_owned(), place.key.clone()]),
    }
    words
}

/// What the control damaged, what came of each technique, and its secret.
type Harm = (Vec<String>, (Vec<Option<Outcome>>, String));

/// Every technique by ordinary processes, of the user or of root.
fn control_side(ctx: &Context, ipc: i32) -> Result<Harm> {
    let user = User::of_agents()?;
    let place = Place::set(&ctx.work, &ctx.probe, "unguarded", ipc)?;
    let mut words = victim_words(&place, true);
    words.extend(["--key".to_owned(), place.key.clone()]);
    let victim = Process::start(user, &ctx.probe, &words, None)?;
    let told: Victim = victim.json(PATIENCE).context("the control's victim")?;
    let scratch = Scratch::make();
    let target = Target {
        pid: victim.pid,
        address: told.address,
        length: told.length,
        fd: told.fd,
        cgroup: format!("{SCRATCH}/other"),
        own_cgroup: format!("{SCRATCH}/own"),
        key: place.key.clone(),
        readable_program: READABLE.to_owned(),
        hidden_program: HIDDEN.to_owned(),
    };
    let grounds = place.grounds(target);
    let all: Vec<Tried> = Kind::ALL.iter().flat_map(|kind| kind.all(&grounds)).collect();
    let mut outcomes: Vec<Option<Outcome>> = all.iter().map(|_| None).collect();
    for (who, is_whose) in [(user, &[Who::User, Who::UserIfThere][..]), (User::ROOT, &[Who::Root])]
    {
        let theirs: Vec<usize> =
            (0..all.len()).filter(|n| is_whose.contains(&all[*n].attack.who)).collect();
        let specs = theirs.iter().map(|n| all[*n].attack.spec());
        let words: Vec<String> =
            ["try", "--limit", LIMIT].map(str::to_owned).into_iter().chain(specs).collect();
        let process = Process::start(who, &ctx.probe, &words, Some(pidfd(victim.pid)?))?;
        for n in theirs {
            let outcome = process.json(PATIENCE);
            let outcome = outcome.with_context(|| format!("control of {}", all[n].attack.spec()));
            outcomes[n] = Some(outcome?);
        }
        process.end()?;
    }
    let damage = place.damage()?;
    // What it shared by names goes with its own end.
    victim.end()?;
    drop(scratch);
    Ok((damage, (outcomes, place.scene.secret.clone())))
}

fn start_victim(ctx: &Context, place: &Place) -> Result<(Agent, Target)> {
    let mut command = vec![ctx.probe_arg()];
    command.extend(victim_words(place, true));
    // A pipe that stays open while we live: the victim ends when its stdin does.
    let (stdin, keep) = rustix::pipe::pipe()?;
    std::mem::forget(keep);
    let spec = Spec {
        name: ctx.unique("besieged"),
        tenant: "maya".to_owned(),
        caps: vec![format!("fs.read={}", place.scene.theirs("secret.txt"))],
        stdin: Some(stdin),
        command,
        ..Spec::default()
    };
    let victim = Agent::start(&ctx.coconut, spec)?;
    let told: Victim = match victim.json(PATIENCE) {
        Ok(told) => told,
        Err(error) => bail!("the victim did not start: {error:#}: {}", victim.complaints()),
    };
    let detail = ctx.coconut.show(&victim.name)?;
    let target = Target {
        pid: hostile::host_pid(&detail)?,
        address: told.address,
        length: told.length,
        fd: told.fd,
        cgroup: detail.cgroup,
        own_cgroup: "@self".to_owned(),
        key: place.key.clone(),
        readable_program: READABLE.to_owned(),
        hidden_program: HIDDEN.to_owned(),
    };
    Ok((victim, target))
}

/// Some techniques by one agent, each with its control's outcome.
fn attack(
    ctx: &Context,
    place: &Place,
    (kind, all): (Kind, Vec<Tried>),
    plain: &mut impl Iterator<Item = Option<Outcome>>,
    campaign: &mut Campaign,
) -> Result<()> {
    let victim = hostile::host_pid(&campaign.victim)?;
    let (name, outcomes) = run_agent(ctx, place, &all, victim)?;
    let aid = ctx.coconut.show(&name)?.agent.aid.to_string();
    let (detail, _) = settled(ctx, &aid)?;
    campaign.counted += detail.counters.kernel_denials;
    let told = ctx.coconut.explain(&aid)?.denials;
    let mut records: Vec<Vec<Record>> = all.iter().map(|_| Vec::new()).collect();
    for record in ctx.coconut.records(&["--agent", &aid, "--kind", "denial"])? {
        match whose(&record, &outcomes) {
            Some(n) => records[n].push(record),
            None => campaign.stray.push(record),
        }
    }
    for ((tried, seen), records) in all.into_iter().zip(outcomes).zip(records) {
        let plain = plain.next().context("there are fewer controls than techniques")?;
        let explained = records.iter().all(|record| told.iter().any(|line| tells(line, record)));
        campaign.tries.push(Try { kind, tried, seen, plain, records, explained });
    }
    Ok(())
}

/// The name of an agent that tried these, and what came of each.
fn run_agent(
    ctx: &Context,
    place: &Place,
    all: &[Tried],
    victim: u32,
) -> Result<(String, Vec<Outcome>)> {
    let (own, read) = (place.scene.own_dir(), place.read.display());
    let mut caps: Vec<String> =
        [&own, &read.to_string(), READABLE].map(|path| format!("fs.read={path}")).into();
    caps.push(format!("fs.write={own}"));
    caps.extend(place.scene.helper.as_ref().map(|h| format!("fs.exec={}", h.display())));
    let mut command = vec![ctx.probe_arg()];
    command.extend(["try", "--limit", LIMIT, "--label"].map(str::to_owned));
    command.extend(all.iter().map(|tried| tried.attack.spec()));
    command.extend([format!("read-own={own}/notes.txt"), format!("create-own={own}")]);
    let spec = Spec {
        name: ctx.unique("hostile"),
        tenant: "mallory".to_owned(),
        caps,
        stdin: Some(pidfd(victim)?),
        command,
        ..Spec::default()
    };
    let agent = Agent::start(&ctx.coconut, spec)?;
    let name = agent.name.clone();
    let mut outcomes = Vec::new();
    for n in 0..all.len() + 2 {
        let line = agent.json::<Outcome>(PATIENCE);
        outcomes.push(line.with_context(|| format!("attempt {n}: {}", agent.complaints()))?);
    }
    let ran = agent.end(PATIENCE)?;
    ensure!(ran.code == 0, "the hostile agent ended with {}: {}", ran.code, ran.stderr);
    let works = outcomes.split_off(all.len());
    // A second agent finds what the first has made.
    let made = |o: &Outcome| o.ok || o.errno.as_deref() == Some("EEXIST");
    ensure!(works.iter().all(made), "what it was given it cannot do: {works:?}");
    Ok((name, outcomes))
}

/// Whose denial it is: the process of each technique is called by its number, and a worker that the kernel made for
/// it, which is not, was at it meanwhile.
fn whose(record: &Record, outcomes: &[Outcome]) -> Option<usize> {
    let program = record.body.as_ref()?["comm"].as_str()?;
    if let Some((number, name)) = program.split_once('.') {
        let number: usize = number.parse().ok()?;
        let outcome = outcomes.get(number)?;
        return outcome.attempt.starts_with(name).then_some(number);
    }
    let at = record.time_ns;
    let during = |o: &Outcome| at + SKEW_NS > o.begun_ns && at < o.ended_ns + SKEW_NS;
    let by_ring = |o: &&Outcome| o.attempt.starts_with("uring");
    let near = |o: &&Outcome| at.abs_diff(o.begun_ns / 2 + o.ended_ns / 2);
    let found = outcomes.iter().filter(by_ring).filter(|o| during(o)).min_by_key(near)?;
    program
        .starts_with("iou-wrk")
        .then(|| outcomes.iter().position(|outcome| std::ptr::eq(outcome, found)))?
}

/// Whether `explain` has this denial.
fn tells(line: &Explanation, record: &Record) -> bool {
    line.object == record.object && record.capability == line.capability && !line.tried.is_empty()
}

impl Try {
    /// The attempt and what it was tried on.
    pub fn name(&self) -> String {
        self.tried.attack.spec()
    }

    /// The control did it; none where it could not be made, or the kernel has no such thing.
    pub fn harm(&self, secret: &str) -> Option<bool> {
        let plain = self.plain.as_ref()?;
        if self.tried.attack.who == Who::UserIfThere && !plain.ok {
            return None;
        }
        Some(plain.ok && (!self.tried.attack.secret || plain.evidence.contains(secret)))
    }

    /// What is not as it was promised.
    pub fn faults(&self, [secret, plain_secret]: &[String; 2]) -> Vec<String> {
        let mut faults = Vec::new();
        let refused = self.seen.refused() && !self.seen.evidence.contains(secret);
        if !refused {
            faults.push(format!("not refused: {}", self.seen.evidence));
        }
        if self.harm(plain_secret) == Some(false) {
            let plain = self.plain.as_ref().map(|o| format!("{} {}", o.short(), o.evidence));
            faults.push(format!("the control shows no harm: {}", plain.unwrap_or_default()));
        }
        let count: u32 = self.records.iter().map(|record| record.count).sum();
        let wanted = self.tried.by.records();
        let by: Vec<&str> =
            self.records.iter().filter_map(|r| r.body.as_ref()?["op"].as_str()).collect();
        if count != wanted || (by == ["capable"]) != (self.tried.by == By::Privilege) {
            faults.push(format!("{count} records, not {wanted} ({} {by:?})", self.seen.short()));
        }
        if !self.explained {
            faults.push("explain does not tell of it".to_owned());
        }
        faults
    }
}
