//! Rules to map entries: what a set of rules means for the kernel programs.

use crate::resolve::{Node, Resolver};
use crate::{Error, Result, Rule, Scope};
use abi::AgentId;
use abi::Capability;
use abi::caps::*;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// The entries of one agent in every map.
#[derive(Default, Clone)]
pub(crate) struct Entries {
    pub fs: HashMap<FsKey, Grant>,
    pub net: HashMap<NetKey, Grant>,
    pub abstracts: HashMap<AbstractKey, Grant>,
    pub signals: HashMap<SignalKey, Grant>,
}

/// What one rule gives on one inode.
#[derive(Clone, Copy)]
struct Layer {
    rights: u32,
    rule: u32,
    expires_ns: u64,
}

/// Entries are collected per inode first, because several rules may name the same one.
pub(crate) struct Builder<'a> {
    aid: AgentId,
    resolver: Resolver<'a>,
    inodes: HashMap<(u64, u64), Vec<Layer>>,
    entries: Entries,
}

impl<'a> Builder<'a> {
    pub fn new(aid: AgentId, resolver: Resolver<'a>) -> Self {
        Builder { aid, resolver, inodes: HashMap::new(), entries: Entries::default() }
    }

    /// Adds one rule.
    pub fn rule(&mut self, rule: &Rule) -> Result<()> {
        match (rule.capability, &rule.scope) {
            (c, Scope::Path(path)) => {
                let rights = rights(c).ok_or_else(|| mismatch(rule))?;
                let error = |source| Error::Path { path: path.clone(), rule: rule.id, source };
                let (node, real) = self.resolver.grantable(path).map_err(error)?;
                let above = self.resolver.above(&real).map_err(error)?;
                self.inode(node, layer(rule, rights(node.directory)));
                for node in above {
                    self.look(node);
                }
            }
            (c, Scope::Inode { dev, ino }) => {
                let rights = rights(c).ok_or_else(|| mismatch(rule))?;
                let node = Node { dev: *dev, ino: *ino, directory: false };
                self.inode(node, layer(rule, rights(false)));
            }
            (Capability::NetConnect, Scope::Net { addr, prefix, port }) => {
                self.net(rule, NET_CONNECT, *addr, *prefix, *port)?;
            }
            (Capability::NetBind, Scope::Net { addr, prefix, port }) => {
                self.net(rule, NET_BIND, *addr, *prefix, *port)?;
            }
            (Capability::NetRaw, Scope::Everything) => {
                let key = self.net_key(NET_RAW, [0; 16], 128, 0);
                self.entries.net.insert(key, grant(rule, 1));
            }
            (Capability::IpcUnix, Scope::UnixAbstract(name)) => self.abstract_name(rule, name)?,
            (Capability::AgentSignal, Scope::Signal(to)) => {
                let key = SignalKey { from: self.aid.0, to: to.0 };
                keep(&mut self.entries.signals, key, grant(rule, 1));
            }
            // What the broker and the daemon decide has no entry here.
            (
                Capability::Infer
                | Capability::AgentSpawn
                | Capability::AuditRead
                | Capability::AgentSignal,
                _,
            ) => {}
            _ => return Err(mismatch(rule)),
        }
        Ok(())
    }

    /// Adds rights that no rule names: private mounts and inherited descriptors.
    pub fn implicit(&mut self, node: Node, rights: u32) {
        self.inode(node, Layer { rights, rule: 0, expires_ns: 0 });
    }

    /// Lets the agent look at exactly this inode.
    pub fn look(&mut self, node: Node) {
        self.inode(node, Layer { rights: RIGHT_TRAVERSE, rule: 0, expires_ns: 0 });
    }

    fn inode(&mut self, node: Node, new: Layer) {
        let layers = self.inodes.entry((node.dev, node.ino)).or_default();
        let same = |l: &&mut Layer| l.expires_ns == new.expires_ns && l.rule == new.rule;
        // The right to look needs no layer of its own where a lasting grant lies.
        let lasting = |l: &&mut Layer| new.rights == RIGHT_TRAVERSE && l.expires_ns == 0;
        if let Some(l) = layers.iter_mut().find(|l| same(l) || lasting(l)) {
            l.rights |= new.rights;
        } else {
            layers.push(new);
        }
    }

    fn net(&mut self, rule: &Rule, op: u16, addr: IpAddr, prefix: u8, port: u16) -> Result<()> {
        let (octets, bits) = match addr {
            IpAddr::V4(v4) if prefix <= 32 => (v4.to_ipv6_mapped().octets(), 96 + prefix),
            IpAddr::V6(v6) if prefix <= 128 => (v6.octets(), prefix),
            _ => {
                return Err(Error::Invalid(format!("rule {}: a prefix of {prefix} bits", rule.id)));
            }
        };
        let key = self.net_key(op, octets, bits, port);
        let rights = 1 | u32::from(bits) << NET_PREFIX_SHIFT;
        keep(&mut self.entries.net, key, grant(rule, rights));
        Ok(())
    }

    fn net_key(&self, op: u16, addr: [u8; 16], bits: u8, port: u16) -> NetKey {
        // Bits behind the prefix do not count; without them equal networks are equal keys.
        let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        NetKey {
            prefix_len: NET_KEY_FIXED_BITS + u32::from(bits),
            aid_slot: self.aid.slot(),
            aid_generation: self.aid.generation(),
            op,
            port,
            addr: (u128::from_be_bytes(addr) & mask).to_be_bytes(),
        }
    }

    fn abstract_name(&mut self, rule: &Rule, name: &[u8]) -> Result<()> {
        if name.is_empty() || name.len() > ABSTRACT_NAME_MAX {
            return Err(Error::Invalid(format!(
                "rule {}: an abstract socket name of {} bytes",
                rule.id,
                name.len()
            )));
        }
        let mut key = AbstractKey { aid: self.aid.0, len: name.len() as u32, name: [0; 108] };
        key.name[..name.len()].copy_from_slice(name);
        keep(&mut self.entries.abstracts, key, grant(rule, 1));
        Ok(())
    }

    /// The entries; an inode with too many different rules is an error.
    pub fn finish(mut self) -> Result<Entries> {
        for ((dev, ino), mut layers) in self.inodes {
            if layers.len() > GRANT_LAYERS as usize {
                return Err(Error::Invalid(format!(
                    "{} different rules on one file (inode {ino}), at most {GRANT_LAYERS}",
                    layers.len()
                )));
            }
            // What is asked most comes first: lasting before expiring, reading before the rest.
            layers.sort_by_key(|l| (l.expires_ns != 0, l.rights & RIGHT_READ == 0, l.rule));
            let last = layers.len() - 1;
            for (i, l) in layers.into_iter().enumerate() {
                let more = if i < last { RIGHT_MORE } else { 0 };
                let key = FsKey { aid: self.aid.0, dev: dev | (i as u64) << 32, ino };
                let rights = l.rights | more;
                let value = Grant { rights, rule: l.rule, expires_ns: l.expires_ns };
                self.entries.fs.insert(key, value);
            }
        }
        Ok(self.entries)
    }
}

/// Rights of a capability on a path, by whether it is a directory.
fn rights(capability: Capability) -> Option<impl Fn(bool) -> u32> {
    let (file, directory) = match capability {
        Capability::FsRead => (RIGHT_READ, RIGHT_READ),
        Capability::FsWrite => (RIGHT_WRITE, RIGHT_WRITE | RIGHT_CREATE),
        Capability::FsCreate => (RIGHT_CREATE, RIGHT_CREATE),
        Capability::FsDelete => (RIGHT_DELETE, RIGHT_DELETE),
        Capability::FsExec => (RIGHT_EXEC | RIGHT_READ, RIGHT_EXEC | RIGHT_READ),
        Capability::IpcUnix => (RIGHT_UNIX, RIGHT_UNIX),
        Capability::Device => (RIGHT_READ | RIGHT_WRITE, RIGHT_READ | RIGHT_WRITE),
        _ => return None,
    };
    Some(move |is_directory| if is_directory { directory } else { file })
}

fn layer(rule: &Rule, rights: u32) -> Layer {
    Layer { rights, rule: rule.id, expires_ns: rule.expires_ns }
}

fn grant(rule: &Rule, rights: u32) -> Grant {
    Grant { rights, rule: rule.id, expires_ns: rule.expires_ns }
}

/// Of two grants on one key the one that lasts longer stays.
fn keep<K: Eq + Hash>(map: &mut HashMap<K, Grant>, key: K, new: Grant) {
    let lasts = |g: &Grant| if g.expires_ns == 0 { u64::MAX } else { g.expires_ns };
    let old = map.entry(key).or_insert(new);
    if lasts(&new) > lasts(old) {
        *old = new;
    }
}

fn mismatch(rule: &Rule) -> Error {
    Error::Rule {
        rule: rule.id,
        capability: rule.capability.name(),
        scope: format!("{:?}", rule.scope),
    }
}
