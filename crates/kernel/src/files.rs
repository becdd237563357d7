//! The files that some set has a rule on, each with a number and a count of who needs it.

use crate::entries::Layer;
use crate::maps::{self, Maps};
use crate::{Error, Result};
use abi::caps::{FileKey, FileNode, RIGHT_TRAVERSE};
use std::collections::HashMap;

/// Numbers of files; the map `files` in the kernel says the same.
pub(crate) struct Files {
    known: HashMap<FileKey, Known>,
    free: Vec<u32>,
    next: u32,
    most: u32,
}

struct Known {
    index: u32,
    /// Sets that have an entry here.
    sets: u32,
    /// For each bit of [`FileNode::sets`] how many sets need it; none while nobody's right reaches below.
    reach: Option<Box<[u32; 64]>>,
}

impl Known {
    fn node(&self) -> FileNode {
        let bits = self.reach.iter().flat_map(|counts| counts.iter().enumerate());
        let sets = bits.filter(|(_, count)| **count > 0).fold(0, |all, (bit, _)| all | 1 << bit);
        FileNode { sets, index: self.index, reserved: 0 }
    }
}

/// True if any of the rights is more than to look at exactly this file.
pub(crate) fn reaches(layers: &[Layer]) -> bool {
    layers.iter().any(|l| l.rights & !RIGHT_TRAVERSE != 0)
}

impl Files {
    pub fn new(most: u32) -> Files {
        Files { known: HashMap::new(), free: Vec::new(), next: 0, most }
    }

    /// The file's number, one user more; `changed` gets what the kernel must be told.
    pub fn take(
        &mut self,
        file: FileKey,
        set: u32,
        reaches: bool,
        changed: &mut HashMap<FileKey, FileNode>,
    ) -> Result<u32> {
        if !self.known.contains_key(&file) {
            let index = self.number()?;
            self.known.insert(file, Known { index, sets: 0, reach: None });
            changed.insert(file, FileNode { sets: 0, index, reserved: 0 });
        }
        let Some(known) = self.known.get_mut(&file) else {
            return Err(Error::Invalid("a file's number was lost".to_owned()));
        };
        known.sets += 1;
        if reaches {
            let count = &mut known.reach.get_or_insert_with(|| Box::new([0; 64]))[bit(set)];
            *count += 1;
            if *count == 1 {
                changed.insert(file, known.node());
            }
        }
        Ok(known.index)
    }

    /// One user less; a file without any is forgotten, and its number given out again.
    pub fn put_back(
        &mut self,
        file: FileKey,
        set: u32,
        reaches: bool,
        changed: &mut HashMap<FileKey, FileNode>,
        gone: &mut Vec<FileKey>,
    ) {
        let Some(known) = self.known.get_mut(&file) else { return };
        known.sets -= 1;
        if let (true, Some(counts)) = (reaches, known.reach.as_mut()) {
            counts[bit(set)] -= 1;
            if counts[bit(set)] == 0 {
                if counts.iter().all(|count| *count == 0) {
                    known.reach = None;
                }
                changed.insert(file, known.node());
            }
        }
        if known.sets == 0 {
            self.free.push(known.index);
            self.known.remove(&file);
            changed.remove(&file);
            gone.push(file);
        }
    }

    /// A file's number, if some set has an entry there.
    pub fn index(&self, file: FileKey) -> Option<u32> {
        self.known.get(&file).map(|known| known.index)
    }

    fn number(&mut self) -> Result<u32> {
        if let Some(index) = self.free.pop() {
            return Ok(index);
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

/// Tells the kernel of files with rules.
pub(crate) fn tell(maps: &Maps, changed: &HashMap<FileKey, FileNode>) -> Result<()> {
    let all: Vec<(FileKey, FileNode)> = changed.iter().map(|(key, node)| (*key, *node)).collect();
    maps::put_all(&maps.files, "files", &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ino: u64) -> FileKey {
        FileKey { dev: 1, ino }
    }

    #[test]
    fn a_number_is_free_when_the_last_set_has_gone() {
        let mut files = Files::new(2);
        let (mut changed, mut gone) = (HashMap::new(), Vec::new());
        let a = files.take(key(1), 7, true, &mut changed).unwrap();
        assert_eq!(files.take(key(1), 8, false, &mut changed).unwrap(), a);
        assert_eq!(changed[&key(1)].sets, 1 << 7, "only what reaches below is asked for");
        files.take(key(2), 8, true, &mut changed).unwrap();
        assert!(files.take(key(3), 8, true, &mut changed).is_err(), "the table is full");
        changed.clear();
        files.put_back(key(1), 7, true, &mut changed, &mut gone);
        assert_eq!((changed[&key(1)].sets, gone.len()), (0, 0));
        files.put_back(key(1), 8, false, &mut changed, &mut gone);
        assert_eq!(gone, [key(1)]);
        assert_eq!(files.take(key(4), 8, true, &mut changed).unwrap(), a);
    }

    #[test]
    fn sets_that_share_a_bit_do_not_clear_each_other() {
        let mut files = Files::new(8);
        let (mut changed, mut gone) = (HashMap::new(), Vec::new());
        files.take(key(1), 1, true, &mut changed).unwrap();
        files.take(key(1), 65, true, &mut changed).unwrap();
        changed.clear();
        files.put_back(key(1), 1, true, &mut changed, &mut gone);
        assert!(changed.is_empty() && gone.is_empty());
        assert_eq!(files.index(key(1)), Some(0));
    }
}
