//! The kernel, as the daemon sees it.

use super::{Fake, Known, node, waiting};
use abi::event::Event;
use abi::{AgentId, AgentState};
use coconutd::port::{EventSource, KernelPort, Ready};
use kernel::{
    Counters, Error, Exited, Footing, Found, Handle, KernelRule, KernelScope, Launch, Mapping,
    NewAgent, Node, Process, Remains, Result, SetId, Standing,
};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// The handle that the daemon is given.
pub struct Port(pub Arc<Fake>, pub u64);

impl Port {
    fn step(&self, name: &str) -> Result<()> {
        self.0.life.go_on(self.1, name);
        self.0.step(name)
    }
}

impl KernelPort for Port {
    fn adopted(&self) -> bool {
        self.0.adopted.load(Ordering::SeqCst)
    }
    fn footing(&self, aid: AgentId) -> Result<Footing> {
        self.0.with(aid, |_| Footing { folder: format!("{aid:?}").into(), ..Footing::default() })
    }
    fn adopt_agent(&self, standing: &Standing, sets: &[SetId]) -> Result<Found> {
        self.step("adopt")?;
        let aid = standing.aid;
        let found = self.0.with(aid, |known| {
            known.sets = sets.to_vec();
            known.adopted = true;
            (known.pid, known.exited)
        });
        Ok(match found {
            Err(_) => Found::Gone,
            Ok((_, Some(exited))) => Found::Ended(exited),
            Ok((None, None)) => Found::Ended(Exited::default()),
            Ok((Some(pid), None)) => {
                match pidfd_open(as_pid(pid), PidfdFlags::empty()) {
                    Ok(pidfd) => Found::Running(Process { pid, pidfd }),
                    // The daemon before has waited for it.
                    Err(_) => {
                        let exited = Exited { status: None, signal: Some(9) };
                        self.0.with(aid, |known| known.exited = Some(exited))?;
                        Found::Ended(exited)
                    }
                }
            }
        })
    }
    fn adoption_done(&self) -> Result<Vec<AgentId>> {
        self.step("adoption_done")?;
        let mut agents = self.0.agents.lock().unwrap();
        let strangers: Vec<AgentId> =
            agents.iter().filter(|(_, known)| !known.adopted).map(|(aid, _)| *aid).collect();
        for aid in &strangers {
            let known = agents.remove(aid).unwrap();
            if let Some(pid) = known.pid {
                let _ = kill_process(as_pid(pid), Signal::KILL);
            }
        }
        agents.values_mut().for_each(|known| known.adopted = false);
        let before = *self.0.before.lock().unwrap();
        self.0.sets.lock().unwrap().retain(|id, _| id.0 > before);
        Ok(strangers)
    }
    fn exit_of(&self, aid: AgentId) -> Result<Option<Exited>> {
        self.0.with(aid, |known| known.exited)
    }
    fn keep_secret(&self, _: OwnedFd) -> Result<()> {
        self.step("keep_secret")
    }
    fn keep_folders(&self, _: Vec<OwnedFd>) -> Result<()> {
        self.step("keep_folders")
    }
    fn seal(&self) -> Result<()> {
        self.step("seal")
    }
    fn handle(&self, fd: OwnedFd) -> Result<Handle> {
        self.step("handle")?;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .map_err(|e| Error::Invalid(e.to_string()))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| Error::Invalid(e.to_string()))?;
        let own = Node { dev: stat.st_dev, ino: stat.st_ino, directory: path.is_dir() };
        let above = path.ancestors().skip(1).filter_map(node).collect();
        Ok(Handle::for_tests(fd, own, above))
    }
    fn make_set(&self, rules: &[KernelRule]) -> Result<SetId> {
        self.step("make_set")?;
        let mut next = self.0.next_set.lock().unwrap();
        *next += 1;
        self.0.sets.lock().unwrap().insert(SetId(*next), rules.to_vec());
        Ok(SetId(*next))
    }
    fn add_uses(&self, key: u64, uses: u64) -> Result<bool> {
        self.step("add_uses")?;
        let known = self.uses_left(key)?.is_some();
        *self.0.more_uses.lock().unwrap().entry(key).or_default() += uses;
        Ok(known)
    }
    fn uses_left(&self, key: u64) -> Result<Option<u64>> {
        let sets = self.0.sets.lock().unwrap();
        let uses = sets.values().flatten().filter_map(|rule| rule.uses);
        let more = self.0.more_uses.lock().unwrap().get(&key).copied().unwrap_or(0);
        Ok(uses.into_iter().find(|uses| uses.key == key).map(|uses| uses.left + more))
    }
    fn follow(
        &self,
        set: SetId,
        rule: u32,
        _: Option<&Handle>,
        new: Option<&Arc<Handle>>,
    ) -> Result<()> {
        self.step("follow")?;
        let mut sets = self.0.sets.lock().unwrap();
        let rule = &mut sets.get_mut(&set).unwrap()[rule as usize - 1];
        rule.scope = match new {
            None => KernelScope::Nothing,
            Some(new) => {
                let fd = new.fd().try_clone_to_owned().unwrap();
                KernelScope::File(Arc::new(Handle::for_tests(fd, new.node(), new.above().to_vec())))
            }
        };
        Ok(())
    }
    fn drop_set(&self, set: SetId) -> Result<()> {
        // Remains of a daemon that was killed in its own process: one that is killed does nothing more.
        if self.0.life.is_over(self.1) {
            return Ok(());
        }
        self.step("drop_set")?;
        let agents = self.0.agents.lock().unwrap();
        // Told and not thrown: after a test that failed this is a thread of the daemon's own.
        if agents.values().any(|known| known.sets.contains(&set)) {
            self.0.wrong.lock().unwrap().push(format!("{set:?} is dropped and held"));
        }
        self.0.sets.lock().unwrap().remove(&set);
        Ok(())
    }
    fn create_agent(&self, agent: &NewAgent, sets: &[SetId]) -> Result<()> {
        self.step("create")?;
        assert!(sets.len() <= kernel::SETS_MAX);
        let known = Known {
            parent: agent.parent,
            sets: sets.to_vec(),
            weight: agent.weight,
            strict: agent.strict,
            ..Known::default()
        };
        self.0.agents.lock().unwrap().insert(agent.aid, known);
        self.0.look();
        Ok(())
    }
    fn assign(&self, aid: AgentId, sets: &[SetId]) -> Result<Remains> {
        self.step("assign")?;
        self.0.with(aid, |known| known.sets = sets.to_vec())?;
        self.0.look();
        Ok(*self.0.remains.lock().unwrap())
    }
    fn pins(&self, _: AgentId) -> Result<bool> {
        self.step("pins")?;
        Ok(self.0.pins_meanwhile.load(Ordering::Relaxed))
    }
    fn set_parent(&self, aid: AgentId, parent: AgentId) -> Result<()> {
        self.0.with(aid, |known| known.parent = parent)
    }
    fn set_state(&self, aid: AgentId, state: AgentState) -> Result<()> {
        self.step("set_state")?;
        self.0.with(aid, |known| known.state = Some(state))
    }
    fn prepare(&self, aid: AgentId, launch: Launch) -> Result<Box<dyn Ready>> {
        self.step("prepare")?;
        Ok(Box::new(waiting::Waiting { fake: self.0.clone(), number: self.1, aid, launch }))
    }
    fn make_room(&self, _: AgentId, _: Option<u64>) -> Result<()> {
        self.step("make_room")
    }
    fn freeze(&self, aid: AgentId) -> Result<()> {
        self.step("freeze")?;
        self.0.with(aid, |known| known.frozen = true)
    }
    fn cut(&self, aid: AgentId, _: &[std::path::PathBuf]) -> Result<usize> {
        self.step("cut")?;
        self.0.with(aid, |known| assert!(known.frozen, "it would connect again"))?;
        Ok(0)
    }
    fn snapshot(&self, aid: AgentId) -> Result<Vec<kernel::Snapshot>> {
        self.step("snapshot")?;
        self.0.with(aid, |_| Vec::new())
    }
    fn interrupt(&self, aid: AgentId) -> Result<()> {
        self.step("interrupt")?;
        self.0.with(aid, |known| assert!(!known.frozen, "one that is frozen would run"))
    }
    fn thaw(&self, aid: AgentId) -> Result<()> {
        self.step("thaw")?;
        self.0.with(aid, |known| known.frozen = false)
    }
    fn kill(&self, aid: AgentId) -> Result<()> {
        self.step("kill")?;
        let pid = self.0.with(aid, |known| {
            known.killed = true;
            known.pid
        })?;
        if let Some(pid) = pid {
            let _ = kill_process(as_pid(pid), Signal::KILL);
        }
        Ok(())
    }
    fn set_weight(&self, aid: AgentId, weight: u32) -> Result<()> {
        self.step("weight")?;
        self.0.with(aid, |known| known.weight = weight)
    }
    fn set_tenant_weight(&self, _: &str, _: u32) -> Result<()> {
        self.step("tenant_weight")
    }
    fn live_mappings(&self, _: AgentId) -> Result<Vec<Mapping>> {
        self.step("live_mappings")?;
        Ok(self.0.mapped.lock().unwrap().clone())
    }
    fn populated(&self, _: AgentId) -> Result<bool> {
        self.step("populated")?;
        Ok(false)
    }
    fn remove_agent(&self, aid: AgentId) -> Result<()> {
        self.step("remove")?;
        self.0.agents.lock().unwrap().remove(&aid);
        Ok(())
    }
    fn counters(&self, aid: AgentId) -> Result<Counters> {
        self.0.with(aid, |known| Counters { denials: known.denials, uses: 0 })
    }
    fn peer_of_tcp(&self, _: SocketAddr, _: SocketAddr) -> Result<Option<AgentId>> {
        Ok(self.0.agents.lock().unwrap().keys().next().copied())
    }
    fn agent_of_pidfd(&self, _: BorrowedFd<'_>) -> Result<Option<AgentId>> {
        Ok(*self.0.caller.lock().unwrap())
    }
    fn read_events_now(&self) {}
    fn events(&self) -> Result<Box<dyn EventSource>> {
        let source = self.0.source.lock().unwrap().take();
        Ok(Box::new(Source(source.ok_or_else(|| Error::Invalid("taken".into()))?)))
    }
    fn programs(&self) -> Vec<String> {
        vec!["fake".into()]
    }
}

struct Source(Receiver<Event>);

impl EventSource for Source {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Event, u64)) -> Result<usize> {
        match self.0.recv_timeout(timeout) {
            Ok(event) => {
                sink(&event, 0);
                Ok(1)
            }
            Err(_) => Ok(0),
        }
    }
    fn release(&mut self, _position: u64) {}
    fn position(&self) -> u64 {
        0
    }
    fn waiting(&self, _position: u64) -> HashMap<AgentId, Counters> {
        HashMap::new()
    }
    fn lost(&mut self) -> Result<u64> {
        Ok(0)
    }
}

pub fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}
