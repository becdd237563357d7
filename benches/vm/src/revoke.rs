//! From asking for a revocation to the first refused use of an open file.

use crate::{Ratio, Row, median};
use anyhow::{Context as _, Result, ensure};
use api::agent::{AgentDetail, CapabilityChange, ChangeReport, Exit, SpawnRequest, SpawnSource};
use api::client::Client;
use demo::Context;
use demo::agent::{Agent, Spec};
use demo::hostile::PATIENCE;
use demo::revocation::boottime_ns;
use probe::Held;
use std::time::Duration;

/// Bare requests for each revocation.
const BARE: usize = 3;

/// Times in milliseconds.
#[derive(Default)]
struct Times {
    /// The round trip of a request that changes nothing, while the reader reads.
    bare: Vec<f64>,
    answered: Vec<f64>,
    refused: Vec<f64>,
    daemon: Vec<f64>,
    /// Within the daemon, while nobody else does anything.
    asleep: Vec<f64>,
}

/// Revokes an open file so many times from so many agents.
///
/// # Errors
/// When an agent cannot be started, or is never refused.
pub fn measure(ctx: &Context, runs: usize) -> Result<(Vec<Row>, Vec<Ratio>)> {
    let file = ctx.work.join("revoked.txt");
    std::fs::write(&file, "text\n")?;
    let path = file.display().to_string();
    let client = Client::new(api::broker::API_SOCKET.as_ref())?;
    let mut times = Times::default();
    for _ in 0..runs {
        once(ctx, &client, &path, &mut times)?;
        times.asleep.push(asleep(&client, &path)?);
    }
    let named = [
        ("bare request (GET /v1/status)", &times.bare),
        ("revoke: request to answer", &times.answered),
        ("revoke: request to first refused read", &times.refused),
        ("daemon: request to last map update", &times.daemon),
        ("daemon: the same, of a sleeping agent", &times.asleep),
    ];
    let mut rows: Vec<Row> = named.iter().filter_map(|(name, ms)| Row::of(name, ms)).collect();
    let base = rows.first().map_or(1.0, |row| row.p50_ms);
    rows.iter_mut().for_each(|row| row.ratio = Some(row.p50_ms / base));
    let ratio = median(&times.refused).map(|refused| Ratio {
        name: "revoke to first refused read / bare request".to_owned(),
        value: refused / base,
        goal: Some(3.0),
    });
    Ok((rows, ratio.into_iter().collect()))
}

fn once(ctx: &Context, client: &Client, path: &str, times: &mut Times) -> Result<()> {
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
    for _ in 0..BARE {
        let asked = boottime_ns();
        let _: api::Status = client.get("/v1/status")?;
        times.bare.push(ms_since(asked, boottime_ns()));
    }
    let asked = boottime_ns();
    let report = revoke(client, &aid.to_string(), capability)?;
    times.answered.push(ms_since(asked, boottime_ns()));
    let held: Held = agent.json(PATIENCE).context("it was never refused")?;
    ensure!(held.event == "refused", "it {}", held.event);
    times.refused.push(ms_since(asked, held.at_ns));
    times.daemon.push(report.took_us as f64 / 1e3);
    Ok(())
}

/// A revocation from an agent that uses nothing: no reader takes a processor from the daemon.
fn asleep(client: &Client, path: &str) -> Result<f64> {
    let capability = format!("fs.read={path}");
    let request = SpawnRequest {
        source: SpawnSource::AdHoc {
            tenant: "bench".to_owned(),
            name: None,
            capabilities: vec![capability.clone()],
            weight: None,
        },
        args: ["/usr/bin/sleep", "infinity"].map(str::to_owned).into(),
        cwd: None,
        env: Vec::new(),
        allow_unsigned: false,
        stdio: None,
    };
    let detail: AgentDetail = client.post("/v1/agents", &request)?;
    let aid = detail.agent.aid.to_string();
    std::thread::sleep(Duration::from_millis(200));
    let report = revoke(client, &aid, capability)?;
    ensure!(report.changed == [detail.agent.aid], "{} agents changed", report.changed.len());
    let _: Exit = client.post(&format!("/v1/agents/{aid}/kill"), &())?;
    Ok(report.took_us as f64 / 1e3)
}

fn revoke(client: &Client, aid: &str, capability: String) -> Result<ChangeReport> {
    let change = CapabilityChange { capability, expires_ms: None, uses: None };
    Ok(client.post(&format!("/v1/agents/{aid}/revoke"), &change)?)
}

fn ms_since(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e6
}
