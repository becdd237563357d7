//! A rule with what it names resolved: what is compared afterwards, and what the kernel gets.

use crate::names::{NameError, Names};
use crate::paths::{self, OpenError, Opened};
use manifest::{AbsPath, Endpoint, Host, Rule, Scope, UnixAddress};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Makes what the kernel knows a file by from an open descriptor.
pub trait Handles: Send + Sync + 'static {
    /// Holds the file as long as it lives.
    type Handle: Send + Sync + 'static;
    /// Why a file cannot carry rights.
    type Error: Error + Send + Sync + 'static;

    /// The handle of an `O_PATH` descriptor.
    ///
    /// # Errors
    /// When the file has no lasting identity.
    fn handle(&self, fd: OwnedFd) -> Result<Self::Handle, Self::Error>;
}

/// What a path that leads nowhere means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// An error: somebody wrote the rule for this machine.
    Refused,
    /// Nothing is allowed by it: a profile is written for many machines.
    LeftOut,
}

/// What a rule stands on.
#[derive(Debug)]
pub enum Target<H> {
    /// A file, or a directory and all below.
    File(Arc<H>),
    /// Address, prefix within its family, port (0 is every port); any of them.
    Addresses(Vec<(IpAddr, u8, u16)>),
    /// An abstract UNIX socket's name, without its leading NUL.
    Abstract(Vec<u8>),
    /// The capability has no object.
    Everything,
    /// Nothing for the kernel: decided elsewhere, or absent on this machine.
    Nothing,
}

impl<H> Clone for Target<H> {
    fn clone(&self) -> Self {
        match self {
            Target::File(handle) => Target::File(Arc::clone(handle)),
            Target::Addresses(all) => Target::Addresses(all.clone()),
            Target::Abstract(name) => Target::Abstract(name.clone()),
            Target::Everything => Target::Everything,
            Target::Nothing => Target::Nothing,
        }
    }
}

/// A rule and what it stands on. Compare `rule`, never the one that was asked about.
#[derive(Clone, Debug)]
pub struct Resolved<H> {
    /// With the real path in it.
    pub rule: Rule,
    /// For the kernel.
    pub target: Target<H>,
}

/// Why a rule cannot be resolved.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum RuleError {
    #[error("`{rule}` cannot be given")]
    Path {
        rule: Box<Rule>,
        #[source]
        source: OpenError,
    },
    #[error("`{rule}` cannot be given on {real}")]
    Handle {
        rule: Box<Rule>,
        real: AbsPath,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("`{rule}` cannot be given")]
    Name {
        rule: Box<Rule>,
        #[source]
        source: NameError,
    },
    #[error("opening files was stopped")]
    Stopped,
}

/// Resolves rules.
pub struct Resolver<K: Handles> {
    kernel: Arc<K>,
    names: Names,
}

impl<K: Handles> Resolver<K> {
    /// Files are held through `kernel`, addresses asked through `names`.
    pub fn new(kernel: Arc<K>, names: Names) -> Self {
        Resolver { kernel, names }
    }

    /// One rule. Neither path nor name is looked up again by anybody: use what comes back.
    ///
    /// # Errors
    /// When the path is absent and may not be, leads to a file without identity, or a name has no
    /// address.
    pub async fn rule(
        &self,
        tenant: &str,
        rule: &Rule,
        absent: Absent,
    ) -> Result<Resolved<K::Handle>, RuleError> {
        let kernel = Arc::clone(&self.kernel);
        match &rule.scope {
            Scope::Net { endpoint, .. } => {
                let target = self.addresses(tenant, rule, endpoint).await?;
                Ok(Resolved { rule: rule.clone(), target })
            }
            Scope::Fs { .. } | Scope::Device(_) | Scope::Unix(UnixAddress::Path(_)) => {
                let rule = rule.clone();
                // A path may lie on a file system that makes whoever asks wait.
                let opening = tokio::task::spawn_blocking(move || file(&*kernel, rule, absent));
                opening.await.unwrap_or(Err(RuleError::Stopped))
            }
            _ => Ok(Resolved { rule: rule.clone(), target: without_object(&rule.scope) }),
        }
    }

    /// Many rules, in their order: files one after another on one thread, names meanwhile and each
    /// once.
    ///
    /// # Errors
    /// The first that [`Resolver::rule`] would give.
    pub async fn rules(
        &self,
        tenant: &str,
        rules: &[(Rule, Absent)],
    ) -> Result<Vec<Resolved<K::Handle>>, RuleError> {
        let kernel = Arc::clone(&self.kernel);
        let all = rules.to_vec();
        let opening = tokio::task::spawn_blocking(move || {
            let each = all.into_iter().map(|(rule, absent)| at_once(&*kernel, rule, absent));
            each.collect::<Result<Vec<_>, _>>()
        });
        let mut hosts = std::collections::BTreeMap::new();
        for (rule, _) in rules {
            if let Some((_, name)) = name_of(rule) {
                hosts.entry(name).or_insert(rule);
            }
        }
        let asking = hosts.into_iter().map(|(name, rule)| async move {
            let found = self.names.addresses(tenant, name).await;
            found.map(|all| (name, all)).map_err(|e| name_error(rule, e))
        });
        let asking = futures_util::future::try_join_all(asking);
        let (opened, told) = tokio::join!(opening, asking);
        let mut opened = opened.unwrap_or(Err(RuleError::Stopped))?;
        let told: std::collections::BTreeMap<_, _> = told?.into_iter().collect();
        for (resolved, (rule, _)) in opened.iter_mut().zip(rules) {
            if let Some((endpoint, name)) = name_of(rule)
                && let Some(found) = told.get(name)
            {
                resolved.target = Target::Addresses(hosts_of(found, port(endpoint)));
            }
        }
        Ok(opened)
    }

    async fn addresses(
        &self,
        tenant: &str,
        rule: &Rule,
        endpoint: &Endpoint,
    ) -> Result<Target<K::Handle>, RuleError> {
        let Host::Name(name) = &endpoint.host else { return Ok(without_object(&rule.scope)) };
        let found = self.names.addresses(tenant, name).await.map_err(|e| name_error(rule, e))?;
        Ok(Target::Addresses(hosts_of(&found, port(endpoint))))
    }
}

fn name_error(rule: &Rule, source: NameError) -> RuleError {
    RuleError::Name { rule: Box::new(rule.clone()), source }
}

fn name_of(rule: &Rule) -> Option<(&Endpoint, &str)> {
    match &rule.scope {
        Scope::Net { endpoint, .. } => match &endpoint.host {
            Host::Name(name) => Some((endpoint, name)),
            _ => None,
        },
        _ => None,
    }
}

fn port(endpoint: &Endpoint) -> u16 {
    endpoint.port.unwrap_or(0)
}

fn hosts_of(addresses: &[IpAddr], port: u16) -> Vec<(IpAddr, u8, u16)> {
    let one = |at: &IpAddr| (*at, if at.is_ipv4() { 32 } else { 128 }, port);
    addresses.iter().map(one).collect()
}

/// All that needs no name server.
fn at_once<K: Handles>(
    kernel: &K,
    rule: Rule,
    absent: Absent,
) -> Result<Resolved<K::Handle>, RuleError> {
    match &rule.scope {
        Scope::Fs { .. } | Scope::Device(_) | Scope::Unix(UnixAddress::Path(_)) => {
            file(kernel, rule, absent)
        }
        scope => Ok(Resolved { target: without_object(scope), rule }),
    }
}

fn file<K: Handles>(
    kernel: &K,
    mut rule: Rule,
    absent: Absent,
) -> Result<Resolved<K::Handle>, RuleError> {
    let (Scope::Fs { path, .. } | Scope::Device(path) | Scope::Unix(UnixAddress::Path(path))) =
        &mut rule.scope
    else {
        return Ok(Resolved { target: Target::Nothing, rule });
    };
    let Opened { fd, real, .. } = match paths::open(path) {
        Ok(opened) => opened,
        Err(error) if error.is_absent() && absent == Absent::LeftOut => {
            return Ok(Resolved { target: Target::Nothing, rule });
        }
        Err(source) => return Err(RuleError::Path { rule: Box::new(rule), source }),
    };
    path.clone_from(&real);
    match kernel.handle(fd) {
        Ok(handle) => Ok(Resolved { target: Target::File(Arc::new(handle)), rule }),
        Err(source) => {
            Err(RuleError::Handle { rule: Box::new(rule), real, source: Box::new(source) })
        }
    }
}

/// Rules whose target can be told from their text.
fn without_object<H>(scope: &Scope) -> Target<H> {
    match scope {
        Scope::Net { endpoint, .. } => match &endpoint.host {
            Host::Any => Target::Addresses(vec![
                (Ipv4Addr::UNSPECIFIED.into(), 0, port(endpoint)),
                (Ipv6Addr::UNSPECIFIED.into(), 0, port(endpoint)),
            ]),
            Host::Net(block) => {
                Target::Addresses(vec![(block.address(), block.prefix(), port(endpoint))])
            }
            Host::Name(_) => Target::Nothing,
        },
        Scope::NetRaw | Scope::Signal => Target::Everything,
        Scope::Unix(UnixAddress::Abstract(name)) => Target::Abstract(name.clone().into_bytes()),
        _ => Target::Nothing,
    }
}
