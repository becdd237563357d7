//! The broker: who asks is told by the kernel, never by what is sent.

use super::Case;
use crate::world::{PATIENCE, World};
use abi::AgentState;
use anyhow::{Context as _, Result, ensure};
use demo::agent::{Agent, Spec};

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "broker.tcp",
        promise: "`OPENAI_BASE_URL` works for an unmodified program; its call is on record under its own name",
        run: tcp,
    },
    Case { name: "broker.unix", promise: "the same on the broker's UNIX socket", run: unix },
    Case {
        name: "broker.header",
        promise: "an agent cannot pose as another tenant by a header",
        run: header,
    },
    Case {
        name: "broker.no-infer",
        promise: "an agent without `infer` is refused with 403",
        run: no_infer,
    },
    Case {
        name: "broker.not-an-agent",
        promise: "a process that is no agent is refused",
        run: outsider,
    },
    Case { name: "broker.models", promise: "`/v1/models` names the model", run: models },
    Case { name: "broker.stream", promise: "answers stream as server-sent events", run: stream },
    Case {
        name: "broker.revoked",
        promise: "an agent whose `infer` is revoked loses the stream that it has open",
        run: revoked,
    },
    Case {
        name: "broker.waiting",
        promise: "an agent that waits for a model is shown so, and goes on when its call is over",
        run: waiting,
    },
];

const TCP: &str = "http://127.0.0.1:11700/v1";
const BODY: &str =
    r#"{"model":"default","max_tokens":4,"messages":[{"role":"user","content":"hello"}]}"#;

/// curl as an agent; prints the status on its last line.
fn curl(world: &World, caps: &[&str], args: &[&str]) -> Result<(String, String, String)> {
    let name = world.ctx.unique("asker");
    let mut command: Vec<String> =
        ["/usr/bin/curl", "-sS", "--max-time", "600", "-w", "\n%{http_code}"]
            .map(str::to_owned)
            .into();
    command.extend(args.iter().map(|a| (*a).to_owned()));
    let mut all = vec!["fs.read=@shell".to_owned()];
    all.extend(caps.iter().map(|c| (*c).to_owned()));
    let spec = Spec {
        name: name.clone(),
        tenant: "maya".to_owned(),
        caps: all,
        command,
        ..Spec::default()
    };
    let ran = Agent::start(&world.ctx.coconut, spec)?.end(PATIENCE)?;
    let (body, status) = ran.stdout.rsplit_once('\n').unwrap_or(("", ran.stdout.as_str()));
    ensure!(status.len() == 3, "curl ended with {}: {:?}", ran.summary(), ran.stdout);
    Ok((name, status.to_owned(), body.to_owned()))
}

/// The model that is served, as an agent sees it.
///
/// # Errors
/// When none is.
pub fn model(world: &World) -> Result<String> {
    let (_, status, body) = curl(world, &["infer"], &[&format!("{TCP}/models")])?;
    ensure!(status == "200", "{status} {body}");
    let value: serde_json::Value = serde_json::from_str(&body)?;
    Ok(value["data"][0]["id"].as_str().context("no model")?.to_owned())
}

fn body(world: &World) -> Result<String> {
    Ok(BODY.replace("default", &model(world)?))
}

/// The call's record: the agent's own, and its own tenant's.
fn on_record(world: &World, name: &str) -> Result<()> {
    let aid = world.ctx.coconut.show(name)?.agent.aid.to_string();
    world.until("the call's record", || {
        let records = world.ctx.coconut.records(&["--agent", &aid, "--kind", "inference"])?;
        Ok(records.iter().any(|r| r.tenant == "maya" && r.agent.to_string() == aid))
    })
}

fn ask(world: &World, extra: &[&str]) -> Result<(String, String)> {
    let body = body(world)?;
    let url = format!("{TCP}/chat/completions");
    let mut args = vec![url.as_str(), "-H", "Content-Type: application/json", "-d", &body];
    args.extend_from_slice(extra);
    let (name, status, answer) = curl(world, &["infer"], &args)?;
    ensure!(status == "200", "{status} {answer}");
    Ok((name, answer))
}

fn tcp(world: &World) -> Result<String> {
    let (name, answer) = ask(world, &[])?;
    ensure!(answer.contains("\"choices\""), "{answer}");
    on_record(world, &name)?;
    Ok(String::new())
}

fn unix(world: &World) -> Result<String> {
    let (name, _) = ask(world, &["--unix-socket", api::broker::BROKER_SOCKET])?;
    on_record(world, &name)?;
    Ok(String::new())
}

fn header(world: &World) -> Result<String> {
    let lies = [
        "X-Tenant-ID: noor",
        "X-Coconut-Agent: 00000000-0000-7000-8000-000000000000",
        "X-Forwarded-For: 10.0.0.1",
    ];
    let mut extra = Vec::new();
    for lie in lies {
        extra.extend(["-H", lie]);
    }
    extra.extend(["-H", "Authorization: Bearer noor"]);
    let (name, _) = ask(world, &extra)?;
    on_record(world, &name)?;
    let noor = world.ctx.coconut.records(&["--tenant", "noor", "--kind", "inference"])?;
    ensure!(noor.is_empty(), "the call was put down to the tenant of the header");
    Ok(String::new())
}

fn no_infer(world: &World) -> Result<String> {
    let body = body(world)?;
    let url = format!("{TCP}/chat/completions");
    let args = [url.as_str(), "-H", "Content-Type: application/json", "-d", &body];
    let (_, status, answer) = curl(world, &["net.connect=127.0.0.1:11700"], &args)?;
    ensure!(status == "403", "{status} {answer}");
    // The control: with `infer`, the very same request is served.
    let (_, status, answer) = curl(world, &["infer"], &args)?;
    ensure!(status == "200", "control: {status} {answer}");
    Ok(String::new())
}

fn outsider(world: &World) -> Result<String> {
    let body = body(world)?;
    let done = std::process::Command::new("curl")
        .args([
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            "Content-Type: application/json",
        ])
        .args(["-d", &body, &format!("{TCP}/chat/completions")])
        .output()?;
    let status = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(["401", "403"].contains(&status.as_str()), "a process outside got {status}");
    Ok(status)
}

fn models(world: &World) -> Result<String> {
    Ok(format!("({})", model(world)?))
}

fn stream(world: &World) -> Result<String> {
    let body = body(world)?.replacen('{', "{\"stream\":true,", 1);
    let url = format!("{TCP}/chat/completions");
    let args = [url.as_str(), "-N", "-H", "Content-Type: application/json", "-d", &body];
    let (_, status, answer) = curl(world, &["infer"], &args)?;
    let events = answer.lines().filter(|l| l.starts_with("data: ")).count();
    ensure!(status == "200" && events >= 3, "{status}, {events} events: {answer}");
    ensure!(answer.contains("data: [DONE]"), "the stream has no end");
    Ok(format!("({events} events)"))
}

/// A stream of far more tokens than are computed until it is cut off. How far it came is what the engine did,
/// however slow the machine is. The control, `broker.stream`, runs to its end.
/// An agent that has begun to hear an answer of so many tokens, and sleeps when it is over.
fn storyteller(world: &World, tokens: u64) -> Result<Agent> {
    let long = format!("{{\"stream\":true,\"ignore_eos\":true,\"max_tokens\":{tokens},");
    let body = body(world)?.replacen("\"max_tokens\":4,", "", 1).replacen('{', &long, 1);
    let url = format!("{TCP}/chat/completions");
    let ask = format!(
        "/usr/bin/curl -sS -N {url} -H 'Content-Type: application/json' -d '{body}'; echo over; sleep 600"
    );
    let spec = Spec {
        name: world.ctx.unique("storyteller"),
        tenant: "maya".to_owned(),
        caps: ["fs.read=@shell", "infer"].map(str::to_owned).into(),
        command: ["/bin/sh", "-c", &ask].map(str::to_owned).into(),
        ..Spec::default()
    };
    let agent = Agent::start(&world.ctx.coconut, spec)?;
    let first = agent.lines.next(PATIENCE)?.with_context(|| agent.complaints())?;
    ensure!(first.starts_with("data: {"), "no stream: {first}");
    Ok(agent)
}

/// What it is told until its call is over.
fn rest_of(agent: &Agent) -> Result<String> {
    let mut rest = String::new();
    while let Some(line) = agent.lines.next(PATIENCE)?.filter(|line| line != "over") {
        rest += &line;
        rest.push('\n');
    }
    Ok(rest)
}

/// More tokens than any machine writes while this looks.
const LONG: u64 = 3000;

/// Takes its right to ask models, which cuts what it is told.
fn cut(world: &World, name: &str) -> Result<()> {
    let held: serde_json::Value = world.ctx.coconut.json(&["cap", "ls", name])?;
    let held = held["capabilities"].as_array().context("no capabilities")?;
    let right = held.iter().find(|right| right["kind"] == "infer").context("no `infer`")?;
    let right = right["capability"].as_str().context("it has no text")?;
    world.expect(0, &["cap", "revoke", name, right]).map(drop)
}

fn waiting(world: &World) -> Result<String> {
    let agent = storyteller(world, LONG)?;
    let state = || Ok::<_, anyhow::Error>(world.ctx.coconut.show(&agent.name)?.agent.state);
    world.until("it to be shown as waiting", || Ok(state()? == AgentState::InferenceBlocked))?;
    cut(world, &agent.name)?;
    rest_of(&agent)?;
    world.until("it to go on", || Ok(state()? == AgentState::Active))?;
    let aid = world.ctx.coconut.show(&agent.name)?.agent.aid.to_string();
    let mut steps = Vec::new();
    world.until("the records of both steps", || {
        let records = world.ctx.coconut.records(&["--agent", &aid, "--kind", "state"])?;
        steps = records.into_iter().map(|record| record.object).collect();
        Ok(steps.last().is_some_and(|last| last == "active") && steps.len() > 2)
    })?;
    let waits = steps.iter().filter(|step| *step == "inference-blocked").count();
    ensure!(waits == 1, "one call, and these steps: {steps:?}");
    world.expect(0, &["kill", &agent.name])?;
    Ok(String::new())
}

fn revoked(world: &World) -> Result<String> {
    let agent = storyteller(world, LONG)?;
    let name = agent.name.clone();
    cut(world, &name)?;
    let rest = rest_of(&agent)?;
    ensure!(rest.contains("capability_revoked"), "the stream went on: {rest}");
    ensure!(!rest.contains("[DONE]"), "the stream came to its end");
    let aid = world.ctx.coconut.show(&name)?.agent.aid.to_string();
    let mut written = 0;
    world.until("the call's record", || {
        let records = world.ctx.coconut.records(&["--agent", &aid, "--kind", "inference"])?;
        let body = records.iter().find_map(|record| record.body.as_ref());
        written = body.and_then(|body| body["completion_tokens"].as_u64()).unwrap_or_default();
        Ok(written > 0)
    })?;
    ensure!(written < LONG, "all {written} tokens were written");
    world.expect(0, &["kill", &name])?;
    Ok(format!("({written} of {LONG} tokens)"))
}
