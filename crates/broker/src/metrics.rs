//! Counters for Prometheus.

use crate::admission::Depth;
use crate::route::{Route, Routes};
use api::broker::Usage;
use ports::MeasureKind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// Upper bounds of the histograms, in seconds.
const BOUNDS: [f64; 12] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 1e1, 3e1];

/// What the broker has done.
pub struct Metrics {
    registry: Registry,
    served: Counter,
    broken: Counter,
    refused: Counter,
    prompt_tokens: Counter,
    completion_tokens: Counter,
    queued: Histogram,
    first_token: Histogram,
}

impl Metrics {
    /// Nothing yet; how full the backends are is asked for with each look.
    pub fn new(routes: &Arc<Routes>) -> Self {
        let mut all = Registry::with_prefix("coconut");
        let registry = all.sub_registry_with_prefix("broker");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let served = counter("calls_served", "Calls that were answered to their end");
        let broken = counter("calls_broken_off", "Calls that began and were not");
        let refused = counter("calls_refused", "Calls that did not begin");
        let prompt_tokens = counter("prompt_tokens", "Tokens read");
        let completion_tokens = counter("completion_tokens", "Tokens written");
        let mut histogram = |name: &str, help: &str| {
            let histogram = Histogram::new(BOUNDS);
            registry.register(name, help, histogram.clone());
            histogram
        };
        let queued = histogram("queued_seconds", "Time in the fair queue");
        let first_token =
            histogram("first_token_seconds", "Time from a call's turn to its first token");
        registry.register_collector(Box::new(Depths(routes.clone())));
        let engines = all.sub_registry_with_prefix("engine");
        engines.register_collector(Box::new(Engines(routes.clone())));
        Self {
            registry: all,
            served,
            broken,
            refused,
            prompt_tokens,
            completion_tokens,
            queued,
            first_token,
        }
    }

    /// A call that was admitted is over.
    pub fn finished(&self, usage: &Usage) {
        if usage.refused.is_none() { &self.served } else { &self.broken }.inc();
        self.prompt_tokens.inc_by(usage.prompt_tokens.into());
        self.completion_tokens.inc_by(usage.completion_tokens.into());
        self.queued.observe(usage.queued_us as f64 / 1e6);
        if usage.first_token_us > 0 {
            self.first_token.observe(usage.first_token_us as f64 / 1e6);
        }
    }

    /// A call was not admitted.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// The text for `/metrics`.
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Text is written into memory.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

/// Whose number it is.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Backend {
    backend: String,
}

impl Backend {
    fn of(route: &Route) -> Self {
        Self { backend: route.name.clone() }
    }
}

/// How full each backend's queue is.
struct Depths(Arc<Routes>);
/// What the backends say of themselves.
struct Engines(Arc<Routes>);

impl fmt::Debug for Depths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Depths")
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engines")
    }
}

/// Name, help, and what it is of a queue.
type Number = (&'static str, &'static str, fn(&Depth) -> usize);

const NUMBERS: [Number; 4] = [
    ("calls_running", "Calls at the backend", |depth| depth.running),
    ("calls_queued", "Calls that wait", |depth| depth.queued),
    ("slots_reserved", "Slots kept free for newcomers", |depth| depth.reserve),
    ("tenants_remembered", "Tenants with an account", |depth| depth.tenants),
];

impl Collector for Depths {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all: Vec<_> = self
            .0
            .all()
            .iter()
            .map(|route| (Backend::of(route), route.admission.depth()))
            .collect();
        for (name, help, of) in NUMBERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (backend, depth) in &all {
                ConstGauge::new(of(depth) as i64).encode(family.encode_family(backend)?)?;
            }
        }
        Ok(())
    }
}

impl Collector for Engines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let measures = |route: &Route| (Backend::of(route), route.backend.measures());
        let all: Vec<_> = self.0.all().iter().map(measures).collect();
        let mut names: Vec<_> = all.iter().flat_map(|(_, measures)| measures).collect();
        names.sort_by_key(|measure| measure.name);
        names.dedup_by_key(|measure| measure.name);
        for named in names {
            let kind = match named.kind {
                MeasureKind::Counter => MetricType::Counter,
                MeasureKind::Gauge => MetricType::Gauge,
            };
            let mut family = encoder.encode_descriptor(named.name, named.help, None, kind)?;
            for (backend, measures) in &all {
                for measure in measures.iter().filter(|measure| measure.name == named.name) {
                    let one = family.encode_family(backend)?;
                    match measure.kind {
                        MeasureKind::Counter => ConstCounter::new(measure.value).encode(one)?,
                        MeasureKind::Gauge => ConstGauge::new(measure.value as i64).encode(one)?,
                    }
                }
            }
        }
        Ok(())
    }
}
