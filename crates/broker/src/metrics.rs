//! Counters in Prometheus' text format.

use crate::admission::Depth;
use api::broker::Usage;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the histograms, in microseconds.
const BOUNDS: [u64; 12] = [
    100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000,
    30_000_000,
];

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    sum_us: AtomicU64,
    count: AtomicU64,
}

impl Histogram {
    fn observe(&self, us: u64) {
        if let Some(i) = BOUNDS.iter().position(|b| us <= *b) {
            self.buckets[i].fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(us, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    fn write(&self, out: &mut String, name: &str) {
        let _ = writeln!(out, "# TYPE {name} histogram");
        let mut below = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            below += bucket.load(Relaxed);
            let seconds = *bound as f64 / 1e6;
            let _ = writeln!(out, "{name}_bucket{{le=\"{seconds}\"}} {below}");
        }
        let count = self.count.load(Relaxed);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum {}", self.sum_us.load(Relaxed) as f64 / 1e6);
        let _ = writeln!(out, "{name}_count {count}");
    }
}

/// What the broker has done.
#[derive(Default)]
pub struct Metrics {
    served: AtomicU64,
    broken: AtomicU64,
    refused: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    queued: Histogram,
    first_token: Histogram,
}

impl Metrics {
    /// A call that was admitted is over.
    pub fn finished(&self, usage: &Usage) {
        let ended = if usage.refused.is_none() { &self.served } else { &self.broken };
        ended.fetch_add(1, Relaxed);
        self.prompt_tokens.fetch_add(u64::from(usage.prompt_tokens), Relaxed);
        self.completion_tokens.fetch_add(u64::from(usage.completion_tokens), Relaxed);
        self.queued.observe(usage.queued_us);
        if usage.first_token_us > 0 {
            self.first_token.observe(usage.first_token_us);
        }
    }

    /// A call was not admitted.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// The text for `/metrics`.
    pub fn render(&self, depth: Depth) -> String {
        let mut out = String::new();
        for (name, value) in [
            ("calls_served_total", &self.served),
            ("calls_broken_off_total", &self.broken),
            ("calls_refused_total", &self.refused),
            ("prompt_tokens_total", &self.prompt_tokens),
            ("completion_tokens_total", &self.completion_tokens),
        ] {
            let value = value.load(Relaxed);
            let _ = writeln!(
                out,
                "# TYPE coconut_broker_{name} counter\ncoconut_broker_{name} {value}"
            );
        }
        for (name, value) in [
            ("calls_running", depth.running),
            ("calls_queued", depth.queued),
            ("slots_reserved", depth.reserve),
            ("tenants_remembered", depth.tenants),
        ] {
            let _ =
                writeln!(out, "# TYPE coconut_broker_{name} gauge\ncoconut_broker_{name} {value}");
        }
        self.queued.write(&mut out, "coconut_broker_queued_seconds");
        self.first_token.write(&mut out, "coconut_broker_first_token_seconds");
        out
    }
}
