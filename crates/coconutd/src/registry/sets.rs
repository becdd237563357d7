//! Sets are made anew from the registry: on the files that were kept open, or else on what their names lead to, if that
//! is the same.

use super::rows::{SetRow, TargetRow};
use crate::port::Target;
use crate::rights::KernelSet;
use crate::sink::own;
use crate::state::Daemon;
use abi::Kind;
use kernel::Handle;
use manifest::Origin;
use record::{Entry, body};
use resolve::targets::Absent;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use supervisor::{RuleSet, SavedRule, SavedSet};

/// Files that were kept open, by their names.
pub(super) struct Files {
    /// Those that nobody has asked for.
    pub open: HashMap<String, OwnedFd>,
    /// The others.
    pub handles: HashMap<String, Arc<Handle>>,
}

impl Files {
    /// What the service manager has.
    pub fn of(daemon: &Daemon) -> Files {
        let open = daemon.registry.keeper.kept().into_iter().collect();
        Files { open, handles: HashMap::new() }
    }

    /// The handle of a file that was kept under this name.
    pub fn handle(&mut self, daemon: &Daemon, name: &str) -> Option<Arc<Handle>> {
        if let Some(known) = self.handles.get(name) {
            return Some(known.clone());
        }
        let fd = self.open.remove(name)?;
        let made = daemon.kernel.handle(fd);
        let made = made.inspect_err(|error| tracing::warn!(name, %error, "a file that was kept"));
        let made = Arc::new(made.ok()?);
        self.handles.insert(name.to_owned(), made.clone());
        Some(made)
    }
}

/// By the key that they had.
pub(super) type Sets = HashMap<u64, Arc<KernelSet>>;

/// Makes every set of the registry anew.
pub(super) async fn restore_sets(
    daemon: &Arc<Daemon>,
    rows: Vec<SetRow>,
    files: &mut Files,
    entries: &mut Vec<Entry>,
) -> Sets {
    let mut sets: Sets = HashMap::new();
    for SetRow { set, targets } in rows {
        let old = set.key;
        if let Some(system) = daemon.system.all().find(|own| same(own.set(), &set)) {
            sets.insert(old, system.clone());
            continue;
        }
        let from = set.from.and_then(|from| sets.get(&from).cloned());
        let mut found = Vec::with_capacity(targets.len());
        for (at, row) in targets.into_iter().enumerate() {
            let rule = set.rules.get(at).and_then(Option::as_ref);
            found.push(target(daemon, row, rule, from.as_deref(), at, files, entries).await);
        }
        let key = daemon.rights.keys().fresh();
        let made = RuleSet::restored(key, from.map(|from| from.set().key()), set);
        sets.insert(old, daemon.rights.take_up(made, found));
    }
    sets
}

/// The same rules of the system, wherever their names lead now.
fn same(own: &RuleSet, saved: &SavedSet) -> bool {
    let ours = |origin: &Origin| matches!(origin, Origin::Profile { .. } | Origin::Implied { .. });
    own.positions().len() == saved.rules.len()
        && own.positions().iter().zip(&saved.rules).all(|(own, saved)| match (own, saved) {
            (Some(own), Some(saved)) => {
                ours(&saved.origin)
                    && own.rule == saved.rule
                    && own.origin == saved.origin
                    && own.expires_ns == saved.expires_ns
            }
            (None, None) => true,
            _ => false,
        })
}

async fn target(
    daemon: &Arc<Daemon>,
    row: TargetRow,
    rule: Option<&SavedRule>,
    from: Option<&KernelSet>,
    at: usize,
    files: &mut Files,
    entries: &mut Vec<Entry>,
) -> Target {
    let name = match row {
        TargetRow::Nothing => return Target::Nothing,
        TargetRow::Everything => return Target::Everything,
        TargetRow::Addresses(all) => return Target::Addresses(all),
        TargetRow::Abstract(name) => return Target::Abstract(name),
        TargetRow::File(name) => name,
    };
    let follows =
        |r: &SavedRule| matches!(r.place, supervisor::SavedPlace::File { follows: true, .. });
    if let (Some(from), Some(rule)) = (from, rule)
        && follows(rule)
        && let Some(followed) = from.target(at)
    {
        return followed;
    }
    if let Some(handle) = files.handle(daemon, &name) {
        return Target::File(handle);
    }
    let Some(rule) = rule else { return Target::Nothing };
    if let Some(found) = look_again(daemon, rule).await {
        return found;
    }
    let what = format!("what `{}` stood on was not kept: the right is gone", rule.rule);
    tracing::error!(what);
    entries.push(own(
        Kind::Degraded,
        what,
        body::Degraded { at: "adoption".into(), ..Default::default() },
    ));
    Target::Nothing
}

/// By its name, if that leads to the same file.
async fn look_again(daemon: &Arc<Daemon>, rule: &SavedRule) -> Option<Target> {
    let supervisor::SavedPlace::File { nodes, .. } = &rule.place else { return None };
    let asked = [(rule.rule.clone(), Absent::LeftOut)];
    let found = daemon.lookup.rules("", &asked).await.ok()?.into_iter().next()?;
    let Target::File(handle) = &found.target else { return None };
    let node = handle.node();
    // One that is known by its place in memory may be another by now.
    let same = nodes.first() == Some(&(node.dev, node.ino)) && !node.in_memory();
    same.then_some(found.target)
}
