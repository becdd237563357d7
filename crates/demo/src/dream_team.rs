//! The Dream Team: 31 agents review a source tree, every one of them ends clean, and none could do more.

use crate::Context;
use crate::coconut::shell_code;
use crate::report::{Check, Demonstration, Recorder};
use crate::turned;
use abi::AgentState;
use anyhow::{Context as _, Result, bail};
use api::agent::{Agent, AgentList};
use std::path::{Path, PathBuf};
use std::process::Command;

const TITLE: &str = "31 unmodified programs work together, each within its own rights";
/// How many agents the team has.
const TEAM: usize = 31;
/// Where the image and the packages put the workload, and where a checkout has it.
const PLACES: &[&str] =
    &["/usr/share/coconut/workloads/dream-team/run", "workloads/dream-team/run"];

/// Runs the demonstration on `input`, or on the tree that the workload takes by itself.
pub fn run(ctx: &Context, input: Option<&Path>) -> Demonstration {
    let mut recorder = Recorder::new(ctx.say);
    let result = demonstrate(ctx, input, &mut recorder);
    recorder.finish("dream-team", TITLE, result)
}

fn program() -> Result<PathBuf> {
    let named = std::env::var_os("COCONUT_DREAM_TEAM").map(PathBuf::from);
    let places = PLACES.iter().map(PathBuf::from);
    let Some(found) = named.into_iter().chain(places).find(|p| p.exists()) else {
        bail!("the Dream Team is not installed: looked for {}", PLACES.join(", "));
    };
    Ok(found)
}

fn demonstrate(ctx: &Context, input: Option<&Path>, r: &mut Recorder) -> Result<()> {
    let program = program()?;
    let out = ctx.out.join("report");
    let _ = std::fs::remove_dir_all(&out);
    let before = all_agents(ctx)?;
    r.step(format!("{} writes to {}", program.display(), out.display()));
    let mut command = Command::new(&program);
    if let Some(input) = input {
        command.arg("--input").arg(input);
    }
    command.arg("--out").arg(&out);
    let status = command.status().with_context(|| program.display().to_string())?;
    let ended: Vec<Agent> =
        all_agents(ctx)?.into_iter().filter(|a| !before.iter().any(|b| b.aid == a.aid)).collect();
    r.columns("the Dream Team", "seen", "");
    for check in judge(shell_code(status), &ended, &documents(&out)) {
        r.check(check);
    }
    if !ended.is_empty() {
        r.step("a reviewer turns hostile: a shell with its rights; the same shell outside");
        r.columns("a turned reviewer cannot", "with its rights", "without Coconut");
        for check in turned::checks(ctx, &ended)? {
            r.check(check);
        }
    }
    r.figure("agents", ended.len() as f64, "count");
    Ok(())
}

fn all_agents(ctx: &Context) -> Result<Vec<Agent>> {
    Ok(ctx.coconut.json::<AgentList>(&["ps", "--all"])?.agents)
}

/// Every Markdown, HTML and picture file below a directory, with its size.
fn documents(dir: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(documents(&path));
        } else if let Ok(about) = entry.metadata() {
            all.push((path, about.len()));
        }
    }
    all
}

fn judge(code: i32, team: &[Agent], documents: &[(PathBuf, u64)]) -> Vec<Check> {
    let clean = team.iter().filter(|a| a.state == AgentState::TerminatedClean).count();
    let coordinators = team.iter().filter(|a| a.parent.is_none()).count();
    let children = team.iter().filter(|a| a.parent.is_some()).count();
    let has = |extension: &str| {
        documents
            .iter()
            .any(|(p, size)| p.extension().is_some_and(|e| e == extension) && *size > 200)
    };
    let check = |name: &str, claim: &str, held, observed: String| {
        Check::new(name, claim, held, observed, None)
    };
    vec![
        check("ran", "the team came to its end", code == 0, format!("exit {code}")),
        check(
            "agents",
            "31 agents took part",
            team.len() == TEAM,
            format!("{} agents", team.len()),
        ),
        check(
            "family",
            "one coordinator spawned the others",
            coordinators == 1 && children == TEAM - 1,
            format!("{coordinators} + {children}"),
        ),
        check(
            "clean",
            "every agent ended clean",
            clean == TEAM,
            format!("{clean} of {}", team.len()),
        ),
        check(
            "report",
            "a report in Markdown and HTML",
            has("md") && has("html"),
            format!("{} files", documents.len()),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn agent(parent: Option<Uuid>, state: AgentState) -> Agent {
        Agent { parent, state, ..crate::ended_agent("a", &[]) }
    }

    #[test]
    fn one_agent_that_failed_is_seen() {
        let clean = AgentState::TerminatedClean;
        let mut team = vec![agent(None, clean)];
        team.extend((1..TEAM).map(|_| agent(Some(Uuid::nil()), clean)));
        let documents = [(PathBuf::from("r.md"), 999), (PathBuf::from("r.html"), 999)];
        assert!(judge(0, &team, &documents).iter().all(|c| c.passed));
        team[7].state = AgentState::TerminatedFailed;
        let failed: Vec<_> =
            judge(0, &team, &documents).into_iter().filter(|c| !c.passed).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].name, "clean");
        assert!(judge(0, &team, &[]).iter().any(|c| c.name == "report" && !c.passed));
    }
}
