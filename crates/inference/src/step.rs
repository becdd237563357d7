//! What one step of the engine holds: pure planning.
//!
//! A short step answers a newcomer soon, a long one wastes less on what every step costs. [`plan`]
//! fills a step in the order of the accounts' virtual time until it would last too long, by the
//! measured [`Cost`].

use crate::cost::{Cost, CostModel, Work};
use crate::demand::Demand;
use ports::Key;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Tokens given to the sequence at `index` in this step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Index into the slice given to [`plan`].
    pub index: usize,
    /// At least 1.
    pub tokens: u32,
}

impl Grant {
    /// What the grant makes the step compute.
    pub fn work<D: Demand>(&self, sequence: &D) -> Work {
        let (n, held) = (u64::from(self.tokens), u64::from(sequence.held()));
        let last = self.tokens >= sequence.prefill_left();
        Work { tokens: self.tokens, outputs: last.into(), cells: n * held + n * (n + 1) / 2 }
    }
}

/// How long a step lasts while somebody else may come at any time, in shortest steps.
const SHORT: f64 = 2.0;
/// The same while nobody may: a seventh of it, at most, goes into what every step costs.
const LONG: f64 = 7.0;
/// Tokens in a step while its cost is not known yet.
const UNKNOWN: u32 = 16;

/// How much a step may hold. One token always fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Most tokens.
    pub tokens: u32,
    /// What they cost.
    pub cost: Cost,
    /// Longest that the step may last, in microseconds.
    pub short: f64,
    /// The same where it reads the prompt of somebody who is owed service: short steps would make
    /// them pay for those who may come.
    pub long: f64,
}

impl Limits {
    /// So many tokens, however long they take.
    pub fn fixed(tokens: u32) -> Self {
        Self { tokens, cost: Cost::default(), short: f64::INFINITY, long: f64::INFINITY }
    }

    /// By what was learnt; `crowded` when somebody else may come at any time. At most `tokens`.
    pub fn learnt(model: &CostModel, crowded: bool, tokens: u32) -> Self {
        match model.fit() {
            Some(cost) => Self::of_cost(cost, crowded, tokens),
            None => Self::fixed(UNKNOWN.min(tokens)),
        }
    }

    /// The same by a cost that is known.
    pub fn of_cost(cost: Cost, crowded: bool, tokens: u32) -> Self {
        let long = LONG * cost.shortest();
        let short = if crowded { SHORT * cost.shortest() } else { long };
        Self { tokens, cost, short, long }
    }

    /// Whether a planned step is within what it may hold, reckoned anew from its whole work; `owed` says
    /// of each sequence whether it was owed service before.
    pub fn kept<D: Demand>(&self, sequences: &[D], owed: &[bool], grants: &[Grant]) -> bool {
        let (mut work, mut kept) = (Work::default(), true);
        for (nth, grant) in grants.iter().enumerate() {
            let sequence = &sequences[grant.index];
            work = [work, grant.work(sequence)].into_iter().sum();
            let reads_owed = owed[grant.index] && sequence.prefill_left() > 0;
            let limit = if reads_owed { self.long } else { self.short };
            let alone = nth == 0 && grant.tokens == 1;
            // What rounding adds is no breach.
            kept &= alone || self.cost.of(work) <= limit * (1.0 + 1e-6);
        }
        kept && work.tokens <= self.tokens
    }

    fn of<D: Demand>(&self, sequence: &D) -> f64 {
        if sequence.prefill_left() > 0 && sequence.share().owed() { self.long } else { self.short }
    }
}

/// Fills a step within `limits`, always with the sequence whose account is furthest behind. Leaves
/// it short only if nobody can use more, or the next one's next token would last too long.
pub fn plan<D: Demand>(sequences: &[D], limits: &Limits) -> Vec<Grant> {
    let mut heap: BinaryHeap<Reverse<(Key, usize)>> =
        sequences.iter().enumerate().map(|(i, s)| Reverse((s.share().key(), i))).collect();
    let (mut left, mut lasts) = (limits.tokens, limits.cost.step);
    let mut grants = Vec::new();
    while left > 0 {
        let Some(Reverse((key, index))) = heap.pop() else { break };
        let sequence = &sequences[index];
        let now = sequence.share().key();
        if now != key {
            // A sibling of the same account was charged since; look again in its new place.
            heap.push(Reverse((now, index)));
            continue;
        }
        let room = limits.of(sequence) - lasts;
        let (mut tokens, mut takes) = limits.cost.within(sequence, left, room);
        if tokens == 0 && grants.is_empty() {
            // It does not fit, but one token must; then nothing else does.
            (tokens, takes) = limits.cost.within(sequence, 1, f64::INFINITY);
        }
        if tokens == 0 {
            break;
        }
        sequence.share().charge(tokens);
        grants.push(Grant { index, tokens });
        left -= tokens;
        lasts += takes;
    }
    grants
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::Share;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[derive(Default)]
    struct Account(AtomicU64);
    impl Share for Account {
        fn key(&self) -> Key {
            vec![self.0.load(Relaxed)]
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
        held: u32,
        account: Arc<Account>,
    }
    impl Demand for Sequence {
        fn prefill_left(&self) -> u32 {
            self.prefill
        }
        fn held(&self) -> u32 {
            self.held
        }
        fn share(&self) -> &dyn Share {
            &*self.account
        }
    }
    fn of(account: &Arc<Account>, prefill: u32) -> Sequence {
        Sequence { prefill, held: 0, account: account.clone() }
    }

    #[test]
    fn one_who_is_owed_service_takes_the_whole_step() {
        let (quiet, flood) = (Arc::new(Account(0.into())), Arc::new(Account(10_000.into())));
        let mut all: Vec<_> = (0..8).map(|_| of(&flood, 0)).collect();
        all.push(of(&quiet, 90));
        assert_eq!(plan(&all, &Limits::fixed(24)), [Grant { index: 8, tokens: 24 }]);
    }

    fn limits(short: f64, long: f64) -> Limits {
        let cost = Cost { step: 2.0, token: 1.0, output: 5.0, cell: 0.01 };
        Limits { tokens: 512, cost, short, long }
    }
    fn tokens(grants: &[Grant]) -> Vec<(usize, u32)> {
        grants.iter().map(|g| (g.index, g.tokens)).collect()
    }

    #[test]
    fn a_flood_makes_steps_as_short_as_they_may_be() {
        let flood = Arc::new(Account(10_000.into()));
        let mut all: Vec<_> = (0..4).map(|_| of(&flood, 0)).collect();
        // One answer: 2 + 1 + 5 + 0.01 × 1; another: 6.01 more.
        assert_eq!(plan(&all, &limits(16.0, 56.0)).len(), 2);
        assert_eq!(plan(&all, &limits(56.0, 56.0)).len(), 4);
        all.iter_mut().for_each(|s| s.held = 200);
        assert_eq!(plan(&all, &limits(16.0, 56.0)).len(), 1, "its context costs as well");
        assert_eq!(plan(&all, &limits(1.0, 1.0)).len(), 1, "one token always fits");
    }

    #[test]
    fn limits_follow_the_measured_cost() {
        let mut model = CostModel::default();
        assert_eq!(Limits::learnt(&model, true, 512), Limits::fixed(UNKNOWN));
        assert_eq!(Limits::learnt(&model, true, 8), Limits::fixed(8));
        for tokens in (1..8).cycle().take(200) {
            let work =
                Work { tokens, outputs: u32::from(tokens < 4), cells: 50 * u64::from(tokens) };
            model.observe(work, 2000.0 + 10.0 * f64::from(tokens));
        }
        let (crowded, alone) =
            (Limits::learnt(&model, true, 512), Limits::learnt(&model, false, 512));
        let shortest = crowded.cost.shortest();
        assert!((shortest - 2010.0).abs() < 100.0, "{shortest}");
        assert_eq!((crowded.short, crowded.long), (2.0 * shortest, 7.0 * shortest));
        assert_eq!((alone.short, alone.long), (7.0 * shortest, 7.0 * shortest));
        // Where every step costs much, a short one still holds many tokens.
        let flood = Arc::new(Account(10_000.into()));
        let granted = |limits| plan(&[of(&flood, 400)], limits)[0].tokens;
        assert!(granted(&crowded) > 50 && granted(&alone) > granted(&crowded));
    }

    #[test]
    fn only_who_is_owed_service_reads_its_prompt_in_long_steps() {
        let (quiet, flood) = (Arc::new(Account(0.into())), Arc::new(Account(10_000.into())));
        let mut all = vec![of(&flood, 0), of(&flood, 90)];
        let flooded = plan(&all, &limits(16.0, 56.0));
        assert_eq!(tokens(&flooded), [(0, 1), (1, 7)], "a flooder's prompt keeps nobody waiting");
        all.push(of(&quiet, 90));
        assert_eq!(tokens(&plan(&all, &limits(16.0, 56.0))), [(2, 44)]);
        quiet.0.store(0, Relaxed);
        all[2].prefill = 20;
        let rest = plan(&all, &limits(16.0, 56.0));
        assert_eq!(tokens(&rest), [(2, 20)], "the flooder's tokens do not make its rest longer");
    }

    #[test]
    fn a_step_beyond_its_limit_is_noticed() {
        let (quiet, flood) = (Arc::new(Account(0.into())), Arc::new(Account(10_000.into())));
        let all = vec![of(&quiet, 90), of(&flood, 90), of(&flood, 0)];
        let (owed, limits) = ([true, false, false], limits(16.0, 56.0));
        let one = |index, tokens| limits.kept(&all, &owed, &[Grant { index, tokens }]);
        assert!(one(0, 44) && !one(0, 60), "who is owed reads in long steps");
        assert!(one(1, 12) && !one(1, 14), "nobody else does");
        assert!(!limits.kept(
            &all,
            &owed,
            &[Grant { index: 0, tokens: 12 }, Grant { index: 2, tokens: 1 }]
        ));
        assert!(!Limits::fixed(8).kept(&all, &owed, &[Grant { index: 0, tokens: 9 }]));
        let planned = plan(&all, &limits);
        assert!(limits.kept(&all, &owed, &planned), "{planned:?}");
    }

    #[test]
    fn a_first_token_that_does_not_fit_leaves_no_room_for_another() {
        let flood = Arc::new(Account(10_000.into()));
        let mut all = vec![of(&flood, 0), of(&flood, 90)];
        // 2 + 1 + 5 + 0.01 × 1001: longer than a short step all by itself.
        all[0].held = 1000;
        let planned = plan(&all, &limits(16.0, 56.0));
        assert_eq!(tokens(&planned), [(0, 1)], "a prompt beside it would make it longer still");
        assert!(limits(16.0, 56.0).kept(&all, &[false; 2], &planned));
    }

    #[test]
    fn what_is_granted_is_what_is_computed() {
        let quiet = Arc::new(Account::default());
        let mut sequence = of(&quiet, 20);
        sequence.held = 100;
        let work = |tokens| Grant { index: 0, tokens }.work(&sequence);
        assert_eq!(work(3), Work { tokens: 3, outputs: 0, cells: 101 + 102 + 103 });
        assert_eq!(work(20).outputs, 1, "the prompt's last token is answered");
        let limits = limits(1e9, 1e9);
        let (tokens, micros) = limits.cost.within(&sequence, 512, 1e9);
        let all = limits.cost.of(work(tokens)) - limits.cost.step;
        assert!(tokens == 20 && (micros - all).abs() < 1e-6, "{micros} and {all}");
    }

    #[test]
    fn what_the_first_cannot_use_goes_to_the_next() {
        let (quiet, flood) = (Arc::new(Account(0.into())), Arc::new(Account(10_000.into())));
        let mut all: Vec<_> = (0..8).map(|_| of(&flood, 0)).collect();
        all.push(of(&quiet, 5));
        let grants = plan(&all, &Limits::fixed(8));
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
            served += plan(&all, &Limits::fixed(2)).iter().filter(|g| g.index == 12).count();
        }
        assert!(served >= 99, "one token a step is all it can use; it got {served} of 100");
    }

    #[test]
    fn a_step_never_exceeds_its_budget_and_never_repeats_a_sequence() {
        let account = Arc::new(Account::default());
        let all: Vec<_> = (0..5).map(|i| of(&account, i * 7)).collect();
        let grants = plan(&all, &Limits::fixed(20));
        assert_eq!(grants.iter().map(|g| g.tokens).sum::<u32>(), 20);
        let mut seen: Vec<_> = grants.iter().map(|g| g.index).collect();
        seen.dedup();
        assert_eq!(seen.len(), grants.len());
    }
}
