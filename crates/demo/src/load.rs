//! Load on an engine: each tenant is an agent, so that the kernel says who asks; for the control it is
//! an ordinary process in front of an engine that knows no lanes. Quiet tenants ask when they are told
//! to, and the pace is that of the engine's own counters: it is the same on a slow or busy machine.

use crate::Context;
use crate::agent::{Agent, Spec};
use crate::control::{Process, User};
use crate::lines::{Heard, Lines};
use crate::progress::Progress;
use anyhow::{Context as _, Result, bail, ensure};
use api::broker::Usage;
use record::Body;
use record::body::Inference;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{PipeWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

const LOADGEN: &str = "/usr/libexec/coconut/coconut-loadgen";
const BROKER: &str = "/usr/bin/coconut-broker";
const MODEL: &str = "/usr/share/coconut/models/default.gguf";
/// Header by which the control's broker tells its tenants apart, for the counts only.
const HEADER: &str = "x-tenant-id";
/// Words of the flooder's prompts, and tokens that it asks for.
const FLOOD: [&str; 2] = ["64", "64"];
/// Tokens that a quiet request asks for.
pub const QUIET_TOKENS: u32 = 4;
/// Between two looks at the counters.
const LOOK: Duration = Duration::from_millis(200);

/// What came of one quiet request, as its sender saw it.
#[derive(Clone, Debug, Deserialize)]
pub struct Asked {
    /// The HTTP status, or why there is none.
    pub outcome: String,
    /// Time to first token; none without an answer.
    pub first_token_ms: Option<f64>,
}

/// What the engine did between a request's arrival and its first token, from the broker's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Tokens of the request's own prompt.
    pub prompt: u64,
    /// Steps in which nothing was computed for the request's tenant.
    pub passed: u64,
    /// Tokens for other tenants.
    pub others: u64,
}

/// What the engine has done so far, from the broker's metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps.
    pub steps: u64,
    /// Tokens, prompts included.
    pub tokens: u64,
    /// Steps that were planned longer than they may be.
    pub over_limit: u64,
    /// Requests that wait or are worked on.
    pub present: u64,
}

/// An engine that is asked: the machine's own, or the control's.
pub struct Site<'a> {
    address: SocketAddr,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// Tenants are agents; the records are in the log.
    Broker(&'a Context),
    /// Tenants are processes of this user; the records are on the engine's stdout.
    Control(User, Process),
}

enum Runner {
    Agent(Agent),
    Process(Process),
}

/// A tenant that floods; it ends when this is dropped.
pub struct Flood {
    _runner: Runner,
}

/// A tenant that asks when it is told to.
pub struct Quiet {
    name: String,
    runner: Runner,
    input: PipeWriter,
    asked: usize,
}

impl<'a> Site<'a> {
    /// The machine's broker.
    pub fn broker(ctx: &'a Context) -> Site<'a> {
        let address = SocketAddr::from(([127, 0, 0, 1], api::broker::BROKER_PORT));
        Site { address, kind: Kind::Broker(ctx) }
    }

    /// Starts the same engine and model without lanes: first come, first served.
    ///
    /// # Errors
    /// When it cannot be started or does not listen.
    pub fn control() -> Result<Site<'static>> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let listen = address.to_string();
        #[rustfmt::skip]
        let args = [
            "--standalone", "--fifo", "--model", MODEL, "--listen", &listen,
            "--trust-header", HEADER, "--print-usage",
        ];
        let user = User::of_agents()?;
        let process = Process::start(user, Path::new(BROKER), &args.map(str::to_owned), None)?;
        let mut progress = Progress::of("the control's engine to listen");
        while TcpStream::connect(address).is_err() {
            progress.seen(process.cpu_ticks())?;
            std::thread::sleep(LOOK);
        }
        Ok(Site { address, kind: Kind::Control(user, process) })
    }

    /// Starts a tenant that asks when it is told to.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn quiet(&self, tenant: &str) -> Result<Quiet> {
        let (read, input) = std::io::pipe()?;
        let tokens = QUIET_TOKENS.to_string();
        let args = ["--on-input", "--max-tokens", &tokens];
        let (name, runner) = self.start(tenant, &args, Some(read.into()))?;
        Ok(Quiet { name, runner, input, asked: 0 })
    }

    /// Starts a tenant that keeps so many requests in flight until it is dropped, and waits for them.
    ///
    /// # Errors
    /// When it cannot be started or its requests do not come.
    pub fn flooder(&self, tenant: &str, requests: u32) -> Result<Flood> {
        let (requests, forever) = (requests.to_string(), u32::MAX.to_string());
        #[rustfmt::skip]
        let args = [
            "--closed", &requests, "--prompt-words", FLOOD[0], "--max-tokens", FLOOD[1],
            "--warmup", "0", "--seconds", &forever,
        ];
        let (name, runner) = self.start(tenant, &args, None)?;
        // One or another is always on its way.
        let there = requests.parse::<u64>()? * 3 / 4;
        let mut progress = Progress::of("the flood to be there");
        loop {
            let counts = self.counts()?;
            if counts.present >= there {
                return Ok(Flood { _runner: runner });
            }
            progress.seen(counts)?;
            if matches!(runner.lines().hear(LOOK), Heard::End) {
                bail!("{name} has ended: {}", runner.complaints());
            }
        }
    }

    fn start(
        &self,
        tenant: &str,
        args: &[&str],
        stdin: Option<OwnedFd>,
    ) -> Result<(String, Runner)> {
        let mut all: Vec<String> = ["tenant", tenant, "--json"].map(str::to_owned).into();
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        match &self.kind {
            Kind::Broker(ctx) => {
                let (name, tenant) = (ctx.unique(tenant), tenant.to_owned());
                // Where the broker is, the agent is told by its environment.
                let command = [vec![LOADGEN.to_owned()], all].concat();
                let caps = vec!["infer".to_owned()];
                let spec =
                    Spec { name: name.clone(), tenant, caps, command, stdin, ..Spec::default() };
                Ok((name, Runner::Agent(Agent::start(&ctx.coconut, spec)?)))
            }
            Kind::Control(user, _) => {
                let url = format!("http://{}", self.address);
                all.extend(["--header", "--url", &url].map(str::to_owned));
                let process = Process::start(*user, Path::new(LOADGEN), &all, stdin)?;
                Ok((tenant.to_owned(), Runner::Process(process)))
            }
        }
    }

    /// What the engine has done so far.
    ///
    /// # Errors
    /// When the broker does not tell.
    pub fn counts(&self) -> Result<Counts> {
        let mut stream = TcpStream::connect(self.address).context("cannot ask the broker")?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).context("the broker does not tell its counters")?;
        counts(&text)
    }

    /// Waits as long as the engine goes on.
    ///
    /// # Errors
    /// When it does not any more.
    pub fn until(&self, what: &str, holds: impl Fn(Counts) -> bool) -> Result<Counts> {
        let mut progress = Progress::of(what);
        loop {
            let counts = self.counts()?;
            if holds(counts) {
                return Ok(counts);
            }
            progress.seen(counts)?;
            std::thread::sleep(LOOK);
        }
    }

    /// Sends one request of a quiet tenant.
    ///
    /// # Errors
    /// When the tenant has ended.
    pub fn send(&self, quiet: &mut Quiet, words: u32) -> Result<()> {
        quiet.asked += 1;
        writeln!(quiet.input, "{words}").with_context(|| quiet.complaints())
    }

    /// Waits for the request's answer, as long as the engine goes on.
    ///
    /// # Errors
    /// When the tenant has ended, or nothing goes on any more.
    pub fn receive(&self, quiet: &Quiet) -> Result<Asked> {
        let mut progress = Progress::of(format!("an answer for {}", quiet.name));
        loop {
            match quiet.lines().hear(Duration::from_secs(1)) {
                Heard::Line(line) => {
                    return serde_json::from_str(&line)
                        .with_context(|| format!("{} said {line:?}", quiet.name));
                }
                Heard::End => bail!("{} has ended: {}", quiet.name, quiet.complaints()),
                Heard::Nothing => progress.seen(self.counts()?)?,
            }
        }
    }

    /// The records of all requests of these tenants, each tenant's in order.
    ///
    /// # Errors
    /// When they do not come.
    pub fn records(&self, quiet: &[Quiet]) -> Result<Vec<Vec<Waited>>> {
        match &self.kind {
            Kind::Broker(ctx) => quiet.iter().map(|q| in_log(ctx, &q.name, q.asked)).collect(),
            Kind::Control(_, process) => printed(process, quiet),
        }
    }
}

/// The broker posts its records in its own time, and the log is behind them.
fn in_log(ctx: &Context, name: &str, asked: usize) -> Result<Vec<Waited>> {
    let aid = ctx.coconut.show(name)?.agent.aid.to_string();
    let mut progress = Progress::of(format!("the log to hold {asked} requests of {name}"));
    loop {
        let records = ctx.coconut.records(&["--agent", &aid, "--kind", "inference"])?;
        if records.len() >= asked {
            return records.iter().map(of_record).collect();
        }
        progress.seen(records.len())?;
        std::thread::sleep(LOOK);
    }
}

fn printed(process: &Process, quiet: &[Quiet]) -> Result<Vec<Vec<Waited>>> {
    let mut seen: BTreeMap<String, Vec<Waited>> = BTreeMap::new();
    let mut progress = Progress::of("the control's records");
    while quiet.iter().any(|q| seen.get(&q.name).map_or(0, Vec::len) < q.asked) {
        match process.lines.hear(Duration::from_secs(1)) {
            Heard::Line(line) => {
                let usage: Usage = serde_json::from_str(&line)
                    .with_context(|| format!("the control's engine said {line:?}"))?;
                let waited = Waited {
                    prompt: usage.prompt_tokens.into(),
                    passed: usage.passed_steps,
                    others: usage.others_tokens,
                };
                seen.entry(usage.tenant).or_default().push(waited);
            }
            Heard::End => bail!("the control's engine has ended: {}", process.complaints()),
            Heard::Nothing => progress.seen(process.cpu_ticks())?,
        }
    }
    Ok(quiet.iter().map(|q| seen.remove(&q.name).unwrap_or_default()).collect())
}

impl Quiet {
    /// Requests that it was told to send.
    pub fn asked(&self) -> usize {
        self.asked
    }

    fn lines(&self) -> &Lines {
        self.runner.lines()
    }

    fn complaints(&self) -> String {
        self.runner.complaints()
    }
}

impl Runner {
    fn lines(&self) -> &Lines {
        match self {
            Runner::Agent(agent) => &agent.lines,
            Runner::Process(process) => &process.lines,
        }
    }

    fn complaints(&self) -> String {
        match self {
            Runner::Agent(agent) => agent.complaints(),
            Runner::Process(process) => process.complaints(),
        }
    }
}

fn counts(metrics: &str) -> Result<Counts> {
    let value = |name: &str| -> Result<u64> {
        let lines = metrics.lines().filter_map(|line| line.split_once(' '));
        // Each backend has a line of its own.
        let named = lines.filter(|(key, _)| key.split('{').next() == Some(name));
        let values: Vec<u64> = named
            .map(|(_, value)| value.trim().parse().with_context(|| format!("{name} is {value:?}")))
            .collect::<Result<_>>()?;
        ensure!(!values.is_empty(), "the broker does not tell {name}");
        Ok(values.iter().sum())
    };
    Ok(Counts {
        steps: value("coconut_engine_steps_total")?,
        tokens: value("coconut_engine_tokens_computed_total")?,
        over_limit: value("coconut_engine_steps_over_limit_total")?,
        present: value("coconut_broker_calls_running")? + value("coconut_broker_calls_queued")?,
    })
}

fn of_record(record: &api::audit::Record) -> Result<Waited> {
    let body = record.body.as_ref().and_then(|body| Body::from_json(abi::Kind::Inference, body));
    let Some(Body::Inference(call)) = body else { bail!("a record without a body: {record:?}") };
    of_body(&call)
}

fn of_body(call: &Inference) -> Result<Waited> {
    ensure!(call.refused.is_empty(), "a quiet request was not served: {}", call.refused);
    Ok(Waited {
        prompt: call.prompt_tokens.context("no prompt_tokens")?,
        passed: call.passed_steps.context("no passed_steps")?,
        others: call.others_tokens.context("no others_tokens")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_metrics() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE coconut_engine_steps_total counter\n\
            coconut_engine_steps_total{backend=\"a\"} 7\ncoconut_engine_tokens_computed_total{backend=\"a\"} 90\n\
            coconut_engine_steps_over_limit_total 0\ncoconut_broker_calls_running{backend=\"a\"} 4\n\
            coconut_broker_calls_queued 28\n";
        let wanted = Counts { steps: 7, tokens: 90, over_limit: 0, present: 32 };
        assert_eq!(counts(text).unwrap(), wanted);
        assert!(counts("coconut_engine_steps_total 7\n").is_err());
    }

    #[test]
    fn what_was_waited_for_is_read_from_the_record() {
        let call = Inference {
            prompt_tokens: Some(70),
            passed_steps: Some(1),
            others_tokens: Some(9),
            ..Inference::default()
        };
        let waited = of_body(&call).unwrap();
        assert_eq!(waited, Waited { prompt: 70, passed: 1, others: 9 });
        assert!(of_body(&Inference { passed_steps: None, ..call.clone() }).is_err());
        assert!(of_body(&Inference { refused: "why".into(), ..call }).is_err());
    }
}
