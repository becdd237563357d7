//! What cases share: the command line, the probe, a place to work, and one attack that many judge.

use crate::campaign::Campaign;
use anyhow::{Context as _, Result, ensure};
use demo::Context;
use demo::agent::{Agent, Spec};
use demo::coconut::{Coconut, Ran};
use demo::hostile::{self, Attacked, Namespaces, Side};
use demo::progress::Progress;
use demo::report::Say;
use probe::Outcome;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Longest wait for a word of a program: shorter than a VM that computes on two processors may be silent, so that a case
/// fails and the run goes on.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The machine under test.
pub struct World {
    /// Command line, probe and places, as the demonstrations use them.
    pub ctx: Context,
    attack: OnceLock<Result<Attack, String>>,
    campaign: OnceLock<Result<Campaign, String>>,
}

/// One attack by an agent and its control.
pub struct Attack {
    /// By the agent.
    pub attacked: Attacked,
    /// The control's scene.
    pub control: Side,
    /// The control's outcomes.
    pub harm: Vec<Option<Outcome>>,
}

impl World {
    /// Needs root: the controls of many cases are ordinary processes of root.
    ///
    /// # Errors
    /// When the caller is not root or nothing can be written.
    pub fn new(coconut: &Path, probe: &Path, work: &Path) -> Result<World> {
        ensure!(rustix::process::geteuid().is_root(), "run this as root, inside the VM");
        let work = work.join(format!("coconut-acceptance-{}", std::process::id()));
        std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        let ctx = Context {
            coconut: Coconut { program: coconut.to_owned() },
            probe: probe.to_owned(),
            out: work.clone(),
            work,
            say: Say { quiet: true },
        };
        Ok(World { ctx, attack: OnceLock::new(), campaign: OnceLock::new() })
    }

    /// The attack of the isolation cases; made once.
    ///
    /// # Errors
    /// When it could not be made; the same for every case that asks.
    pub fn attack(&self) -> Result<&Attack> {
        let made = self.attack.get_or_init(|| {
            let make = || -> Result<Attack> {
                let (control, harm) = hostile::control_side(&self.ctx)?;
                Ok(Attack {
                    attacked: hostile::agent_side(&self.ctx, Namespaces::Own)?,
                    control,
                    harm,
                })
            };
            make().map_err(|e| format!("{e:#}"))
        });
        made.as_ref().map_err(|e| anyhow::anyhow!("the attack could not be made: {e}"))
    }

    /// Every technique of the attack cases; made once.
    ///
    /// # Errors
    /// As [`World::attack`].
    pub fn campaign(&self) -> Result<&Campaign> {
        let made = self
            .campaign
            .get_or_init(|| crate::campaign::fight(&self.ctx).map_err(|e| format!("{e:#}")));
        made.as_ref().map_err(|e| anyhow::anyhow!("the techniques could not be tried: {e}"))
    }

    /// `coconut …`, to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn call(&self, args: &[&str]) -> Result<Ran> {
        self.ctx.coconut.call(args)
    }

    /// `coconut …` must end with this status.
    ///
    /// # Errors
    /// When it ends with another.
    pub fn expect(&self, code: i32, args: &[&str]) -> Result<Ran> {
        let ran = self.call(args)?;
        ensure!(
            ran.code == code,
            "`coconut {}`: wanted exit {code}, got {}",
            args.join(" "),
            ran.summary()
        );
        Ok(ran)
    }

    /// A file to work with.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.ctx.work.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path.display().to_string())
    }

    /// A background agent: a shell that does `words`, with these rights in the command line's form.
    ///
    /// # Errors
    /// When it cannot be spawned.
    pub fn background(&self, name: &str, caps: &[&str], words: &str) -> Result<()> {
        let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for cap in caps {
            let (kind, value) = cap.split_once('=').with_context(|| (*cap).to_owned())?;
            lists.entry(kind).or_default().push(format!("{value:?}"));
        }
        let line = |(kind, values): (&str, Vec<String>)| match kind {
            "agent.spawn" => {
                format!("\"{kind}\" = {{ count = {} }}\n", values[0].trim_matches('"'))
            }
            _ => format!("\"{kind}\" = [{}]\n", values.join(", ")),
        };
        let lines: String = lists.into_iter().map(line).collect();
        let text = format!(
            "[agent]\nname = \"{name}\"\ntenant = \"maya\"\n\
             command = [\"/usr/bin/dash\", \"-c\", {words:?}]\n\n[capabilities]\n{lines}"
        );
        let manifest = self.file(&format!("{name}.toml"), &text)?;
        self.expect(0, &["spawn", "--allow-unsigned", &manifest]).map(|_| ())
    }

    /// A manifest for the probe, with further lines of the `[capabilities]` section.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn manifest(&self, name: &str, arguments: &[&str], capabilities: &str) -> Result<String> {
        let words: Vec<String> = std::iter::once(self.ctx.probe_arg())
            .chain(arguments.iter().map(|w| (*w).to_owned()))
            .map(|w| format!("{w:?}"))
            .collect();
        let text = format!(
            "[agent]\nname = \"{name}\"\ntenant = \"maya\"\ncommand = [{}]\n\n[capabilities]\n{capabilities}\n",
            words.join(", ")
        );
        self.file(&format!("{name}.toml"), &text)
    }

    /// An ad-hoc agent that runs the probe with these arguments.
    ///
    /// # Errors
    /// When `coconut` cannot be started.
    pub fn probe(&self, tenant: &str, caps: &[&str], arguments: &[&str]) -> Result<Agent> {
        let mut command = vec![self.ctx.probe_arg()];
        command.extend(arguments.iter().map(|a| (*a).to_owned()));
        let spec = Spec {
            name: self.ctx.unique("case"),
            tenant: tenant.to_owned(),
            caps: caps.iter().map(|c| (*c).to_owned()).collect(),
            command,
            ..Spec::default()
        };
        Agent::start(&self.ctx.coconut, spec)
    }

    /// One attempt by an ad-hoc agent.
    ///
    /// # Errors
    /// When the agent does not start or the probe does not answer.
    pub fn attempt(&self, caps: &[&str], attempt: &str) -> Result<Outcome> {
        let agent = self.probe("mallory", caps, &["try", attempt])?;
        let outcome = agent.json(PATIENCE);
        outcome.with_context(|| format!("{attempt}: {}", agent.complaints()))
    }

    /// What the daemon says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<api::Status> {
        Ok(api::client::Client::new(api::broker::API_SOCKET.as_ref())?.get("/v1/status")?)
    }

    /// Waits until something holds, as long as the log grows: ten minutes and more, but not for ever,
    /// for what is waited for may be what makes it grow.
    ///
    /// # Errors
    /// When it does not come to hold.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        const LOOKS: u32 = 3000;
        const WORD: Duration = Duration::from_secs(60);
        let mut progress = Progress::of(what);
        let (mut looks, mut said) = (0, Instant::now());
        while !holds()? {
            looks += 1;
            ensure!(looks < LOOKS, "waited for {what} over {LOOKS} looks, while the log grew");
            let checkpoint = Path::new(api::audit::LOG_DIRECTORY).join("checkpoint");
            let head = std::fs::read_to_string(checkpoint).unwrap_or_default();
            let records = head.lines().nth(1).map(str::to_owned);
            if said.elapsed() > WORD {
                println!(
                    "note: waits for {what}; the log has {} records",
                    records.as_deref().unwrap_or("no")
                );
                said = Instant::now();
            }
            progress.seen(records)?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Waits for a program's log file or similar to exist.
    pub fn exists(&self, path: &str) -> bool {
        PathBuf::from(path).exists()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.ctx.work);
    }
}
