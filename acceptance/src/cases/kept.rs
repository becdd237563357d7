//! What an agent still has when the right is gone that gave it, and that nobody can take out of its hands.

use super::Case;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use demo::agent::{Agent, Spec};
use demo::control::{Process, User};
use demo::lines::Lines;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "kept.pages",
        promise: "pages of a file in a pipe or a socket end with the right to read it, and so does who has them",
        run: pages,
    },
    Case {
        name: "kept.watch",
        promise: "a watch on a folder ends with the right to read it",
        run: watch,
    },
    Case {
        name: "kept.descriptor",
        promise: "a channel that came over a socket ends with the right to that socket",
        run: descriptor,
    },
];

/// Longest wait for a word of one of these programs.
const PATIENCE: Duration = Duration::from_secs(240);

/// Takes a page of the first file into a pipe or a socket, says so, waits for the second file and says what it has.
/// `mmap` has memory of the file put into a pipe and maps it no more.
const KEEPER: &str = "
import ctypes, mmap, os, socket, sys, time
way, path, go = sys.argv[1:]
fd = os.open(path, os.O_RDONLY)
r, w = os.pipe()
if way == 'splice': os.splice(fd, w, 4096)
elif way == 'sendfile': os.sendfile(w, fd, 0, 4096)
elif way == 'socket':
    a, b = socket.socketpair(); os.sendfile(b.fileno(), fd, 0, 4096); r = a.fileno()
else:
    class Part(ctypes.Structure): _fields_ = [('at', ctypes.c_void_p), ('length', ctypes.c_size_t)]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    at = libc.mmap(None, ctypes.c_size_t(4096), 1, 1, fd, ctypes.c_long(0))
    part = Part(at, 4096)
    assert libc.vmsplice(w, ctypes.byref(part), ctypes.c_ulong(1), 0) == 4096, ctypes.get_errno()
    assert libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(4096)) == 0
print('holds it', flush=True)
while not os.path.exists(go): time.sleep(0.1)
print('has', os.read(r, 5).decode(), flush=True)
time.sleep(600)
";

const WATCHER: &str = "
import ctypes, os, sys, time
folder, go = sys.argv[1:]
libc = ctypes.CDLL(None)
watch = libc.inotify_init()
assert libc.inotify_add_watch(watch, folder.encode(), 0x100) >= 0
print('holds it', flush=True)
while not os.path.exists(go): time.sleep(0.1)
print('has', os.read(watch, 400)[16:].rstrip(bytes(1)).decode(), flush=True)
time.sleep(600)
";

const RECEIVER: &str = "
import os, socket, sys, time
path, go = sys.argv[1:]
c = socket.socket(socket.AF_UNIX)
c.connect(path)
_, fds, _, _ = socket.recv_fds(c, 9, 1)
channel = socket.socket(fileno=fds[0])
print('holds it', flush=True)
while not os.path.exists(go): time.sleep(0.1)
print('has', channel.recv(99).decode(), flush=True)
time.sleep(600)
";

/// A folder that everybody may look into.
fn folder(world: &World, what: &str) -> Result<PathBuf> {
    let path = world.ctx.work.join(world.ctx.unique(what));
    std::fs::create_dir(&path)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    Ok(path)
}

/// One program and what it is given: it says that it holds it, and later what it has by that.
struct Scene<'a> {
    world: &'a World,
    code: &'a str,
    arguments: Vec<String>,
    /// What it is given, and then loses.
    rule: String,
    /// The same in the words of the file system: mode 0 takes it from an ordinary process.
    path: PathBuf,
    /// When this file is there, the program goes on.
    go: PathBuf,
}

impl Scene<'_> {
    /// The agent must end with the right and say nothing of what came later. The control is an ordinary process of the
    /// same user that loses its permission as well, and must show what came later.
    fn play(&self, later: &str, change: impl Fn() -> Result<()>) -> Result<()> {
        let agent = self.agent()?;
        held(&agent.lines, || agent.complaints())?;
        self.world.expect(0, &["cap", "revoke", &agent.name, &self.rule])?;
        change()?;
        std::fs::write(&self.go, "")?;
        let name = agent.name.clone();
        let ran = agent.end(PATIENCE)?;
        ensure!(!ran.stdout.contains(later), "the agent has what came later: {}", ran.stdout);
        let shown = self.world.ctx.coconut.show(&name)?;
        let why = shown.agent.exit.and_then(|exit| exit.reason).unwrap_or_default();
        ensure!(why.contains("cannot be taken back"), "it ended, but for this: {why:?}");
        std::fs::remove_file(&self.go)?;
        self.control(later, change)
    }

    fn control(&self, later: &str, change: impl Fn() -> Result<()>) -> Result<()> {
        let words: Vec<String> =
            ["-c", self.code].map(str::to_owned).into_iter().chain(self.words()).collect();
        let python = Path::new("/usr/bin/python3");
        let control = Process::start(User::of_agents()?, python, &words, None)?;
        held(&control.lines, || control.complaints())?;
        let mode = std::fs::metadata(&self.path)?.permissions();
        std::fs::set_permissions(&self.path, PermissionsExt::from_mode(0o0))?;
        change()?;
        std::fs::write(&self.go, "")?;
        let said = control.lines.next(PATIENCE)?.unwrap_or_default();
        std::fs::set_permissions(&self.path, mode)?;
        std::fs::remove_file(&self.go)?;
        ensure!(said.contains(later), "the control shows no harm: {said} {}", control.complaints());
        Ok(())
    }

    fn agent(&self) -> Result<Agent> {
        let go = self.go.parent().context("a folder")?.display();
        let python = ["/usr/bin/python3", "-c", self.code].map(str::to_owned);
        let spec = Spec {
            name: self.world.ctx.unique("kept"),
            tenant: "maya".to_owned(),
            caps: vec!["fs.read=@python".to_owned(), self.rule.clone(), format!("fs.read={go}")],
            command: python.into_iter().chain(self.words()).collect(),
            ..Spec::default()
        };
        Agent::start(&self.world.ctx.coconut, spec)
    }

    fn words(&self) -> Vec<String> {
        let go = self.go.display().to_string();
        self.arguments.iter().cloned().chain([go]).collect()
    }
}

/// The program got what it is about.
fn held(lines: &Lines, complaints: impl Fn() -> String) -> Result<()> {
    let said = lines.next(PATIENCE)?.unwrap_or_default();
    ensure!(said == "holds it", "it did not get it: {said} {}", complaints());
    Ok(())
}

fn pages(world: &World) -> Result<String> {
    let (secret, signs) = (folder(world, "pages")?, folder(world, "signs")?);
    let file = secret.join("file");
    let write = |text: &str| -> Result<()> {
        // In place: the pages that somebody has are those that are written to.
        let mut file = std::fs::OpenOptions::new().write(true).open(&file)?;
        Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
    };
    std::fs::write(&file, [b'-'; 4096])?;
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644))?;
    for way in ["splice", "sendfile", "socket", "vmsplice"] {
        let scene = Scene {
            world,
            code: KEEPER,
            arguments: vec![way.to_owned(), file.display().to_string()],
            rule: format!("fs.read={}", secret.display()),
            path: file.clone(),
            go: signs.join("go"),
        };
        write("first")?;
        scene.play("later", || write("later")).with_context(|| way.to_owned())?;
    }
    Ok("(splice, sendfile to a pipe and to a socket, vmsplice)".to_owned())
}

fn watch(world: &World) -> Result<String> {
    let (watched, signs) = (folder(world, "watched")?, folder(world, "signs")?);
    let scene = Scene {
        world,
        code: WATCHER,
        arguments: vec![watched.display().to_string()],
        rule: format!("fs.read={}", watched.display()),
        path: watched.clone(),
        go: signs.join("go"),
    };
    let name = watched.join("merger");
    scene.play("merger", || {
        let _ = std::fs::remove_file(&name);
        Ok(std::fs::write(&name, "")?)
    })?;
    Ok(String::new())
}

fn descriptor(world: &World) -> Result<String> {
    let (served, signs) = (folder(world, "served")?, folder(world, "signs")?);
    let path = served.join("socket");
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666))?;
    let (tell, sent) = std::sync::mpsc::channel::<()>();
    // Gives each who comes one end of a channel, and says something there when it is told to.
    std::thread::spawn(move || -> Result<()> {
        loop {
            let (connection, _) = listener.accept()?;
            let (ours, theirs) = UnixStream::pair()?;
            send_descriptor(&connection, &theirs)?;
            sent.recv()?;
            // Whoever has it may have gone.
            let _ = std::io::Write::write_all(&mut &ours, b"sent later");
        }
    });
    let scene = Scene {
        world,
        code: RECEIVER,
        arguments: vec![path.display().to_string()],
        rule: format!("ipc.unix={}", path.display()),
        path: path.clone(),
        go: signs.join("go"),
    };
    scene.play("sent later", || tell.send(()).context("the service has gone"))?;
    Ok(String::new())
}

fn send_descriptor(over: &UnixStream, end: &UnixStream) -> Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let fds = [end.as_fd()];
    ensure!(beside.push(SendAncillaryMessage::ScmRights(&fds)), "no room for a descriptor");
    sendmsg(over, &[std::io::IoSlice::new(b"x")], &mut beside, SendFlags::empty())?;
    Ok(())
}
