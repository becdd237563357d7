//! From asking for a program to its end: bare, in bwrap, in crun, as an agent.

use crate::rivals::{self, PROGRAM};
use crate::{Ratio, Row, median};
use anyhow::{Result, ensure};
use api::agent::{AgentDetail, Exit, SpawnRequest, SpawnSource};
use api::client::Client;
use demo::Context;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Measures all of them in turns, so that a slow moment of the machine hits each alike.
///
/// # Errors
/// When the bare program or an agent cannot be started.
pub fn measure(
    ctx: &Context,
    runs: usize,
    missing: &mut Vec<String>,
) -> Result<(Vec<Row>, Vec<Ratio>)> {
    let client = Client::new(api::broker::API_SOCKET.as_ref())?;
    let rivals = rivals::find(ctx, missing);
    let mut bare = Vec::new();
    let mut others: Vec<Vec<f64>> = vec![Vec::new(); rivals.len()];
    let (mut active, mut whole, mut command_line) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..=runs {
        let once_bare = timed(&mut Command::new(PROGRAM))?;
        let once_others: Result<Vec<f64>> =
            rivals.iter().map(|r| timed(&mut r.command(n))).collect();
        let (to_active, to_end) = as_agent(&client)?;
        let once_cli = timed(ctx.coconut.command().args(["run", "--", PROGRAM]))?;
        // The first round only warms caches.
        if n > 0 {
            bare.push(once_bare);
            others.iter_mut().zip(once_others?).for_each(|(all, once)| all.push(once));
            active.push(to_active);
            whole.push(to_end);
            command_line.push(once_cli);
        }
    }
    let mut rows = vec![Row::of("bare fork + exec + exit", &bare)];
    rows.extend(rivals.iter().zip(&others).map(|(r, ms)| Row::of(&r.name, ms)));
    let ratios = rivals.iter().zip(&others).filter_map(|(rival, ms)| {
        Some(Ratio {
            name: format!("agent: request to Active / {}", rival.name),
            value: median(&active)? / median(ms)?,
            goal: rival.is_bwrap().then_some(1.0),
        })
    });
    let ratios = ratios.collect();
    rows.push(Row::of("agent: request to Active", &active));
    rows.push(Row::of("agent: request to end", &whole));
    rows.push(Row::of("agent: `coconut run` to end", &command_line));
    let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
    let base = rows.first().map_or(1.0, |r| r.p50_ms);
    rows.iter_mut().for_each(|r| r.ratio = Some(r.p50_ms / base));
    Ok((rows, ratios))
}

/// Milliseconds of a command, to its end.
///
/// # Errors
/// When it fails.
pub fn timed(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let done = command.spawn()?.wait_with_output()?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(
        done.status.success(),
        "{:?} ended with {}: {}",
        command.get_program(),
        done.status,
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(took)
}

/// Milliseconds to `Active` and to the end, over the API that the command line uses.
///
/// # Errors
/// When it is refused or fails.
pub fn as_agent(client: &Client) -> Result<(f64, f64)> {
    let request = SpawnRequest {
        source: SpawnSource::AdHoc {
            tenant: "bench".to_owned(),
            name: None,
            capabilities: Vec::new(),
            weight: None,
        },
        args: vec![PROGRAM.to_owned()],
        cwd: None,
        env: Vec::new(),
        allow_unsigned: false,
        stdio: None,
    };
    let begun = Instant::now();
    let detail: AgentDetail = client.post("/v1/agents", &request)?;
    let active = begun.elapsed().as_secs_f64() * 1e3;
    let exit: Exit = client.get(&format!("/v1/agents/{}/wait", detail.agent.aid))?;
    let end = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(exit.status == Some(0), "the agent ended with {exit:?}");
    Ok((active, end))
}
