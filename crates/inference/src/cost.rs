//! What a step of the engine costs, learnt from finished steps.

use crate::demand::Demand;

/// Features of a step: 1, tokens, outputs, cells.
const FEATURES: usize = 4;

/// What a step computes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Tokens, of prompts and of answers.
    pub tokens: u32,
    /// Tokens whose successor is chosen: only these pass through the output layer.
    pub outputs: u32,
    /// Cells of context that are attended to, summed over the tokens.
    pub cells: u64,
}

impl Work {
    fn features(&self) -> [f64; FEATURES] {
        [1.0, f64::from(self.tokens), f64::from(self.outputs), self.cells as f64]
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |a, b| Self {
            tokens: a.tokens + b.tokens,
            outputs: a.outputs + b.outputs,
            cells: a.cells + b.cells,
        })
    }
}

/// Microseconds that a step takes, by its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Each step, whatever is in it.
    pub step: f64,
    /// Each token.
    pub token: f64,
    /// Each token whose successor is chosen, besides.
    pub output: f64,
    /// Each cell of context that a token attends to.
    pub cell: f64,
}

impl Cost {
    /// Microseconds of a step with this work.
    pub fn of(&self, work: Work) -> f64 {
        let [step, tokens, outputs, cells] = work.features();
        self.step * step + self.token * tokens + self.output * outputs + self.cell * cells
    }

    /// The shortest step that answers: one token without context.
    pub fn shortest(&self) -> f64 {
        self.step + self.token + self.output
    }

    /// How many of a sequence's tokens, at most `most`, take at most `micros` more; and what they take.
    pub fn within<D: Demand>(&self, sequence: &D, most: u32, micros: f64) -> (u32, f64) {
        let left = sequence.prefill_left().max(1);
        let (mut tokens, mut spent) = (0, 0.0);
        while tokens < left.min(most) {
            let next = self.token_of(sequence, tokens, left);
            if spent + next > micros {
                break;
            }
            spent += next;
            tokens += 1;
        }
        (tokens, spent)
    }

    /// Microseconds of the token that follows `before` others of the same sequence in a step.
    fn token_of<D: Demand>(&self, sequence: &D, before: u32, left: u32) -> f64 {
        let attended = f64::from(sequence.held() + before + 1);
        let output = if before + 1 == left { self.output } else { 0.0 };
        self.token + self.cell * attended + output
    }
}

/// What a step keeps of its influence when the next one is seen: some thousand steps, tens of seconds.
/// A flood alone makes steps of one kind, from which no cost can be told; what was known before must last.
const MEMORY: f64 = 0.9995;
/// Steps before the fit is believed.
const WARM: u64 = 12;
/// Rounds of improvement after each step. It goes on from the last answer, so few are enough.
const ROUNDS: usize = 4;

/// Learns [`Cost`] by least squares with forgetting.
///
/// No part is negative. The solver improves one part at a time (coordinate descent; Franc, Hlaváč and
/// Navara, *Sequential coordinate-wise algorithm for non-negative least squares*, 2005). Where steps do
/// not tell two parts apart, it stays where it was: what was learnt from earlier, different steps.
#[derive(Clone, Debug, Default)]
pub struct CostModel {
    steps: u64,
    products: [[f64; FEATURES]; FEATURES],
    micros: [f64; FEATURES],
    parts: [f64; FEATURES],
}

impl CostModel {
    /// A step with this work took so many microseconds.
    pub fn observe(&mut self, work: Work, micros: f64) {
        let x = work.features();
        for (row, xi) in self.products.iter_mut().zip(x) {
            for (cell, xj) in row.iter_mut().zip(x) {
                *cell = *cell * MEMORY + xi * xj;
            }
        }
        for (sum, xi) in self.micros.iter_mut().zip(x) {
            *sum = *sum * MEMORY + xi * micros;
        }
        self.steps += 1;
        for _ in 0..ROUNDS {
            self.improve();
        }
    }

    fn improve(&mut self) {
        for i in 0..FEATURES {
            let row = &self.products[i];
            if row[i] > 0.0 {
                let predicted: f64 = row.iter().zip(self.parts).map(|(a, p)| a * p).sum();
                self.parts[i] = (self.parts[i] + (self.micros[i] - predicted) / row[i]).max(0.0);
            }
        }
    }

    /// What a step costs, once enough were seen.
    pub fn fit(&self) -> Option<Cost> {
        let [step, token, output, cell] = self.parts;
        let cost = Cost { step, token, output, cell };
        (self.steps >= WARM && cost.shortest() > 0.0).then_some(cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured: the toy model on an emulated processor.
    const EMULATED: Cost = Cost { step: 1900.0, token: 1180.0, output: 5100.0, cell: 34.0 };
    /// Like a large model on a GPU: reading the weights is nearly everything.
    const WEIGHTS: Cost = Cost { step: 12_000.0, token: 40.0, output: 20.0, cell: 0.01 };

    fn work(tokens: u32, outputs: u32, cells: u64) -> Work {
        Work { tokens, outputs, cells }
    }

    /// Prompts in pieces, then answers of one to four sequences.
    fn usual() -> impl Iterator<Item = Work> {
        let prompts = (1..8).map(|n| work(n * 7, u32::from(n % 3 == 0), u64::from(n * n) * 25));
        let answers = (1..5).map(|n| work(n, n, u64::from(n) * 100));
        prompts.chain(answers).cycle()
    }

    fn learn(true_cost: Cost, steps: impl Iterator<Item = Work>) -> CostModel {
        let mut model = CostModel::default();
        for (i, w) in steps.enumerate() {
            // ±5 % of noise.
            let noise = 1.0 + 0.05 * ((i * 37 % 21) as f64 / 10.0 - 1.0);
            model.observe(w, true_cost.of(w) * noise);
        }
        model
    }

    #[track_caller]
    fn near(model: &CostModel, truth: Cost, work: Work) {
        let (seen, wanted) = (model.fit().expect("warm").of(work), truth.of(work));
        assert!((seen / wanted - 1.0).abs() < 0.15, "{work:?}: {seen:.0}, not {wanted:.0} µs");
    }

    #[test]
    fn it_learns_each_part_from_few_steps() {
        for truth in [EMULATED, WEIGHTS] {
            let model = learn(truth, usual().take(60));
            for w in usual().take(11) {
                near(&model, truth, w);
            }
            near(&model, truth, work(1, 1, 1));
        }
    }

    #[test]
    fn nothing_is_believed_before_some_steps_were_seen() {
        assert_eq!(learn(EMULATED, usual().take(11)).fit(), None);
        assert!(learn(EMULATED, usual().take(12)).fit().is_some());
    }

    #[test]
    fn a_flood_of_equal_steps_does_not_make_it_forget_what_others_cost() {
        let before = usual().take(400);
        let model = learn(EMULATED, before.chain(std::iter::repeat_n(work(1, 1, 110), 50_000)));
        near(&model, EMULATED, work(60, 1, 1830));
        near(&model, EMULATED, work(4, 4, 400));
    }

    #[test]
    fn it_follows_a_machine_that_becomes_slower() {
        let mut model = learn(EMULATED, usual().take(2000));
        let slower = Cost { step: 3800.0, token: 2360.0, output: 10_200.0, cell: 68.0 };
        for w in usual().take(8000) {
            model.observe(w, slower.of(w));
        }
        near(&model, slower, work(60, 1, 1830));
    }

    #[test]
    fn steps_of_one_kind_tell_at_least_what_they_cost_themselves() {
        let model = learn(WEIGHTS, std::iter::repeat_n(work(1, 1, 50), 30));
        near(&model, WEIGHTS, work(1, 1, 50));
        assert!(model.fit().is_some_and(|c| c.step >= 0.0 && c.token >= 0.0));
    }
}
