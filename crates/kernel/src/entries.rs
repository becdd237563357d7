//! Rules to map entries: what a set of rules means for the kernel programs.

use crate::counted::CountedRule;
use crate::{Error, KernelRule, KernelScope, Result, SetId};
use abi::Capability;
use abi::caps::*;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// What one set has in the maps, files still by their numbers.
#[derive(Default, Clone, Debug)]
pub(crate) struct Entries {
    pub files: HashMap<FileKey, Vec<Layer>>,
    pub net: HashMap<NetKey, Grant>,
    pub abstracts: HashMap<AbstractKey, Grant>,
    pub plain: HashMap<PlainKey, Grant>,
    pub counted: Vec<CountedRule>,
}

/// What one rule gives on one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub rights: u32,
    pub rule: u32,
    pub expires_ns: u64,
}

/// Entries are collected per file first, because several rules may name the same one.
pub(crate) struct Builder {
    set: u32,
    entries: Entries,
}

impl Builder {
    pub fn new(set: SetId) -> Self {
        Builder { set: set.0, entries: Entries::default() }
    }

    /// Adds one rule; `number` is its place in the set, from 1.
    pub fn rule(&mut self, number: u32, rule: &KernelRule) -> Result<()> {
        match (rule.capability, &rule.scope) {
            // What the broker and the daemon decide has no entry here.
            (_, KernelScope::Nothing) => {}
            (_, KernelScope::File(handle)) => {
                let rights = rights_on(rule, handle.node().directory)
                    .ok_or_else(|| mismatch(number, rule))?;
                self.on_file(handle.node().key(), layer(number, rule, rights));
                self.count(number, rule, rights);
                handle.above().iter().for_each(|folder| self.look(folder.key()));
            }
            (Capability::NetConnect, KernelScope::Net { addr, prefix, port }) => {
                self.net(number, rule, NET_CONNECT, (*addr, *prefix, *port))?;
            }
            (Capability::NetBind, KernelScope::Net { addr, prefix, port }) => {
                self.net(number, rule, NET_BIND, (*addr, *prefix, *port))?;
            }
            (Capability::IpcUnix, KernelScope::UnixAbstract(name)) => {
                self.abstract_name(number, rule, name)?;
            }
            (Capability::NetRaw, KernelScope::Everything) if rule.uses.is_none() => {
                self.plain(number, rule, PLAIN_NET_RAW)
            }
            (Capability::AgentSignal, KernelScope::Everything) if rule.uses.is_none() => {
                self.plain(number, rule, PLAIN_SIGNAL)
            }
            _ => return Err(mismatch(number, rule)),
        }
        Ok(())
    }

    /// Adds rights that no rule names: private mounts and standard files.
    pub fn implicit(&mut self, file: FileKey, rights: u32) {
        self.on_file(file, Layer { rights, rule: 0, expires_ns: 0 });
    }

    /// Allows to look at exactly this folder.
    pub fn look(&mut self, folder: FileKey) {
        self.implicit(folder, RIGHT_TRAVERSE);
    }

    fn count(&mut self, number: u32, rule: &KernelRule, rights: u32) {
        let counted =
            |uses| CountedRule { rule: number, uses, rights, expires_ns: rule.expires_ns };
        self.entries.counted.extend(rule.uses.map(counted));
    }

    fn on_file(&mut self, file: FileKey, new: Layer) {
        add_layer(self.entries.files.entry(file).or_default(), new);
    }

    fn net(
        &mut self,
        number: u32,
        rule: &KernelRule,
        op: u16,
        at: (IpAddr, u8, u16),
    ) -> Result<()> {
        let (addr, prefix, port) = at;
        let (octets, bits) = match addr {
            IpAddr::V4(v4) if prefix <= 32 => (v4.to_ipv6_mapped().octets(), 96 + prefix),
            IpAddr::V6(v6) if prefix <= 128 => (v6.octets(), prefix),
            _ => return Err(Error::Invalid(format!("rule {number}: a prefix of {prefix} bits"))),
        };
        // Bits behind the prefix do not count; without them equal networks are equal keys.
        let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        let key = NetKey {
            prefix_len: NET_KEY_FIXED_BITS + u32::from(bits),
            set: self.set,
            op,
            port,
            addr: (u128::from_be_bytes(octets) & mask).to_be_bytes(),
        };
        let rights = 1 | u32::from(bits) << NET_PREFIX_SHIFT;
        keep(&mut self.entries.net, key, grant(number, rule, rights))?;
        self.count(number, rule, 0);
        Ok(())
    }

    fn plain(&mut self, number: u32, rule: &KernelRule, what: u32) {
        let key = PlainKey { set: self.set, what };
        // Of two the one that lasts longer stays, and neither is counted.
        let _ = keep(&mut self.entries.plain, key, grant(number, rule, 1));
    }

    fn abstract_name(&mut self, number: u32, rule: &KernelRule, name: &[u8]) -> Result<()> {
        if name.is_empty() || name.len() > ABSTRACT_NAME_MAX {
            let length = name.len();
            return Err(Error::Invalid(format!(
                "rule {number}: an abstract socket name of {length} bytes"
            )));
        }
        let mut key = AbstractKey { set: self.set, len: name.len() as u32, name: [0; 108] };
        key.name[..name.len()].copy_from_slice(name);
        keep(&mut self.entries.abstracts, key, grant(number, rule, 1))?;
        self.count(number, rule, 0);
        Ok(())
    }

    /// The entries; a file with too many different rules is an error.
    pub fn finish(mut self) -> Result<Entries> {
        for layers in self.entries.files.values_mut() {
            check_depth(layers)?;
            // What is asked most comes first: lasting before expiring, reading before the rest, and last what is
            // counted.
            layers.sort_by_key(|l| {
                (counts(l.rights), l.expires_ns != 0, l.rights & RIGHT_READ == 0, l.rule)
            });
        }
        Ok(self.entries)
    }
}

/// The right to look needs no layer of its own where a lasting grant lies.
pub(crate) fn add_layer(layers: &mut Vec<Layer>, new: Layer) {
    let same = |l: &&mut Layer| l.expires_ns == new.expires_ns && l.rule == new.rule;
    let lasting =
        |l: &&mut Layer| new.rights == RIGHT_TRAVERSE && l.expires_ns == 0 && !counts(l.rights);
    match layers.iter_mut().find(|l| same(l) || lasting(l)) {
        Some(l) => l.rights |= new.rights,
        None => layers.push(new),
    }
}

/// A file with too many different rules is an error.
pub(crate) fn check_depth(layers: &[Layer]) -> Result<()> {
    match layers.len() {
        0..=MOST => Ok(()),
        many => Err(Error::Invalid(format!("{many} different rules on one file, at most {MOST}"))),
    }
}

const MOST: usize = GRANT_LAYERS as usize;

/// The entries of one file, layer by layer.
pub(crate) fn stacked(set: u32, file: u32, layers: &[Layer]) -> Vec<(GrantKey, Grant)> {
    let entry = |(i, l): (usize, &Layer)| {
        let more = if i + 1 < layers.len() { RIGHT_MORE } else { 0 };
        let key = GrantKey { set, file, layer: i as u32 };
        (key, Grant { rights: l.rights | more, rule: l.rule, expires_ns: l.expires_ns })
    };
    layers.iter().enumerate().map(entry).collect()
}

/// The rights that a rule gives on a file or folder; none if the capability is not about files.
pub(crate) fn rights_on(rule: &KernelRule, directory: bool) -> Option<u32> {
    Some(match rule.capability {
        Capability::FsRead if rule.code => RIGHT_READ | RIGHT_LOAD,
        Capability::FsRead => RIGHT_READ,
        Capability::FsWrite if directory => RIGHT_WRITE | RIGHT_CREATE,
        Capability::FsWrite => RIGHT_WRITE,
        Capability::FsCreate => RIGHT_CREATE,
        Capability::FsDelete => RIGHT_DELETE,
        Capability::FsExec => RIGHT_EXEC | RIGHT_READ,
        Capability::IpcUnix => RIGHT_UNIX,
        Capability::Device => RIGHT_READ | RIGHT_WRITE,
        _ => return None,
    })
}

/// What a rule gives on a file, as the programs see it.
pub(crate) fn layer(number: u32, rule: &KernelRule, rights: u32) -> Layer {
    let Grant { rights, rule, expires_ns } = grant(number, rule, rights);
    Layer { rights, rule, expires_ns }
}

fn counts(rights: u32) -> bool {
    rights & RIGHT_COUNTED != 0
}

fn grant(number: u32, rule: &KernelRule, rights: u32) -> Grant {
    let counted = if rule.uses.is_some() { RIGHT_COUNTED } else { 0 };
    Grant { rights: rights | counted, rule: number, expires_ns: rule.expires_ns }
}

/// Of two grants on one key the one that lasts longer stays. One that is counted stands alone there, or goes before one
/// that lasts for good and is not.
fn keep<K: Eq + Hash>(map: &mut HashMap<K, Grant>, key: K, new: Grant) -> Result<()> {
    let all = |g: &Grant| !counts(g.rights) && g.expires_ns == 0;
    if let Some(old) = map.get(&key)
        && (counts(new.rights) || counts(old.rights))
    {
        if !all(&new) && !all(old) {
            let (rule, old) = (new.rule, old.rule);
            return Err(Error::Invalid(format!(
                "rule {rule} is about the same as rule {old}, and one of them is counted"
            )));
        }
        if all(&new) {
            map.insert(key, new);
        }
        return Ok(());
    }
    let lasts = |g: &Grant| if g.expires_ns == 0 { u64::MAX } else { g.expires_ns };
    let old = map.entry(key).or_insert(new);
    if lasts(&new) > lasts(old) {
        *old = new;
    }
    Ok(())
}

fn mismatch(number: u32, rule: &KernelRule) -> Error {
    Error::Rule {
        rule: number,
        capability: rule.capability.name(),
        scope: format!("{:?}", rule.scope),
    }
}
