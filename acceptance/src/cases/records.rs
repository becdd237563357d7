//! What a record holds, and what it does not.

use super::Case;
use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use demo::agent::{Agent, Spec};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "records.large",
        promise: "a text without end is cut in its record, and nobody waits for it",
        run: large,
    },
    Case {
        name: "records.secrets",
        promise: "a secret on a command line reaches the program, and neither the log nor `ps`, `show` and `tree`",
        run: secrets,
    },
    Case {
        name: "records.output",
        promise: "what a background agent writes is kept within a limit, the newest of it to the last byte",
        run: output,
    },
    Case {
        name: "records.full-disk",
        promise: "where nothing can be recorded, who asks is told at once, what reads goes on, and with room all does",
        run: full_disk,
    },
];

/// Asks for an agent by a manifest whose name is this long.
const ASKER: &str = r#"
import json, socket, sys
path = "A" * int(sys.argv[1])
body = json.dumps({"source": {"kind": "manifest", "path": path, "text": "x"}}).encode()
s = socket.socket(socket.AF_UNIX); s.connect("/run/coconut/api.sock")
head = "POST /v1/agents HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
s.sendall((head % len(body)).encode() + body)
print(s.recv(64).split()[1].decode())
"#;

fn large(world: &World) -> Result<String> {
    const LENGTH: usize = 300_000;
    let spec = Spec {
        name: world.ctx.unique("large"),
        tenant: "mallory".to_owned(),
        caps: ["fs.read=@python", "audit.read=own"].map(str::to_owned).into(),
        command: ["/usr/bin/python3", "-c", ASKER, &LENGTH.to_string()].map(str::to_owned).into(),
        ..Spec::default()
    };
    let agent = Agent::start(&world.ctx.coconut, spec)?;
    let name = agent.name.clone();
    let ran = agent.end(PATIENCE)?;
    ensure!(ran.stdout.trim() == "403", "its answer: {} {}", ran.stdout, ran.summary());
    let aid = world.ctx.coconut.show(&name)?.agent.aid.to_string();
    let mut cut = 0;
    world.until("the record of the refusal", || {
        let denied = world.ctx.coconut.records(&["--agent", &aid, "--kind", "denial"])?;
        let long = denied.iter().find(|record| record.object.contains("AAAA"));
        cut = long.map_or(0, |record| record.object.len() + record.cut as usize);
        Ok(long.is_some())
    })?;
    ensure!(cut == "spawn ".len() + LENGTH, "kept and cut are {cut} bytes together");
    let other = ["run", "--tenant", "other", "--cap", "fs.read=@shell", "--", "/usr/bin/true"];
    world.expect(0, &other)?;
    Ok(String::new())
}

fn secrets(world: &World) -> Result<String> {
    let secret = world.ctx.unique("hunter2");
    let words = [
        "-c".to_owned(),
        "echo \"$*\"; sleep 600".to_owned(),
        "x".to_owned(),
        "--password".to_owned(),
        secret.clone(),
        format!("--api-key={secret}"),
        format!("https://bob:{secret}@git.example/x"),
    ];
    let spec = Spec {
        name: world.ctx.unique("secrets"),
        tenant: "maya".to_owned(),
        caps: vec!["fs.exec=@shell".to_owned()],
        command: std::iter::once("/usr/bin/dash".to_owned()).chain(words).collect(),
        ..Spec::default()
    };
    let agent = Agent::start(&world.ctx.coconut, spec)?;
    // The control: what runs is unchanged.
    let said = agent.lines.next(PATIENCE)?.with_context(|| agent.complaints())?;
    let all = format!("--password {secret} --api-key={secret} https://bob:{secret}@git.example/x");
    ensure!(said == all, "the program got {said:?}");
    for words in [
        &["ps", "--all", "--json"][..],
        &["show", &agent.name, "--json"],
        &["tree", "--all"],
        &["audit", "query", "--agent", &agent.name, "--json"],
    ] {
        let shown = world.expect(0, words)?.stdout;
        ensure!(shown.contains(&agent.name) || words[0] == "audit", "{words:?} does not show it");
        ensure!(!shown.contains(&secret), "the secret stands in `coconut {}`", words.join(" "));
    }
    world.expect(0, &["kill", &agent.name])?;
    let files = holding(Path::new(api::audit::LOG_DIRECTORY), secret.as_bytes())?;
    ensure!(files.is_empty(), "the secret is in {files:?}");
    // Its own name is there: the log was looked at.
    let named = holding(Path::new(api::audit::LOG_DIRECTORY), agent.name.as_bytes())?;
    ensure!(!named.is_empty(), "the log does not have the agent's name either");
    Ok(String::new())
}

fn output(world: &World) -> Result<String> {
    const BYTES: u64 = 40_000_000;
    const KEPT: u64 = 16 << 20;
    let words = format!("head -c {BYTES} /dev/zero; echo the end");
    let name = world.ctx.unique("output");
    world.background(&name, &["fs.exec=@shell", "fs.read=@shell"], &words)?;
    world.expect(0, &["wait", &name])?;
    let shown = world.ctx.coconut.show(&name)?;
    let file = shown.log_file.clone().context("it has no output file")?;
    let size = |path: &str| std::fs::metadata(path).map_or(0, |data| data.len());
    let kept = size(&file) + size(&format!("{file}.1"));
    ensure!(kept <= KEPT, "{kept} bytes are kept");
    let all = BYTES + "the end\n".len() as u64;
    ensure!(kept + shown.log_dropped == all, "{kept} kept, {} dropped of {all}", shown.log_dropped);
    let said = world.expect(0, &["logs", &name])?.stdout;
    ensure!(said.len() as u64 == kept && said.ends_with("the end\n"), "`logs` has {}", said.len());
    // The control: nothing but the pipe keeps it small.
    let free = world.ctx.work.join("free.log");
    let status = std::process::Command::new("/usr/bin/dash")
        .args(["-c", &words])
        .stdout(std::fs::File::create(&free)?)
        .status()?;
    let free = size(&free.display().to_string());
    ensure!(status.success() && free == all, "the control: {free} bytes");
    Ok(format!("({kept} of {all} bytes)"))
}

/// A file that takes all the room of its file system.
pub struct Filler(PathBuf);

impl Filler {
    /// In this folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn fill(folder: &Path) -> Result<Filler> {
        let filler = Filler(folder.join("filler"));
        let mut file = std::fs::File::create(&filler.0)?;
        // Larger pieces first: what is taken meanwhile makes it end sooner.
        for piece in [64 << 20, 1 << 20, 64 << 10, 4 << 10, 1] {
            let bytes = vec![1; piece];
            while file.write_all(&bytes).is_ok() {}
        }
        Ok(filler)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn full_disk(world: &World) -> Result<String> {
    let words = ["run", "--tenant", "maya", "--cap", "fs.read=@shell", "--", "/usr/bin/true"];
    // The control: with room it starts.
    world.expect(0, &words)?;
    let filler = Filler::fill(&Path::new(api::audit::LOG_DIRECTORY).join("../.."))?;
    let mut early = Vec::new();
    for round in 0..600 {
        if world.status()?.log_stuck.is_some() {
            break;
        }
        // What is on its way while the last of the disk goes waits for room, and has to be recorded then.
        if round % 4 == 0 && early.len() < 20 {
            early.push(world.probe("maya", &[], &["exit", "0"])?);
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    let why = world.status()?.log_stuck.context("the log is written although the disk is full")?;
    let refused = world.call(&words)?;
    ensure!(refused.code != 0 && refused.stderr.contains("recorded"), "{}", refused.summary());
    world.expect(0, &["ps"])?;
    let told = world.call(&["doctor"])?;
    ensure!(told.stdout.contains("recorded"), "`doctor` does not say it: {}", told.stdout);
    drop(filler);
    world.until("the log is written again", || Ok(world.status()?.log_stuck.is_none()))?;
    for agent in early {
        agent.end(PATIENCE)?;
    }
    world.expect(0, &words)?;
    world.expect(0, &["audit", "verify"])?;
    Ok(format!("({why})"))
}

/// The files below a folder that hold these bytes.
fn holding(folder: &Path, wanted: &[u8]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in demo::tamper::listed(folder)? {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, wanted)?);
        } else if std::fs::read(&path)
            .is_ok_and(|all| all.windows(wanted.len()).any(|w| w == wanted))
        {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}
