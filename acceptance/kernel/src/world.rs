//! The tests' world: the loaded policy, actors in and outside of agents, and what was recorded.
#![allow(unsafe_code)]

use crate::tally::Tally;
use abi::event::{EVENT_DENIAL, EVENT_SEAL, EVENT_USE, Event, Hook};
use abi::{AgentId, AgentState, Capability};
use anyhow::{Context, Result, ensure};
use kernel::{
    EventReader, Kernel, KernelRule, KernelScope, Launch, LoadOptions, Namespaces, NewAgent,
    Remains, SetId, Uses, Waiting,
};
use libc::O_PATH;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// This program, inside.
pub const SELF: &str = "/coconut-kernel-tests";

/// What agents have unless a case is about it.
pub const OWN: Namespaces = Namespaces::Own { tmp_size: 1 << 20 };

/// Everything that a case needs.
pub struct World {
    pub kernel: Arc<Kernel>,
    pub seen: Arc<Mutex<Vec<Event>>>,
    pub flow: Arc<Mutex<Flow>>,
    reader: Arc<Reading>,
    pub tally: Tally,
    next: Cell<u32>,
    /// What every actor's own program needs.
    base: Cell<Option<SetId>>,
    /// The set that an agent holds beside it.
    sets: RefCell<HashMap<AgentId, SetId>>,
    /// Agents that were made, for the account at the end.
    pub made: RefCell<Vec<AgentId>>,
}

/// Whether the ring is read.
#[derive(Default)]
struct Reading {
    /// It is not to be.
    hold: AtomicBool,
    /// It is not, and will not be before that is taken back.
    held: AtomicBool,
}

/// What is known of all events, also of those that nobody looks at again.
#[derive(Default)]
pub struct Flow {
    /// The number that comes next on each CPU.
    pub next: BTreeMap<u32, u64>,
    /// On each CPU the first that came in a wrong place, and what was to come there.
    pub wrong: BTreeMap<u32, (u64, u64)>,
    /// Agents that do one thing as fast as they can: their uses would fill the memory on a slow machine.
    noisy: HashSet<u64>,
    /// Denials of those of whom nothing else is kept.
    counted: HashMap<u64, u64>,
}

impl Flow {
    /// Counts it; whether it is to be kept.
    fn take(&mut self, event: &Event) -> bool {
        let next = self.next.entry(event.cpu).or_default();
        if *next != event.sequence {
            self.wrong.entry(event.cpu).or_insert((event.sequence, *next));
        }
        *next = event.sequence + 1;
        if let Some(denials) = self.counted.get_mut(&event.aid) {
            *denials += u64::from(event.kind == EVENT_DENIAL);
            return false;
        }
        event.kind != EVENT_USE || !self.noisy.contains(&event.aid)
    }
}

impl World {
    /// Loads the policy and starts to read the ring.
    pub fn new(ring_bytes: u32, tally: Tally) -> Result<World> {
        let options = LoadOptions { ring_bytes, ..LoadOptions::default() };
        let kernel = Arc::new(Kernel::load(&options).map_err(explain)?);
        let reader = kernel.events()?;
        let world = World {
            kernel,
            seen: Arc::default(),
            flow: Arc::default(),
            reader: Arc::default(),
            tally,
            next: Cell::new(0),
            base: Cell::new(None),
            sets: RefCell::default(),
            made: RefCell::default(),
        };
        let (seen, reading) = (Arc::clone(&world.seen), Arc::clone(&world.reader));
        let flow = Arc::clone(&world.flow);
        std::thread::spawn(move || collect(reader, &seen, &flow, &reading));
        Ok(world)
    }

    /// From now on this agent's uses are counted and not kept.
    pub fn noisy(&self, actor: &Actor) {
        if let (Ok(mut flow), Some(aid)) = (self.flow.lock(), actor.aid) {
            flow.noisy.insert(aid.0);
        }
    }

    /// From now on this agent's denials are counted and nothing of it is kept: a race makes a million.
    pub fn counted_only(&self, actor: &Actor) {
        if let (Ok(mut flow), Some(aid)) = (self.flow.lock(), actor.aid) {
            flow.counted.insert(aid.0, 0);
        }
    }

    /// How many denials of it were in the ring so far.
    pub fn denials_of(&self, actor: &Actor) -> u64 {
        let aid = actor.aid.unwrap_or_default().0;
        self.flow.lock().ok().and_then(|flow| flow.counted.get(&aid).copied()).unwrap_or(0)
    }

    /// Nobody reads the ring from here on. A look that was under way has ended when this returns: it could let the
    /// stopped go on later.
    pub fn hold(&self) -> Result<()> {
        self.reader.held.store(false, Ordering::SeqCst);
        self.reader.hold.store(true, Ordering::SeqCst);
        ensure!(await_that(|| self.reader.held.load(Ordering::SeqCst)), "the reader does not stop");
        Ok(())
    }

    /// It is read again.
    pub fn release(&self) {
        self.reader.hold.store(false, Ordering::SeqCst);
    }

    /// Notes one verdict of a test.
    pub fn check(&self, name: &str, ok: bool, detail: impl FnOnce() -> String) {
        self.tally.check(name, ok, detail);
    }

    /// Two values that must be equal.
    pub fn same<T: PartialEq + std::fmt::Debug>(&self, name: &str, got: &T, want: &T) {
        self.tally.same(name, got, want);
    }

    /// An agent whose program is an actor, with these rights and those that the actor itself needs.
    pub fn agent(&self, rules: &[Given]) -> Result<Actor> {
        let out = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
        self.agent_with(rules, AgentId::NOBODY, out.into())
    }

    /// The same, as a child of another, or with a standard output of its own.
    pub fn agent_with(&self, rules: &[Given], parent: AgentId, out: OwnedFd) -> Result<Actor> {
        self.agent_in((OWN, false), rules, parent, out)
    }

    /// One that shares what it can with others.
    pub fn sharer(&self, rules: &[Given]) -> Result<Actor> {
        let out = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
        self.agent_in((Namespaces::Shared, false), rules, AgentId::NOBODY, out.into())
    }

    /// One whose code comes from some files alone.
    pub fn strict(&self, rules: &[Given]) -> Result<Actor> {
        let out = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
        self.agent_in((OWN, true), rules, AgentId::NOBODY, out.into())
    }

    fn agent_in(
        &self,
        (namespaces, strict): (Namespaces, bool),
        rules: &[Given],
        parent: AgentId,
        out: OwnedFd,
    ) -> Result<Actor> {
        let n = self.next.get() + 1;
        self.next.set(n);
        let aid = AgentId::new(n, 1);
        let set = self.set(rules)?;
        let new = NewAgent {
            aid,
            agent: uuid::Uuid::from_u128(u128::from(n)),
            parent,
            tenant: "test".to_owned(),
            weight: 100,
            ram_max: Some(256 << 20),
            swap_max: None,
            pids_max: Some(64),
            may_spawn: rules.iter().any(|r| r.capability == Capability::AgentSignal),
            strict,
            namespaces,
        };
        if let Err(refused) = self.kernel.create_agent(&new, &[set, self.base()?]) {
            self.kernel.drop_set(set).map_err(explain)?;
            return Err(explain(refused));
        }
        self.sets.borrow_mut().insert(aid, set);
        self.made.borrow_mut().push(aid);
        self.kernel.set_state(aid, AgentState::Active)?;
        let (ours, theirs) = UnixStream::pair()?;
        let err = std::fs::OpenOptions::new().write(true).open("/dev/console")?;
        let launch = Launch {
            program: std::fs::File::open(SELF)?.into(),
            interpreter: None,
            argv: vec![OsString::from(SELF), OsString::from("actor")],
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            stdio: [OwnedFd::from(theirs), out, err.into()],
        };
        let process = self.kernel.prepare(aid, launch).and_then(Waiting::go).map_err(explain)?;
        ours.set_read_timeout(Some(STALLED))?;
        Ok(Actor { aid: Some(aid), pid: process.pid, wire: RefCell::new(ours), _child: None })
    }

    /// Writes a set: each path is opened here, once.
    pub fn set(&self, rules: &[Given]) -> Result<SetId> {
        let rules: Result<Vec<KernelRule>> =
            rules.iter().map(|given| self.resolved(given)).collect();
        self.kernel.make_set(&rules?).map_err(explain)
    }

    fn resolved(&self, given: &Given) -> Result<KernelRule> {
        let scope = match &given.place {
            Place::Path(path) => KernelScope::File(Arc::new(self.handle(path)?)),
            Place::Other(scope) => scope.clone(),
        };
        let Given { capability, expires_ns, code, uses, .. } = *given;
        Ok(KernelRule { capability, scope, expires_ns, code, uses })
    }

    /// The file that a path leads to.
    pub fn handle(&self, path: &str) -> Result<kernel::Handle> {
        let open = OpenOptionsExt::custom_flags(std::fs::OpenOptions::new().read(true), O_PATH)
            .open(path)
            .with_context(|| path.to_owned())?;
        self.kernel.handle(open.into()).map_err(explain)
    }

    /// The actor's program, its loader and libraries.
    pub fn base(&self) -> Result<SetId> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let there =
            [SELF, "/lib", "/lib64"].into_iter().filter(|p| std::path::Path::new(p).exists());
        let base = self.set(&there.map(|path| on(Capability::FsExec, path)).collect::<Vec<_>>())?;
        self.base.set(Some(base));
        Ok(base)
    }

    /// The control: the same program, run by root outside every agent.
    pub fn outsider(&self) -> Result<Actor> {
        start_outsider()
    }

    /// Replaces the agent's rights; what it may still have of those that it lost.
    pub fn apply(&self, actor: &Actor, rules: &[Given]) -> Result<Remains> {
        let aid = actor.aid.context("an outsider has no rights")?;
        let set = self.set(rules)?;
        let remains = self.kernel.assign(aid, &[set, self.base()?]).map_err(explain)?;
        if let Some(old) = self.sets.borrow_mut().insert(aid, set) {
            self.kernel.drop_set(old).map_err(explain)?;
        }
        Ok(remains)
    }

    /// The operation must succeed.
    pub fn allowed(&self, actor: &Actor, line: &str) -> i64 {
        let result = actor.tell(line);
        self.check(&format!("{} may {line}", actor.name()), result >= 0, || show(result));
        result
    }

    /// The operation must be refused, and exactly one denial be recorded for it, by `hook`.
    pub fn denied(&self, actor: &Actor, line: &str, errno: i32, hook: Hook) {
        let before = self.settle(actor.aid);
        let result = actor.tell(line);
        let after = self.settle(actor.aid);
        let name = format!("{} may not {line}", actor.name());
        let last = self.last_denial(actor.aid).map(|e| Hook::try_from(e.hook));
        let ok = result == -i64::from(errno) && after == before + 1 && last == Some(Ok(hook));
        self.check(&name, ok, || {
            format!("{}, {} denials recorded, the last by {last:?}", show(result), after - before)
        });
    }

    /// Refused to somebody outside every agent, with a seal event at least: some calls pass two hooks.
    pub fn sealed(&self, actor: &Actor, line: &str, errno: i32) {
        self.drain();
        let before = self.count(|e| e.kind == EVENT_SEAL);
        let result = actor.tell(line);
        let events = self.await_more(before, |e| e.kind == EVENT_SEAL);
        self.check(
            &format!("the seal keeps {} from {line}", actor.name()),
            result == -i64::from(errno) && events >= 1,
            || format!("{}, {events} seal events", show(result)),
        );
    }

    /// Denials of the agent: the kernel's count, after checking that as many events are there.
    fn settle(&self, aid: Option<AgentId>) -> u64 {
        let Some(aid) = aid else { return 0 };
        self.drain();
        let counted = self.kernel.counters(aid).map_or(0, |c| c.denials);
        let recorded = || self.count(|e| e.kind == EVENT_DENIAL && e.aid == aid.0) as u64;
        await_that(|| recorded() >= counted);
        if recorded() != counted {
            let name = format!("{aid:?}: as many denials as it was refused");
            self.check(&name, false, || format!("{counted} counted, {} recorded", recorded()));
        }
        counted
    }

    /// Waits until the reader has nothing left to take.
    pub fn drain(&self) {
        self.kernel.read_events_now();
        let mut last = usize::MAX;
        loop {
            let now = self.seen.lock().map_or(0, |s| s.len());
            if now == last {
                return;
            }
            last = now;
            std::thread::sleep(Duration::from_millis(8));
        }
    }

    /// How many more events `wanted` picks than `before`; waits for the first.
    pub fn await_more(&self, before: usize, wanted: impl Fn(&Event) -> bool + Copy) -> usize {
        await_that(|| self.count(wanted) > before);
        self.drain();
        self.count(wanted) - before
    }

    /// Events so far that `wanted` picks.
    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.seen.lock().map_or(0, |s| s.iter().filter(|e| wanted(e)).count())
    }

    /// The newest denial of the agent.
    pub fn last_denial(&self, aid: Option<AgentId>) -> Option<Event> {
        let seen = self.seen.lock().ok()?;
        let wanted = |e: &&Event| e.kind == EVENT_DENIAL && Some(AgentId(e.aid)) == aid;
        seen.iter().rev().find(wanted).copied()
    }

    /// Ends an agent and everything of it.
    pub fn end(&self, actor: &Actor) -> Result<()> {
        let aid = actor.aid.context("an outsider is not ended so")?;
        self.kernel.kill(aid).map_err(explain)?;
        // SAFETY: waits for our own child and ignores its status.
        unsafe { libc::waitpid(actor.pid.cast_signed(), std::ptr::null_mut(), 0) };
        self.kernel.remove_agent(aid).map_err(explain)?;
        if let Some(set) = self.sets.borrow_mut().remove(&aid) {
            self.kernel.drop_set(set).map_err(explain)?;
        }
        Ok(())
    }
}

/// So long without what must come is a fault, also on a machine that does much else.
pub const STALLED: Duration = Duration::from_secs(120);

/// Waits until something holds; whether it came to hold.
pub fn await_that(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + STALLED;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A root process outside every agent that does what it is told.
pub fn start_outsider() -> Result<Actor> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new(SELF)
        .arg("actor")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .context("start an actor")?;
    ours.set_read_timeout(Some(STALLED))?;
    Ok(Actor { aid: None, pid: child.id(), wire: RefCell::new(ours), _child: Some(child) })
}

fn collect(
    mut reader: EventReader,
    seen: &Mutex<Vec<Event>>,
    flow: &Mutex<Flow>,
    reading: &Reading,
) {
    loop {
        let hold = reading.hold.load(Ordering::SeqCst);
        reading.held.store(hold, Ordering::SeqCst);
        if hold {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let polled = reader.poll(Duration::from_millis(50), |event, _| {
            let keep = flow.lock().is_ok_and(|mut flow| flow.take(event));
            if let (true, Ok(mut seen)) = (keep, seen.lock()) {
                seen.push(*event);
            }
        });
        if let Err(error) = polled {
            println!("FAIL the ring: {error}");
            return;
        }
        reader.release(reader.position());
    }
}

/// Somebody who does what a test says.
pub struct Actor {
    pub aid: Option<AgentId>,
    pub pid: u32,
    wire: RefCell<UnixStream>,
    _child: Option<std::process::Child>,
}

impl Actor {
    /// One at the other end of a socket.
    pub fn at(wire: UnixStream, pid: u32) -> Result<Actor> {
        wire.set_read_timeout(Some(STALLED))?;
        Ok(Actor { aid: None, pid, wire: RefCell::new(wire), _child: None })
    }

    /// Sends a command and waits for its result.
    pub fn tell(&self, line: &str) -> i64 {
        self.start(line);
        self.hear()
    }

    /// Sends a command and does not wait.
    pub fn start(&self, line: &str) {
        let _ = self.wire.borrow_mut().write_all(format!("{line}\n").as_bytes());
    }

    /// Waits for a result; the actor's end is a result as well.
    pub fn hear(&self) -> i64 {
        let mut result = [0; 8];
        match self.wire.borrow_mut().read_exact(&mut result) {
            Ok(()) => i64::from_ne_bytes(result),
            Err(_) => i64::MIN,
        }
    }

    /// Hands a descriptor over; tell `take-fd` first.
    pub fn hand_over(&self, fd: i32) -> Result<()> {
        let byte = 0u8;
        // SAFETY: one message with one control header, all of it in local memory.
        unsafe {
            let mut part =
                libc::iovec { iov_base: (&raw const byte).cast_mut().cast(), iov_len: 1 };
            let mut space = [0u64; 8];
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = space.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(4) as usize;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(head).cast::<i32>().write_unaligned(fd);
            let wire = self.wire.borrow().as_raw_fd();
            ensure!(libc::sendmsg(wire, &raw const message, 0) > 0, "cannot hand over");
        }
        Ok(())
    }

    pub fn name(&self) -> &'static str {
        if self.aid.is_some() { "an agent" } else { "a non-agent" }
    }
}

/// A rule, its path still a name.
#[derive(Clone)]
pub struct Given {
    pub capability: Capability,
    pub place: Place,
    pub expires_ns: u64,
    pub code: bool,
    pub uses: Option<Uses>,
}

#[derive(Clone)]
pub enum Place {
    Path(String),
    Other(KernelScope),
}

/// A rule without a path, that never expires.
pub fn rule(capability: Capability, scope: KernelScope) -> Given {
    Given { capability, place: Place::Other(scope), expires_ns: 0, code: false, uses: None }
}

/// A rule on a path.
pub fn on(capability: Capability, path: &str) -> Given {
    Given {
        capability,
        place: Place::Path(path.to_owned()),
        expires_ns: 0,
        code: false,
        uses: None,
    }
}

/// As a profile gives it.
pub fn code(given: Given) -> Given {
    Given { code: true, ..given }
}

/// As often as that and no more; rules with one key share a counter.
pub fn counted(given: Given, key: u64, left: u64) -> Given {
    Given { uses: Some(Uses { key, left }), ..given }
}

/// A rule on an address.
pub fn net(capability: Capability, host: &str, prefix: u8, port: u16) -> Given {
    let addr: IpAddr = host.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    rule(capability, KernelScope::Net { addr, prefix, port })
}

/// A result in words.
pub fn show(result: i64) -> String {
    match result {
        i64::MIN => "the actor has ended".to_owned(),
        -4095..0 => std::io::Error::from_raw_os_error(-result as i32).to_string(),
        done => format!("it returned {done}"),
    }
}

/// An error with everything beneath it.
pub fn explain(error: kernel::Error) -> anyhow::Error {
    anyhow::Error::new(error)
}
