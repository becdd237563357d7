//! Rights over time: what is replaced under a name, and which rights there are at all.

use super::Case;
use super::restart::again;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use api::agent::CapabilityList;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command};

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "rights.replaced",
        promise: "a file that was replaced is told as such with a command that works; the system's names are followed, an agent's are not",
        run: replaced,
    },
    Case {
        name: "rights.socket",
        promise: "a service that made a new socket is told as such with a command that works; by its folder it is reached on",
        run: socket,
    },
    Case {
        name: "rights.visible",
        promise: "what an agent has at its launch and what its rights imply is shown and on record, and nobody's to pass on",
        run: visible,
    },
    Case {
        name: "rights.counted",
        promise: "a right for so many uses gives as many and no more, each on record, also after a restart of the daemon; what was opened is used on",
        run: counted,
    },
];

/// Waits for what an agent writes from now on.
pub(super) fn writes(world: &World, name: &str, wanted: &str) -> Result<()> {
    let before = world.expect(0, &["logs", name])?.stdout.len();
    world.until(&format!("{name} writes {wanted}"), || {
        let all = world.expect(0, &["logs", name])?.stdout;
        Ok(all.get(before..).unwrap_or_default().contains(wanted))
    })
}

/// The command that `explain` names for the newest refusal about `object`, once it says `replaced`.
pub(super) fn mended(world: &World, name: &str, object: &str) -> Result<()> {
    let mut command = None;
    world.until("explain says that it was replaced", || {
        let told = world.ctx.coconut.explain(name)?;
        let one = told.denials.into_iter().find(|denial| denial.object == object);
        command = one.filter(|one| one.refused_by.contains("replaced")).and_then(|one| one.command);
        Ok(command.is_some())
    })?;
    let command = command.context("no command")?;
    let ran = Command::new("/bin/sh").args(["-c", &command]).output()?;
    ensure!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    Ok(())
}

/// An atomic save: a new file comes to have the name.
pub(super) fn save(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path).with_context(|| path.display().to_string())
}

fn replaced(world: &World) -> Result<String> {
    let name = world.ctx.unique("replaced");
    let conf = world.ctx.work.join(format!("{name}.conf"));
    std::fs::write(&conf, "v1\n")?;
    let path = conf.display().to_string();
    let words = format!("while :; do cat {path} /etc/hosts; sleep 0.2; done");
    world.background(&name, &["fs.exec=@shell", &format!("fs.read={path}")], &words)?;
    writes(world, &name, "v1")?;
    save(&conf, "v2\n")?;
    // The control: whoever reads by name reads the new file.
    ensure!(std::fs::read_to_string(&conf)? == "v2\n", "nothing was replaced");
    mended(world, &name, &path)?;
    writes(world, &name, "v2")?;
    let hosts = followed_hosts(world, &name);
    world.expect(0, &["kill", &name])?;
    not_followed(world)?;
    hosts
}

/// `@base` names `/etc/hosts`, which nobody but the system can replace.
fn followed_hosts(world: &World, name: &str) -> Result<String> {
    let hosts = Path::new("/etc/hosts");
    let before = std::fs::read_to_string(hosts)?;
    if save(hosts, &format!("{before}# followed-by-profile\n")).is_err() {
        return Ok("(/etc is read-only here: no profile's file was replaced)".to_owned());
    }
    let seen = writes(world, name, "# followed-by-profile");
    save(hosts, &before)?;
    seen.map(|()| String::new())
}

/// What an agent itself puts under a name of its own is nothing that it may read.
fn not_followed(world: &World) -> Result<()> {
    let name = world.ctx.unique("replacer");
    let folder = world.ctx.work.join(&name);
    std::fs::create_dir(&folder)?;
    let at = |file: &str| folder.join(file).display().to_string();
    std::fs::create_dir(folder.join("box"))?;
    std::fs::write(folder.join("secret"), "SECRET\n")?;
    std::fs::write(folder.join("box/f"), "mine\n")?;
    let own = Command::new("chown").args(["-R", "coconut-agent", &at("box")]).status()?;
    ensure!(own.success(), "chown");
    let (f, dir) = (at("box/f"), at("box"));
    let words = format!("rm {f}; ln -s {} {f}; cat {f}; sleep 1; cat {f}; echo over", at("secret"));
    let caps = [format!("fs.read={f}"), format!("fs.write={dir}"), format!("fs.delete={dir}")];
    let mut all = vec!["fs.exec=@shell"];
    all.extend(caps.iter().map(String::as_str));
    world.background(&name, &all, &words)?;
    world.expect(0, &["wait", &name])?;
    let seen = world.expect(0, &["logs", &name])?.stdout;
    ensure!(seen.contains("over") && !seen.contains("SECRET"), "its own link was followed: {seen}");
    // The control: the link does lead there.
    ensure!(std::fs::read_to_string(&f)?.contains("SECRET"), "no link was made");
    Ok(())
}

/// Opens a file again and again, reads once, and goes on reading what it opened first.
const READER: &str = "import sys, time
path, first = sys.argv[1], None
while True:
    try:
        f = open(path)
        first = first or f
        print('opened', f.read().strip(), flush=True)
    except OSError:
        try:
            if first: first.seek(0); print('kept', first.read().strip(), flush=True)
        except OSError:
            print('refused', flush=True)
    time.sleep(0.1)
";

/// A right of one agent's that it may use so often.
struct Counted<'a> {
    world: &'a World,
    name: String,
    rule: String,
}

impl Counted<'_> {
    fn grant(&self, how: &[&str]) -> Result<()> {
        let words = [&["cap", "grant", &self.name, &self.rule], how].concat();
        self.world.expect(0, &words).map(drop)
    }

    fn left(&self) -> Result<Option<u64>> {
        let list: CapabilityList = self.world.ctx.coconut.json(&["cap", "ls", &self.name])?;
        let held = list.capabilities.iter().filter(|held| held.capability == self.rule);
        Ok(held.filter_map(|held| held.uses_left).next())
    }

    fn used_up(&self) -> Result<()> {
        self.world.until("every use is used up", || Ok(self.left()? == Some(0)))?;
        // Once more, and what was opened by a use is read on.
        writes(self.world, &self.name, "kept")
    }

    fn opened(&self) -> Result<usize> {
        let all = self.world.expect(0, &["logs", &self.name])?.stdout;
        Ok(all.lines().filter(|line| line.starts_with("opened")).count())
    }
}

fn counted(world: &World) -> Result<String> {
    let name = world.ctx.unique("counted");
    let path = world.file(&format!("{name}.in"), "lent\n")?;
    let script = world.file(&format!("{name}.py"), READER)?;
    let read = format!("fs.read={script}");
    let words = format!("exec python3 {script} {path}");
    world.background(&name, &["fs.exec=@shell", "fs.read=@python", &read], &words)?;
    let right = Counted { world, name, rule: format!("fs.read={path}") };
    right.grant(&["--uses", "3"])?;
    right.used_up()?;
    ensure!(right.opened()? == 3, "{} opens for 3 uses", right.opened()?);
    world.until("explain says that it is used up", || {
        let told = world.ctx.coconut.explain(&right.name)?;
        let mut of_it = told.denials.iter().filter(|denial| denial.object == path);
        Ok(of_it.any(|denial| denial.refused_by.contains("is used up")))
    })?;
    // Neither a new daemon nor another right gives any back.
    world.expect(0, &["cap", "grant", &right.name, "fs.read=/etc/hostname"])?;
    again(world)?;
    writes(world, &right.name, "kept")?;
    ensure!(right.left()? == Some(0) && right.opened()? == 3, "{} opens", right.opened()?);
    right.grant(&["--once"])?;
    right.used_up()?;
    ensure!(right.opened()? == 4, "{} opens for 4 uses", right.opened()?);
    let aid = world.ctx.coconut.show(&right.name)?.agent.aid.to_string();
    let mut uses = 0;
    world.until("its uses are on record", || {
        let records = world.ctx.coconut.records(&["--agent", &aid, "--kind", "use"])?;
        uses = records.iter().filter(|r| r.object == path).map(|r| r.count.max(1)).sum::<u32>();
        Ok(uses >= 4)
    })?;
    ensure!(uses == 4, "{uses} uses are on record");
    world.expect(0, &["cap", "revoke", &right.name, &right.rule])?;
    writes(world, &right.name, "refused")?;
    // The control: a right that is not counted is used on and on.
    right.grant(&[])?;
    world.until("more opens than that", || Ok(right.opened()? > 6))?;
    world.expect(0, &["kill", &right.name])?;
    Ok(format!("{uses} of {uses}"))
}

const SERVICE: &str = "import os, socket, sys
path, role = sys.argv[1], sys.argv[2]
if role == 'serve':
    if os.path.exists(path): os.unlink(path)
    s = socket.socket(socket.AF_UNIX); s.bind(path); os.chmod(path, 0o666); s.listen(16)
    while True:
        c, _ = s.accept()
        try: c.sendall(sys.argv[3].encode())
        except OSError: pass
        c.close()
import time
while True:
    try:
        s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(path); print(s.recv(20).decode(), flush=True)
    except OSError as e:
        print('errno', e.errno, flush=True)
    time.sleep(0.2)
";

/// A service of root's, ended when this is dropped.
struct Service(Child);

impl Service {
    fn start(world: &World, script: &str, socket: &Path, word: &str) -> Result<Service> {
        let child = Command::new("/usr/bin/python3")
            .arg(script)
            .arg(socket)
            .args(["serve", word])
            .spawn()?;
        let service = Service(child);
        world.until("the service listens", || {
            Ok(std::os::unix::net::UnixStream::connect(socket).is_ok())
        })?;
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn socket(world: &World) -> Result<String> {
    let (by_file, by_folder) = (world.ctx.unique("sock-file"), world.ctx.unique("sock-folder"));
    let folder = world.ctx.work.join(&by_file);
    std::fs::create_dir(&folder)?;
    let socket = folder.join("s.sock");
    let script = world.file(&format!("{by_file}.py"), SERVICE)?;
    let first = Service::start(world, &script, &socket, "first")?;
    let words = format!("exec /usr/bin/python3 {script} {} ask", socket.display());
    let read = format!("fs.read={script}");
    for (name, on) in [(&by_file, &socket), (&by_folder, &folder)] {
        let unix = format!("ipc.unix={}", on.display());
        world.background(name, &["fs.exec=@shell", "fs.exec=@python", &read, &unix], &words)?;
        writes(world, name, "first")?;
    }
    drop(first);
    let _second = Service::start(world, &script, &socket, "second")?;
    writes(world, &by_folder, "second").context("granted by its folder")?;
    mended(world, &by_file, &socket.display().to_string())?;
    writes(world, &by_file, "second")?;
    for name in [&by_file, &by_folder] {
        world.expect(0, &["kill", name])?;
    }
    Ok(String::new())
}

fn visible(world: &World) -> Result<String> {
    let name = world.ctx.unique("visible");
    let file = world.file(&format!("{name}.in"), "lent\n")?;
    let probe = world.ctx.probe_arg();
    let spec = demo::agent::Spec {
        name: name.clone(),
        tenant: "maya".to_owned(),
        caps: vec!["agent.spawn=1".to_owned(), "infer".to_owned()],
        stdin: Some(File::open(&file)?.into()),
        command: vec![probe.clone(), "sleep".to_owned()],
        ..demo::agent::Spec::default()
    };
    let agent = demo::agent::Agent::start(&world.ctx.coconut, spec)?;
    world.until("the agent", || Ok(world.ctx.coconut.show(&name).is_ok()))?;
    let list: CapabilityList = world.ctx.coconut.json(&["cap", "ls", &name])?;
    let from = |source: &str, part: &str| {
        list.capabilities.iter().any(|held| held.source == source && held.capability.contains(part))
    };
    for part in ["fs.read=/proc", "fs.write=/tmp", &format!("fs.read={file}")] {
        ensure!(from("launch", part), "`cap ls` does not show {part}: {:?}", list.capabilities);
    }
    let writes_input = format!("fs.write={file}");
    ensure!(!from("launch", &writes_input), "what was opened for reading is shown as writable");
    ensure!(from("infer", "net.connect=") && from("agent.spawn", "ipc.unix="), "what is implied");
    let aid = world.ctx.coconut.show(&name)?.agent.aid.to_string();
    let told = world.ctx.coconut.records(&["--agent", &aid, "--kind", "grant"])?;
    let launch = told.iter().find(|record| record.detail.contains("from=launch"));
    ensure!(launch.is_some_and(|r| r.detail.contains("fs.read=/proc")), "it is not in the log");
    drop(agent);
    // Its own /proc is nobody's to pass on; the control: an operator may give the machine's.
    let parent = world.ctx.unique("visible-parent");
    let words = "coconut run --tenant maya --cap fs.read=/proc -- /usr/bin/true";
    let caps =
        ["fs.exec=@shell", "fs.exec=/usr/bin/coconut", "fs.exec=/usr/bin/true", "agent.spawn=1"];
    world.background(&parent, &caps, words)?;
    world.expect(1, &["wait", &parent])?;
    world
        .expect(0, &["run", "--tenant", "maya", "--cap", "fs.read=/proc", "--", "/usr/bin/true"])?;
    Ok(format!("{} rights", list.capabilities.len()))
}
