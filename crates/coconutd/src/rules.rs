//! From what an agent holds to what the kernel's maps say.

use crate::names::Names;
use crate::paths::is_ours;
use crate::state::Daemon;
use abi::AgentId;
use manifest::{Endpoint, Host, Scope, UnixAddress};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use supervisor::{Agent, Held};

/// Every kernel rule of `agent`; `below` are its living descendants, for `agent.signal`.
///
/// # Errors
/// When a host name has no address.
pub fn kernel_rules(
    daemon: &Daemon,
    agent: &Agent,
    below: &[AgentId],
) -> Result<Vec<kernel::Rule>, String> {
    let mut rules = Vec::new();
    for held in agent.held() {
        for scope in scopes(daemon, agent.aid, held, below)? {
            rules.push(kernel::Rule {
                id: held.id,
                capability: held.rule.capability(),
                scope,
                expires_ns: held.expires_ns.unwrap_or(0),
            });
        }
    }
    Ok(rules)
}

fn scopes(
    daemon: &Daemon,
    aid: AgentId,
    held: &Held,
    below: &[AgentId],
) -> Result<Vec<kernel::Scope>, String> {
    Ok(match &held.rule.scope {
        Scope::Fs { path, .. } | Scope::Device(path) => {
            path_scope(daemon, aid, held, path.as_str())
        }
        Scope::Unix(UnixAddress::Path(path)) => path_scope(daemon, aid, held, path.as_str()),
        Scope::Unix(UnixAddress::Abstract(name)) => {
            vec![kernel::Scope::UnixAbstract(name.clone().into_bytes())]
        }
        Scope::Net { endpoint, .. } => net_scopes(aid, endpoint, &daemon.names)?,
        Scope::NetRaw => vec![kernel::Scope::Everything],
        Scope::Signal => below.iter().copied().map(kernel::Scope::Signal).collect(),
        // Decided by the broker and by this daemon, not by the kernel.
        Scope::Infer(_) | Scope::Spawn { .. } | Scope::AuditRead(_) => Vec::new(),
    })
}

/// A path may go away while an agent runs: then there is nothing to allow. [`check`] asks for it
/// at the start. Coconut's own paths (profiles, sockets) lie where no agent can put something
/// else.
fn path_scope(daemon: &Daemon, aid: AgentId, held: &Held, path: &str) -> Vec<kernel::Scope> {
    let path = Path::new(path);
    let there = match is_ours(&held.origin) {
        true => daemon.paths.exists(path),
        false => daemon.pins.holds(aid.0, held.id, path),
    };
    if there { vec![kernel::Scope::Path(path.to_owned())] } else { Vec::new() }
}

/// Every path of the manifest's own must exist when it is given; what Coconut itself brings in (a
/// profile's paths, its sockets) may be absent on this machine.
///
/// # Errors
/// Names the first that does not.
pub fn check(agent: &Agent) -> Result<(), String> {
    for held in agent.held() {
        let path = match &held.rule.scope {
            Scope::Fs { path, .. } | Scope::Device(path) => path,
            Scope::Unix(UnixAddress::Path(path)) => path,
            _ => continue,
        };
        if !is_ours(&held.origin) && !Path::new(path.as_str()).exists() {
            return Err(format!("{} ({}): {path} does not exist", held.rule, held.origin));
        }
    }
    Ok(())
}

fn net_scopes(
    aid: AgentId,
    endpoint: &Endpoint,
    names: &Names,
) -> Result<Vec<kernel::Scope>, String> {
    let port = endpoint.port.unwrap_or(0);
    let net = |addr: IpAddr, prefix: u8| kernel::Scope::Net { addr, prefix, port };
    let one = |addr: IpAddr| net(addr, if addr.is_ipv4() { 32 } else { 128 });
    Ok(match &endpoint.host {
        Host::Any => {
            vec![net(Ipv4Addr::UNSPECIFIED.into(), 0), net(Ipv6Addr::UNSPECIFIED.into(), 0)]
        }
        Host::Net(block) => vec![net(block.address(), block.prefix())],
        Host::Name(name) => names.addresses(aid.0, name)?.into_iter().map(one).collect(),
    })
}
