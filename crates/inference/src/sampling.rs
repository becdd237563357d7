//! Choosing a token from logits: greedy, temperature, nucleus, minimum probability, penalties.

use ports::Sampling;

/// One sequence's sampler: its settings, random state and memory of what was written.
#[derive(Clone, Debug)]
pub struct Sampler {
    how: Sampling,
    state: u64,
    written: std::collections::HashMap<u32, u32>,
    scratch: Vec<(f32, u32)>,
}

impl Sampler {
    /// Uses `fresh` as the seed where the settings have none.
    pub fn new(how: Sampling, fresh: u64) -> Self {
        let state = how.seed.unwrap_or(fresh) ^ 0x9e37_79b9_7f4a_7c15;
        Self { how, state, written: Default::default(), scratch: Vec::new() }
    }

    /// The next token. `barred` tokens are never chosen (used to go on past an end-of-text token).
    pub fn choose(&mut self, logits: &[f32], barred: impl Fn(u32) -> bool) -> u32 {
        self.collect(logits, barred);
        let token = if self.how.temperature <= 0.0 { self.greedy() } else { self.random() };
        *self.written.entry(token).or_default() += 1;
        token
    }

    fn collect(&mut self, logits: &[f32], barred: impl Fn(u32) -> bool) {
        let penalised = self.how.presence_penalty != 0.0 || self.how.frequency_penalty != 0.0;
        let (how, written) = (&self.how, &self.written);
        let adjusted = |(i, l): (usize, &f32)| {
            let token = i as u32;
            let times = if penalised { written.get(&token).copied().unwrap_or(0) } else { 0 };
            let penalty = if times > 0 {
                how.presence_penalty + how.frequency_penalty * times as f32
            } else {
                0.0
            };
            (l - penalty, token)
        };
        self.scratch.clear();
        self.scratch.extend(logits.iter().enumerate().map(adjusted).filter(|(_, t)| !barred(*t)));
    }

    fn greedy(&self) -> u32 {
        let best = self.scratch.iter().max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        best.map_or(0, |(_, t)| *t)
    }

    fn random(&mut self) -> u32 {
        let narrowed = self.how.top_p < 1.0 || self.how.top_k > 0;
        if narrowed {
            self.scratch.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            if self.how.top_k > 0 {
                self.scratch.truncate(self.how.top_k as usize);
            }
        }
        let top = self.scratch.iter().map(|(l, _)| *l).fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0f32;
        for (l, _) in &mut self.scratch {
            *l = ((*l - top) / self.how.temperature).exp();
            sum += *l;
        }
        if self.how.top_p < 1.0 {
            sum = self.keep_nucleus(sum);
        }
        let mut left = self.uniform() * sum;
        for (p, token) in &self.scratch {
            left -= p;
            if left <= 0.0 {
                return *token;
            }
        }
        self.scratch.last().map_or(0, |(_, t)| *t)
    }

    fn keep_nucleus(&mut self, sum: f32) -> f32 {
        let mut reached = 0.0;
        let wanted = self.how.top_p.max(0.0) * sum;
        let enough = self.scratch.iter().position(|(p, _)| {
            reached += p;
            reached >= wanted
        });
        self.scratch.truncate(enough.map_or(self.scratch.len(), |i| i + 1));
        reached
    }

    /// splitmix64, in [0, 1).
    fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [1.0, 3.0, 2.0, -1.0];

    fn draws(how: Sampling) -> Vec<u32> {
        let mut s = Sampler::new(how, 7);
        (0..400).map(|_| s.choose(&LOGITS, |_| false)).collect()
    }

    #[test]
    fn greedy_takes_the_most_likely() {
        assert!(draws(Sampling { temperature: 0.0, ..Default::default() }).iter().all(|t| *t == 1));
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let with = |seed| draws(Sampling { seed: Some(seed), ..Default::default() });
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let seen = draws(Sampling { seed: Some(3), ..Default::default() });
        let share = seen.iter().filter(|t| **t == 1).count() as f64 / 400.0;
        assert!((share - 0.64).abs() < 0.08, "softmax gives 0.64, drawn {share}");
    }

    #[test]
    fn nucleus_and_top_k_leave_out_the_tail() {
        assert!(draws(Sampling { top_p: 0.6, ..Default::default() }).iter().all(|t| *t == 1));
        assert!(
            draws(Sampling { top_k: 2, ..Default::default() }).iter().all(|t| [1, 2].contains(t))
        );
    }

    #[test]
    fn barred_tokens_and_penalties() {
        let mut s = Sampler::new(Sampling { temperature: 0.0, ..Default::default() }, 0);
        assert_eq!(s.choose(&LOGITS, |t| t == 1), 2);
        let how = Sampling { temperature: 0.0, presence_penalty: 5.0, ..Default::default() };
        let mut s = Sampler::new(how, 0);
        assert_eq!((s.choose(&LOGITS, |_| false), s.choose(&LOGITS, |_| false)), (1, 2));
    }
}
