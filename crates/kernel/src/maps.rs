//! Typed access to the kernel maps.

use crate::sys::SharedPolicy;
use crate::{Error, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use std::os::fd::OwnedFd;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Handles that outlive the object they came from.
pub(crate) struct Maps {
    pub agents: MapHandle,
    pub daemons: MapHandle,
    pub lists: MapHandle,
    pub files: MapHandle,
    pub fs_caps: MapHandle,
    pub net_caps: MapHandle,
    pub unix_abstract_caps: MapHandle,
    pub plain_caps: MapHandle,
    pub counted: MapHandle,
    pub counters: MapHandle,
    pub parents: MapHandle,
    pub tcp_peers: MapHandle,
    pub peer_counts: MapHandle,
    pub resolved: MapHandle,
    pub throttled: MapHandle,
    pub kept: MapHandle,
    pub stops: MapHandle,
    pub tallies: MapHandle,
    pub events: MapHandle,
    pub policy: SharedPolicy,
    pub control: OwnedFd,
}

/// Writes one entry.
pub(crate) fn put<K, V>(map: &MapHandle, name: &'static str, key: &K, value: &V) -> Result<()>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    map.update(key.as_bytes(), value.as_bytes(), MapFlags::ANY).map_err(|source| Error::Map {
        action: "write",
        map: name,
        source,
    })
}

/// Reads one entry.
pub(crate) fn get<K, V>(map: &MapHandle, name: &'static str, key: &K) -> Result<Option<V>>
where
    K: IntoBytes + Immutable,
    V: FromBytes,
{
    let found = map.lookup(key.as_bytes(), MapFlags::ANY).map_err(|source| Error::Map {
        action: "read",
        map: name,
        source,
    })?;
    Ok(found.and_then(|bytes| V::read_from_bytes(&bytes).ok()))
}

/// Removes one entry; an absent one is no error.
pub(crate) fn remove<K>(map: &MapHandle, name: &'static str, key: &K) -> Result<()>
where
    K: IntoBytes + Immutable,
{
    match map.delete(key.as_bytes()) {
        Err(source) if source.kind() != libbpf_rs::ErrorKind::NotFound => {
            Err(Error::Map { action: "remove an entry", map: name, source })
        }
        _ => Ok(()),
    }
}

/// Writes many entries, in one system call where the map can.
pub(crate) fn put_all<K, V>(map: &MapHandle, name: &'static str, all: &[(K, V)]) -> Result<()>
where
    K: IntoBytes + Immutable + Copy,
    V: IntoBytes + Immutable + Copy,
{
    if all.len() > 1 && map.map_type().is_hash_map() {
        let keys: Vec<K> = all.iter().map(|(k, _)| *k).collect();
        let values: Vec<V> = all.iter().map(|(_, v)| *v).collect();
        let done = map.update_batch(
            bytes(&keys),
            bytes(&values),
            all.len() as u32,
            MapFlags::ANY,
            MapFlags::empty(),
        );
        if done.is_ok() {
            return Ok(());
        }
    }
    all.iter().try_for_each(|(key, value)| put(map, name, key, value))
}

/// Removes many entries, in one system call where the map can.
pub(crate) fn remove_all<K>(map: &MapHandle, name: &'static str, keys: &[K]) -> Result<()>
where
    K: IntoBytes + Immutable,
{
    if keys.len() > 1 && map.map_type().is_hash_map() {
        let count = keys.len() as u32;
        let done = map.delete_batch(bytes(keys), count, MapFlags::ANY, MapFlags::empty());
        if done.is_ok() {
            return Ok(());
        }
    }
    keys.iter().try_for_each(|key| remove(map, name, key))
}

fn bytes<T: IntoBytes + Immutable>(all: &[T]) -> &[u8] {
    all.as_bytes()
}

/// Every key of a map, read before any is removed.
pub(crate) fn all_keys<K: FromBytes>(map: &MapHandle) -> Vec<K> {
    map.keys().filter_map(|key| K::read_from_bytes(&key).ok()).collect()
}
