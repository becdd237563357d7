//! From a manifest to sets: each rule looked up once; what comes back is compared and enforced.

use super::{KernelSet, place};
use crate::clock;
use crate::error::{Answer, Refusal};
use crate::port::{Resolved, Target};
use crate::state::Daemon;
use abi::{AgentId, Capability};
use manifest::{FsRight, Host, Manifest, Origin, Rule, Scope};
use resolve::programs::Program;
use resolve::targets::Absent;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use supervisor::{Counter, Place, SetRule};
use uuid::Uuid;

/// The profile that every agent has.
const BASE: &str = "base";

/// All that an agent is to hold, looked up.
pub struct Wanted {
    /// The manifest's own lines and its command, then what they imply, then profiles.
    pub sets: Vec<Arc<KernelSet>>,
    /// The manifest's own lines and its command.
    pub own: Vec<SetRule>,
    /// Names of the profiles.
    pub profiles: Vec<String>,
}

/// Looks up all that a manifest names. `parent` is who asks for it, if that is an agent.
///
/// # Errors
/// Names the rule that leads nowhere, or the profile that there is not.
pub async fn wanted(
    daemon: &Daemon,
    manifest: &Manifest,
    program: &Program,
    parent: Option<AgentId>,
) -> Answer<Wanted> {
    let mut sets = Vec::new();
    let own = own(daemon, manifest, program, parent).await?;
    let held: Vec<SetRule> = own.iter().map(|(rule, _)| rule.clone()).collect();
    sets.push(daemon.rights.intern(own));
    sets.extend(implied(daemon, &held));
    let mut profiles: Vec<String> = Vec::new();
    let named = manifest.profiles.iter().map(|profile| (profile.name.as_str(), profile.line));
    for (name, line) in std::iter::once((BASE, 0)).chain(named) {
        if profiles.iter().any(|known| known == name) {
            continue;
        }
        let set = daemon.system.profile(name).ok_or_else(|| unknown(daemon, name, line))?;
        sets.push(set.clone());
        profiles.push(name.to_owned());
    }
    Ok(Wanted { sets, own: held, profiles })
}

fn unknown(daemon: &Daemon, name: &str, line: u32) -> Refusal {
    let known: Vec<String> = daemon.system.profiles().iter().map(|n| format!("@{n}")).collect();
    let known = known.join(", ");
    Refusal::usage(format!("line {line}: there is no profile `@{name}` (there are: {known})"))
        .step("manifest")
}

/// What the system gives with rights of some kinds: once, named by the first that needs it.
fn implied(daemon: &Daemon, own: &[SetRule]) -> Vec<Arc<KernelSet>> {
    let api = [Capability::AgentSpawn, Capability::AgentSignal, Capability::AuditRead];
    let first = |wanted: &[Capability]| {
        own.iter().map(|rule| rule.rule.capability()).find(|kind| wanted.contains(kind))
    };
    let needed = [first(&[Capability::Infer]), first(&api)];
    needed.into_iter().flatten().filter_map(|by| daemon.system.implied(by).cloned()).collect()
}

async fn own(
    daemon: &Daemon,
    manifest: &Manifest,
    program: &Program,
    parent: Option<AgentId>,
) -> Answer<Vec<(SetRule, Target)>> {
    let now = clock::boot_ns();
    let known = parent.map(|parent| known_hosts(daemon, parent)).unwrap_or_default();
    let mut asked = Vec::new();
    let mut origins = Vec::new();
    let mut rules = Vec::new();
    for declared in &manifest.rules {
        let origin = Origin::Line { line: declared.line, column: declared.column };
        match host_of(&declared.rule).and_then(|host| known.get(host)) {
            Some(addresses) => {
                rules.push((named(&declared.rule, addresses), origin, bounds(&declared.rule)))
            }
            None => {
                asked.push((declared.rule.clone(), Absent::Refused));
                origins.push((origin, bounds(&declared.rule)));
            }
        }
    }
    let found = daemon.lookup.rules(&manifest.agent.tenant, &asked).await;
    let found = found.map_err(|error| lookup_refusal(&error).step("rights"))?;
    let found = found.into_iter().zip(origins).map(|(one, (origin, span))| (one, origin, span));
    rules.extend(found);
    rules.push((command(daemon, program)?, Origin::Command, (None, None)));
    let mut seen = HashSet::new();
    let rules = rules.into_iter().map(|(Resolved { rule, target }, origin, (expires, uses))| {
        let place = place(&rule, &target, false);
        let timed = Rule { expires, uses, ..rule };
        let (expires_ns, counter) = (supervisor::absolute(&timed, now), counter(&timed));
        let rule = Rule::new(timed.scope);
        (SetRule { rule, origin, expires_ns, counter, place, granted_ns: 0 }, target)
    });
    let what = |rule: &SetRule| (rule.rule.clone(), rule.expires_ns, rule.counter.is_some());
    Ok(rules.filter(|(rule, _)| seen.insert(what(rule))).collect())
}

/// How long and how often.
fn bounds(rule: &Rule) -> (Option<Duration>, Option<u32>) {
    (rule.expires, rule.uses)
}

/// A counter of its own for a rule that is counted. Random, so that a later daemon does not come by the same.
fn counter(rule: &Rule) -> Option<Counter> {
    let random = || Uuid::new_v4().as_u64_pair().1;
    rule.uses.map(|uses| Counter { key: random(), uses: uses.into() })
}

/// An agent may start what it is: the very file that was hashed.
fn command(daemon: &Daemon, program: &Program) -> Answer<Resolved> {
    let rule = Rule::fs(FsRight::Exec, program.real.clone());
    let file = program.file.try_clone().map_err(|error| Refusal::failed(error.to_string()))?;
    let handle = daemon.kernel.handle(file).map_err(|e| Refusal::from(e).step("rights"))?;
    Ok(Resolved { rule, target: Target::File(Arc::new(handle)) })
}

fn host_of(rule: &Rule) -> Option<&str> {
    match &rule.scope {
        Scope::Net { endpoint, .. } => match &endpoint.host {
            Host::Name(name) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

/// Host names that an agent holds: its children's are what its own were, or they would be more.
fn known_hosts(daemon: &Daemon, parent: AgentId) -> HashMap<String, Arc<[IpAddr]>> {
    let inner = daemon.inner();
    let Ok(agent) = inner.supervisor.get(parent) else { return HashMap::new() };
    let kinds = [Capability::NetConnect, Capability::NetBind];
    let held = kinds.into_iter().flat_map(|kind| agent.held_of(kind));
    let hosts = held.filter_map(|held| match &held.rule.place {
        Place::Hosts(addresses) => {
            host_of(&held.rule.rule).map(|host| (host.to_owned(), addresses.clone()))
        }
        _ => None,
    });
    hosts.collect()
}

fn named(rule: &Rule, addresses: &[IpAddr]) -> Resolved {
    let port = match &rule.scope {
        Scope::Net { endpoint, .. } => endpoint.port.unwrap_or(0),
        _ => 0,
    };
    let one = |at: &IpAddr| (*at, if at.is_ipv4() { 32 } else { 128 }, port);
    Resolved { rule: rule.clone(), target: Target::Addresses(addresses.iter().map(one).collect()) }
}

/// One rule of a command line or a request, looked up now.
///
/// # Errors
/// When it leads nowhere.
pub async fn one(daemon: &Daemon, tenant: &str, rule: &Rule) -> Answer<(SetRule, Target)> {
    let asked = [(rule.clone(), Absent::Refused)];
    let found = daemon.lookup.rules(tenant, &asked).await;
    let found = found.map_err(|error| lookup_refusal(&error))?.into_iter().next();
    let Resolved { rule, target } = found.ok_or_else(|| Refusal::failed("nothing was found"))?;
    let now = clock::boot_ns();
    let place = place(&rule, &target, false);
    let (expires_ns, counter) = (supervisor::absolute(&rule, now), counter(&rule));
    let (rule, origin) = (Rule::new(rule.scope), Origin::Grant);
    Ok((SetRule { rule, origin, expires_ns, counter, place, granted_ns: now }, target))
}

fn lookup_refusal(error: &resolve::targets::RuleError) -> Refusal {
    Refusal::chain(api::ErrorCode::Usage, error)
        .or_hint("create the path first, or correct the rule")
}
