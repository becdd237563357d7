//! What is an agent's own under the names that every program knows, and what starts without a refusal.

use super::Case;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::process::{Command, Stdio};

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "own.memory",
        promise: "parallel Python works with `@python` alone, and its shared memory is no other agent's",
        run: memory,
    },
    Case {
        name: "own.terminals",
        promise: "an agent has terminals of its own, with job control; `coconut run` gives it one",
        run: terminals,
    },
    Case {
        name: "own.proc",
        promise: "an agent learns what machine it is on and what its limits are, and of nobody's connections",
        run: proc,
    },
    Case {
        name: "own.budgets",
        promise: "what the kernel counts by user no agent uses up for another",
        run: budgets,
    },
    Case {
        name: "own.moves",
        promise: "`mv`, Python and git copy where a move would add rights, and nothing goes that may not",
        run: moves,
    },
    Case { name: "own.quiet", promise: "what starts daily starts without a denial", run: quiet },
];

const PARALLEL: &str = r#"
import multiprocessing as mp, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory
def square(x): return x * x
if __name__ == "__main__":
    for kind in ("forkserver", "spawn", "fork"):
        with ProcessPoolExecutor(2, mp_context=mp.get_context(kind)) as pool:
            assert list(pool.map(square, range(4))) == [0, 1, 4, 9], kind
    with mp.get_context("fork").Manager() as manager:
        assert dict(manager.dict(a=1)) == {"a": 1}
    segment = shared_memory.SharedMemory("acceptance", create=True, size=64)
    segment.buf[:6] = b"SECRET"
    print("made", flush=True)
    sys.stdin.readline()
    segment.close(); segment.unlink()
"#;
const LOOK: &str = r#"
from multiprocessing import shared_memory
try:
    segment = shared_memory.SharedMemory("acceptance", track=False)
    print(bytes(segment.buf[:6]).decode())
except FileNotFoundError: print("none")
"#;

fn memory(world: &World) -> Result<String> {
    let folder = program_folder(world, "parallel", PARALLEL)?;
    let (program, read) = (format!("{folder}/program.py"), format!("fs.read={folder}"));
    let name = world.ctx.unique("parallel");
    let coconut = &world.ctx.coconut.program;
    let run =
        ["run", "--tenant", "maya", "--name", &name, "--cap", "fs.read=@python", "--cap", &read];
    let mut agent = Command::new(coconut)
        .args(run)
        .args(["--", "/usr/bin/python3", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("coconut run")?;
    let seen = said(&mut agent)?;
    let look = |words: &[&str]| world.call(words).map(|ran| ran.stdout.trim().to_owned());
    let other =
        ["run", "--tenant", "noor", "--cap", "fs.read=@python", "--cap", "fs.read=/dev/shm", "--"];
    let python = ["/usr/bin/python3", "-c", LOOK];
    let by_another = look(&[&other[..], &python[..]].concat())?;
    drop(agent.stdin.take());
    ensure!(agent.wait()?.success() && seen == "made", "parallel Python: {seen}");
    ensure!(by_another == "none", "another tenant's agent reads it: {by_another}");
    let denials = world.ctx.coconut.explain(&name)?.denials;
    ensure!(denials.is_empty(), "{denials:?}");
    // The control: what a non-agent makes, another reads.
    fs::write("/dev/shm/acceptance", "SECRET")?;
    let free = Command::new("/usr/bin/python3").args(["-c", LOOK]).output()?;
    fs::remove_file("/dev/shm/acceptance")?;
    ensure!(String::from_utf8_lossy(&free.stdout).trim() == "SECRET", "the control: {free:?}");
    Ok(String::new())
}

/// A folder with nothing but a program, which Python looks through.
fn program_folder(world: &World, name: &str, text: &str) -> Result<String> {
    let folder = world.ctx.work.join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("program.py"), text)?;
    Ok(folder.display().to_string())
}

/// The first line of a program.
fn said(child: &mut std::process::Child) -> Result<String> {
    use std::io::{BufRead, BufReader};
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Opens a terminal, and has a shell on one of its own.
const PTY: &str = r#"
import os, pty
m, s = os.openpty()
print(os.ttyname(s), os.listdir("/dev/pts"))
pid, fd = pty.fork()
if pid == 0: os.execv("/bin/sh", ["sh", "-ic", "echo shell-$((40+2))"])
text = b""
while True:
    try: more = os.read(fd, 1000)
    except OSError: break
    if not more: break
    text += more
print(text.decode())
"#;

fn terminals(world: &World) -> Result<String> {
    let caps =
        ["run", "--tenant", "maya", "--cap", "fs.read=@python", "--cap", "fs.read=@shell", "--"];
    let ran = world.expect(0, &[&caps[..], &["/usr/bin/python3", "-c", PTY]].concat())?;
    let own = ran.stdout.lines().next().unwrap_or_default();
    ensure!(own == "/dev/pts/0 ['0', 'ptmx']", "{}", ran.stdout);
    ensure!(ran.stdout.contains("shell-42"), "{}", ran.stdout);
    ensure!(!ran.stdout.contains("job control"), "{}", ran.stdout);
    // The control: the machine has terminals that the agent does not see, and sees none of its.
    let on_a_terminal = |inside: &str| -> Result<String> {
        let line =
            format!("{} run --cap fs.read=@shell -- {inside}", world.ctx.coconut.program.display());
        let ran = Command::new("/usr/bin/script").args(["-qec", &line, "/dev/null"]).output()?;
        ensure!(ran.status.success(), "{line}: {ran:?}");
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    let shell =
        on_a_terminal("/usr/bin/bash -ic 'jobs; sleep 0 & fg; echo shell-$((40+2)); ls /dev/pts'")?;
    ensure!(shell.contains("shell-42"), "{shell}");
    for complaint in ["job control", "cannot set", "nappropriate ioctl"] {
        ensure!(!shell.contains(complaint), "{shell}");
    }
    // What `script` itself types, for want of somebody who does, comes behind it.
    let size = on_a_terminal("/usr/bin/stty size")?;
    let numbers = size.split_whitespace().map_while(|word| word.parse::<u32>().ok()).count();
    ensure!(numbers == 2, "{size}");
    Ok(String::new())
}

fn proc(world: &World) -> Result<String> {
    let name = world.ctx.unique("proc");
    let text = format!(
        "[agent]\nname = \"{name}\"\ntenant = \"maya\"\n\
         command = [\"/usr/bin/dash\", \"-c\", {:?}]\n\n\
         [capabilities]\n\"fs.read\" = [\"@shell\"]\n\n[memory]\nram = \"300MiB\"\n",
        "nproc; head -n1 /proc/meminfo; cat /proc/loadavg /sys/devices/system/cpu/online; \
         cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max"
    );
    let manifest = world.file(&format!("{name}.toml"), &text)?;
    let ran = world.expect(0, &["run", "--allow-unsigned", "--manifest", &manifest])?;
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let cpus = std::thread::available_parallelism()?.get().to_string();
    ensure!(lines.len() == 5 && lines[0] == cpus && lines[4] == "314572800", "{}", ran.stdout);
    let machine = fs::read_to_string("/proc/meminfo")?;
    ensure!(machine.starts_with(lines[1]), "{}", lines[1]);
    let denials = world.ctx.coconut.explain(&name)?.denials;
    ensure!(denials.is_empty(), "{denials:?}");
    let read = "for f in tcp unix; do cat /proc/net/$f; done";
    let name = world.ctx.unique("sockets");
    let run =
        ["run", "--name", &name, "--cap", "fs.read=@shell", "--", "/usr/bin/dash", "-c", read];
    let ran = world.call(&run)?;
    ensure!(ran.stdout.is_empty(), "it sees connections: {}", ran.stdout);
    let denials = world.ctx.coconut.explain(&name)?.denials;
    ensure!(denials.len() == 2 && denials[0].tried.contains("all of the machine"), "{denials:?}");
    let free = Command::new("/usr/bin/dash").args(["-c", read]).output()?;
    ensure!(
        String::from_utf8_lossy(&free.stdout).contains("coconut/api.sock"),
        "the control sees none"
    );
    Ok(lines[1].to_owned())
}

/// Takes much of what is counted by user, or a little of each.
const TAKES: &str = r#"
import ctypes, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
rt = ctypes.CDLL("librt.so.1", use_errno=True)
keep = []
def inotify():
    if libc.inotify_init1(0) < 0: raise OSError(ctypes.get_errno(), "inotify")
def pipe():
    r, w = os.pipe(); keep.append((r, w))
    if fcntl.fcntl(w, 1032) < 65536: raise OSError(0, "a small pipe")
def large():
    pipe(); fcntl.fcntl(keep[-1][1], 1031, 1 << 20)
def queue():
    if rt.mq_open(b"/q%d" % len(keep), 0o102, 0o600, None) < 0: raise OSError(ctypes.get_errno(), "queue")
    keep.append(0)
def times(n, what):
    try:
        for _ in range(n): what()
        return "all"
    except OSError as error: return str(error)
many = sys.argv[1] == "hog"
print(times(200 if many else 1, inotify), times(70, large) if many else times(1, pipe), times(12 if many else 1, queue), flush=True)
if many: sys.stdin.readline()
"#;

fn budgets(world: &World) -> Result<String> {
    let both = beside_a_hog(world)?;
    ensure!(both == ["all all all", "all all all"], "{both:?}");
    // The control: limits as Linux has them.
    let limits = [("fs/inotify/max_user_instances", "128"), ("fs/pipe-user-pages-soft", "16384")];
    let at = |name: &str| format!("/proc/sys/{name}");
    let ours = limits.map(|(name, _)| fs::read_to_string(at(name)));
    for (name, value) in limits {
        fs::write(at(name), value)?;
    }
    let harm = beside_a_hog(world);
    for ((name, _), value) in limits.iter().zip(ours) {
        fs::write(at(name), value?)?;
    }
    let [hog, victim] = harm?;
    ensure!(hog != "all all all" && victim.contains("Errno 24"), "the control: {hog}; {victim}");
    ensure!(victim.contains("a small pipe"), "the control: {victim}");
    Ok(victim)
}

/// What the agent of one tenant gets, and another's beside it.
fn beside_a_hog(world: &World) -> Result<[String; 2]> {
    let folder = program_folder(world, "takes", TAKES)?;
    let (program, read) = (format!("{folder}/program.py"), format!("fs.read={folder}"));
    let words = |tenant: &'static str, what: &'static str| -> Vec<String> {
        let run = ["run", "--tenant", tenant, "--cap", "fs.read=@python", "--cap", &read, "--"];
        let all = [&run[..], &["/usr/bin/python3", &program, what]].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let mut hog = Command::new(&world.ctx.coconut.program)
        .args(words("mallory", "hog"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("coconut run")?;
    let taken = said(&mut hog)?;
    let victim = words("maya", "victim");
    let victim = world.call(&victim.iter().map(String::as_str).collect::<Vec<_>>())?;
    drop(hog.stdin.take());
    hog.wait()?;
    Ok([taken, victim.stdout.trim().to_owned()])
}

fn moves(world: &World) -> Result<String> {
    let [from, to] = ["from", "to"].map(|name| world.ctx.work.join("moves").join(name));
    let shown = |path: &std::path::Path| path.display().to_string();
    for folder in [&from, &to] {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    }
    for name in ["a", "b", "c"] {
        fs::write(from.join(name), name)?;
    }
    let repository = shown(&from.join("repository"));
    let init = Command::new("/usr/bin/git").args(["init", "-q", &repository]).status()?;
    ensure!(init.success(), "no repository");
    chown(&repository)?;
    let (from_text, to_text) = (shown(&from), shown(&to));
    let caps = [
        "fs.read=@shell".to_owned(),
        "fs.read=@python".to_owned(),
        "fs.read=@git".to_owned(),
        format!("fs.read={from_text}"),
        format!("fs.delete={from_text}"),
        format!("fs.read={to_text}"),
        format!("fs.write={to_text}"),
        format!("fs.delete={to_text}"),
    ];
    let run = |caps: &[String], command: &[&str]| {
        let mut words = vec!["run"];
        caps.iter().for_each(|cap| words.extend(["--cap", cap]));
        words.push("--");
        words.extend(command);
        world.call(&words)
    };
    let [a, b, c] = ["a", "b", "c"].map(|name| (shown(&from.join(name)), shown(&to.join(name))));
    let python = format!("import shutil; shutil.move({:?}, {:?})", b.0, b.1);
    let clone = shown(&to.join("clone"));
    for command in [
        ["/usr/bin/mv", &a.0, &a.1].as_slice(),
        &["/usr/bin/python3", "-c", &python],
        &["/usr/bin/git", "clone", "-q", &repository, &clone],
    ] {
        let ran = run(&caps, command)?;
        ensure!(ran.code == 0, "{}: {}", command.join(" "), ran.summary());
    }
    ensure!(to.join("a").exists() && to.join("b").exists(), "they did not arrive");
    ensure!(!from.join("a").exists() && !from.join("b").exists(), "they are in both places");
    // Without the right to remove it, it stays.
    let ran = run(&[&caps[..4], &caps[5..]].concat(), &["/usr/bin/mv", &c.0, &c.1])?;
    ensure!(ran.code != 0 && from.join("c").exists(), "it went without a right: {}", ran.summary());
    Ok(String::new())
}

/// To the user that agents of root run as.
fn chown(path: &str) -> Result<()> {
    let done = Command::new("/usr/bin/chown").args(["-R", "coconut-agent:", path]).status()?;
    ensure!(done.success(), "cannot give {path} away");
    Ok(())
}

/// Profiles, and what is started with them.
const DAILY: [(&str, &[&str]); 8] = [
    ("fs.read=@python", &["/usr/bin/python3", "-c", "pass"]),
    (
        "fs.read=@python",
        &[
            "/usr/bin/python3",
            "-c",
            "import asyncio, ssl, json, subprocess, tempfile, sqlite3, uuid, socket, openai; ssl.create_default_context(); tempfile.mkdtemp()",
        ],
    ),
    ("fs.read=@shell", &["/usr/bin/bash", "-c", "x=$(date); cd /tmp; ls; echo $HOME ~"]),
    ("fs.read=@shell", &["/usr/bin/bash", "-lc", "echo hi"]),
    (
        "fs.read=@shell",
        &[
            "/usr/bin/dash",
            "-c",
            "printf 'b\\na\\n' | sort | uniq -c | sed s/a/c/ | awk '{print $2}' | head -n1",
        ],
    ),
    (
        "fs.read=@shell",
        &[
            "/usr/bin/dash",
            "-c",
            "find /tmp -maxdepth 1 | xargs -r ls -ld; grep -c root /etc/passwd",
        ],
    ),
    ("fs.read=@shell", &["/usr/bin/curl", "--version"]),
    ("fs.read=@git", &["/usr/bin/git", "status"]),
];

fn quiet(world: &World) -> Result<String> {
    let repository = world.ctx.work.join("repository").display().to_string();
    let git = |words: &[&str]| Command::new("/usr/bin/git").args(words).output();
    ensure!(git(&["init", "-q", &repository])?.status.success(), "no repository");
    chown(&repository)?;
    for (cap, command) in DAILY {
        let name = world.ctx.unique("daily");
        let read = format!("fs.read={repository}");
        let mut words = vec!["run", "--name", &name, "--cap", cap];
        if cap.ends_with("@git") {
            words.extend(["--cap", &read, "--cwd", &repository]);
        }
        words.push("--");
        words.extend(command);
        world.expect(0, &words)?;
        let denials = world.ctx.coconut.explain(&name)?.denials;
        ensure!(denials.is_empty(), "{}: {denials:?}", command.join(" "));
    }
    Ok(format!("{} programs", DAILY.len()))
}
