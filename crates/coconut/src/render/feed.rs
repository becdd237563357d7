//! `ps --follow`: the list, then one line for each change of it.

use super::agents::{ps, state_word};
use super::{BOLD, DIM, ODD, PLAIN, clean, cut, paint, short, state_style, time};
use anstyle::Style;
use api::feed::{Delta, FeedLine};
use api::{Agent, AgentList};
use std::collections::HashMap;
use unicode_width::UnicodeWidthStr;
use uuid::Uuid;

/// Columns of a name.
const NAME: usize = 14;
/// Columns of a tenant.
const TENANT: usize = 12;
/// Columns before what happened: the time, an AID, a name, a tenant, and gaps.
const BEFORE: usize = 8 + 2 + 8 + 2 + NAME + 2 + TENANT + 2;

/// What a feed has shown so far.
#[derive(Default)]
pub struct Followed {
    agents: HashMap<Uuid, Agent>,
    headed: bool,
}

impl Followed {
    /// One line of the feed as a person reads it; nothing where it says nothing new.
    pub fn line(&mut self, line: &FeedLine, now_ns: u64, width: usize) -> String {
        match line {
            FeedLine::Snapshot { snapshot, .. } => {
                let agents = snapshot.agents.clone();
                self.agents = agents.iter().map(|agent| (agent.aid, agent.clone())).collect();
                self.headed = false;
                ps(&AgentList { agents, next: None }, now_ns, width)
            }
            FeedLine::Delta { delta, .. } => self.delta(delta, now_ns, width),
            FeedLine::End { .. } => {
                paint(ODD, "Too much has changed at once; here is the list again.") + "\n"
            }
        }
    }

    fn delta(&mut self, delta: &Delta, now_ns: u64, width: usize) -> String {
        let Some(happened) = self.take(delta) else { return String::new() };
        let Happened { id, name, tenant, style, what } = happened;
        let word = |text: &str, columns: usize| {
            let text = cut(&clean(text), columns);
            let gap = " ".repeat(columns - text.width());
            (text, gap)
        };
        let ((name, after_name), (tenant, after_tenant)) =
            (word(&name, NAME), word(&tenant, TENANT));
        let what = paint(style, &cut(&what, width.saturating_sub(BEFORE)));
        let clock = time::clock(now_ns);
        let name = paint(BOLD, &name);
        let text =
            format!("{clock}  {id:<8}  {name}{after_name}  {tenant}{after_tenant}  {what}\n");
        if std::mem::replace(&mut self.headed, true) {
            return text;
        }
        let heading = format!(
            "{:<8}  {:<8}  {:<NAME$}  {:<TENANT$}  {}",
            "TIME", "AID", "NAME", "TENANT", "CHANGE"
        );
        format!("\n{}\n{text}", paint(DIM, &heading))
    }

    /// Takes a change into the list.
    fn take(&mut self, delta: &Delta) -> Option<Happened> {
        match delta {
            Delta::Added { agent } => {
                self.agents.insert(agent.aid, agent.clone());
                let below = agent.parent.map(|parent| format!(", below {}", short(parent)));
                let what = format!("new, {}{}", agent.state.name(), below.unwrap_or_default());
                Some(Happened::to(agent, PLAIN, what))
            }
            Delta::Changed { aid, state, pid, parent, weight, ended_ns } => {
                let agent = self.agents.get_mut(aid)?;
                let mut what = Vec::new();
                // How it ended is told when nothing of it is left.
                if agent.state != *state && !state.is_terminal() {
                    what.push(state.name().to_owned());
                }
                if agent.weight != *weight {
                    what.push(format!("weight {weight}"));
                }
                if agent.parent != *parent {
                    what.push(
                        parent.map_or("nobody above".into(), |p| format!("below {}", short(p))),
                    );
                }
                agent.state = *state;
                agent.pid = *pid;
                agent.parent = *parent;
                agent.weight = *weight;
                agent.ended_ns = *ended_ns;
                let style = state_style(*state);
                (!what.is_empty()).then(|| Happened::to(agent, style, what.join(", ")))
            }
            Delta::Ended { aid, state, ended_ns, exit } => {
                let agent = self.agents.get_mut(aid)?;
                agent.state = *state;
                agent.ended_ns = *ended_ns;
                agent.exit = Some(exit.clone());
                let why = exit.reason.as_deref().map(|why| format!(" ({})", clean(why)));
                let what = format!("ended: {}{}", state_word(agent), why.unwrap_or_default());
                Some(Happened::to(agent, state_style(*state), what))
            }
            // Who has ended was told so; the other is out of sight.
            Delta::Gone { aid } => {
                let agent = self.agents.remove(aid)?;
                let what = "not yours any more".to_owned();
                agent.exit.is_none().then(|| Happened::to(&agent, DIM, what))
            }
            Delta::Tenant { tenant, weight } => Some(Happened {
                id: String::new(),
                name: String::new(),
                tenant: tenant.clone(),
                style: PLAIN,
                what: format!("weight {weight} among tenants"),
            }),
        }
    }
}

/// Something that happened to an agent, or to a tenant.
struct Happened {
    id: String,
    name: String,
    tenant: String,
    style: Style,
    what: String,
}

impl Happened {
    fn to(agent: &Agent, style: Style, what: String) -> Self {
        let (name, tenant) = (agent.name.clone(), agent.tenant.clone());
        Happened { id: short(agent.aid), name, tenant, style, what }
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
