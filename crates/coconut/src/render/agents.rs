//! `ps`, `show` and `tree`.

use super::table::{Cell, Table, elastic, fixed, number, path, styled};
use super::{BOLD, DIM, ODD, PLAIN, clean, paint, short, state_style, thousands, time, wrap};
use abi::AgentState;
use api::{Agent, AgentDetail, AgentList, Exit};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Column at which the values of `show` begin.
const VALUES: usize = 12;

/// `exit 3`, `signal 9`, `revoked`; what a running agent is in is its state's name.
pub fn state_word(agent: &Agent) -> String {
    match agent.state {
        AgentState::TerminatedRevoked => "revoked".into(),
        _ => end_word(agent),
    }
}

fn end_word(agent: &Agent) -> String {
    match (&agent.exit, agent.state) {
        (Some(Exit { status: Some(status), .. }), _) => format!("exit {status}"),
        (Some(Exit { signal: Some(signal), .. }), _) => format!("signal {signal}"),
        _ => agent.state.name().into(),
    }
}

/// `coconut ps`.
pub fn ps(list: &AgentList, now_ns: u64, width: usize) -> String {
    if list.agents.is_empty() {
        return "No agents run. `coconut run --help` starts one; `ps --all` shows ended ones.\n"
            .into();
    }
    let mut table = Table::new(&[
        fixed("AID"),
        elastic("NAME", 12),
        elastic("TENANT", 10),
        fixed("STATE"),
        number("DENIED"),
        number("AGE"),
        elastic("COMMAND", 8),
    ]);
    for agent in &list.agents {
        table.row([
            short(agent.aid).into(),
            styled(BOLD, clean(&agent.name)),
            clean(&agent.tenant).into(),
            styled(state_style(agent.state), state_word(agent)),
            denied(agent.denials),
            time::span(now_ns.saturating_sub(agent.started_ns)).into(),
            styled(DIM, clean(&command_line(&agent.command))),
        ]);
    }
    table.render(width)
}

fn denied(count: u64) -> Cell {
    match count {
        0 => styled(DIM, "-"),
        n => styled(ODD, thousands(n)),
    }
}

/// The program's own name and its arguments: folders tell nothing in a table.
fn command_line(command: &[String]) -> String {
    let Some((program, args)) = command.split_first() else { return String::new() };
    let name = program.rsplit('/').next().unwrap_or(program);
    std::iter::once(name).chain(args.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

/// `coconut show AID`.
pub fn show(detail: &AgentDetail, now_ns: u64, width: usize) -> String {
    let agent = &detail.agent;
    let counters = &detail.counters;
    let mut out = format!("{}  {}\n", paint(BOLD, &clean(&agent.name)), agent.aid);
    let mut line = |key: &str, value: String| {
        out.push_str(&paint(DIM, &format!("{key:<VALUES$}")));
        out.push_str(&wrap(&value, width, VALUES));
        out.push('\n');
    };
    line("state", state_line(agent, now_ns));
    line("command", clean(&agent.command.join(" ")));
    line("tenant", format!("{}, weight {} within it", clean(&agent.tenant), agent.weight));
    line("parent", agent.parent.map_or("none".into(), short));
    line("children", list_of(&detail.children));
    line("runs as", format!("uid {}, asked for by uid {}", agent.uid, agent.owner));
    line("manifest", origin(detail));
    if let Some(digest) = &detail.program_digest {
        line("program", format!("sha256:{digest}"));
    }
    let cgroup = detail.cgroup.trim_start_matches("/sys/fs/cgroup/");
    line("cgroup", format!("{} (slot {})", clean(cgroup), detail.slot));
    if let Some(file) = &detail.log_file {
        let dropped = match detail.log_dropped {
            0 => String::new(),
            bytes => format!(" ({} bytes are not kept)", thousands(bytes)),
        };
        line("output", clean(file) + &dropped);
    }
    let equal = counters.kernel_denials == counters.log_kernel_denials;
    line(
        "denials",
        format!(
            "{} in the kernel, {} in the log{}, {} by the daemon",
            thousands(counters.kernel_denials),
            thousands(counters.log_kernel_denials),
            if equal { "" } else { " (records are on their way)" },
            thousands(counters.log_daemon_denials),
        ),
    );
    line("uses", format!("{} in the log", thousands(counters.log_uses)));
    out.push('\n');
    out.push_str(&super::caps::table(&detail.capabilities, now_ns, width));
    out
}

fn state_line(agent: &Agent, now_ns: u64) -> String {
    let started = time::ago(agent.started_ns, now_ns);
    let pid = agent.pid.map(|p| format!(", pid {p}")).unwrap_or_default();
    let mut text = format!("{}{pid}, started {started}", agent.state.name());
    if let Some(exit) = &agent.exit {
        let how = end_word(agent);
        let why = exit.reason.as_deref().map(|r| format!(": {}", clean(r))).unwrap_or_default();
        let ended = agent.ended_ns.map(|t| time::ago(t, now_ns)).unwrap_or_default();
        text = format!("{} ({how}{why}), started {started}, ended {ended}", agent.state.name());
    }
    text
}

fn origin(detail: &AgentDetail) -> String {
    let origin = &detail.origin;
    let by = match origin.signed {
        true => format!("authorized by {}", clean(&origin.authorizer)),
        false => format!("UNSIGNED, allowed by {}", clean(&origin.authorizer)),
    };
    format!(
        "{}, {by}, sha256:{}",
        clean(&origin.path),
        &origin.digest[..origin.digest.len().min(16)]
    )
}

fn list_of(agents: &[Uuid]) -> String {
    match agents {
        [] => "none".into(),
        some => some.iter().map(|a| short(*a)).collect::<Vec<_>>().join(" "),
    }
}

/// `coconut tree`: a tenant, below it its agents, below an agent those that it spawned.
pub fn tree(list: &AgentList, now_ns: u64, width: usize) -> String {
    if list.agents.is_empty() {
        return "No agents run. `coconut tree --all` shows ended ones.\n".into();
    }
    let shown = |aid: &Uuid| list.agents.iter().any(|a| a.aid == *aid);
    let mut below: BTreeMap<Option<Uuid>, Vec<&Agent>> = BTreeMap::new();
    let mut tenants: BTreeMap<&str, Vec<&Agent>> = BTreeMap::new();
    for agent in &list.agents {
        match agent.parent.filter(shown) {
            Some(parent) => below.entry(Some(parent)).or_default().push(agent),
            None => tenants.entry(&agent.tenant).or_default().push(agent),
        }
    }
    let mut table = Table::new(&[
        elastic("AGENT", 24),
        fixed("AID"),
        fixed("STATE"),
        number("AGE"),
        path("COMMAND", 8),
    ]);
    for (tenant, roots) in tenants {
        table.row([styled(BOLD, clean(tenant))]);
        branches(&mut table, &roots, &below, "", now_ns);
    }
    table.render(width)
}

fn branches(
    table: &mut Table,
    agents: &[&Agent],
    below: &BTreeMap<Option<Uuid>, Vec<&Agent>>,
    indent: &str,
    now_ns: u64,
) {
    for (i, agent) in agents.iter().enumerate() {
        let last = i + 1 == agents.len();
        let (elbow, rail) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        table.row([
            styled(PLAIN, format!("{indent}{elbow}{}", clean(&agent.name))),
            short(agent.aid).into(),
            styled(state_style(agent.state), state_word(agent)),
            time::span(now_ns.saturating_sub(agent.started_ns)).into(),
            styled(DIM, clean(&command_line(&agent.command))),
        ]);
        if let Some(children) = below.get(&Some(agent.aid)) {
            branches(table, children, below, &format!("{indent}{rail}"), now_ns);
        }
    }
}

#[cfg(test)]
#[path = "agents_tests.rs"]
mod tests;
