//! A log-bilinear bigram model: the logits after token `t` are `output · input[t]`.

use std::collections::BTreeMap;

/// For each token, how often each other follows it.
pub type Counts = BTreeMap<u32, BTreeMap<u32, f32>>;

/// Both matrices, row by row, one row a token.
pub struct Bigram {
    /// Embeddings of unit mean square, as a llama model's norm would make them.
    pub input: Vec<f32>,
    /// Output weights.
    pub output: Vec<f32>,
    width: usize,
}

/// splitmix64 with Box–Muller.
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 40) as f32 + 0.5) / (1u32 << 24) as f32
    }

    /// Mean 0, deviation 1.
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform()).cos()
    }
}

/// Counts pairs; each line is followed by a blank line's worth of choice: another line, or the end.
pub fn count(lines: &[Vec<u32>], newline: u32, end: u32) -> Counts {
    let mut counts = Counts::new();
    let mut add = |from: u32, to: u32, times: f32| {
        *counts.entry(from).or_default().entry(to).or_default() += times;
    };
    for line in lines {
        for pair in line.windows(2) {
            add(pair[0], pair[1], 1.0);
        }
        if let (Some(first), Some(last)) = (line.first(), line.last()) {
            add(newline, *first, 1.0);
            add(*last, newline, 0.85);
            add(*last, end, 0.15);
        }
    }
    counts
}

const RATE: f32 = 0.25;

/// Fits both matrices by AdaGrad on the cross entropy, each context weighing the same.
pub fn train(counts: &Counts, tokens: usize, width: usize, rounds: u32, rng: &mut Rng) -> Bigram {
    let mut input: Vec<f32> = (0..tokens * width).map(|_| rng.normal()).collect();
    let mut output: Vec<f32> = (0..tokens * width).map(|_| 0.02 * rng.normal()).collect();
    input.chunks_mut(width).for_each(normalise);
    let mut seen = vec![1e-3f32; tokens * width];
    let mut model = Bigram { input, output: Vec::new(), width };
    for _ in 0..rounds {
        for (from, to) in counts {
            let row = *from as usize * width..(*from as usize + 1) * width;
            let context = model.input[row.clone()].to_vec();
            let mut slope = softmax(&output, &context, width);
            let total: f32 = to.values().sum();
            to.iter().for_each(|(t, n)| slope[*t as usize] -= n / total);
            let mut back = vec![0f32; width];
            for (t, g) in slope.iter().enumerate().filter(|(_, g)| g.abs() > 1e-5) {
                let row = t * width..(t + 1) * width;
                let weights = output[row.clone()].iter_mut().zip(&mut seen[row]);
                for ((w, s), (c, b)) in weights.zip(context.iter().zip(&mut back)) {
                    *b += g * *w;
                    let step = g * c;
                    *s += step * step;
                    *w -= RATE * step / s.sqrt();
                }
            }
            let inputs = &mut model.input[row];
            inputs.iter_mut().zip(&back).for_each(|(x, b)| *x -= RATE * b);
            normalise(inputs);
        }
    }
    model.output = output;
    model
}

fn normalise(row: &mut [f32]) {
    let mean_square = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
    row.iter_mut().for_each(|x| *x /= mean_square.sqrt());
}

fn softmax(output: &[f32], context: &[f32], width: usize) -> Vec<f32> {
    let dot = |row: &[f32]| row.iter().zip(context).map(|(a, b)| a * b).sum::<f32>();
    let mut logits: Vec<f32> = output.chunks(width).map(dot).collect();
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|l| *l = (*l - top).exp());
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|l| *l /= sum);
    logits
}

impl Bigram {
    /// How many tokens it hesitates between, on average; the corpus itself sets the lower bound.
    pub fn perplexity(&self, counts: &Counts) -> f32 {
        let (mut loss, mut all) = (0.0, 0.0);
        for (from, to) in counts {
            let row = *from as usize * self.width..(*from as usize + 1) * self.width;
            let p = softmax(&self.output, &self.input[row], self.width);
            for (t, n) in to {
                loss -= n * p[*t as usize].max(1e-9).ln();
                all += n;
            }
        }
        (loss / all).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_learns_what_follows_what() {
        let counts = count(&[vec![1, 2, 3], vec![4, 2, 5]], 0, 6);
        let model = train(&counts, 8, 16, 120, &mut Rng::new(1));
        assert!(model.perplexity(&counts) < 2.0, "{}", model.perplexity(&counts));
    }
}
