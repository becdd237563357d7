//! A daemon that runs on the fake.

use super::Fake;
use super::port::Port;
use super::seen::{Logged, Stepped, Store};
use abi::AgentId;
use coconutd::boot::{self, Start};
use coconutd::callers::Sizes;
use coconutd::config::Config;
use coconutd::port::Machine;
use coconutd::reap;
use coconutd::state::{Daemon, Ending};
use rustix::fs::FlockOperation;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

/// A daemon below a folder of its own, with the fake beneath it, serving real sockets.
pub struct Running {
    folder: tempfile::TempDir,
    pub fake: Arc<Fake>,
    pub daemon: Arc<Daemon>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    pub fn start() -> Running {
        Running::start_with(|_| {})
    }

    /// With so much for callers to hold.
    pub fn start_sized(sizes: Sizes) -> Running {
        Running::start_as(|config| config.sizes = sizes)
    }

    pub fn start_with(prepare: impl FnOnce(&Config)) -> Running {
        Running::start_as(|config| prepare(config))
    }

    pub fn start_as(prepare: impl FnOnce(&mut Config)) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { agent_user: "nobody".into(), ..Config::below(folder.path()) };
        prepare(&mut config);
        Running::on_kernel(Fake::new(), folder, config)
    }

    /// The daemon ends between two steps, as if it were killed, and another follows.
    pub fn followed(self) -> Running {
        let Running { folder, fake, daemon, runtime } = self;
        let config = daemon.config.clone();
        // Whatever it was at ends where it waits; threads of its own end with what they hold.
        fake.life.end();
        runtime.shutdown_timeout(Duration::from_secs(20));
        let gone = Arc::downgrade(&daemon);
        drop(daemon);
        while gone.strong_count() > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        // The writer of the log has it until its thread has ended.
        let lock = std::fs::File::open(config.audit.join("lock")).unwrap();
        while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(lock);
        fake.life.bury(&config.run);
        *fake.before.lock().unwrap() = *fake.next_set.lock().unwrap();
        let (events, source) = channel();
        *fake.events.lock().unwrap() = events;
        *fake.source.lock().unwrap() = Some(source);
        fake.adopted.store(true, Ordering::SeqCst);
        Running::on_kernel(fake, folder, config)
    }

    fn on_kernel(fake: Arc<Fake>, folder: tempfile::TempDir, config: Config) -> Running {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap();
        let (looking, logging) = (fake.clone(), fake.clone());
        let (writing, unwritable) = (fake.clone(), fake.clone());
        let number = fake.life.begin(&config.run);
        let start = Start {
            degraded: Vec::new(),
            config,
            features: Vec::new(),
            release: "test".into(),
            lookup: Some(Box::new(move |kernel| {
                let machine = Machine::start(kernel).unwrap();
                Arc::new(Stepped { fake: looking, number, machine })
            })),
            log: Some(Box::new(move |log| Box::new(Logged { fake: logging, number, log }))),
            keeper: Arc::new(Store(fake.clone(), number)),
            registry: Some(Box::new(move |database| {
                let fails = move || unwritable.unwritable.load(Ordering::SeqCst) == number;
                if let Some(rewrite) = writing.rewrite.lock().unwrap().take() {
                    assert_eq!(database.execute(&rewrite, []).unwrap(), 1, "{rewrite}");
                }
                database.commit_hook(Some(fails)).unwrap();
            })),
        };
        let daemon =
            runtime.block_on(boot::start(start, Arc::new(Port(fake.clone(), number)))).unwrap();
        Running { folder, fake, daemon, runtime }
    }

    pub fn client(&self) -> api::client::Client {
        api::client::Client::new(&self.daemon.config.api_socket()).unwrap()
    }

    pub fn stop(&self) {
        self.runtime.block_on(async {
            self.end_all().await;
            boot::stop(&self.daemon).await;
        });
        let wrong = self.fake.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Ends every agent and returns when all are gone.
    async fn end_all(&self) {
        let living: Vec<AgentId> =
            self.daemon.inner().supervisor.living().map(|agent| agent.aid).collect();
        let exits = living.iter().map(|aid| self.daemon.inner().end_of(*aid).unwrap());
        for mut exit in exits.collect::<Vec<_>>() {
            let ending = Ending::new(supervisor::End::Clean, "the test is over");
            living.iter().for_each(|aid| {
                reap::end(&self.daemon, *aid, &ending);
            });
            exit.wait_for(Option::is_some).await.unwrap();
        }
    }

    /// Runs something on the daemon's runtime.
    pub fn on<T>(&self, act: impl Future<Output = T>) -> T {
        self.runtime.block_on(act)
    }

    /// What the calls of this process are taken for, from now on.
    pub fn become_agent(&self, aid: Option<AgentId>) {
        *self.fake.caller.lock().unwrap() = aid;
    }
}
