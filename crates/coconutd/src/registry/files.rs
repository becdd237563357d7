//! Files that stay open while there is no daemon, and who needs them: what is to lie in the tables, or only what lies
//! there still.

use super::keeper::Keeper;
use kernel::Handle;
use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Each file is kept once, under one name.
#[derive(Default)]
pub(super) struct KeptFiles {
    /// By the address of the handle, which is held here.
    all: HashMap<usize, KeptFile>,
    /// Those without users: what lies in the tables now may need them.
    parting: HashSet<usize>,
    last: u64,
}

struct KeptFile {
    // Another could have its address.
    _handle: Arc<Handle>,
    name: String,
    users: u32,
}

impl KeptFiles {
    /// It is kept already, and nobody is known to need it.
    pub fn take_up(&mut self, name: String, handle: Arc<Handle>) {
        self.last = self.last.max(number(&name).unwrap_or(0));
        let at = address(&handle);
        self.all.insert(at, KeptFile { _handle: handle, name, users: 0 });
        self.parting.insert(at);
    }

    /// One user more; the name that it is kept under.
    pub fn hold(&mut self, keeper: &dyn Keeper, handle: &Arc<Handle>) -> String {
        let last = &mut self.last;
        let file = self.all.entry(address(handle)).or_insert_with(|| {
            *last += 1;
            let name = short(*last);
            keeper.keep(&name, handle.as_fd());
            KeptFile { _handle: handle.clone(), name, users: 0 }
        });
        file.users += 1;
        file.name.clone()
    }

    /// The name that it is kept under, for who holds it next.
    pub fn name(&mut self, keeper: &dyn Keeper, handle: &Arc<Handle>) -> String {
        let name = self.hold(keeper, handle);
        self.let_go(handle);
        name
    }

    /// One user less.
    pub fn let_go(&mut self, handle: &Arc<Handle>) {
        let at = address(handle);
        let Some(file) = self.all.get_mut(&at) else { return };
        file.users -= 1;
        if file.users == 0 {
            self.parting.insert(at);
        }
    }

    /// No users any more; what lies in the tables needs them.
    pub fn begin_again(&mut self) {
        self.all.values_mut().for_each(|file| file.users = 0);
        self.parting.extend(self.all.keys());
    }

    /// What is to lie in the tables does: who has no users is kept no longer.
    pub fn part(&mut self, keeper: &dyn Keeper) {
        for at in self.parting.drain() {
            if self.all.get(&at).is_some_and(|file| file.users == 0)
                && let Some(file) = self.all.remove(&at)
            {
                keeper.forget(&file.name);
            }
        }
    }
}

fn address(handle: &Arc<Handle>) -> usize {
    Arc::as_ptr(handle) as usize
}

/// All names together are one variable of the next daemon's environment, which the kernel limits to 128 KiB
/// (`MAX_ARG_STRLEN`).
fn short(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut name = String::new();
    while number > 0 {
        name.insert(0, char::from(DIGITS[(number % 36) as usize]));
        number /= 36;
    }
    name.insert(0, 'f');
    name
}

/// The number of a name that [`short`] made.
pub(super) fn number(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix('f')?, 36).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_read_back() {
        for (wanted, name) in [(1, "f1"), (35, "fz"), (36, "f10"), (16_384, "fcn4")] {
            assert_eq!((short(wanted).as_str(), number(name)), (name, Some(wanted)));
        }
        assert_eq!((number("o1.1"), number("f-")), (None, None));
    }
}
