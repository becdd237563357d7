//! Agents that share what would cost others: one `/proc`, one tmpfs, one IPC namespace for thousands.

use super::Case;
use super::isolation::all_pass;
use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use api::agent::CapabilityList;
use demo::agent::{Agent, Spec};
use demo::coconut::Ran;
use demo::hostile::{self, Namespaces};
use demo::isolation::judge_all;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "shared.isolation",
        promise: "agents with `namespaces = \"shared\"` withstand each other as those with their own do",
        run: isolation,
    },
    Case {
        name: "shared.life",
        promise: "unmodified programs live in shared namespaces; their `/tmp` counts as their memory",
        run: life,
    },
    Case {
        name: "shared.explained",
        promise: "what shared namespaces lack is refused, shown, and told with the line that gives it",
        run: explained,
    },
];

/// The same attack by one that shares on another, with the same control.
fn isolation(world: &World) -> Result<String> {
    let attacked = hostile::agent_side(&world.ctx, Namespaces::Shared)?;
    let own = world.attack()?;
    let (here, there) = (attacked.side.attacks.len(), own.attacked.side.attacks.len());
    ensure!(here == there, "{here} attacks, with namespaces of its own {there}");
    let works = attacked.own.iter().all(|outcome| outcome.ok);
    ensure!(works, "what it was given it cannot do: {:?}", attacked.own);
    all_pass(&judge_all(&attacked, &own.control, &own.harm))
}

/// A shell that shares, with so much memory.
fn sharer(world: &World, namespaces: &str, ram: &str, program: &[&str]) -> Result<(String, Ran)> {
    let name = world.ctx.unique("sharer");
    let text = format!(
        "[agent]\nname = \"{name}\"\ntenant = \"maya\"\ncommand = [\"{}\"]\nnamespaces = \"{namespaces}\"\n\n\
         [capabilities]\n\"fs.read\" = [\"@base\", \"@python\"]\n\"fs.exec\" = [\"@shell\", \"@python\", \"/usr/bin/coconut\"]\n\
         \"agent.spawn\" = {{ count = 1 }}\n\n[memory]\nram = \"{ram}\"\nssd = \"0MiB\"\n",
        program[0]
    );
    let manifest = world.file(&format!("{name}.toml"), &text)?;
    let command = program[1..].iter().map(|word| (*word).to_owned()).collect();
    let spec =
        Spec { name: name.clone(), manifest: Some(manifest.into()), command, ..Spec::default() };
    Ok((name, Agent::start(&world.ctx.coconut, spec)?.end(PATIENCE)?))
}

fn life(world: &World) -> Result<String> {
    // Files, processes of its own, its own entry of /proc, and what a library looks for there.
    let words = "import os, subprocess, tempfile, multiprocessing as m\n\
                 with tempfile.TemporaryDirectory() as d: open(d + '/f', 'w').write('x' * 99)\n\
                 p = m.get_context('fork').Process(target=lambda: os._exit(7)); p.start(); p.join()\n\
                 s = open('/proc/self/status').read()\n\
                 c = subprocess.run(['/usr/bin/sh', '-c', 'read a < /proc/self/comm; echo $a'], capture_output=True, text=True)\n\
                 print(p.exitcode, 'Name:' in s, c.stdout.strip(), os.getpid(), len(os.listdir('/proc/self/fd')) > 2)";
    let python = ["/usr/bin/python3", "-c", words];
    for namespaces in ["own", "shared"] {
        let (_, ran) = sharer(world, namespaces, "256MiB", &python)?;
        ensure!(ran.stdout == "7 True sh 1 True", "{namespaces}: {} {}", ran.summary(), ran.stdout);
    }
    let fill = "open('/tmp/f', 'wb').write(bytes(8 << 20)); print('8');\n\
                [open('/tmp/%d' % i, 'wb').write(bytes(1 << 20)) for i in range(120)]; print('all')";
    let python = ["/usr/bin/python3", "-c", fill];
    // The control: with room for it, all is written.
    let (_, free) = sharer(world, "shared", "512MiB", &python)?;
    ensure!(free.stdout.contains("all"), "the control: {} {}", free.summary(), free.stdout);
    let (_, bound) = sharer(world, "shared", "64MiB", &python)?;
    ensure!(!bound.stdout.contains("all"), "120 MiB in /tmp with 64 MiB of memory");
    Ok(format!("(120 MiB in /tmp: status {} with 64 MiB of memory)", bound.code))
}

fn explained(world: &World) -> Result<String> {
    let list = ["/usr/bin/sh", "-c", "ls /proc >/dev/null && echo listed"];
    let (name, own) = sharer(world, "own", "256MiB", &list)?;
    ensure!(own.stdout == "listed", "the control, {name}: {}", own.summary());
    let (name, ran) = sharer(world, "shared", "256MiB", &list)?;
    ensure!(!ran.stdout.contains("listed"), "it lists /proc");
    let told = world.ctx.coconut.explain(&name)?;
    let one = told.denials.iter().find(|d| d.object == "/proc").context("no denial of /proc")?;
    ensure!(one.manifest_line.as_deref() == Some("namespaces = \"own\""), "{one:?}");
    ensure!(one.refused_by.contains("shares /proc"), "{}", one.refused_by);
    // A child without a manifest is as its parent.
    let child =
        "coconut run --tenant maya --cap fs.exec=@shell -- /usr/bin/sh -c 'ls /proc' || echo no";
    let (name, ran) = sharer(world, "shared", "256MiB", &["/usr/bin/sh", "-c", child])?;
    ensure!(ran.stdout == "no", "{name}'s child: {} {}", ran.summary(), ran.stdout);
    let held: CapabilityList = world.ctx.coconut.json(&["cap", "ls", &name])?;
    let shown = held.capabilities.iter().any(|c| c.capability.contains("/proc (shared"));
    ensure!(shown, "`cap ls` does not say that /proc is shared");
    unlimited(world)
}

/// What would have no limit at all is refused, with the line that is missing.
fn unlimited(world: &World) -> Result<String> {
    let text = "[agent]\nname = \"x\"\ntenant = \"maya\"\ncommand = [\"/usr/bin/true\"]\nnamespaces = \"shared\"\n";
    let manifest = world.file("unlimited.toml", text)?;
    let ran = world.expect(1, &["manifest", "check", &manifest])?;
    let told = ran.stdout + &ran.stderr;
    ensure!(told.contains("[memory] with ram"), "{told}");
    Ok(String::new())
}
