//! The files that some set has a rule on, each with a number and a count of who needs it.

use crate::entries::Layer;
use crate::maps::{self, Maps};
use crate::{Error, Result, sys};
use abi::caps::{FileKey, RIGHT_TRAVERSE};
use abi::control::{CONTROL_SET_FILE, Control};
use std::collections::{HashMap, HashSet};
use zerocopy::FromZeros;

/// Numbers of files; the maps `files` and `file_nodes` in the kernel say the same.
pub(crate) struct Files {
    known: HashMap<FileKey, Known>,
    free: Vec<u32>,
    /// Given back, but a check that is under way may have it still.
    resting: Vec<u32>,
    next: u32,
    most: u32,
}

struct Known {
    number: u32,
    /// Sets that have an entry here.
    sets: u32,
    /// For each bit of [`abi::caps::FileNode::sets`] how many sets need it; none while nobody's right
    /// reaches below.
    reach: Option<Box<[u32; 64]>>,
}

impl Known {
    fn bits(&self) -> u64 {
        let counts = self.reach.iter().flat_map(|counts| counts.iter().enumerate());
        counts.filter(|(_, count)| **count > 0).fold(0, |all, (bit, _)| all | 1 << bit)
    }
}

/// What the kernel must be told of files.
#[derive(Default)]
pub(crate) struct Changes {
    /// Number and sets of files that have others than before.
    nodes: HashMap<FileKey, (u32, u64)>,
    /// Of these, the ones that the kernel does not know yet.
    fresh: Vec<(FileKey, u64)>,
    /// Files that nobody has a rule on any more.
    gone: Vec<(FileKey, u32)>,
}

/// True if any of the rights is more than to look at exactly this file.
pub(crate) fn reaches(layers: &[Layer]) -> bool {
    layers.iter().any(|l| l.rights & !RIGHT_TRAVERSE != 0)
}

/// The first number; 0 is no file's, for what is kept by none is noted so.
const FIRST: u32 = 1;

impl Files {
    pub fn new(most: u32) -> Files {
        Files { known: HashMap::new(), free: Vec::new(), resting: Vec::new(), next: FIRST, most }
    }

    /// Files that an earlier daemon gave numbers to: they keep them, as far as somebody needs them again.
    pub fn adopt(most: u32, numbers: impl IntoIterator<Item = (FileKey, u64)>) -> Files {
        let mut files = Files::new(most);
        for (file, number) in numbers {
            let Ok(number) = u32::try_from(number) else { continue };
            files.next = files.next.max(number + 1);
            files.known.insert(file, Known { number, sets: 0, reach: None });
        }
        let taken: HashSet<u32> = files.known.values().map(|known| known.number).collect();
        files.free = (FIRST..files.next).filter(|number| !taken.contains(number)).collect();
        files
    }

    /// Forgets what nobody needs, and has the rest said anew: the kernel may know of sets that are gone.
    pub fn settle(&mut self, changes: &mut Changes) {
        let unused = self.known.iter().filter(|(_, known)| known.sets == 0).map(|(file, _)| *file);
        for file in unused.collect::<Vec<_>>() {
            let Some(known) = self.known.remove(&file) else { continue };
            self.resting.push(known.number);
            changes.gone.push((file, known.number));
        }
        for (file, known) in &self.known {
            changes.nodes.insert(*file, (known.number, known.bits()));
        }
    }

    /// The file's number, one user more.
    pub fn take(
        &mut self,
        file: FileKey,
        set: u32,
        reaches: bool,
        changes: &mut Changes,
    ) -> Result<u32> {
        if !self.known.contains_key(&file) {
            let number = self.number()?;
            self.known.insert(file, Known { number, sets: 0, reach: None });
            changes.fresh.push((file, number.into()));
            changes.nodes.insert(file, (number, 0));
        }
        let Some(known) = self.known.get_mut(&file) else {
            return Err(Error::Invalid("a file's number was lost".to_owned()));
        };
        known.sets += 1;
        if reaches {
            let count = &mut known.reach.get_or_insert_with(|| Box::new([0; 64]))[bit(set)];
            *count += 1;
            if *count == 1 {
                changes.nodes.insert(file, (known.number, known.bits()));
            }
        }
        Ok(known.number)
    }

    /// One user less; a file without any is forgotten, and its number rests.
    pub fn put_back(&mut self, file: FileKey, set: u32, reaches: bool, changes: &mut Changes) {
        let Some(known) = self.known.get_mut(&file) else { return };
        known.sets -= 1;
        if let (true, Some(counts)) = (reaches, known.reach.as_mut()) {
            counts[bit(set)] -= 1;
            if counts[bit(set)] == 0 {
                if counts.iter().all(|count| *count == 0) {
                    known.reach = None;
                }
                changes.nodes.insert(file, (known.number, known.bits()));
            }
        }
        if known.sets == 0 {
            let number = known.number;
            self.known.remove(&file);
            self.resting.push(number);
            changes.nodes.remove(&file);
            changes.gone.push((file, number));
        }
    }

    /// No check that began before the numbers were given back is under way: they may be used again.
    pub fn give_numbers_back(&mut self) {
        self.free.append(&mut self.resting);
    }

    /// A file's number, if some set has an entry there.
    pub fn number_of(&self, file: FileKey) -> Option<u32> {
        self.known.get(&file).map(|known| known.number)
    }

    fn number(&mut self) -> Result<u32> {
        if let Some(number) = self.free.pop() {
            return Ok(number);
        }
        if self.next == self.most {
            return Err(Error::Invalid(format!("rules on more than {} files", self.most)));
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

fn bit(set: u32) -> usize {
    (set & 63) as usize
}

/// Tells the kernel of files with rules: what is known of each before its number is.
pub(crate) fn tell(maps: &Maps, changes: &Changes) -> Result<()> {
    for (file, (number, sets)) in &changes.nodes {
        set_node(maps, *number, *file, *sets)?;
    }
    maps::put_all(&maps.files, "files", &changes.fresh)?;
    let gone: Vec<FileKey> = changes.gone.iter().map(|(file, _)| *file).collect();
    maps::remove_all(&maps.files, "files", &gone)?;
    let nobody = FileKey { dev: 0, ino: 0 };
    changes.gone.iter().try_for_each(|(_, number)| set_node(maps, *number, nobody, 0))
}

fn set_node(maps: &Maps, number: u32, file: FileKey, sets: u64) -> Result<()> {
    let op = CONTROL_SET_FILE;
    let command = Control { op, value: number.into(), file, sets, ..Control::new_zeroed() };
    sys::control(&maps.control, command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ino: u64) -> FileKey {
        FileKey { dev: 1, ino }
    }

    #[test]
    fn a_number_is_free_when_the_last_set_and_the_last_check_have_gone() {
        let mut files = Files::new(3);
        let mut changes = Changes::default();
        let a = files.take(key(1), 7, true, &mut changes).unwrap();
        assert_eq!(files.take(key(1), 8, false, &mut changes).unwrap(), a);
        assert_ne!(a, 0, "that is no file for the programs");
        assert_eq!(changes.nodes[&key(1)], (a, 1 << 7), "only what reaches below is asked for");
        files.take(key(2), 8, true, &mut changes).unwrap();
        assert!(files.take(key(3), 8, true, &mut changes).is_err(), "the table is full");
        let mut changes = Changes::default();
        files.put_back(key(1), 7, true, &mut changes);
        assert_eq!((changes.nodes[&key(1)].1, changes.gone.len()), (0, 0));
        files.put_back(key(1), 8, false, &mut changes);
        assert_eq!(changes.gone, [(key(1), a)]);
        assert!(files.take(key(4), 8, true, &mut changes).is_err(), "a check may have it still");
        files.give_numbers_back();
        assert_eq!(files.take(key(4), 8, true, &mut changes).unwrap(), a);
    }

    #[test]
    fn numbers_of_an_earlier_daemon_stay_and_what_nobody_needs_goes() {
        let mut files = Files::adopt(8, [(key(1), 1), (key(2), 3)]);
        let mut changes = Changes::default();
        assert_eq!(files.take(key(2), 70, true, &mut changes).unwrap(), 3);
        let new = files.take(key(3), 70, false, &mut changes).unwrap();
        assert_eq!(new, 2, "the others are somebody's");
        let mut changes = Changes::default();
        files.settle(&mut changes);
        assert_eq!(changes.gone, [(key(1), 1)]);
        assert_eq!(changes.nodes[&key(2)], (3, 1 << 6), "only the new set is asked for");
        files.give_numbers_back();
        let mut all: Vec<u32> =
            (4..9).map(|ino| files.take(key(ino), 1, false, &mut changes).unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 4, 5, 6, 7]);
    }

    #[test]
    fn sets_that_share_a_bit_do_not_clear_each_other() {
        let mut files = Files::new(8);
        let mut changes = Changes::default();
        files.take(key(1), 1, true, &mut changes).unwrap();
        files.take(key(1), 65, true, &mut changes).unwrap();
        let mut changes = Changes::default();
        files.put_back(key(1), 1, true, &mut changes);
        assert!(changes.nodes.is_empty() && changes.gone.is_empty());
        assert_eq!(files.number_of(key(1)), Some(1));
    }
}
