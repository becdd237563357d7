//! Budgets: what children use is part of what their parent may use.

use super::Case;
use crate::world::{PATIENCE, World};
use anyhow::{Result, ensure};
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
