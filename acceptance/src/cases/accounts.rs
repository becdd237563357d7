//! Callers leave, the broker is killed, the daemon is killed: each call is on record once, with the tokens of the
//! engine.

use super::Case;
use super::restart::{killed, start_takes};
use crate::unit::{DropIn, systemctl};
use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use api::audit::Record;
use demo::agent::{Agent, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// The table.
pub const CASES: &[Case] = &[Case {
    name: "broker.accounts",
    promise: "whoever dies, each call of a model is on record once, with the tokens that the engine read and wrote for it",
    run: accounts,
}];

/// Nobody else has it.
const TENANT: &str = "bookkeeper";
const UNIT: &str = "coconut-broker.service";
/// What the engine itself says, which knows nothing of accounts.
const WITNESS: &str = "/run/coconut-broker-engine.log";
/// Calls; `COCONUT_CALLS` says otherwise.
const CALLS: usize = 60;
/// Calls between two deaths of the broker.
const A_LIFE: usize = 20;
/// Calls between two deaths of the daemon: it takes long to start, emulated.
const A_DAEMON: usize = 500;

/// Calls from three threads, some of which leave; says of each what it saw.
const ASKER: &str = r#"
import http.client, itertools, json, random, sys, threading, time
calls, said, numbers = int(sys.argv[1]), threading.Lock(), itertools.count()
def ask(i):
    tokens = random.randint(1, 12)
    streams, leaves = random.random() < 0.7, random.random() < 0.3
    c = http.client.HTTPConnection("127.0.0.1", 11700, timeout=600)
    seen = {"call": None, "tokens": 0, "counted": None}
    try:
        body = {"model": sys.argv[2], "max_tokens": tokens, "ignore_eos": True,
                "messages": [{"role": "user", "content": "one word"}]}
        if streams:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        c.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = c.getresponse()
        seen["call"] = answer.getheader("x-request-id")
        if answer.status != 200:
            return None
        if not streams:
            seen["counted"] = json.loads(answer.read())["usage"]["completion_tokens"]
            return seen
        for line in answer:
            seen["tokens"] += b'"content":' in line
            if b'"completion_tokens":' in line:
                seen["counted"] = json.loads(line[6:])["usage"]["completion_tokens"]
            if leaves and seen["tokens"] > tokens // 2:
                return seen
    except Exception:
        pass
    finally:
        c.close()
    return seen if seen["call"] else None
def work():
    for i in numbers:
        if i >= calls:
            return
        while (seen := ask(i)) is None:
            time.sleep(0.2)
        with said:
            print(json.dumps(seen), flush=True)
threads = [threading.Thread(target=work) for _ in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
print("done", flush=True)
"#;

/// What a caller saw of its call.
#[derive(Debug, serde::Deserialize)]
struct Seen {
    call: String,
    /// Tokens of which it saw text.
    tokens: u64,
    /// The broker's own count, if the answer came to its end.
    counted: Option<u64>,
}

/// Tokens that the engine began to write, and that it wrote: the number of each token is in its line, and begins
/// anew with each engine.
fn witnessed() -> Result<(u64, u64)> {
    let log = std::fs::read_to_string(WITNESS).context(WITNESS)?;
    let sum = |word: &str| {
        let lines = log.lines().filter(|line| line.contains(word));
        let numbers =
            lines.filter_map(|line| line.split_once("nth=")?.1.trim().parse::<u64>().ok());
        let (mut sum, mut last) = (0, 0);
        for number in numbers {
            // The first of an engine, or the next.
            sum += if number > last { number - last } else { number };
            last = number;
        }
        sum
    };
    Ok((sum(" writing "), sum(" wrote ")))
}

fn accounts(world: &World) -> Result<String> {
    let calls = std::env::var("COCONUT_CALLS").ok().and_then(|text| text.parse().ok());
    let calls: usize = calls.unwrap_or(CALLS);
    let _ = std::fs::remove_file(WITNESS);
    let traced = DropIn::put(
        UNIT,
        &format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=0\n\
             Environment=RUST_LOG=info,coconut_inference=trace NO_COLOR=1\nStandardError=append:{WITNESS}\n"
        ),
    )?;
    systemctl(&["restart", UNIT])?;
    let start_ns = start_takes(world)?;
    // Both were just restarted: the broker is served by nobody until it has heard of the lanes.
    let mut model = String::new();
    world.until("the broker to know the lanes", || {
        model = super::broker::model(world).unwrap_or_default();
        Ok(!model.is_empty())
    })?;
    let spec = Spec {
        name: world.ctx.unique("asker"),
        tenant: TENANT.to_owned(),
        caps: ["fs.read=@python", "infer"].map(str::to_owned).into(),
        command: ["/usr/bin/python3", "-c", ASKER, &calls.to_string(), &model]
            .map(str::to_owned)
            .into(),
        ..Spec::default()
    };
    let name = spec.name.clone();
    let agent = Agent::start(&world.ctx.coconut, spec)?;
    let (mut seen, mut kills, mut deaths) = (Vec::<Seen>::new(), 0u64, 0);
    loop {
        let line = agent.lines.next(PATIENCE)?.with_context(|| agent.complaints())?;
        if line == "done" {
            break;
        }
        seen.push(serde_json::from_str(&line).with_context(|| line.clone())?);
        if seen.len() % A_DAEMON == A_LIFE / 2 {
            dies(world, start_ns)?;
            deaths += 1;
        } else if seen.len() % A_LIFE == 0 && seen.len() < calls {
            systemctl(&["kill", "--signal=KILL", UNIT])?;
            kills += 1;
            println!(
                "note: {} calls, {kills} kills of the broker, {deaths} of the daemon",
                seen.len()
            );
        }
    }
    // One that ends in order delivers its records, and the next one what it had no time for.
    drop(traced);
    systemctl(&["restart", UNIT])?;
    let aid = world.ctx.coconut.show(&name)?.agent.aid.to_string();
    let (began, wrote) = witnessed()?;
    let mut records = Vec::new();
    world.until("every call to be on record", || {
        records = world.ctx.coconut.records(&["--agent", &aid, "--kind", "inference"])?;
        let there: BTreeSet<_> = records.iter().filter_map(call_of).collect();
        let all = seen.iter().all(|one| there.contains(one.call.as_str()));
        Ok(all && written(&records) >= wrote)
    })?;
    let recorded = compare(&seen, &records)?;
    println!("note: the engine began {began} tokens and wrote {wrote}; {recorded} are on record");
    // A token that was being written at a kill may be on record or not.
    ensure!(
        (wrote..=began).contains(&recorded) && began - wrote <= kills,
        "the engine began {began} tokens and wrote {wrote}; {recorded} are on record"
    );
    let booked = booked(world)?;
    let all: u64 =
        records.iter().map(|r| number(r, "prompt_tokens") + number(r, "completion_tokens")).sum();
    ensure!(booked == all, "the tenant's sum is {booked} tokens, its records have {all}");
    ensure!(kills > 1 && deaths > 0, "{kills} kills, {deaths} deaths");
    Ok(format!(
        "({} calls, {kills} kills of the broker, {deaths} of the daemon, {} records; tokens: engine {wrote} to {began}, on record {recorded})",
        seen.len(),
        records.len()
    ))
}

/// The daemon is killed when it has computed enough: somebody asks it all the time.
fn dies(world: &World, start_ns: u64) -> Result<()> {
    let end = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !end.load(Ordering::Acquire) {
                // While there is none, nobody answers.
                let _ = world.call(&["ps"]);
            }
        });
        let done = killed(world, start_ns, 1);
        end.store(true, Ordering::Release);
        done
    })
}

fn call_of(record: &Record) -> Option<&str> {
    record.body.as_ref().and_then(|body| body["call"].as_str())
}

fn written(records: &[Record]) -> u64 {
    records.iter().map(|record| number(record, "completion_tokens")).sum()
}

fn number(record: &Record, field: &str) -> u64 {
    record.body.as_ref().and_then(|body| body[field].as_u64()).unwrap_or(0)
}

/// What callers saw is on record, each call once; how many written tokens are.
fn compare(seen: &[Seen], records: &[Record]) -> Result<u64> {
    let mut by_call = BTreeMap::new();
    for record in records {
        let call =
            call_of(record).with_context(|| format!("a record without a call: {record:?}"))?;
        ensure!(by_call.insert(call, record).is_none(), "{call} is on record twice");
    }
    for one in seen {
        let record = by_call.get(one.call.as_str());
        let record = record.with_context(|| format!("{one:?} is not on record"))?;
        let tokens = number(record, "completion_tokens");
        ensure!(tokens >= one.tokens, "{one:?}: {record:?}");
        ensure!(one.counted.is_none_or(|counted| counted == tokens), "{one:?}: {record:?}");
    }
    ensure!(seen.iter().any(|one| one.counted.is_some()), "no answer came to its end");
    Ok(written(records))
}

/// The tenant's sum, which is kept over the daemon's deaths.
fn booked(world: &World) -> Result<u64> {
    let lanes: api::lane::LaneList = world.ctx.coconut.json(&["lane", "ls"])?;
    let tenant = lanes.tenants.iter().find(|tenant| tenant.tenant == TENANT);
    Ok(tenant.context("the tenant has no lane")?.tokens)
}
