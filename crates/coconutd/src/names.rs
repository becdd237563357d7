//! Host names in `net.connect` and `net.bind`: resolved when the rule is given, and pinned.
//!
//! The addresses stay those of that moment, so an agent cannot move its own rights by DNS.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Mutex;

/// Most addresses that one name may stand for.
const ADDRESSES_MAX: usize = 32;

/// Answers that were given once.
#[derive(Default)]
pub struct Names {
    pinned: Mutex<HashMap<(u64, String), Vec<IpAddr>>>,
}

impl Names {
    /// The addresses that `name` had when agent `aid` first needed them. Blocks on DNS the first
    /// time.
    ///
    /// # Errors
    /// When the name has no address.
    pub fn addresses(&self, aid: u64, name: &str) -> Result<Vec<IpAddr>, String> {
        let key = (aid, name.to_owned());
        if let Some(known) = self.lock().get(&key) {
            return Ok(known.clone());
        }
        let found = (name, 0u16)
            .to_socket_addrs()
            .map_err(|error| format!("cannot resolve {name}: {error}"))?;
        let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        addresses.sort();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() {
            return Err(format!("{name} has no address"));
        }
        self.lock().insert(key, addresses.clone());
        Ok(addresses)
    }

    /// Forgets an ended agent's answers.
    pub fn forget(&self, aid: u64) {
        self.lock().retain(|(owner, _), _| *owner != aid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, String), Vec<IpAddr>>> {
        self.pinned.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_pinned_until_the_agent_is_forgotten() {
        let names = Names::default();
        let known = vec![IpAddr::from([192, 0, 2, 1])];
        names.lock().insert((7, "example.invalid".into()), known.clone());
        assert_eq!(names.addresses(7, "example.invalid").unwrap(), known);
        names.forget(7);
        assert!(names.addresses(7, "example.invalid").is_err());
    }
}
