//! What tenants weigh beside each other.

use std::collections::BTreeMap;

/// Weight of a tenant that nobody has weighed, and of an agent whose manifest names none.
pub(crate) const DEFAULT_WEIGHT: u32 = 100;

/// Weights of tenants, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weights(BTreeMap<String, u32>);

impl Weights {
    pub(crate) fn of(&self, tenant: &str) -> u32 {
        self.0.get(tenant).copied().unwrap_or(DEFAULT_WEIGHT)
    }

    pub(crate) fn set(&mut self, tenant: &str, weight: u32) {
        self.0.insert(tenant.to_owned(), weight);
    }

    /// What somebody gave a tenant.
    pub(crate) fn given_to(&self, tenant: &str) -> Option<u32> {
        self.0.get(tenant).copied()
    }

    /// Those that somebody gave.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(name, weight)| (name.as_str(), *weight))
    }
}
