//! Load on the engine: each tenant's load generator runs as an agent, so that the kernel says who asks;
//! for the control it is an ordinary process in front of an engine that knows no tenants.

use crate::Context;
use crate::agent::{Agent, Spec};
use crate::control::{Process, User};
use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOADGEN: &str = "/usr/libexec/coconut/coconut-loadgen";
const BROKER: &str = "/usr/bin/coconut-broker";
const MODEL: &str = "/usr/share/coconut/models/default.gguf";
/// Seconds before counting begins.
const WARMUP: u32 = 8;
/// A quiet prompt is so long that its first token takes about this long alone: much shorter, and the
/// machine's own noise would be measured.
const FIRST_TOKEN_MS: f64 = 150.0;
/// Words of the flooder's prompts.
const FLOOD_WORDS: u32 = 64;
/// Longest quiet prompt.
const MOST_WORDS: u32 = 3000;

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests of the quiet tenants together, in each measurement.
    pub samples: u32,
    /// Tokens that a quiet request asks for.
    pub quiet_tokens: u32,
    /// Requests that the flooder keeps in flight.
    pub flood: u32,
    /// Tokens that each of them asks for.
    pub flood_tokens: u32,
}

/// A load that suits this machine: found out before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Words of a quiet prompt.
    pub words: u32,
    /// Milliseconds that its first token takes alone.
    pub first_token_ms: f64,
    /// Seconds between two requests of one quiet tenant.
    pub period: f64,
    /// Seconds that count in each measurement.
    pub seconds: u32,
}

impl Pace {
    /// Quiet means: a quiet tenant asks for a sixteenth of the engine, a quarter of its fair share: also
    /// with its answers, and in a slow moment of the machine, it stays below that share.
    fn new(words: u32, first_token_ms: f64, samples: u32, quiet_tenants: usize) -> Pace {
        let period = (first_token_ms * 16.0 / 1e3).clamp(1.5, 8.0);
        let each = (f64::from(samples) / quiet_tenants as f64).ceil();
        Pace { words, first_token_ms, period, seconds: (each * period).ceil() as u32 }
    }
}

/// What a load generator saw (its JSON).
#[derive(Clone, Debug, Deserialize)]
pub struct Seen {
    /// Requests sent within the window.
    pub sent: u64,
    /// Of these, answered.
    pub answered: u64,
    /// Times to first token, in milliseconds.
    pub first_token_ms: Vec<f64>,
    /// Tokens written.
    pub tokens: u64,
}

/// One tenant of the scenario.
#[derive(Clone, Debug)]
pub struct Tenant {
    name: String,
    /// Share of a period after which a quiet tenant begins; none for the flooder.
    offset: Option<f64>,
}

impl Tenant {
    /// A quiet tenant; several take turns.
    pub fn quiet(name: &str, nth: usize, of: usize) -> Tenant {
        Tenant { name: name.to_owned(), offset: Some(nth as f64 / of as f64) }
    }

    /// The flooder.
    pub fn flooder(name: &str) -> Tenant {
        Tenant { name: name.to_owned(), offset: None }
    }

    /// The load generator's command line.
    fn arguments(&self, load: Load, pace: Pace) -> Vec<String> {
        let mut args: Vec<String> = ["tenant", &self.name, "--json"].map(str::to_owned).into();
        let mut option = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        let (words, tokens) = match self.offset {
            Some(offset) => {
                option("even", (1.0 / pace.period).to_string());
                option("offset", offset.to_string());
                (pace.words, load.quiet_tokens)
            }
            None => {
                option("closed", load.flood.to_string());
                (FLOOD_WORDS, load.flood_tokens)
            }
        };
        option("prompt-words", words.to_string());
        option("max-tokens", tokens.to_string());
        option("warmup", WARMUP.to_string());
        option("seconds", pace.seconds.to_string());
        option("drain", (pace.seconds / 2 + 5).to_string());
        args
    }
}

/// The machine's broker, and the same engine and model without lanes as the control.
pub struct Engines {
    load: Load,
    /// How the load was made to suit this machine.
    pub pace: Pace,
    control: SocketAddr,
    // Ends when this is dropped.
    _process: Process,
}

impl Engines {
    /// Starts the control, and finds out how long a prompt must be on this machine.
    ///
    /// # Errors
    /// When the control cannot be started or does not answer.
    pub fn start(load: Load, quiet_tenants: usize) -> Result<Engines> {
        let control = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let listen = control.to_string();
        let args = ["--standalone", "--fifo", "--model", MODEL, "--listen", &listen];
        let args = args.map(str::to_owned);
        let process = Process::start(User::of_agents()?, Path::new(BROKER), &args, None)?;
        let until = Instant::now() + Duration::from_secs(120);
        while TcpStream::connect(control).is_err() {
            ensure!(Instant::now() < until, "the control's engine does not listen on {control}");
            std::thread::sleep(Duration::from_millis(200));
        }
        let (words, ms) = calibrate(control)?;
        let pace = Pace::new(words, ms, load.samples, quiet_tenants);
        Ok(Engines { load, pace, control, _process: process })
    }

    /// All tenants at once, as agents on the machine's broker; what each saw, in their order.
    ///
    /// # Errors
    /// When a load generator cannot be started or does not report.
    pub fn fair(&self, ctx: &Context, tenants: &[Tenant]) -> Result<Vec<Seen>> {
        let start = |tenant: &Tenant| {
            let mut command = vec![LOADGEN.to_owned()];
            // Where the broker is, the agent is told by its environment.
            command.extend(tenant.arguments(self.load, self.pace));
            let spec = Spec {
                name: ctx.unique(&tenant.name),
                tenant: tenant.name.clone(),
                caps: vec!["infer".to_owned()],
                command,
                ..Spec::default()
            };
            Agent::start(&ctx.coconut, spec)
        };
        let running: Result<Vec<Agent>> = tenants.iter().map(start).collect();
        let report = |agent: Agent| {
            let text = agent.lines.rest(self.patience())?.join("\n");
            serde_json::from_str(&text)
                .with_context(|| format!("{} said {text:?}; {}", agent.name, agent.complaints()))
        };
        running?.into_iter().map(report).collect()
    }

    /// The same as ordinary processes on the engine without lanes.
    ///
    /// # Errors
    /// When a load generator cannot be started or does not report.
    pub fn first_come(&self, tenants: &[Tenant]) -> Result<Vec<Seen>> {
        let user = User::of_agents()?;
        let start = |tenant: &Tenant| {
            let mut args = tenant.arguments(self.load, self.pace);
            args.extend(["--url".to_owned(), format!("http://{}", self.control)]);
            Process::start(user, &PathBuf::from(LOADGEN), &args, None)
        };
        let running: Result<Vec<Process>> = tenants.iter().map(start).collect();
        let report = |process: Process| {
            let text = process.lines.rest(self.patience())?.join("\n");
            serde_json::from_str(&text).with_context(|| format!("the control said {text:?}"))
        };
        running?.into_iter().map(report).collect()
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(u64::from(self.pace.seconds + WARMUP) * 2 + 120)
    }
}

/// Words whose first token takes about [`FIRST_TOKEN_MS`] on this machine, and how long that is.
fn calibrate(server: SocketAddr) -> Result<(u32, f64)> {
    let mut words = 32;
    for _ in 0..8 {
        let took = first_token_ms(server, words, 3)?;
        if took >= FIRST_TOKEN_MS * 0.9 || words >= MOST_WORDS {
            break;
        }
        let factor = (FIRST_TOKEN_MS / took).clamp(1.1, 3.0);
        words = ((f64::from(words) * factor) as u32).min(MOST_WORDS);
    }
    // What decides the pace is measured once more: a slow moment above would make it too slow.
    Ok((words, first_token_ms(server, words, 15)?))
}

fn first_token_ms(server: SocketAddr, words: u32, requests: u32) -> Result<f64> {
    let (url, words, requests) =
        (format!("http://{server}"), words.to_string(), requests.to_string());
    let args =
        ["latency", "--url", &url, "--requests", &requests, "--words", &words, "--max-tokens", "2"];
    let done = std::process::Command::new(LOADGEN).args(args).arg("--stream").output();
    let done = done.with_context(|| format!("cannot run {LOADGEN}"))?;
    if !done.status.success() {
        bail!("the control's engine does not answer: {}", String::from_utf8_lossy(&done.stderr));
    }
    let seen: Value = serde_json::from_slice(&done.stdout)?;
    seen["latency"]["p50_ms"].as_f64().context("the load generator gave no latency")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_machine_is_asked_more_slowly() {
        let pace = Pace::new(300, 150.0, 105, 3);
        assert_eq!((pace.period, pace.seconds), (2.4, 84));
        assert_eq!(Pace::new(300, 400.0, 105, 3).period, 6.4);
        assert_eq!(Pace::new(300, 9000.0, 105, 3).period, 8.0);
    }

    #[test]
    fn quiet_and_flooding_tenants_ask_differently() {
        let load = Load { samples: 105, quiet_tokens: 8, flood: 32, flood_tokens: 64 };
        let pace = Pace { words: 300, first_token_ms: 150.0, period: 2.0, seconds: 70 };
        let quiet = Tenant::quiet("amal", 1, 4).arguments(load, pace).join(" ");
        assert!(quiet.starts_with("tenant amal --json --even 0.5 --offset 0.25 "), "{quiet}");
        let flood = Tenant::flooder("mallory").arguments(load, pace).join(" ");
        assert!(flood.contains("--closed 32 --prompt-words 64 --max-tokens 64"), "{flood}");
    }
}
