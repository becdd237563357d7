//! Host names, asked when a rule is given.
//!
//! The addresses belong to the rule from then on, so an agent cannot move its own rights by DNS.
//! Whom a tenant asks about is its own choice, and how long a name server takes is that server's:
//! so each tenant has turns of its own, no thread waits, and no lock is held meanwhile.

use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Most addresses that one name may stand for; the first in their order are taken.
pub const ADDRESSES_MAX: usize = 32;

/// Where names are asked, and how much at once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `resolv.conf(5)`; read again when it changes.
    pub resolv_conf: PathBuf,
    /// `hosts(5)`; read again when it changes.
    pub hosts: PathBuf,
    /// The port of the name servers in `resolv_conf`, which has no word for it.
    pub port: u16,
    /// How long one name may take, from when it is its turn.
    pub limit: Duration,
    /// Names that one tenant may ask at once; its others wait.
    pub per_tenant: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            port: 53,
            limit: Duration::from_secs(5),
            per_tenant: 4,
        }
    }
}

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum NameError {
    #[error("{0} has no address\nhint: check the spelling, or write the address itself")]
    NoAddress(String),
    #[error(
        "no name server told the address of {name} within {limit:?}\nhint: check /etc/resolv.conf, or write the address itself"
    )]
    Slow { name: String, limit: Duration },
    #[error("cannot ask for the address of {name}")]
    Lookup {
        name: String,
        #[source]
        source: Box<NetError>,
    },
    #[error("cannot read {path}")]
    Settings {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Asks for addresses.
pub struct Names {
    settings: Settings,
    sources: Mutex<Option<(Version, Sources)>>,
    tenants: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// What the two files say.
#[derive(Clone)]
struct Sources {
    hosts: Arc<Hosts>,
    resolver: TokioResolver,
}

/// What two files are known by: that one was replaced or written is seen by this.
type Version = [Option<[i64; 6]>; 2];

impl Names {
    /// Asks nobody yet.
    pub fn new(settings: Settings) -> Self {
        Names { settings, sources: Mutex::default(), tenants: Mutex::default() }
    }

    /// The addresses of `name` now, sorted, each once, at most [`ADDRESSES_MAX`]. Within a tokio
    /// runtime.
    ///
    /// # Errors
    /// When it has none, or nobody told in time.
    pub async fn addresses(&self, tenant: &str, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let turns = Turns::of(self, tenant);
        let _turn = turns.semaphore.acquire().await;
        let sources = self.sources().await?;
        let mut addresses = written(&sources.hosts, name);
        if addresses.is_empty() {
            addresses = asked(&sources.resolver, name, self.settings.limit).await?;
        }
        addresses.sort();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        match addresses.is_empty() {
            true => Err(NameError::NoAddress(name.to_owned())),
            false => Ok(addresses),
        }
    }

    /// For the files as they are now.
    async fn sources(&self) -> Result<Sources, NameError> {
        let version = version(&self.settings).await;
        if let Some((known, sources)) = &*lock(&self.sources)
            && *known == version
        {
            return Ok(sources.clone());
        }
        let made = make(&self.settings).await?;
        *lock(&self.sources) = Some((version, made.clone()));
        Ok(made)
    }
}

/// What the hosts file says of a name, which is then all there is: nobody is asked.
fn written(hosts: &Hosts, name: &str) -> Vec<IpAddr> {
    let Ok(name) = Name::from_utf8(name) else { return Vec::new() };
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [of(RecordType::A), of(RecordType::AAAA)].into_iter().flatten();
    found.flat_map(|lookup| LookupIp::from(lookup).iter().collect::<Vec<_>>()).collect()
}

async fn asked(
    resolver: &TokioResolver,
    name: &str,
    limit: Duration,
) -> Result<Vec<IpAddr>, NameError> {
    match tokio::time::timeout(limit, resolver.lookup_ip(name)).await {
        Err(_) => Err(NameError::Slow { name: name.to_owned(), limit }),
        Ok(Ok(answer)) => Ok(answer.iter().collect()),
        Ok(Err(source)) => Err(refused(name, limit, source)),
    }
}

fn refused(name: &str, limit: Duration, source: NetError) -> NameError {
    let name = name.to_owned();
    match source {
        source if source.is_no_records_found() => NameError::NoAddress(name),
        NetError::Timeout => NameError::Slow { name, limit },
        source => NameError::Lookup { name, source: Box::new(source) },
    }
}

/// The turns of one tenant; forgotten with the last of its askers, answered or not.
struct Turns<'a> {
    names: &'a Names,
    tenant: String,
    semaphore: Arc<Semaphore>,
}

impl<'a> Turns<'a> {
    fn of(names: &'a Names, tenant: &str) -> Self {
        let per_tenant = names.settings.per_tenant.max(1);
        let fresh = || Arc::new(Semaphore::new(per_tenant));
        let tenant = tenant.to_owned();
        let semaphore = lock(&names.tenants).entry(tenant.clone()).or_insert_with(fresh).clone();
        Turns { names, tenant, semaphore }
    }
}

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        let mut tenants = lock(&self.names.tenants);
        // The map's and this one: nobody else asks for this tenant.
        if Arc::strong_count(&self.semaphore) == 2 {
            tenants.remove(&self.tenant);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn version(settings: &Settings) -> Version {
    [one_version(&settings.resolv_conf).await, one_version(&settings.hosts).await]
}

async fn one_version(path: &Path) -> Option<[i64; 6]> {
    let of = tokio::fs::metadata(path).await.ok()?;
    Some([
        of.dev().cast_signed(),
        of.ino().cast_signed(),
        of.size().cast_signed(),
        of.mtime(),
        of.mtime_nsec(),
        of.ctime_nsec(),
    ])
}

async fn make(settings: &Settings) -> Result<Sources, NameError> {
    let (config, options) = resolv_conf(settings).await?;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    let mut hosts = Hosts::default();
    let text = read(&settings.hosts).await?;
    hosts.read_hosts_conf(text.as_slice()).map_err(|e| unreadable(&settings.hosts, e))?;
    let wrong = |source: NetError| unreadable(&settings.resolv_conf, io::Error::other(source));
    let resolver = builder.build().map_err(wrong)?;
    Ok(Sources { hosts: Arc::new(hosts), resolver })
}

/// As libc reads it: no name server named, or no such file, is the one of this machine.
async fn resolv_conf(settings: &Settings) -> Result<(ResolverConfig, ResolverOpts), NameError> {
    let mut text = read(&settings.resolv_conf).await?;
    if !text.split(|&b| b == b'\n').any(|line| line.trim_ascii_start().starts_with(b"nameserver")) {
        text.extend_from_slice(b"\nnameserver 127.0.0.1\n");
    }
    let wrong = |source: NetError| unreadable(&settings.resolv_conf, io::Error::other(source));
    let (config, mut options) = parse_resolv_conf(text).map_err(wrong)?;
    let (domain, search, mut servers) = config.into_parts();
    for connection in servers.iter_mut().flat_map(|server| &mut server.connections) {
        connection.port = settings.port;
    }
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never; // asked before, see `written`
    // A rule takes the addresses of the moment in which it is given.
    options.cache_size = 0;
    // One try and one more fit into the limit: a server that is silent about one family must not
    // cost the answer about the other.
    options.attempts = options.attempts.min(1);
    options.timeout = options.timeout.min(settings.limit / 3);
    Ok((ResolverConfig::from_parts(domain, search, servers), options))
}

async fn read(path: &Path) -> Result<Vec<u8>, NameError> {
    match tokio::fs::read(path).await {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unreadable(path, error)),
    }
}

fn unreadable(path: &Path, source: io::Error) -> NameError {
    NameError::Settings { path: path.to_owned(), source }
}
