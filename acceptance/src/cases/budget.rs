//! Budgets: what children use is part of what their parent may use.

use super::Case;
use crate::world::{PATIENCE, World};
use anyhow::{Result, ensure};
use api::lane::{AgentLane, LaneList};
use demo::agent::{Agent, Spec};

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "budget.children",
        promise: "a child's memory, weight and agents are part of its parent's",
        run: children,
    },
    Case {
        name: "budget.room",
        promise: "an agent that runs may be given children, and has no more of them than that",
        run: room,
    },
    Case {
        name: "budget.family",
        promise: "what an agent's children ask of models is part of its own share",
        run: family,
    },
];

/// A parent with this `[memory]` section; its shell does `words`.
fn parent(world: &World, memory: &str, words: &str) -> Result<demo::coconut::Ran> {
    let name = world.ctx.unique("budget");
    let text = format!(
        "[agent]\nname = \"{name}\"\ntenant = \"maya\"\ncommand = [\"/usr/bin/dash\"]\n\n[capabilities]\n\
         \"fs.exec\" = [\"@shell\", \"@python\", \"/usr/bin/coconut\"]\n\"fs.read\" = [\"{}\"]\n\
         \"agent.spawn\" = {{ count = 1 }}\n\n[lane]\nweight = 50\n{memory}",
        world.ctx.work.display()
    );
    let manifest = world.file(&format!("{name}.toml"), &text)?;
    let command = ["-c", words].map(str::to_owned).into();
    let spec = Spec { name, manifest: Some(manifest.into()), command, ..Spec::default() };
    Agent::start(&world.ctx.coconut, spec)?.end(PATIENCE)
}

/// A child's manifest with these further sections.
fn child(world: &World, sections: &str) -> Result<String> {
    let name = world.ctx.unique("budget-child");
    let text = format!(
        "[agent]\nname = \"{name}\"\ntenant = \"maya\"\ncommand = [\"/usr/bin/dash\", \"-c\", \"echo started\"]\n\n\
         [capabilities]\n\"fs.exec\" = [\"@shell\"]\n\n{sections}"
    );
    world.file(&format!("{name}.toml"), &text)
}

fn children(world: &World) -> Result<String> {
    const LIMIT: &str = "\n[memory]\nram = \"64MiB\"\n";
    let takes = "coconut run --tenant maya --cap fs.exec=@python -- /usr/bin/python3 -c \
                 'x = bytearray(200 << 20); print(\"HAS\", len(x))'";
    // The control: without a limit above it, the child has its memory.
    let free = parent(world, "", takes)?;
    ensure!(free.stdout.contains("HAS"), "the control: {} {}", free.summary(), free.stdout);
    let bound = parent(world, LIMIT, takes)?;
    ensure!(!bound.stdout.contains("HAS"), "64 MiB above, 200 MiB below");
    for (sections, starts) in [
        ("[memory]\nram = \"32MiB\"\n", true),
        ("[memory]\nram = \"65MiB\"\n", false),
        ("[lane]\nweight = 51\n", false),
    ] {
        let manifest = child(world, sections)?;
        let ran = parent(world, LIMIT, &format!("coconut run --manifest {manifest}"))?;
        let started = ran.stdout.contains("started");
        ensure!(started == starts, "{sections:?}: {} {}", ran.summary(), ran.stdout);
    }
    // One below, however deep: the child's own count does not make it two.
    let deeper = "coconut run --tenant maya --cap fs.exec=@shell --cap fs.exec=/usr/bin/coconut --cap agent.spawn=1 -- \
                  /usr/bin/dash -c 'coconut run --tenant maya --cap fs.exec=@shell -- /usr/bin/dash -c \"echo deeper\"; echo back'";
    let ran = parent(world, LIMIT, deeper)?;
    ensure!(ran.stdout.contains("back"), "the child did not start: {}", ran.summary());
    ensure!(!ran.stdout.contains("deeper"), "a count of one gave two agents");
    Ok("memory, weight, agents".to_owned())
}

fn room(world: &World) -> Result<String> {
    let name = world.ctx.unique("room");
    // By pipes: an agent hands no files on.
    let words = "one() { echo | (coconut run --tenant maya --cap fs.exec=@shell -- \
                 /usr/bin/dash -c 'echo child; sleep 600' || echo refused) 2>&1 | cat; }; \
                 while :; do one & sleep 1; done";
    world.background(&name, &["fs.exec=@shell", "fs.exec=/usr/bin/coconut"], words)?;
    let told = |wanted: &str| -> Result<usize> {
        let said = world.expect(0, &["logs", &name])?.stdout;
        Ok(said.lines().filter(|line| *line == wanted).count())
    };
    // The control: without the right there are none.
    world.until("its call is refused", || Ok(told("refused")? > 0))?;
    ensure!(told("child")? == 0, "the control: it has a child without the right");
    world.expect(0, &["cap", "grant", &name, "agent.spawn=1"])?;
    world.until("it has a child", || Ok(told("child")? > 0))?;
    let refused = told("refused")?;
    world.until("another is refused", || Ok(told("refused")? > refused + 1))?;
    ensure!(told("child")? == 1, "a count of one gave {} children", told("child")?);
    world.expect(0, &["kill", &name])?;
    Ok(String::new())
}

/// Asks for one token after a prompt, so many requests at a time, for ever.
const ASKER: &str = r#"
import http.client, json, sys, threading
def call(c, how, path, body=None):
    c.request(how, path, body, {"Content-Type": "application/json"})
    return json.loads(c.getresponse().read())
def ask():
    c = http.client.HTTPConnection("127.0.0.1", 11700)
    model = call(c, "GET", "/v1/models")["data"][0]["id"]
    text = [{"role": "user", "content": "one word after another " * 20}]
    body = json.dumps({"model": model, "max_tokens": 1, "messages": text})
    while True: call(c, "POST", "/v1/chat/completions", body)
for n in range(int(sys.argv[1])): threading.Thread(target=ask).start()
"#;
/// How many ask beside one.
const MANY: usize = 4;
/// Requests of the one at a time, so that some wait whatever the machine does, and of each of the many.
const AT_ONCE: [&str; 2] = ["8", "3"];

fn asker(world: &World, tenant: &str, name: &str, at_once: &str) -> Result<Agent> {
    let spec = Spec {
        name: name.to_owned(),
        tenant: tenant.to_owned(),
        caps: ["fs.read=@python", "infer"].map(str::to_owned).into(),
        command: ["/usr/bin/python3", "-c", ASKER, at_once].map(str::to_owned).into(),
        ..Spec::default()
    };
    Agent::start(&world.ctx.coconut, spec)
}

/// Tokens of the agent called so, and of all others of its tenant.
fn tokens(world: &World, tenant: &str, name: &str) -> Result<(u64, u64, Vec<AgentLane>)> {
    let list: LaneList = serde_json::from_str(&world.expect(0, &["lane", "ls", "--json"])?.stdout)?;
    let lane = list.tenants.into_iter().find(|lane| lane.tenant == tenant);
    let agents = lane.map(|lane| lane.agents).unwrap_or_default();
    let (one, many): (Vec<_>, Vec<_>) = agents.iter().partition(|agent| agent.name == name);
    let sum = |agents: Vec<&AgentLane>| agents.iter().map(|agent| agent.tokens).sum();
    Ok((sum(one), sum(many), agents))
}

/// What the others of the tenant are served for each token of the one, from when all have been served until
/// it has so many: far more than an account may lag behind another, and than is on its way uncounted. Judged by
/// what the engine did: who has had nothing of so much will have nothing.
fn served(world: &World, tenant: &str, one: &str, tokens_of_one: u64) -> Result<f64> {
    let bound = 10 * tokens_of_one;
    world.until("everybody is served", || {
        let (own, others, agents) = tokens(world, tenant, one)?;
        ensure!(own + others < bound, "somebody is served nothing: {}", accounts(&agents));
        Ok(agents.iter().filter(|agent| agent.tokens > 0).count() == MANY + 1)
    })?;
    let before = tokens(world, tenant, one)?;
    let mut now = tokens(world, tenant, one)?;
    world.until("enough is served", || {
        now = tokens(world, tenant, one)?;
        ensure!(now.1 - before.1 < bound, "the one is served too little: {}", accounts(&now.2));
        Ok(now.0 - before.0 >= tokens_of_one)
    })?;
    Ok((now.1 - before.1) as f64 / (now.0 - before.0) as f64)
}

/// Who has been served how many tokens.
fn accounts(agents: &[AgentLane]) -> String {
    let each = agents.iter().map(|agent| format!("{} {}", agent.name, agent.tokens));
    each.collect::<Vec<_>>().join(", ")
}

fn family(world: &World) -> Result<String> {
    let (tenant, one) = (world.ctx.unique("strangers"), world.ctx.unique("one"));
    // The control: agents that nobody is above.
    let mut strangers = vec![asker(world, &tenant, &one, AT_ONCE[0])?];
    for _ in 0..MANY {
        strangers.push(asker(world, &tenant, &world.ctx.unique("stranger"), AT_ONCE[1])?);
    }
    let alone = served(world, &tenant, &one, 1000)?;
    for stranger in strangers {
        world.expect(0, &["kill", &stranger.name])?;
    }
    let (tenant, one) = (world.ctx.unique("family"), world.ctx.unique("one"));
    let beside = asker(world, &tenant, &one, AT_ONCE[0])?;
    // By pipes: an agent hands no files on.
    let child = format!(
        "echo | coconut run --tenant {tenant} --cap fs.read=@python --cap infer -- /usr/bin/python3 -c '{ASKER}' {} 2>&1 | cat &",
        AT_ONCE[1]
    );
    let words = format!("{} wait", vec![child; MANY].join(" "));
    let caps = ["fs.exec=@shell", "fs.exec=/usr/bin/coconut", "fs.exec=@python", "fs.read=@python"];
    let rights = caps.into_iter().chain(["infer"]).map(str::to_owned);
    let spec = Spec {
        name: world.ctx.unique("parent"),
        tenant: tenant.clone(),
        caps: rights.chain([format!("agent.spawn={MANY}")]).collect(),
        command: ["/usr/bin/dash", "-c", &words].map(str::to_owned).into(),
        ..Spec::default()
    };
    let parent = Agent::start(&world.ctx.coconut, spec)?;
    let children = served(world, &tenant, &one, 3000)?;
    let below = tokens(world, &tenant, &one)?.2.iter().filter(|agent| agent.depth == 1).count();
    for agent in [&parent, &beside] {
        world.expect(0, &["kill", &agent.name])?;
    }
    ensure!(below == MANY, "{below} of {MANY} stand below their parent");
    ensure!(alone > 2.2, "the control: {MANY} strangers were served {alone:.2} times what one was");
    ensure!(
        children < 1.6,
        "{MANY} children were served {children:.2} times what one beside them was"
    );
    Ok(format!("(for each token of one: {children:.2} for a family, {alone:.2} for strangers)"))
}
