//! The fairness demonstration: three quiet tenants, alone and beside one that floods.
//!
//! Both are measured in one run, so that all ratios come from the same machine in the same state; the
//! control is the same load at the same engine without fairness.

use crate::client::{Ask, Client, Target};
use crate::crowd::FLOODER;
use crate::stats::{Latency, jain, max_min};
use crate::tenant::{Arrivals, Load, Seen, Window, run};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::process::Stdio;
use tokio::process::Command;
use tokio::task::JoinSet;

/// Version of [`Report`] as JSON.
pub const SCHEMA: u32 = 1;

/// What to measure, and what must hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Quiet tenants.
    pub quiet: usize,
    /// Seconds between two requests of one quiet tenant.
    pub period: f64,
    /// Words in a quiet prompt.
    pub quiet_words: usize,
    /// Tokens that a quiet request asks for.
    pub quiet_tokens: u32,
    /// The flooder's requests at once.
    pub flood: usize,
    /// Words in the flooder's prompts.
    pub flood_words: usize,
    /// Tokens that the flooder's requests ask for.
    pub flood_tokens: u32,
    /// Seconds measured in each phase.
    pub seconds: f64,
    /// Seconds of each phase that are not counted.
    pub warmup: f64,
    /// Quiet p99 over p50 may be at most this under contention.
    pub max_p99_over_p50: f64,
    /// Quiet p99 under contention over p99 alone may be at most this.
    pub max_over_solo: f64,
}

/// One phase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// The quiet tenants' time to first token, pooled.
    pub quiet: Option<Latency>,
    /// Each tenant's own.
    pub tenants: Vec<TenantResult>,
    /// Tokens a second, of all.
    pub tokens_per_second: f64,
    /// Jain's index of what each got over its max-min share.
    pub jain_of_max_min: Option<f64>,
}

/// One tenant in one phase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TenantResult {
    /// Its name.
    pub tenant: String,
    /// Requests sent.
    pub sent: u64,
    /// Of these, answered in time.
    pub answered: u64,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Time to first token.
    pub first_token: Option<Latency>,
    /// Outcomes other than 200, with their counts.
    pub problems: Vec<(String, u64)>,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The model that answered.
    pub model: String,
    /// What was asked for.
    pub plan: Plan,
    /// Quiet tenants alone.
    pub solo: Phase,
    /// With the flooder, fair queue.
    pub contended: Phase,
    /// With the flooder, without the fair queue.
    pub control: Option<Phase>,
    /// What must hold.
    pub verdict: Verdict,
}

/// What must hold, and whether it does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Quiet p99 over p50 under contention.
    pub p99_over_p50: f64,
    /// Quiet p99 under contention over p99 alone.
    pub p99_over_solo: f64,
    /// Quiet p99 in the control over p99 alone; the harm that the control must show.
    pub control_over_solo: Option<f64>,
    /// Both limits kept, every quiet request answered, and the control shows the harm.
    pub pass: bool,
    /// In words, what does not hold.
    pub failures: Vec<String>,
}

/// How tenants are told apart.
#[derive(Clone, Debug)]
pub enum Identity {
    /// By a header that the server trusts.
    Header,
    /// By the kernel: each tenant's load runs under this command, with `{tenant}` replaced.
    Command(Vec<String>),
}

/// The control must be at least this much worse than alone.
const HARM: f64 = 3.0;

/// Runs all phases. `progress` is told what begins.
pub async fn measure(
    plan: Plan,
    url: &str,
    control: Option<&str>,
    identity: &Identity,
    progress: impl Fn(&str),
) -> anyhow::Result<Report> {
    let model = find_model(url).await?;
    let quiet: Vec<Load> = (0..plan.quiet).map(|i| plan.quiet_load(i)).collect();
    let mut all = quiet.clone();
    all.push(plan.flood_load());
    progress("quiet tenants alone");
    let solo = phase(&plan, &quiet, url, &model, identity).await?;
    progress("one tenant floods");
    let contended = phase(&plan, &all, url, &model, identity).await?;
    let control = match control {
        Some(url) => {
            progress("control: the same flood without the fair queue");
            Some(phase(&plan, &all, url, &model, &identity.of_control()).await?)
        }
        None => None,
    };
    let verdict = judge(&plan, &solo, &contended, control.as_ref());
    Ok(Report { schema: SCHEMA, model, plan, solo, contended, control, verdict })
}

async fn find_model(url: &str) -> anyhow::Result<String> {
    let target = Target { url: url.into(), model: String::new(), tenant: None };
    Client::new(target).first_model().await.with_context(|| format!("cannot ask {url}"))
}

/// Words that make a quiet tenant's first token take about `ms` on this machine, measured alone.
pub async fn calibrate(url: &str, tenant: &str, ms: f64, most: usize) -> anyhow::Result<usize> {
    let model = find_model(url).await?;
    let tenant = Some(tenant.to_owned());
    let mut client = Client::new(Target { url: url.into(), model, tenant });
    let mut words = 32;
    for round in 0..8 {
        let ask = Ask { prompt_words: words, max_tokens: 2, stream: true, seed: round };
        let mut took = f64::MAX;
        for _ in 0..3 {
            let got = client.chat(ask).await?;
            if got.status != 200 {
                bail!("{url} answered {} while calibrating", got.status);
            }
            took = took.min(got.first.as_secs_f64() * 1e3);
        }
        if took >= ms || words >= most {
            break;
        }
        let factor = (ms / took).clamp(1.2, 4.0);
        words = ((words as f64 * factor) as usize).min(most);
    }
    Ok(words)
}

impl Plan {
    fn quiet_load(&self, index: usize) -> Load {
        let offset = index as f64 / self.quiet as f64;
        Load {
            tenant: format!("quiet{index}"),
            arrivals: Arrivals::Even { rate: 1.0 / self.period, offset },
            prompt_words: self.quiet_words,
            max_tokens: self.quiet_tokens,
        }
    }

    fn flood_load(&self) -> Load {
        Load {
            tenant: FLOODER.into(),
            arrivals: Arrivals::Closed { concurrency: self.flood },
            prompt_words: self.flood_words,
            max_tokens: self.flood_tokens,
        }
    }
}

impl Identity {
    /// The control serves whoever asks, so its tenants need not be told apart.
    fn of_control(&self) -> Self {
        Self::Header
    }
}

async fn phase(
    plan: &Plan,
    loads: &[Load],
    url: &str,
    model: &str,
    identity: &Identity,
) -> anyhow::Result<Phase> {
    let window =
        Window { warmup: plan.warmup, seconds: plan.seconds, drain: plan.seconds / 2.0 + 5.0 };
    let mut tasks = JoinSet::new();
    for (nth, load) in loads.iter().enumerate() {
        let (load, identity) = (load.clone(), identity.clone());
        let target = load.target(url, model);
        tasks.spawn(async move {
            match identity {
                Identity::Header => Ok(run(&load, &target, window, nth as u64 * 1000 + 1).await),
                Identity::Command(command) => child(&command, &load, &target, window).await,
            }
        });
    }
    let mut seen = Vec::new();
    while let Some(done) = tasks.join_next().await {
        seen.push(done??);
    }
    seen.sort_by_key(|s| loads.iter().position(|l| l.tenant == s.tenant));
    Ok(Phase::of(&seen, loads, plan.seconds))
}

/// One tenant's load in a process of its own, so that the kernel knows whose it is.
async fn child(
    command: &[String],
    load: &Load,
    target: &Target,
    window: Window,
) -> anyhow::Result<Seen> {
    let words: Vec<String> = command.iter().map(|w| w.replace("{tenant}", &load.tenant)).collect();
    let Some((program, arguments)) = words.split_first() else { bail!("the command is empty") };
    let output = Command::new(program)
        .args(arguments)
        .arg(std::env::current_exe()?)
        .args(load.arguments(target, window))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("the load of {} ended with {}", load.tenant, output.status);
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the load of {} said nothing sensible", load.tenant))
}

impl Phase {
    /// What the tenants saw in a window of `seconds`; `loads` in the same order.
    pub fn of(seen: &[Seen], loads: &[Load], seconds: f64) -> Self {
        let quiet: Vec<f64> = seen
            .iter()
            .filter(|s| s.tenant.starts_with("quiet"))
            .flat_map(|s| s.first_token_ms.iter().copied())
            .collect();
        let got: Vec<f64> = seen.iter().map(|s| s.tokens as f64).collect();
        let wanted: Vec<f64> = seen
            .iter()
            .zip(loads)
            .map(|(s, l)| match l.arrivals {
                Arrivals::Closed { .. } => f64::INFINITY,
                _ => (s.sent * u64::from(l.max_tokens)) as f64,
            })
            .collect();
        let share = max_min(&wanted, got.iter().sum());
        let over: Vec<f64> = got
            .iter()
            .zip(&share)
            .map(|(g, s)| if *s > 0.0 { (g / s).min(1.5) } else { 0.0 })
            .collect();
        Self {
            quiet: Latency::of(&quiet),
            tenants: seen.iter().map(|s| tenant(s, seconds)).collect(),
            tokens_per_second: got.iter().sum::<f64>() / seconds,
            jain_of_max_min: jain(&over),
        }
    }
}

fn tenant(seen: &Seen, seconds: f64) -> TenantResult {
    TenantResult {
        tenant: seen.tenant.clone(),
        sent: seen.sent,
        answered: seen.answered,
        tokens_per_second: seen.tokens as f64 / seconds,
        first_token: Latency::of(&seen.first_token_ms),
        problems: seen
            .outcomes
            .iter()
            .filter(|(o, _)| *o != "200")
            .map(|(o, n)| (o.clone(), *n))
            .collect(),
    }
}

fn judge(plan: &Plan, solo: &Phase, contended: &Phase, control: Option<&Phase>) -> Verdict {
    let p99 = |p: &Phase| p.quiet.map_or(f64::INFINITY, |q| q.p99_ms);
    let p99_over_p50 = contended.quiet.map_or(f64::INFINITY, |q| q.p99_over_p50);
    let p99_over_solo = p99(contended) / p99(solo);
    // Quiet requests that the control never answered are the harm at its worst.
    let control_over_solo = control.map(|c| (p99(c) / p99(solo)).min(1e6));
    let mut failures = Vec::new();
    if p99_over_p50 > plan.max_p99_over_p50 {
        failures.push(format!(
            "p99/p50 is {p99_over_p50:.2}, at most {} is allowed",
            plan.max_p99_over_p50
        ));
    }
    if p99_over_solo > plan.max_over_solo {
        failures.push(format!(
            "p99 is {p99_over_solo:.2} × solo, at most {} is allowed",
            plan.max_over_solo
        ));
    }
    let lost = |p: &Phase| -> u64 {
        p.tenants.iter().filter(|t| t.tenant != FLOODER).map(|t| t.sent - t.answered).sum()
    };
    if lost(solo) + lost(contended) > 0 {
        failures.push(format!("{} quiet requests were not answered", lost(solo) + lost(contended)));
    }
    if control_over_solo.is_some_and(|c| c < HARM) {
        failures.push("the control shows no harm, so this proves nothing".into());
    }
    let pass = failures.is_empty();
    Verdict { p99_over_p50, p99_over_solo, control_over_solo, pass, failures }
}
