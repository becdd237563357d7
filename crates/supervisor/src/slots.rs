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
    highest: u32,
}

impl Slots {
    /// Nothing given out; at most `capacity` at once.
    pub fn new(capacity: u32) -> Self {
        Slots {
            generations: Vec::new(),
            taken: Vec::new(),
            free: Vec::new(),
            capacity,
            floor: 0,
            highest: 0,
        }
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
        self.highest = self.highest.max(*generation);
        self.taken[slot as usize] = true;
        Some(AgentId::new(slot, *generation))
    }

    /// The highest generation that was given out.
    pub fn highest(&self) -> u32 {
        self.highest
    }

    /// From now on every id has a generation above this.
    pub fn start_above(&mut self, highest: u32) {
        self.floor = self.floor.max(highest);
        self.highest = self.highest.max(highest);
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
        self.highest = self.highest.max(id.generation());
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

    #[test]
    fn ids_of_an_earlier_daemon_stay_taken_and_none_is_given_out_again() {
        let mut slots = Slots::new(4);
        // The highest was another's, who is forgotten.
        slots.start_above(9);
        let (living, ended) = (AgentId::new(2, 5), AgentId::new(0, 3));
        assert!(slots.occupy(living, true) && slots.occupy(ended, false));
        assert!(!slots.occupy(AgentId::new(2, 4), true), "one slot, two agents");
        assert!(!slots.occupy(AgentId::new(4, 1), true), "beyond all slots");
        let given: Vec<AgentId> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(given.len(), 3, "all but the one that is taken");
        assert!(given.iter().all(|id| id.generation() > 9 && id.slot() != 2), "{given:?}");
        slots.put_back(living);
        let next = slots.take().unwrap();
        assert_eq!((next.slot(), slots.highest()), (2, 10));
        assert!(next.generation() > 5);
    }
}
