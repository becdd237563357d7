//! From asking for a revocation to the first refused use of an open file.

use crate::Row;
use anyhow::{Context as _, Result, ensure};
use api::agent::{CapabilityChange, ChangeReport};
use api::client::Client;
use demo::Context;
use demo::agent::{Agent, Spec};
use demo::hostile::PATIENCE;
use demo::revocation::boottime_ns;
use probe::Held;
use std::time::Duration;

/// Revokes an open file so many times from so many agents.
///
/// # Errors
/// When an agent cannot be started, or is never refused.
pub fn measure(ctx: &Context, runs: usize) -> Result<Vec<Row>> {
    let file = ctx.work.join("revoked.txt");
    std::fs::write(&file, "text\n")?;
    let path = file.display().to_string();
    let client = Client::new(api::broker::API_SOCKET.as_ref())?;
    let (mut refused, mut daemon) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (to_refusal, to_map) = once(ctx, &client, &path)?;
        refused.push(to_refusal);
        daemon.push(to_map);
    }
    let rows = [
        Row::of("request to first refused read", &refused),
        Row::of("daemon: request to last map update", &daemon),
    ];
    Ok(rows.into_iter().flatten().collect())
}

fn once(ctx: &Context, client: &Client, path: &str) -> Result<(f64, f64)> {
    let capability = format!("fs.read={path}");
    let spec = Spec {
        name: ctx.unique("held"),
        tenant: "bench".to_owned(),
        caps: vec![capability.clone()],
        command: [&ctx.probe_arg(), "hold", "--file", path].map(|w| w.to_string()).into(),
        ..Spec::default()
    };
    let agent = Agent::start(&ctx.coconut, spec)?;
    let _: Held = agent.json(PATIENCE)?;
    std::thread::sleep(Duration::from_millis(200));
    let aid = ctx.coconut.show(&agent.name)?.agent.aid;
    let asked = boottime_ns();
    let change = CapabilityChange { capability, expires_s: None };
    let report: ChangeReport = client.post(&format!("/v1/agents/{aid}/revoke"), &change)?;
    let held: Held = agent.json(PATIENCE).context("it was never refused")?;
    ensure!(held.event == "refused", "it {}", held.event);
    Ok((held.at_ns.saturating_sub(asked) as f64 / 1e6, report.took_us as f64 / 1e3))
}
