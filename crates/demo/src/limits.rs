//! An agent's own limits bite: memory and processes.

use crate::Context;
use crate::agent::{Agent, Spec};
use crate::control::{Process, User};
use crate::hostile::PATIENCE;
use crate::report::{Check, Control, Recorder};
use anyhow::{Context as _, Result};
use probe::Outcome;

/// What the manifest gives, and what the agent wants.
const RAM_MIB: u32 = 64;
const FITS: &str = "memory=24";
const TOO_MUCH: &str = "memory=96";
/// More than any agent may have processes (1,024).
const TOO_MANY: &str = "fork-bomb=1100";

/// Adds two checks.
///
/// # Errors
/// When an agent cannot be started or the probe does not answer.
pub fn demonstrate(ctx: &Context, r: &mut Recorder) -> Result<()> {
    r.columns("an agent cannot", "hostile agent", "without Coconut");
    let plain = |attempt: &str| -> Result<Outcome> {
        let args = ["try", "--limit", "600", attempt].map(str::to_owned);
        let process = Process::start(User::of_agents()?, &ctx.probe, &args, None)?;
        process.json(PATIENCE).with_context(|| format!("control of {attempt}"))
    };
    let memory = try_in_agent(ctx, TOO_MUCH)?;
    let control = plain(TOO_MUCH)?;
    let claim = format!("use 96 MiB of its {RAM_MIB}");
    r.check(judge("memory-limit", &claim, &memory, &control));
    let forks = try_in_agent(ctx, TOO_MANY)?;
    r.check(judge("process-limit", "have 1,100 processes", &forks, &plain(TOO_MANY)?));
    Ok(())
}

fn judge(name: &str, claim: &str, seen: &Outcome, plain: &Outcome) -> Check {
    Check::new(name, claim, seen.refused(), seen.short(), Control::new(plain.ok, plain.short()))
}

/// First what fits, so that a broken agent is not taken for a limit; then too much.
fn try_in_agent(ctx: &Context, attempt: &str) -> Result<Outcome> {
    let manifest = ctx.work.join("limits.toml");
    let text = format!(
        "[agent]\nname = \"limits\"\ntenant = \"mallory\"\ncommand = [\"{}\"]\n\n[memory]\nram = \"{RAM_MIB}MiB\"\n",
        ctx.probe.display()
    );
    std::fs::write(&manifest, text).with_context(|| manifest.display().to_string())?;
    // The manifest names the program; these are its arguments.
    let command = ["try", "--limit", "600", FITS, attempt].map(str::to_owned);
    let spec = Spec {
        name: ctx.unique("greedy"),
        manifest: Some(manifest),
        command: command.into(),
        ..Spec::default()
    };
    let agent = Agent::start(&ctx.coconut, spec)?;
    let first: Outcome =
        agent.json(PATIENCE).with_context(|| format!("{FITS}: {}", agent.complaints()))?;
    anyhow::ensure!(first.ok, "{FITS} does not fit into {RAM_MIB} MiB: {}", first.evidence);
    let Some(line) = agent.lines.next(PATIENCE)? else {
        // The limit ended the whole agent, not only the child that was greedy.
        let ran = agent.end(PATIENCE)?;
        let evidence = format!("the agent ended with {}", ran.code);
        let signal = (ran.code == 137).then_some(9);
        return Ok(Outcome { ok: false, errno: None, signal, evidence, ..first });
    };
    Ok(serde_json::from_str(&line)?)
}
