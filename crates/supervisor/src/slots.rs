//! Slot and generation: an id that was once given out never names another agent.

use abi::AgentId;

/// Gives out [`AgentId`]s from a fixed number of slots.
#[derive(Clone, Debug)]
pub struct Slots {
    /// Generation that each slot was last given out with.
    generations: Vec<u32>,
    /// Those that are given out now.
    taken: Vec<bool>,
    free: Vec<u32>,
    capacity: u32,
    /// Every generation that is given out is above this.
    floor: u32,
}

impl Slots {
    /// Nothing given out; at most `capacity` at once.
    pub fn new(capacity: u32) -> Self {
        Slots { generations: Vec::new(), taken: Vec::new(), free: Vec::new(), capacity, floor: 0 }
    }

    /// An id that nobody had before; none if all slots are taken.
    pub fn take(&mut self) -> Option<AgentId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if (self.generations.len() as u32) < self.capacity => {
                self.generations.push(self.floor);
                self.taken.push(false);
                self.generations.len() as u32 - 1
            }
            None => return None,
        };
        let generation = &mut self.generations[slot as usize];
        *generation += 1;
        self.taken[slot as usize] = true;
        Some(AgentId::new(slot, *generation))
    }

    /// The highest generation that was given out.
    pub fn highest(&self) -> u32 {
        self.generations.iter().copied().max().unwrap_or(0).max(self.floor)
    }

    /// From now on every id has a generation above this.
    pub fn start_above(&mut self, highest: u32) {
        self.floor = self.floor.max(highest);
        self.generations.iter_mut().for_each(|last| *last = (*last).max(highest));
    }

    /// Has an id that was given out before; `taken` while it is somebody's. False if its slot is another's,
    /// or beyond all slots.
    pub fn occupy(&mut self, id: AgentId, taken: bool) -> bool {
        let slot = id.slot();
        if slot >= self.capacity {
            return false;
        }
        while self.generations.len() as u32 <= slot {
            self.free.push(self.generations.len() as u32);
            self.generations.push(self.floor);
            self.taken.push(false);
        }
        let at = slot as usize;
        if taken {
            if std::mem::replace(&mut self.taken[at], true) {
                return false;
            }
            self.free.retain(|free| *free != slot);
            self.generations[at] = id.generation();
        } else {
            let last = &mut self.generations[at];
            *last = (*last).max(id.generation());
        }
        true
    }

    /// Takes an id back. A slot whose generations are used up is never given out again.
    pub fn put_back(&mut self, id: AgentId) {
        let slot = id.slot() as usize;
        let last = self.generations.get(slot).copied();
        if last != Some(id.generation()) || !std::mem::take(&mut self.taken[slot]) {
            return;
        }
        if id.generation() < u32::MAX {
            self.free.push(id.slot());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_slot_is_a_different_agent() {
        let mut slots = Slots::new(2);
        let (a, b) = (slots.take().unwrap(), slots.take().unwrap());
        assert_ne!(a, AgentId::NOBODY);
        assert_eq!(slots.take(), None);
        slots.put_back(a);
        slots.put_back(a);
        let c = slots.take().unwrap();
        assert_eq!(c.slot(), a.slot());
        assert_ne!(c, a);
        assert_eq!(slots.take(), None, "a double return gives no second slot");
        slots.put_back(a);
        assert_eq!(slots.take(), None, "an old id returns nothing");
        assert_ne!(b, c);
    }

    #[test]
    fn generations_do_not_wrap() {
        let mut slots = Slots::new(1);
        slots.generations.push(u32::MAX - 1);
        slots.taken.push(false);
        slots.free.push(0);
        let last = slots.take().unwrap();
        slots.put_back(last);
        assert_eq!(slots.take(), None);
    }
}
