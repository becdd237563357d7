//! What was measured, as it is written to the JSON file.

use coconut_loadgen::fairness::Phase;
use coconut_loadgen::tenant::Window;
use serde::Serialize;
use std::fs;

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: &'static str,
    machine: Machine,
    /// Seconds before counting begins, of each scenario and server.
    warmup_s: f64,
    /// Seconds that count.
    window_s: f64,
    /// Before an engine that answers at once.
    pub overhead: Vec<Overhead>,
    /// Before an engine of limited capacity.
    pub scenarios: Vec<Scenario>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
}

impl Report {
    /// With nothing measured yet.
    pub fn new(machine: Machine, window: Window, missing: Vec<String>) -> Self {
        Self {
            schema: "coconut.bench-broker/1",
            machine,
            warmup_s: window.warmup,
            window_s: window.seconds,
            overhead: Vec::new(),
            scenarios: Vec::new(),
            missing,
        }
    }
}

/// On what.
#[derive(Debug, Serialize)]
pub struct Machine {
    cpus: usize,
    /// Processes that ran or waited to, of the last minute: what else disturbed.
    load_average: Option<f64>,
}

impl Machine {
    /// As it is now.
    pub fn now() -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get()),
            load_average: load.split(' ').next().and_then(|first| first.parse().ok()),
        }
    }
}

/// What one server costs.
#[derive(Debug, Serialize)]
pub struct Overhead {
    /// Its name.
    pub server: &'static str,
    /// One request after another: median, milliseconds.
    pub p50_ms: f64,
    /// That, less the bare engine's.
    pub added_ms: f64,
    /// Requests a second, so many at once as `connections` says.
    pub requests_per_second: f64,
    /// See there.
    pub connections: usize,
    /// What it holds after that, in MiB; none for the engine.
    pub memory_mib: Option<f64>,
}

/// One load, on each server.
#[derive(Debug, Serialize)]
pub struct Scenario {
    /// Which.
    pub name: &'static str,
    /// What each server made of it.
    pub rows: Vec<Row>,
}

/// What one server made of a load.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub server: &'static str,
    /// Jain's index over the tokens that each tenant got; where all are backlogged.
    pub jain: Option<f64>,
    /// Latencies and tokens.
    pub phase: Phase,
}
