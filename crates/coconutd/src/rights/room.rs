//! The sets that the kernel has: made once, shared, dropped with the last who holds them.

use crate::port::{KernelPort, Target};
use kernel::SetId;
use manifest::Origin;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use supervisor::{RuleSet, SetKey, SetKeys, SetRule};

/// How long it takes until a set that the kernel did not drop is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Every set that somebody holds.
pub struct Room {
    shared: Arc<Shared>,
}

struct Shared {
    kernel: Arc<dyn KernelPort>,
    keys: Arc<SetKeys>,
    tables: Mutex<Tables>,
    /// Sets that nobody holds and the kernel did not drop: tried again with the next.
    left: Mutex<Vec<SetId>>,
}

impl Shared {
    fn drop_sets(self: &Arc<Self>, more: Option<SetId>) {
        let mut sets = std::mem::take(&mut *lock(&self.left));
        sets.extend(more);
        for id in sets {
            if let Err(error) = self.kernel.drop_set(id) {
                tracing::warn!(?id, %error, "a set that nobody holds stays in the kernel for now");
                lock(&self.left).push(id);
                self.drop_later();
            }
        }
    }

    fn drop_later(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let shared = Arc::downgrade(self);
        runtime.spawn(async move {
            tokio::time::sleep(AGAIN).await;
            if let Some(shared) = shared.upgrade() {
                tokio::task::block_in_place(|| shared.drop_sets(None));
            }
        });
    }
}

#[derive(Default)]
struct Tables {
    by_key: HashMap<SetKey, Weak<KernelSet>>,
    by_content: HashMap<Content, (SetKey, Weak<KernelSet>)>,
}

/// A rule stands on what its place says, so equal rules stand on the same.
type Content = Arc<[Option<SetRule>]>;

/// A set with what its rules stand on. The kernel has it from when it is first needed until nobody
/// holds this.
pub struct KernelSet {
    set: Arc<RuleSet>,
    targets: Mutex<Vec<Target>>,
    /// Which position of the set each rule of the kernel's is for: a host has several addresses.
    positions: Arc<[u32]>,
    id: Mutex<Option<SetId>>,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    /// Nothing held.
    pub fn new(kernel: Arc<dyn KernelPort>, keys: Arc<SetKeys>) -> Self {
        Room {
            shared: Arc::new(Shared {
                kernel,
                keys,
                tables: Mutex::default(),
                left: Mutex::default(),
            }),
        }
    }

    /// The set of these rules: the one that is there, or a new one.
    pub fn intern(&self, rules: Vec<(SetRule, Target)>) -> Arc<KernelSet> {
        let (rules, targets): (Vec<_>, Vec<_>) = rules.into_iter().unzip();
        let content: Content = rules.iter().cloned().map(Some).collect();
        let known = lock(&self.shared.tables).by_content.get(&content).cloned();
        if let Some(known) = known.and_then(|(_, set)| set.upgrade()) {
            return known;
        }
        let set = RuleSet::new(self.shared.keys.fresh(), rules);
        let made = self.enter(set, targets);
        let entry = (made.set.key(), Arc::downgrade(&made));
        lock(&self.shared.tables).by_content.insert(made.set.positions().clone(), entry);
        made
    }

    /// The set that is held under these rules; one that was made out of another gets its targets
    /// from there, and `added` for the position that is new.
    pub fn of(&self, set: &Arc<RuleSet>, added: Option<&Target>) -> Option<Arc<KernelSet>> {
        if let Some(known) = self.find(set.key()) {
            return Some(known);
        }
        let mut targets = match set.from() {
            Some(from) => lock(&self.find(from)?.targets).clone(),
            None => Vec::new(),
        };
        targets.extend(added.cloned());
        (targets.len() == set.positions().len()).then(|| self.enter(set.clone(), targets))
    }

    /// Gives out the names of sets.
    pub fn keys(&self) -> &SetKeys {
        &self.shared.keys
    }

    /// A set that an earlier daemon had, with what its rules stand on.
    pub fn take_up(&self, set: Arc<RuleSet>, targets: Vec<Target>) -> Arc<KernelSet> {
        let own = set.from().is_none();
        let made = self.enter(set, targets);
        if own {
            let entry = (made.set.key(), Arc::downgrade(&made));
            lock(&self.shared.tables).by_content.insert(made.set.positions().clone(), entry);
        }
        made
    }

    fn find(&self, key: SetKey) -> Option<Arc<KernelSet>> {
        lock(&self.shared.tables).by_key.get(&key).and_then(Weak::upgrade)
    }

    fn enter(&self, set: Arc<RuleSet>, targets: Vec<Target>) -> Arc<KernelSet> {
        let positions = positions(&set, &targets);
        let shared = self.shared.clone();
        let key = set.key();
        let (targets, id) = (Mutex::new(targets), Mutex::new(None));
        let made = Arc::new(KernelSet { set, targets, positions, id, shared });
        lock(&self.shared.tables).by_key.insert(key, Arc::downgrade(&made));
        made
    }

    /// Every set that somebody holds.
    pub fn all(&self) -> Vec<Arc<KernelSet>> {
        lock(&self.shared.tables).by_key.values().filter_map(Weak::upgrade).collect()
    }
}

impl KernelSet {
    /// The rules.
    pub fn set(&self) -> &Arc<RuleSet> {
        &self.set
    }

    /// Its id in the kernel, which gets it now if it has not. One at a time: others wait for it.
    ///
    /// # Errors
    /// When the kernel refuses; then it has nothing of it.
    pub fn id(&self) -> kernel::Result<SetId> {
        let mut id = lock(&self.id);
        if let Some(id) = *id {
            return Ok(id);
        }
        let made = self
            .shared
            .kernel
            .make_set(&kernel_rules(&self.set, lock(&self.targets).as_slice()))?;
        *id = Some(made);
        Ok(made)
    }

    /// Its id, if the kernel has it.
    pub fn known_id(&self) -> Option<SetId> {
        *lock(&self.id)
    }

    /// Which position of the set each rule of the kernel's is for.
    pub fn positions(&self) -> &Arc<[u32]> {
        &self.positions
    }

    /// What a position stands on.
    pub fn target(&self, position: usize) -> Option<Target> {
        lock(&self.targets).get(position).cloned()
    }

    /// The name of a rule leads to another file now, or to none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn follow(&self, position: usize, new: &Target) -> kernel::Result<()> {
        let Some(at) = self.positions.iter().position(|own| *own as usize == position) else {
            return Ok(());
        };
        let rule = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let file = |target: &Target| match target {
            Target::File(handle) => Some(handle.clone()),
            _ => None,
        };
        let id = lock(&self.id);
        let mut targets = lock(&self.targets);
        let Some(target) = targets.get_mut(position) else { return Ok(()) };
        let (old, new_file) = (file(target), file(new));
        if old.as_ref().map(|old| old.node()) == new_file.as_ref().map(|new| new.node()) {
            return Ok(());
        }
        if let Some(id) = *id {
            self.shared.kernel.follow(id, rule, old.as_deref(), new_file.as_ref())?;
        }
        *target = new.clone();
        Ok(())
    }
}

impl Drop for KernelSet {
    fn drop(&mut self) {
        {
            let mut tables = lock(&self.shared.tables);
            tables.by_key.remove(&self.set.key());
            let content = self.set.positions();
            if tables.by_content.get(content).is_some_and(|(key, _)| *key == self.set.key()) {
                tables.by_content.remove(content);
            }
        }
        let id = *lock(&self.id);
        if id.is_some() {
            self.shared.drop_sets(id);
        }
    }
}

impl std::fmt::Debug for KernelSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KernelSet({:?})", self.set.key())
    }
}

/// How many rules of the kernel's a position has.
fn width(target: &Target) -> usize {
    match target {
        Target::Addresses(all) => all.len().max(1),
        _ => 1,
    }
}

fn positions(set: &RuleSet, targets: &[Target]) -> Arc<[u32]> {
    let each = (0u32..).zip(set.positions().iter().zip(targets));
    let each = each.flat_map(|(at, (rule, target))| {
        std::iter::repeat_n(at, if rule.is_some() { width(target) } else { 1 })
    });
    each.collect()
}

fn kernel_rules(set: &RuleSet, targets: &[Target]) -> Vec<kernel::KernelRule> {
    let mut rules = Vec::with_capacity(targets.len());
    for (rule, target) in set.positions().iter().zip(targets) {
        let nothing = vec![kernel::KernelScope::Nothing];
        let scopes = if rule.is_some() { scopes(target) } else { nothing };
        let rule = rule.as_ref();
        let of = |scope| kernel::KernelRule {
            capability: rule.map_or(abi::Capability::None, |rule| rule.rule.capability()),
            scope,
            expires_ns: rule.and_then(|rule| rule.expires_ns).unwrap_or(0),
            code: rule.is_some_and(|rule| matches!(rule.origin, Origin::Profile { .. })),
            uses: rule
                .and_then(|rule| rule.counter)
                .map(|counter| kernel::Uses { key: counter.key, left: counter.uses }),
        };
        rules.extend(scopes.into_iter().map(of));
    }
    rules
}

fn scopes(target: &Target) -> Vec<kernel::KernelScope> {
    match target {
        Target::File(handle) => vec![kernel::KernelScope::File(handle.clone())],
        Target::Addresses(all) if !all.is_empty() => {
            let net = |(addr, prefix, port): &(_, _, _)| kernel::KernelScope::Net {
                addr: *addr,
                prefix: *prefix,
                port: *port,
            };
            all.iter().map(net).collect()
        }
        Target::Abstract(name) => vec![kernel::KernelScope::UnixAbstract(name.clone())],
        Target::Everything => vec![kernel::KernelScope::Everything],
        Target::Addresses(_) | Target::Nothing => vec![kernel::KernelScope::Nothing],
    }
}
