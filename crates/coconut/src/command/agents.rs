//! `ps`, `show`, `tree`, `wait`, `kill`, `quarantine`, `release`, `explain`.

use super::{Context, Showing, agent_path};
use crate::failure::{Done, Failure};
use crate::render::{self, time::now_ns};
use api::agent::{ExplanationList, SignalRequest};
use api::{Agent, AgentDetail, AgentList, ErrorCode, Exit};
use serde::Serialize;
use std::path::Path;

fn list(cx: &Context, all: bool) -> Result<AgentList, Failure> {
    Ok(cx.client()?.agents(all)?)
}

/// `coconut ps`.
pub fn ps(cx: &Context, all: bool) -> Done {
    let list = list(cx, all)?;
    cx.out.answer("coconut.ps/1", &list, |width| render::agents::ps(&list, now_ns(), width))?;
    Ok(0)
}

/// `coconut ps --follow`: ends when coconutd does not come back, or nobody reads any more.
pub fn follow(cx: &Context, all: bool) -> Done {
    let mut followed = render::feed::Followed::default();
    let mut showing = Showing::default();
    cx.client()?.feed(all, |line| {
        let shown =
            cx.out.item("coconut.feed/1", &line, |width| followed.line(&line, now_ns(), width));
        showing.goes_on(shown)
    })?;
    showing.end()
}

/// `coconut tree`.
pub fn tree(cx: &Context, all: bool) -> Done {
    let list = list(cx, all)?;
    cx.out.answer("coconut.tree/1", &list, |width| render::agents::tree(&list, now_ns(), width))?;
    Ok(0)
}

/// `coconut show`.
pub fn show(cx: &Context, aid: &str) -> Done {
    let detail: AgentDetail = cx.client()?.get(&agent_path(aid, ""))?;
    cx.out.answer("coconut.show/1", &detail, |width| {
        render::agents::show(&detail, now_ns(), width)
    })?;
    Ok(0)
}

/// `coconut explain`.
pub fn explain(cx: &Context, aid: &str) -> Done {
    let denials: ExplanationList = cx.client()?.get(&agent_path(aid, "/denials"))?;
    cx.out.answer("coconut.explain/1", &denials, |width| {
        render::explain::list(&denials, now_ns(), width)
    })?;
    Ok(0)
}

#[derive(Serialize)]
struct Ended<'a> {
    agent: &'a str,
    exit: &'a Exit,
}

/// `coconut wait`: 0 when it ended clean, 1 when it failed or was ended.
pub fn wait(cx: &Context, aid: &str) -> Done {
    let exit: Exit = cx.client()?.wait(&agent_path(aid, "/wait"))?;
    let ended = Ended { agent: aid, exit: &exit };
    cx.out.answer("coconut.wait/1", &ended, |_| format!("{}\n", ending(aid, &exit)))?;
    Ok(u8::from(exit.state != abi::AgentState::TerminatedClean))
}

/// `researcher ended: exit status 3`.
fn ending(aid: &str, exit: &Exit) -> String {
    let how = match (exit.status, exit.signal) {
        (Some(status), _) => format!("exit status {status}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "how is not known".into(),
    };
    let why =
        exit.reason.as_deref().map(|r| format!(" ({})", render::clean(r))).unwrap_or_default();
    format!("{aid} ended: {how}{why}, {}", exit.state.name())
}

/// `coconut kill`: ends each agent, or with `--signal` only signals it.
pub fn kill(cx: &Context, agents: &[String], signal: Option<&str>) -> Done {
    let client = cx.client()?;
    let signal = signal.map(signal_number).transpose()?;
    for aid in agents {
        match signal {
            Some(signal) => {
                let () = client.post(&agent_path(aid, "/signal"), &SignalRequest { signal })?;
            }
            None => {
                let exit: Exit = client.post(&agent_path(aid, "/kill"), &())?;
                let ended = Ended { agent: aid, exit: &exit };
                cx.out.item("coconut.kill/1", &ended, |_| format!("{}\n", ending(aid, &exit)))?;
            }
        }
    }
    Ok(0)
}

/// Agents that are ended at the same time: each end waits for the log.
const AT_ONCE: usize = 16;

/// `coconut kill --all`.
pub fn kill_all(cx: &Context) -> Done {
    let list = list(cx, false)?;
    let agents: Vec<String> = list.agents.iter().map(|agent| agent.aid.to_string()).collect();
    let ended = std::thread::scope(|scope| {
        let share = agents.len().div_ceil(AT_ONCE).max(1);
        let threads: Vec<_> = agents
            .chunks(share)
            .map(|share| scope.spawn(|| share.iter().map(|aid| end(cx, aid)).collect::<Vec<_>>()))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_default());
        ended.flatten().collect::<Result<Vec<_>, Failure>>()
    })?;
    for (aid, exit) in ended.iter().flatten() {
        let item = Ended { agent: aid, exit };
        cx.out.item("coconut.kill/1", &item, |_| format!("{}\n", ending(aid, exit)))?;
    }
    Ok(0)
}

/// None for one that has gone with its parent and is forgotten.
fn end(cx: &Context, aid: &str) -> Result<Option<(String, Exit)>, Failure> {
    match cx.client()?.post(&agent_path(aid, "/kill"), &()) {
        Ok(exit) => Ok(Some((aid.to_owned(), exit))),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `coconut quarantine`.
pub fn quarantine(cx: &Context, aid: &str, evidence: Option<&Path>) -> Done {
    evidence.map(super::evidence::make).transpose()?;
    let agent: Agent = cx.client()?.post(&agent_path(aid, "/quarantine"), &())?;
    if let Some(dir) = evidence {
        super::evidence::collect(cx, aid, dir)?;
    }
    cx.out.answer("coconut.quarantine/1", &agent, |_| {
        let written = evidence.map(|dir| format!("evidence is in {}\n", dir.display()));
        told(&agent) + &written.unwrap_or_default()
    })?;
    Ok(0)
}

/// `coconut release`.
pub fn release(cx: &Context, aid: &str) -> Done {
    let agent: Agent = cx.client()?.post(&agent_path(aid, "/release"), &())?;
    cx.out.answer("coconut.release/1", &agent, |_| told(&agent))?;
    Ok(0)
}

fn told(agent: &Agent) -> String {
    format!("{} is {}\n", render::clean(&agent.name), agent.state.name())
}

/// Signals by the names that people use; numbers up to 64 go through.
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("STOP", 19),
    ("WINCH", 28),
];

fn signal_number(text: &str) -> Result<i32, Failure> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = SIGNALS.iter().find(|(n, _)| *n == name).map(|(_, number)| *number);
    let number = named.or_else(|| name.parse().ok().filter(|n| (1..=64).contains(n)));
    number.ok_or_else(|| {
        let names: Vec<&str> = SIGNALS.iter().map(|(n, _)| *n).collect();
        Failure::new(ErrorCode::Usage, format!("{text:?} is no signal"))
            .hint(format!("a number from 1 to 64, or one of {}", names.join(" ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("TERM", 15), ("sigkill", 9), ("10", 10)] {
            assert_eq!(signal_number(text).unwrap(), number);
        }
        assert_eq!(signal_number("65").unwrap_err().code, ErrorCode::Usage);
    }

    #[test]
    fn an_end_says_who_ended_it() {
        let exit = Exit {
            status: None,
            signal: Some(9),
            reason: Some("it had mapped /srv/x, which was revoked".into()),
            state: abi::AgentState::TerminatedRevoked,
        };
        assert_eq!(
            ending("editor", &exit),
            "editor ended: signal 9 (it had mapped /srv/x, which was revoked), terminated-revoked"
        );
    }
}
