//! Sets of rules in the kernel maps: written whole before anybody holds them, taken away only when
//! no check can be looking at them any more.

use crate::counted::Counters;
use crate::entries::{Builder, Entries, Layer, add_layer, check_depth, layer, rights_on, stacked};
use crate::files::{self, Changes, Files, reaches};
use crate::lock::lock;
use crate::maps::{self, Maps};
use crate::{Error, Handle, KernelRule, KernelScope, Result, SetId, sys};
use abi::caps::*;
use abi::control::{CONTROL_ADD_USES, CONTROL_SET_RIGHTS, CONTROL_VOID_FILE, Control};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use zerocopy::{FromZeros, IntoBytes};

/// All sets of the node, and the files that they are about.
pub(crate) struct Sets {
    maps: Arc<Maps>,
    inner: Mutex<Inner>,
}

struct Inner {
    sets: HashMap<u32, Set>,
    files: Files,
    counters: Counters,
}

struct Set {
    entries: Entries,
    capabilities: Vec<KernelRule>,
    /// Kept open while the set has rules on them.
    handles: Vec<Arc<Handle>>,
    /// Numbers of files that a rule stood on before it followed its name: what was mapped then is mapped still.
    left: Vec<u32>,
}

/// What a set has entries of, as a list says it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Kinds {
    pub net: bool,
    pub abstracts: bool,
}

impl Sets {
    pub fn new(maps: Arc<Maps>, max_files: u32) -> Sets {
        let files = Files::new(max_files);
        let inner = Inner { sets: HashMap::new(), files, counters: Counters::default() };
        Sets { maps, inner: Mutex::new(inner) }
    }

    /// The sets of a daemon that takes over: its own, in maps that have another's still.
    pub fn adopt(maps: Arc<Maps>, max_files: u32) -> Result<Sets> {
        let keys = maps::all_keys::<FileKey>(&maps.files);
        let number =
            |file: &FileKey| maps::get::<_, u64>(&maps.files, "files", file).ok().flatten();
        let numbers = keys.into_iter().filter_map(|file| Some((file, number(&file)?)));
        let files = Files::adopt(max_files, numbers.collect::<Vec<_>>());
        let inner = Inner { sets: HashMap::new(), files, counters: Counters::adopt(&maps)? };
        Ok(Sets { maps, inner: Mutex::new(inner) })
    }

    /// Takes away everything that sets up to `last` have in the maps, and files that nobody needs.
    pub fn remove_up_to(&self, last: u64) -> Result<()> {
        let m = &self.maps;
        macro_rules! sweep {
            ($map:ident, $key:ty) => {
                let keys = maps::all_keys::<$key>(&m.$map).into_iter();
                let old: Vec<$key> = keys.filter(|key| u64::from(key.set) <= last).collect();
                maps::remove_all(&m.$map, stringify!($map), &old)?;
            };
        }
        sweep!(fs_caps, GrantKey);
        sweep!(net_caps, NetKey);
        sweep!(unix_abstract_caps, AbstractKey);
        sweep!(plain_caps, PlainKey);
        sweep!(counted, CountedKey);
        let mut changes = Changes::default();
        let mut inner = lock(&self.inner);
        inner.files.settle(&mut changes);
        inner.counters.settle(m)?;
        files::tell(m, &changes)
    }

    /// What a set that no rule names has: rights by file, and what keeps the files open.
    pub fn private(&self, set: SetId) -> (Vec<(FileKey, u32)>, Vec<Arc<Handle>>) {
        let inner = lock(&self.inner);
        let Some(set) = inner.sets.get(&set.0) else { return Default::default() };
        let files = set.entries.files.iter();
        let rights = files.map(|(file, all)| (*file, all.iter().fold(0, |sum, l| sum | l.rights)));
        (rights.collect(), set.handles.clone())
    }

    /// Writes a set; nobody holds it yet.
    pub fn make(&self, rules: &[KernelRule]) -> Result<SetId> {
        let mut inner = lock(&self.inner);
        let set = self.number()?;
        let mut builder = Builder::new(set);
        for (number, rule) in (1u32..).zip(rules) {
            builder.rule(number, rule)?;
        }
        let handles = rules.iter().filter_map(|rule| match &rule.scope {
            KernelScope::File(handle) => Some(Arc::clone(handle)),
            _ => None,
        });
        let handles = handles.collect();
        self.write(&mut inner, set, builder.finish()?, rules.to_vec(), handles)?;
        Ok(set)
    }

    /// Never given out before, whichever daemon made the set.
    fn number(&self) -> Result<SetId> {
        let next = self.maps.policy.next_set();
        next.map(SetId).ok_or_else(|| {
            Error::Invalid("every number for sets of rules was given out: reboot".to_owned())
        })
    }

    /// As [`Sets::make`], for what no rule names.
    pub fn make_private(
        &self,
        rights: &[(FileKey, u32)],
        handles: Vec<Arc<Handle>>,
    ) -> Result<SetId> {
        let mut inner = lock(&self.inner);
        let set = self.number()?;
        let mut builder = Builder::new(set);
        for (file, rights) in rights {
            builder.implicit(*file, *rights);
        }
        for handle in &handles {
            handle.above().iter().for_each(|folder| builder.look(folder.key()));
        }
        self.write(&mut inner, set, builder.finish()?, Vec::new(), handles)?;
        Ok(set)
    }

    fn write(
        &self,
        inner: &mut Inner,
        set: SetId,
        entries: Entries,
        capabilities: Vec<KernelRule>,
        handles: Vec<Arc<Handle>>,
    ) -> Result<()> {
        let written = self.write_entries(inner, set.0, &entries);
        inner.sets.insert(set.0, Set { entries, capabilities, handles, left: Vec::new() });
        if let Err(error) = written {
            self.erase(inner, set.0);
            return Err(error);
        }
        Ok(())
    }

    fn write_entries(&self, inner: &mut Inner, set: u32, entries: &Entries) -> Result<()> {
        let mut changes = Changes::default();
        let mut grants = Vec::new();
        // All are counted before one can fail, so that taking them back takes back as many.
        let counted = inner.counters.add(&self.maps, set, &entries.counted);
        let mut failure = None;
        for (file, layers) in &entries.files {
            match inner.files.take(*file, set, reaches(layers), &mut changes) {
                Ok(index) => grants.extend(stacked(set, index, layers)),
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let m = &self.maps;
        counted?;
        maps::put_all(&m.fs_caps, "fs_caps", &grants)?;
        files::tell(m, &changes)?;
        maps::put_all(&m.net_caps, "net_caps", &pairs(&entries.net))?;
        maps::put_all(&m.unix_abstract_caps, "unix_abstract_caps", &pairs(&entries.abstracts))?;
        maps::put_all(&m.plain_caps, "plain_caps", &pairs(&entries.plain))
    }

    /// Takes a set's entries away; nobody holds it, and no check that began before is under way.
    pub fn remove(&self, set: SetId) {
        let mut inner = lock(&self.inner);
        self.erase(&mut inner, set.0);
    }

    fn erase(&self, inner: &mut Inner, set: u32) {
        let Some(Set { entries, handles, .. }) = inner.sets.remove(&set) else { return };
        let (mut changes, mut grants) = (Changes::default(), Vec::new());
        for (file, layers) in &entries.files {
            let Some(number) = inner.files.number_of(*file) else { continue };
            grants.extend(stacked(set, number, layers).into_iter().map(|(key, _)| key));
            inner.files.put_back(*file, set, reaches(layers), &mut changes);
        }
        let m = &self.maps;
        let done = [
            maps::remove_all(&m.fs_caps, "fs_caps", &grants),
            files::tell(m, &changes),
            maps::remove_all(&m.net_caps, "net_caps", &keys(&entries.net)),
            maps::remove_all(
                &m.unix_abstract_caps,
                "unix_abstract_caps",
                &keys(&entries.abstracts),
            ),
            maps::remove_all(&m.plain_caps, "plain_caps", &keys(&entries.plain)),
            inner.counters.remove(m, set, &entries.counted),
        ];
        for error in done.into_iter().filter_map(Result::err) {
            tracing::error!(set, %error, "entries of a set that nobody holds stay");
        }
        // The inodes may be used again only now.
        drop(handles);
    }

    /// Lets a rule of a set stand on another file: the name that it was given by leads there now.
    ///
    /// What is new is added before what is old is taken away, so that no other right is ever missing.
    pub fn follow(
        &self,
        set: SetId,
        number: u32,
        old: Option<&Handle>,
        new: Option<&Arc<Handle>>,
    ) -> Result<()> {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        let place = (number as usize).wrapping_sub(1);
        let rule = inner.sets.get(&set.0).and_then(|s| s.capabilities.get(place)).cloned();
        let rule = rule.ok_or_else(|| Error::Invalid(format!("no rule {number} in {set:?}")))?;
        if let Some(handle) = new {
            self.add_file(inner, set.0, number, &rule, handle)?;
        }
        if let Some(handle) = old {
            self.take_file(inner, set.0, number, handle)?;
        }
        Ok(())
    }

    fn add_file(
        &self,
        inner: &mut Inner,
        set: u32,
        number: u32,
        rule: &KernelRule,
        handle: &Arc<Handle>,
    ) -> Result<()> {
        let node = handle.node();
        let rights = rights_on(rule, node.directory)
            .ok_or_else(|| Error::Invalid(format!("rule {number} is not about files")))?;
        let look = Layer { rights: RIGHT_TRAVERSE, rule: 0, expires_ns: 0 };
        let looks = handle.above().iter().map(|folder| (folder.key(), look));
        let own = std::iter::once((node.key(), layer(number, rule, rights)));
        for (file, new) in own.chain(looks).collect::<Vec<_>>() {
            let before = inner.layers(set, file);
            let mut after = before.clone();
            add_layer(&mut after, new);
            check_depth(&after)?;
            self.change_layers(inner, set, file, &before, after)?;
        }
        if let Some(set) = inner.sets.get_mut(&set) {
            set.handles.push(Arc::clone(handle));
        }
        Ok(())
    }

    fn take_file(&self, inner: &mut Inner, set: u32, number: u32, old: &Handle) -> Result<()> {
        let file = old.node().key();
        let before = inner.layers(set, file);
        let mut after = before.clone();
        // What lies below a folder may be another rule's, and is reached through it.
        let look = if old.node().directory { RIGHT_TRAVERSE } else { 0 };
        after.iter_mut().filter(|l| l.rule == number).for_each(|l| l.rights &= look);
        let number = inner.files.number_of(file);
        self.change_layers(inner, set, file, &before, after)?;
        if let Some(number) = number {
            let (op, value) = (CONTROL_VOID_FILE, number.into());
            sys::control(&self.maps.control, Control { op, value, ..Control::new_zeroed() })?;
        }
        if let Some(set) = inner.sets.get_mut(&set) {
            set.handles.retain(|handle| handle.node() != old.node());
            set.left.extend(number);
        }
        Ok(())
    }

    /// Writes what is different of a file's layers. Each keeps its place, an empty one as well, and its
    /// rights change in place: none that stays is ever absent, and no check sees another's memory.
    fn change_layers(
        &self,
        inner: &mut Inner,
        set: u32,
        file: FileKey,
        before: &[Layer],
        after: Vec<Layer>,
    ) -> Result<()> {
        let mut changes = Changes::default();
        let m = &self.maps;
        let number = inner.files.take(file, set, reaches(&after), &mut changes)?;
        // Backwards: what says that there is one more comes after that one.
        for (place, (grant, value)) in stacked(set, number, &after).into_iter().enumerate().rev() {
            if place >= before.len() {
                maps::put(&m.fs_caps, "fs_caps", &grant, &value)?;
            } else {
                let (op, value) = (CONTROL_SET_RIGHTS, value.rights.into());
                sys::control(&m.control, Control { op, value, grant, ..Control::new_zeroed() })?;
            }
        }
        if !before.is_empty() {
            inner.files.put_back(file, set, reaches(before), &mut changes);
        }
        files::tell(m, &changes)?;
        if let Some(set) = inner.sets.get_mut(&set) {
            set.entries.files.insert(file, after);
        }
        Ok(())
    }

    /// Adds uses to the counter with this key; false if there is none.
    pub fn add_uses(&self, key: u64, uses: u64) -> Result<bool> {
        let Some(number) = lock(&self.inner).counters.number(key) else { return Ok(false) };
        let (op, value) = (CONTROL_ADD_USES, uses);
        sys::control(&self.maps.control, Control { op, value, number, ..Control::new_zeroed() })?;
        Ok(true)
    }

    /// Uses that are left of the counter with this key; none if there is no such.
    pub fn uses_left(&self, key: u64) -> Result<Option<u64>> {
        let inner = lock(&self.inner);
        let Some(number) = inner.counters.number(key) else { return Ok(None) };
        let counter: Option<UseCounter> = maps::get(&self.maps.counters, "counters", &number)?;
        Ok(counter.map(|counter| u64::try_from(counter.left).unwrap_or(0)))
    }

    /// Numbers of files that rested while checks were under way may be used again.
    pub fn give_numbers_back(&self) {
        lock(&self.inner).files.give_numbers_back();
    }

    /// What the sets have entries of, in their order; an unknown set is an error.
    pub fn kinds(&self, sets: &[SetId]) -> Result<Vec<Kinds>> {
        let inner = lock(&self.inner);
        let kinds = |set: &SetId| {
            let known = inner.sets.get(&set.0);
            let known = known.ok_or_else(|| Error::Invalid(format!("there is no {set:?}")))?;
            let entries = &known.entries;
            Ok(Kinds { net: !entries.net.is_empty(), abstracts: !entries.abstracts.is_empty() })
        };
        sets.iter().map(kinds).collect()
    }

    /// What `old` gives and `new` does not, of rights that something may remain of.
    pub fn lost(&self, old: &[SetId], new: &[SetId]) -> Lost {
        let inner = lock(&self.inner);
        let only = |of: &[SetId], other: &[SetId]| -> Vec<&Set> {
            let own = of.iter().filter(|set| !other.contains(set));
            own.filter_map(|set| inner.sets.get(&set.0)).collect()
        };
        let (gone, come) = (only(old, new), only(new, old));
        let before = gone.iter().flat_map(|set| set.entries.files.keys());
        let lost = before.filter(|file| mapping(&gone, file) != mapping(&come, file));
        let numbers = lost.filter_map(|file| inner.files.number_of(*file));
        let stood = gone.iter().flat_map(|set| set.left.iter().copied());
        let named = |sets: &[&Set]| -> BTreeMap<Vec<u8>, u64> {
            let all = sets.iter().flat_map(|set| &set.entries.abstracts);
            all.map(|(key, grant)| (key.as_bytes().to_vec(), grant.expires_ns)).collect()
        };
        Lost { files: numbers.chain(stood).collect(), abstracts: named(&gone) != named(&come) }
    }

    /// How many sets there are.
    pub fn count(&self) -> usize {
        lock(&self.inner).sets.len()
    }
}

impl Inner {
    fn layers(&self, set: u32, file: FileKey) -> Vec<Layer> {
        let entries = self.sets.get(&set).map(|set| &set.entries.files);
        entries.and_then(|files| files.get(&file)).cloned().unwrap_or_default()
    }
}

/// Rights that are gone.
#[derive(Default)]
pub(crate) struct Lost {
    /// Numbers of the files that they stood on.
    pub files: Vec<u32>,
    /// Some were on abstract UNIX names.
    pub abstracts: bool,
}

impl Lost {
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.abstracts
    }
}

/// Rights by which something can be mapped, or be got that stays.
const RIGHTS_MAP: u32 = RIGHT_READ | RIGHT_WRITE | RIGHT_EXEC | RIGHT_UNIX | RIGHT_LOAD;

/// What some sets allow of those on one file: rights, and until when.
fn mapping(sets: &[&Set], file: &FileKey) -> Vec<(u32, u64)> {
    let layers = sets.iter().filter_map(|set| set.entries.files.get(file)).flatten();
    let rights = layers.map(|layer| (layer.rights & RIGHTS_MAP, layer.expires_ns));
    let mut all: Vec<_> = rights.filter(|(rights, _)| *rights != 0).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn pairs<K: Copy, V: Copy>(map: &HashMap<K, V>) -> Vec<(K, V)> {
    map.iter().map(|(key, value)| (*key, *value)).collect()
}

fn keys<K: Copy, V>(map: &HashMap<K, V>) -> Vec<K> {
    map.keys().copied().collect()
}
