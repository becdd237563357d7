//! Accounts in virtual time, of tenants or of one tenant's agents.

use super::{DEFAULT_WEIGHT, SCALE};
use std::collections::BTreeSet;

/// Index of an account.
pub type Slot = usize;

/// Differences below this many tokens at the usual weight mean nothing.
const TURN: u64 = 16 * SCALE / DEFAULT_WEIGHT as u64;
const MAX_WEIGHT: u32 = 10_000;

#[derive(Clone, Default)]
struct Account {
    time: u64,
    weight: u32,
    /// Requests queued or running.
    present: u32,
    waiting: bool,
}

/// The accounts, how far service has come, and who is waiting, in order of virtual time.
pub struct Accounts {
    /// The largest virtual time at which service began in this busy period (start-time fair queueing).
    front: u64,
    /// How far behind the front an account may be.
    credit: u64,
    /// Requests queued or running, of all accounts.
    present: u64,
    accounts: Vec<Account>,
    free: Vec<Slot>,
    waiting: BTreeSet<(u64, Slot)>,
    idle: BTreeSet<(u64, Slot)>,
    weight_present: u64,
}

impl Accounts {
    /// No accounts; one may lag by `credit` tokens at the usual weight.
    pub fn new(credit: u32) -> Self {
        let credit = u64::from(credit) * SCALE / u64::from(DEFAULT_WEIGHT);
        Self {
            front: 0,
            credit,
            present: 0,
            accounts: Vec::new(),
            free: Vec::new(),
            waiting: BTreeSet::new(),
            idle: BTreeSet::new(),
            weight_present: 0,
        }
    }

    fn floor(&self) -> u64 {
        self.front.saturating_sub(self.credit)
    }

    /// A new idle account, as far behind the front as one may be.
    pub fn open(&mut self) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.accounts.push(Account::default());
            self.accounts.len() - 1
        });
        let time = self.floor();
        self.accounts[slot] = Account { time, ..Account::default() };
        self.idle.insert((time, slot));
        slot
    }

    /// One more request is present; the weight counts from now on.
    pub fn enter(&mut self, slot: Slot, weight: u32) {
        let floor = self.floor();
        let weight = weight.clamp(1, MAX_WEIGHT);
        let a = &mut self.accounts[slot];
        if a.present == 0 {
            self.idle.remove(&(a.time, slot));
            a.time = a.time.max(floor);
        } else {
            self.weight_present -= u64::from(a.weight);
        }
        a.weight = weight;
        a.present += 1;
        self.present += 1;
        self.weight_present += u64::from(weight);
    }

    /// One request fewer is present.
    pub fn exit(&mut self, slot: Slot) {
        let a = &mut self.accounts[slot];
        a.present -= 1;
        self.present -= 1;
        if a.present == 0 {
            self.weight_present -= u64::from(a.weight);
            self.idle.insert((a.time, slot));
        }
    }

    /// Frees an idle account that no longer differs from a new one: one that is as far behind as one may
    /// be, or any when nobody is present. What was served while others left capacity idle is owed to
    /// nobody, so a busy period ends with all accounts (Parekh and Gallager, 1993; Goyal, Vin and Cheng,
    /// 1996). Kept, it would let a newcomer take its whole credit from those who had used an idle engine.
    pub fn forget(&mut self) -> Option<Slot> {
        let Some((time, slot)) = self.idle.first().copied() else {
            if self.present == 0 {
                self.front = 0;
            }
            return None;
        };
        if time > self.floor() && self.present > 0 {
            return None;
        }
        self.idle.pop_first();
        self.free.push(slot);
        Some(slot)
    }

    /// Serves the account: its virtual time advances by `tokens / weight`.
    pub fn charge(&mut self, slot: Slot, tokens: u32) {
        self.front = self.front.max(self.accounts[slot].time);
        let floor = self.floor();
        let a = &mut self.accounts[slot];
        let before = a.time;
        // Somebody present who cannot use its share saves up no more than somebody idle.
        a.time = a.time.max(floor) + u64::from(tokens) * SCALE / u64::from(a.weight.max(1));
        if a.waiting {
            self.waiting.remove(&(before, slot));
            self.waiting.insert((a.time, slot));
        }
        if a.present == 0 {
            self.idle.remove(&(before, slot));
            self.idle.insert((a.time, slot));
        }
    }

    /// Whether the account has a request that has not started.
    pub fn set_waiting(&mut self, slot: Slot, waiting: bool) {
        let a = &mut self.accounts[slot];
        if a.waiting != waiting {
            a.waiting = waiting;
            let entry = (a.time, slot);
            if waiting {
                self.waiting.insert(entry)
            } else {
                self.waiting.remove(&entry)
            };
        }
    }

    /// Those with a request that has not started, the furthest behind first.
    pub fn waiting_in_order(&self) -> impl Iterator<Item = Slot> + '_ {
        self.waiting.iter().map(|(_, slot)| *slot)
    }

    /// Virtual time of an account.
    pub fn time(&self, slot: Slot) -> u64 {
        self.accounts[slot].time
    }

    /// Whether the account lags behind the one that was served most, by more than one turn or so; also
    /// when nobody has been served yet.
    pub fn is_behind(&self, slot: Slot) -> bool {
        let time = self.accounts[slot].time;
        time <= self.floor() || time + TURN < self.front
    }

    /// Weight of an account.
    pub fn weight(&self, slot: Slot) -> u32 {
        self.accounts[slot].weight
    }

    /// Sum of the weights of all accounts with requests queued or running.
    pub fn weight_present(&self) -> u64 {
        self.weight_present
    }
}
