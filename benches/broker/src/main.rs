//! `coconut-loadgen`: load for OpenAI-compatible servers.

use anyhow::Context;
use clap::{ArgGroup, Args, Parser, Subcommand};
use coconut_loadgen::client::{Ask, Client, Target};
use coconut_loadgen::fairness::{Identity, Phase, Plan, Report, calibrate, measure};
use coconut_loadgen::overhead::{self, Until};
use coconut_loadgen::stats::Latency;
use coconut_loadgen::tenant::{self, Arrivals, Load, Window};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Measures OpenAI-compatible servers: latency, requests a second, and fairness among tenants.
#[derive(Parser)]
#[command(name = "coconut-loadgen", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Requests one after another, or several at once: how long each takes
    Latency(Simple),
    /// One tenant's load; prints what it saw as JSON (the fairness demonstration starts these)
    Tenant(Box<TenantArgs>),
    /// Quiet tenants alone, beside one that floods, and the control; exit status 1 if a limit is broken
    Fairness(Box<FairnessArgs>),
}

#[derive(Args)]
struct Simple {
    /// http://HOST:PORT or unix:/PATH
    #[arg(long)]
    url: String,
    /// Requests at once
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// Requests in all
    #[arg(long, default_value_t = 2000)]
    requests: u64,
    /// Words in each prompt
    #[arg(long, default_value_t = 32)]
    words: usize,
    /// Tokens to ask for
    #[arg(long, default_value_t = 1)]
    max_tokens: u32,
    /// Measure the first token of a stream instead of the whole answer
    #[arg(long)]
    stream: bool,
    /// Tenant to name in X-Tenant-ID
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Args)]
#[command(group(ArgGroup::new("arrivals").required(true).args(["even", "poisson", "closed", "on_input"])))]
struct TenantArgs {
    /// The tenant's name
    name: String,
    /// The server: http://HOST:PORT or unix:/PATH
    #[arg(long, env = "OPENAI_BASE_URL", default_value = "http://127.0.0.1:11700")]
    url: String,
    /// Model to ask for [default: the first that the server names]
    #[arg(long)]
    model: Option<String>,
    /// So many requests a second, evenly by the wall clock
    #[arg(long, value_name = "RATE")]
    even: Option<f64>,
    /// With --even: part of a period, 0 to 1, after each full period of the wall clock
    #[arg(long, default_value_t = 0.0, value_name = "PART")]
    offset: f64,
    /// So many requests a second, at random times
    #[arg(long, value_name = "RATE")]
    poisson: Option<f64>,
    /// So many requests at once, each followed by the next when it is answered
    #[arg(long, value_name = "N")]
    closed: Option<usize>,
    /// One request for each line of stdin, which is the number of its words; prints each outcome as JSON
    #[arg(long)]
    on_input: bool,
    /// Words in each prompt
    #[arg(long, default_value_t = 32)]
    prompt_words: usize,
    /// Tokens to ask for
    #[arg(long, default_value_t = 16)]
    max_tokens: u32,
    /// Seconds before counting begins
    #[arg(long, default_value_t = 8.0)]
    warmup: f64,
    /// Seconds that count
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Seconds to wait for answers afterwards
    #[arg(long, default_value_t = 30.0)]
    drain: f64,
    /// Name the tenant in X-Tenant-ID too, for a server that trusts this header
    #[arg(long)]
    header: bool,
    /// Print what was seen as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct FairnessArgs {
    /// The broker: http://HOST:PORT or unix:/PATH
    #[arg(long)]
    url: String,
    /// The same engine without fairness, for the control
    #[arg(long)]
    control: Option<String>,
    /// Start each tenant's load under this command; {tenant} becomes its name
    #[arg(long, value_name = "COMMAND")]
    spawn: Option<String>,
    /// Quiet tenants
    #[arg(long, default_value_t = 3)]
    quiet: usize,
    /// Seconds between two requests of one quiet tenant
    #[arg(long, default_value_t = 2.0)]
    period: f64,
    /// Words in a quiet prompt [default: so many that its first token takes --first-token-ms alone]
    #[arg(long)]
    quiet_words: Option<usize>,
    /// What the first token of a quiet request should take alone
    #[arg(long, default_value_t = 150.0)]
    first_token_ms: f64,
    /// Tokens that a quiet request asks for
    #[arg(long, default_value_t = 8)]
    quiet_tokens: u32,
    /// The flooder's requests at once
    #[arg(long, default_value_t = 32)]
    flood: usize,
    /// Words in the flooder's prompts
    #[arg(long, default_value_t = 64)]
    flood_words: usize,
    /// Tokens that the flooder's requests ask for
    #[arg(long, default_value_t = 64)]
    flood_tokens: u32,
    /// Seconds measured in each phase
    #[arg(long, default_value_t = 70.0)]
    seconds: f64,
    /// Seconds of each phase that are not counted
    #[arg(long, default_value_t = 8.0)]
    warmup: f64,
    /// Largest p99/p50 of quiet tenants beside the flooder
    #[arg(long, default_value_t = 1.5)]
    max_p99_over_p50: f64,
    /// Largest p99 of quiet tenants beside the flooder, over p99 alone
    #[arg(long, default_value_t = 2.0)]
    max_over_solo: f64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Also write the report, as JSON, to this file
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Longest quiet prompt that calibration may choose.
const MOST_WORDS: usize = 3000;

fn main() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match Cli::parse().command {
            Command::Latency(args) => latency(args).await,
            Command::Tenant(args) => one_tenant(*args).await,
            Command::Fairness(args) => fairness(*args).await,
        }
    })
}

async fn latency(args: Simple) -> anyhow::Result<ExitCode> {
    let mut target = Target { url: args.url, model: String::new(), tenant: args.tenant };
    target.model = Client::new(target.clone()).first_model().await?;
    let ask =
        Ask { prompt_words: args.words, max_tokens: args.max_tokens, stream: args.stream, seed: 0 };
    let until = Until::Requests(args.requests);
    let cost = overhead::measure(&target, ask, args.concurrency, until).await?;
    println!("{}", serde_json::to_string(&cost)?);
    Ok(ExitCode::SUCCESS)
}

async fn one_tenant(args: TenantArgs) -> anyhow::Result<ExitCode> {
    let arrivals = match (args.even, args.poisson, args.closed) {
        (Some(rate), _, _) => Arrivals::Even { rate, offset: args.offset },
        (_, Some(rate), _) => Arrivals::Poisson { rate },
        (_, _, concurrency) => Arrivals::Closed { concurrency: concurrency.unwrap_or(1) },
    };
    let load = Load {
        tenant: args.name.clone(),
        arrivals,
        prompt_words: args.prompt_words,
        max_tokens: args.max_tokens,
    };
    let tenant = args.header.then_some(args.name);
    let mut target = Target { url: args.url, model: String::new(), tenant };
    target.model = match args.model {
        Some(model) => model,
        None => Client::new(target.clone()).first_model().await?,
    };
    if args.on_input {
        coconut_loadgen::asked::run(target, args.max_tokens).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let window = Window { warmup: args.warmup, seconds: args.seconds, drain: args.drain };
    let seen = tenant::run(&load, &target, window, 1).await;
    if args.json {
        println!("{}", serde_json::to_string(&seen)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{}: {} of {} answered, {} tokens",
        seen.tenant, seen.answered, seen.sent, seen.tokens
    );
    if let Some(l) = Latency::of(&seen.first_token_ms) {
        println!("time to first token: p50 {:.1} ms, p99 {:.1} ms", l.p50_ms, l.p99_ms);
    }
    Ok(ExitCode::SUCCESS)
}

async fn fairness(args: FairnessArgs) -> anyhow::Result<ExitCode> {
    let identity = match &args.spawn {
        Some(command) => Identity::Command(command.split_whitespace().map(str::to_owned).collect()),
        None => Identity::Header,
    };
    let began = Instant::now();
    let progress = |what: &str| {
        let at = Duration::from_secs(began.elapsed().as_secs());
        eprintln!("[{at:>5?}] {what}");
    };
    let quiet_words = match args.quiet_words {
        Some(words) => words,
        None => {
            progress("calibrating the quiet tenants' prompts");
            let url = args.control.as_deref().unwrap_or(&args.url);
            calibrate(url, "quiet0", args.first_token_ms, MOST_WORDS).await?
        }
    };
    let plan = Plan {
        quiet: args.quiet,
        period: args.period,
        quiet_words,
        quiet_tokens: args.quiet_tokens,
        flood: args.flood,
        flood_words: args.flood_words,
        flood_tokens: args.flood_tokens,
        seconds: args.seconds,
        warmup: args.warmup,
        max_p99_over_p50: args.max_p99_over_p50,
        max_over_solo: args.max_over_solo,
    };
    let report = measure(plan, &args.url, args.control.as_deref(), &identity, progress).await?;
    if let Some(path) = &args.out {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if report.verdict.pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Report) {
    println!("model {}; quiet prompts of {} words", report.model, report.plan.quiet_words);
    println!(
        "{:<12} {:>8} {:>10} {:>10} {:>8} {:>8}",
        "quiet", "samples", "p50 ms", "p99 ms", "p99/p50", "tok/s"
    );
    let line = |name: &str, phase: &Phase| {
        if let Some(q) = phase.quiet {
            println!(
                "{name:<12} {:>8} {:>10.1} {:>10.1} {:>8.2} {:>8.1}",
                q.samples, q.p50_ms, q.p99_ms, q.p99_over_p50, phase.tokens_per_second
            );
        } else {
            println!("{name:<12}  no quiet request was answered");
        }
    };
    line("alone", &report.solo);
    line("beside flood", &report.contended);
    if let Some(control) = &report.control {
        line("control", control);
    }
    let v = &report.verdict;
    println!("p99/p50 {:.2}, p99 {:.2} × alone", v.p99_over_p50, v.p99_over_solo);
    v.failures.iter().for_each(|f| println!("FAIL {f}"));
    if v.pass {
        println!("PASS");
    }
}
