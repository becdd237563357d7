//! The command line.

use anyhow::{Context, bail};
use clap::{ArgGroup, Parser};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Shares a language model fairly among agents and tenants, behind the OpenAI API.
///
/// Who calls is known from the socket's peer. With coconutd (the usual case on Coconut OS) the kernel
/// says which agent that is; with --standalone the tenant is the peer's user. Tokens are shared by
/// weighted fair queueing, tenant first, then agent, then the agents below it. The number of tenants is
/// not limited.
#[derive(Parser)]
#[command(
    name = "coconut-broker",
    version,
    group(ArgGroup::new("from").required(true).multiple(true).args(["model", "backend_url"])),
    group(ArgGroup::new("who").args(["coconutd", "standalone"])),
    after_help = "Examples:\n  \
        coconut-broker --standalone --model coconut-tiny-bigram.gguf --listen 127.0.0.1:11700\n  \
        coconut-broker --standalone --backend-url http://127.0.0.1:8002 --slots 16 --listen 127.0.0.1:11700\n  \
        curl http://127.0.0.1:11700/v1/models"
)]
pub struct Args {
    /// Serve this GGUF model with the embedded engine (llama.cpp)
    #[arg(long, value_name = "FILE.gguf")]
    pub model: Option<PathBuf>,
    /// Serve the models of this OpenAI-compatible server (http://HOST:PORT or https://HOST); may be given more
    /// than once, and beside --model. Each backend has a queue of its own. After the URL may follow, for this
    /// server alone: ;slots=N ;key-env=VARIABLE ;cache-salt=no ;name=NAME
    #[arg(long, value_name = "URL[;...]")]
    pub backend_url: Vec<Server>,
    /// Key for backend servers that have no key of their own, sent as a bearer token
    #[arg(long, value_name = "KEY", env = "COCONUT_BACKEND_KEY", hide_env_values = true)]
    pub backend_key: Option<String>,
    /// Do not tell backend servers each tenant's part of their cache (vLLM's cache_salt): for servers that
    /// refuse fields they do not know, and separate their users' caches themselves
    #[arg(long, requires = "backend_url")]
    pub no_cache_salt: bool,

    /// Listen on this TCP address; may be given more than once
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Listen on this UNIX socket; may be given more than once
    #[arg(long, value_name = "SOCKET")]
    pub unix: Vec<PathBuf>,

    /// Ask this coconutd who calls and what it may [default: /run/coconut/api.sock]
    #[arg(long, value_name = "SOCKET")]
    pub coconutd: Option<PathBuf>,
    /// With coconutd: serve local processes that are no agents as this tenant (else they are refused)
    #[arg(long, value_name = "TENANT", conflicts_with = "standalone")]
    pub host_tenant: Option<String>,
    /// Without coconutd: the tenant is the peer's user on a UNIX socket, one for all on TCP
    #[arg(long)]
    pub standalone: bool,
    /// With --standalone: a trusted front-end names the tenant in this header
    #[arg(long, value_name = "HEADER", requires = "standalone")]
    pub trust_header: Option<String>,

    /// With coconutd: what calls have cost is kept in this folder until coconutd has it, whatever becomes of
    /// this process
    #[arg(long, value_name = "DIR", env = "RUNTIME_DIRECTORY")]
    pub accounts: Option<PathBuf>,
    /// With --standalone: print a record of every call to stdout, as lines of JSON
    #[arg(long, requires = "standalone")]
    pub print_usage: bool,

    /// Requests that each backend works on at once [default: 4 embedded, 16 at a server]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub slots: Option<u32>,
    /// Requests of one tenant that may wait; more are refused with 429
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub max_queued: usize,
    /// Control for measurements: first come, first served, no fairness
    #[arg(long)]
    pub fifo: bool,

    /// Embedded engine: threads that compute [default: all cores but one]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Embedded engine: tokens of context per request [default: the model's, at most 4096]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(16..))]
    pub context: Option<u32>,
    /// Embedded engine: tokens computed in one step [default: by the measured cost]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub step: Option<u32>,
}

/// Requests at once where nobody has said: a CPU gains little from more, a server batches.
const EMBEDDED_SLOTS: u32 = 4;
const SERVER_SLOTS: u32 = 16;

/// A server, and what is said of it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub url: String,
    /// For metrics and people.
    pub name: String,
    slots: Option<u32>,
    key_env: Option<String>,
    salted: bool,
}

impl FromStr for Server {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split(';');
        let url = parts.next().unwrap_or_default().to_owned();
        let name = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let name = name.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let mut server = Self { url, name, slots: None, key_env: None, salted: true };
        for part in parts {
            match part.split_once('=') {
                Some(("slots", n)) => {
                    let slots = n.parse().ok().filter(|n| (1..=128).contains(n));
                    server.slots = Some(slots.context("slots is a number from 1 to 128")?);
                }
                Some(("key-env", variable)) => server.key_env = Some(variable.to_owned()),
                Some(("cache-salt", "no")) => server.salted = false,
                Some(("cache-salt", "yes")) => server.salted = true,
                Some(("name", name)) => name.clone_into(&mut server.name),
                _ => {
                    bail!("{part:?} is none of slots=N, key-env=VARIABLE, cache-salt=no, name=NAME")
                }
            }
        }
        Ok(server)
    }
}

impl Args {
    /// Of the embedded engine.
    pub fn engine_slots(&self) -> u32 {
        self.slots.unwrap_or(EMBEDDED_SLOTS)
    }

    /// Of a server.
    pub fn server_slots(&self, server: &Server) -> u32 {
        server.slots.or(self.slots).unwrap_or(SERVER_SLOTS)
    }

    /// The key for a server.
    pub fn key(&self, server: &Server) -> anyhow::Result<Option<String>> {
        match &server.key_env {
            Some(variable) => std::env::var(variable).map(Some).with_context(|| {
                format!("the key of {}: {variable} is not in the environment", server.url)
            }),
            None => Ok(self.backend_key.clone()),
        }
    }

    /// Whether a server is told each tenant's part of its cache.
    pub fn salted(&self, server: &Server) -> bool {
        server.salted && !self.no_cache_salt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_one_server_holds_for_it_alone() {
        let server: Server = "http://h:8002/v1;slots=8;key-env=K;cache-salt=no".parse().unwrap();
        assert_eq!((server.url.as_str(), server.name.as_str()), ("http://h:8002/v1", "h:8002"));
        let args = ["x", "--backend-url", "http://a", "--slots", "3", "--unix", "s"];
        let args = Args::parse_from(args);
        assert_eq!((args.server_slots(&server), args.server_slots(&args.backend_url[0])), (8, 3));
        assert!(!args.salted(&server) && args.salted(&args.backend_url[0]));
        assert!(args.key(&server).unwrap_err().to_string().contains("K is not"));
        for wrong in ["http://h;slots=0", "http://h;slots=x", "http://h;speed=1"] {
            assert!(wrong.parse::<Server>().is_err(), "{wrong}");
        }
    }
}
