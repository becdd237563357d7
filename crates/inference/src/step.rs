//! What one step of the engine holds: pure planning, and the measured cost of a step.
//!
//! A step costs about `fixed + per_token × tokens`. A small step answers a newcomer soon, a large one
//! wastes less of the fixed part; [`CostModel`] finds the smallest step that is still efficient, and
//! [`plan`] fills it in the order of the accounts' virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual time: what an account has been served, weighted. The smaller goes first.
pub type Key = (u64, u64);

/// The account that pays for a sequence's tokens.
///
/// Implemented by the broker's fair queue. `charge` is called for every token before it is computed,
/// prefill included; `key` may change with every charge to any sequence of the same account.
pub trait Share: Send + Sync {
    /// Where the account stands now.
    fn key(&self) -> Key;
    /// Tokens about to be computed for this account.
    fn charge(&self, tokens: u32);
    /// Somebody else may come at any time, so steps should be short.
    fn crowded(&self) -> bool {
        false
    }
    /// Somebody else has been served more than this account has.
    fn owed(&self) -> bool {
        false
    }
}

/// What one sequence could use in the next step.
pub trait Demand {
    /// Prompt tokens not computed yet; 0 while it generates (it then takes one token a step).
    fn prefill_left(&self) -> u32;
    /// Its account.
    fn share(&self) -> &dyn Share;
}

/// Tokens given to the sequence at `index` in this step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Index into the slice given to [`plan`].
    pub index: usize,
    /// At least 1.
    pub tokens: u32,
}

/// Tokens of the next step, where `short` keeps newcomers from waiting and `long` is efficient. Who is
/// owed service reads its prompt in long steps: short ones would make it pay for those who may come.
pub fn size<D: Demand>(sequences: &[D], short: u32, long: u32) -> u32 {
    match sequences.iter().min_by_key(|s| s.share().key()) {
        Some(first) if first.share().owed() => first.prefill_left().min(long).max(short),
        _ => short,
    }
}

/// Fills a step of at most `budget` tokens, always with the sequence whose account is furthest
/// behind. Leaves the step short only if nobody can use more.
pub fn plan<D: Demand>(sequences: &[D], budget: u32) -> Vec<Grant> {
    let mut heap: BinaryHeap<Reverse<(Key, usize)>> =
        sequences.iter().enumerate().map(|(i, s)| Reverse((s.share().key(), i))).collect();
    let mut left = budget;
    let mut grants = Vec::new();
    while left > 0 {
        let Some(Reverse((key, index))) = heap.pop() else { break };
        let now = sequences[index].share().key();
        if now != key {
            // A sibling of the same account was charged since; look again in its new place.
            heap.push(Reverse((now, index)));
            continue;
        }
        let tokens = sequences[index].prefill_left().max(1).min(left);
        sequences[index].share().charge(tokens);
        grants.push(Grant { index, tokens });
        left -= tokens;
    }
    grants
}

/// Learns a step's cost from finished steps, by least squares with forgetting.
#[derive(Clone, Debug)]
pub struct CostModel {
    weight: f64,
    tokens: f64,
    tokens2: f64,
    micros: f64,
    cross: f64,
    min: u32,
    max: u32,
}

/// Share of the largest step's efficiency that a step must keep while nobody else may come.
const ALONE: f64 = 0.85;
/// The same while somebody may: a step then lasts about twice its fixed part.
const CROWDED: f64 = 0.5;
/// What a step keeps of its influence when the next one is seen: some thousand steps, tens of seconds.
/// A flood alone makes steps of one size, from which no cost can be told; with a memory of a second all
/// else was forgotten when the next quiet request came, and its prompt was read in small steps.
const MEMORY: f64 = 0.9995;
/// Steps before the fit is believed.
const WARM: f64 = 12.0;

impl CostModel {
    /// Chosen budgets stay within `min..=max` tokens.
    pub fn new(min: u32, max: u32) -> Self {
        let max = max.max(min);
        Self { weight: 0.0, tokens: 0.0, tokens2: 0.0, micros: 0.0, cross: 0.0, min, max }
    }

    /// A step of `tokens` took `micros`.
    pub fn observe(&mut self, tokens: u32, micros: f64) {
        let n = f64::from(tokens);
        self.weight = self.weight * MEMORY + 1.0;
        self.tokens = self.tokens * MEMORY + n;
        self.tokens2 = self.tokens2 * MEMORY + n * n;
        self.micros = self.micros * MEMORY + micros;
        self.cross = self.cross * MEMORY + n * micros;
    }

    /// `(fixed, per_token)` in microseconds, once enough different steps were seen.
    pub fn fit(&self) -> Option<(f64, f64)> {
        let spread = self.weight * self.tokens2 - self.tokens * self.tokens;
        if self.weight < WARM || spread < self.weight * self.weight {
            return None;
        }
        let slope = (self.weight * self.cross - self.tokens * self.micros) / spread;
        let fixed = (self.micros - slope * self.tokens) / self.weight;
        (slope > 0.0).then_some((fixed.max(0.0), slope))
    }

    /// Tokens a step may hold: the fewest that keep enough of what the largest would reach.
    pub fn budget(&self, crowded: bool) -> u32 {
        let Some((fixed, per_token)) = self.fit() else { return self.min.max(16).min(self.max) };
        let max = f64::from(self.max);
        let best = max / (fixed + per_token * max);
        let wanted = if crowded { CROWDED } else { ALONE } * best;
        // n / (fixed + per_token·n) ≥ wanted, solved for n.
        let n = wanted * fixed / (1.0 - wanted * per_token);
        if n.is_finite() { (n.ceil() as u32).clamp(self.min, self.max) } else { self.max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[derive(Default)]
    struct Account(AtomicU64);
    impl Share for Account {
        fn key(&self) -> Key {
            (self.0.load(Relaxed), 0)
        }
        fn owed(&self) -> bool {
            self.0.load(Relaxed) == 0
        }
        fn charge(&self, tokens: u32) {
            self.0.fetch_add(u64::from(tokens), Relaxed);
        }
    }
    struct Sequence {
        prefill: u32,
        account: Arc<Account>,
    }
    impl Demand for Sequence {
        fn prefill_left(&self) -> u32 {
            self.prefill
        }
        fn share(&self) -> &dyn Share {
            &*self.account
        }
    }
    fn of(account: &Arc<Account>, prefill: u32) -> Sequence {
        Sequence { prefill, account: account.clone() }
    }

    #[test]
    fn one_who_is_owed_service_takes_the_whole_step() {
        let (quiet, flood) = (Arc::new(Account(0.into())), Arc::new(Account(10_000.into())));
        let mut all: Vec<_> = (0..8).map(|_| of(&flood, 0)).collect();
        all.push(of(&quiet, 90));
        assert_eq!(plan(&all, 24), [Grant { index: 8, tokens: 24 }]);
    }

    #[test]
    fn only_who_is_owed_service_reads_its_prompt_in_long_steps() {
        let (quiet, flood) = (Arc::new(Account(0.into())), Arc::new(Account(10_000.into())));
        let mut all = vec![of(&flood, 0), of(&flood, 90)];
        assert_eq!(size(&all, 10, 50), 10, "a flooder's prompt keeps nobody waiting");
        all.push(of(&quiet, 90));
        assert_eq!(size(&all, 10, 50), 50);
        all[2].prefill = 20;
        assert_eq!(size(&all, 10, 50), 20, "its rest is not made longer by the flooder's tokens");
        all[2].prefill = 0;
        assert_eq!(size(&all, 10, 50), 10);
    }

    #[test]
    fn what_the_first_cannot_use_goes_to_the_next() {
        let (quiet, flood) = (Arc::new(Account(0.into())), Arc::new(Account(10_000.into())));
        let mut all: Vec<_> = (0..8).map(|_| of(&flood, 0)).collect();
        all.push(of(&quiet, 5));
        let grants = plan(&all, 8);
        assert_eq!(grants[0], Grant { index: 8, tokens: 5 });
        assert_eq!(grants.iter().map(|g| g.tokens).sum::<u32>(), 8);
    }

    #[test]
    fn many_sequences_of_one_account_do_not_outvote_one_of_another() {
        let (one, many) = (Arc::new(Account::default()), Arc::new(Account::default()));
        let mut all: Vec<_> = (0..12).map(|_| of(&many, 0)).collect();
        all.push(of(&one, 0));
        let mut served = 0;
        for _ in 0..100 {
            served += plan(&all, 2).iter().filter(|g| g.index == 12).count();
        }
        assert!(served >= 99, "one token a step is all it can use; it got {served} of 100");
    }

    #[test]
    fn a_step_never_exceeds_its_budget_and_never_repeats_a_sequence() {
        let account = Arc::new(Account::default());
        let all: Vec<_> = (0..5).map(|i| of(&account, i * 7)).collect();
        let grants = plan(&all, 20);
        assert_eq!(grants.iter().map(|g| g.tokens).sum::<u32>(), 20);
        let mut seen: Vec<_> = grants.iter().map(|g| g.index).collect();
        seen.dedup();
        assert_eq!(seen.len(), grants.len());
    }

    #[test]
    fn the_budget_follows_the_measured_cost() {
        let mut linear = CostModel::new(4, 512);
        let mut flat = CostModel::new(4, 512);
        for n in [1u32, 4, 9, 16, 25].iter().cycle().take(200) {
            linear.observe(*n, 100.0 + 1000.0 * f64::from(*n));
            flat.observe(*n, 10_000.0 + 20.0 * f64::from(*n));
        }
        assert_eq!(linear.budget(false), 4, "nothing to gain from large steps");
        assert!(flat.budget(false) > 200, "large steps pay: {}", flat.budget(false));
        assert!(flat.budget(true) < flat.budget(false), "short steps for a crowd");
    }

    #[test]
    fn a_flood_of_equal_steps_does_not_make_it_forget_what_others_cost() {
        let mut cost = CostModel::new(8, 512);
        for n in [4u32, 10, 50, 51].iter().cycle().take(400) {
            cost.observe(*n, 5_000.0 + 500.0 * f64::from(*n));
        }
        let before = cost.budget(false);
        for _ in 0..1000 {
            cost.observe(4, 7_000.0);
        }
        assert_eq!(cost.budget(false), before);
    }
}
