//! The real admission in front of modelled engines, in simulated time: the promises of fairness,
//! each with many tenants, many seeds, and the control (first come, first served) beside it.
#![allow(clippy::unwrap_used)]

mod simulated;

use simulated::{Engine, Load, Step, jain, percentile, simulate};

const QUIET: Load = Load::Random { every_ms: 1000.0, prompt: 32, tokens: 64 };
const FLOOD: Load = Load::Closed { at_once: 64, prompt: 32, tokens: 64 };

/// What the yardstick's engine does: 16 sequences, 10 ms a step, 0.5 ms a sequence, 8000 tokens/s prefill.
const SERVER: Engine = Engine {
    slots: 16,
    fixed_ms: 10.0,
    per_token_ms: 0.5,
    prefill_ms: 0.125,
    yields: false,
    step: Step::Tokens(528),
};
/// The embedded engine on an emulated CPU: a step's cost is about linear in its tokens.
const EMBEDDED: Engine = Engine {
    slots: 4,
    fixed_ms: 5.0,
    per_token_ms: 0.5,
    prefill_ms: 0.5,
    yields: true,
    step: Step::Tokens(16),
};

fn four(flood: bool) -> Vec<(&'static str, u32, Load)> {
    let mut tenants = vec![("q0", 100, QUIET), ("q1", 100, QUIET), ("q2", 100, QUIET)];
    if flood {
        tenants.push(("flood", 100, FLOOD));
    }
    tenants
}

fn quiet(seen: &[simulated::Seen]) -> Vec<f64> {
    seen.iter().filter(|s| s.tenant.starts_with('q')).flat_map(|s| s.first_ms.clone()).collect()
}

#[test]
fn embedded_a_flood_is_hardly_felt_ten_times_of_ten() {
    for seed in 1..=10 {
        let load =
            |i| Load::Even { every_ms: 1000.0, offset: f64::from(i) / 3.0, prompt: 96, tokens: 8 };
        let mut tenants = vec![("q0", 100, load(0)), ("q1", 100, load(1)), ("q2", 100, load(2))];
        let alone = quiet(&simulate(EMBEDDED, false, &tenants, 60.0, seed));
        tenants.push(("flood", 100, Load::Closed { at_once: 32, prompt: 96, tokens: 32 }));
        let beside = quiet(&simulate(EMBEDDED, false, &tenants, 60.0, seed));
        let control = quiet(&simulate(EMBEDDED, true, &tenants, 60.0, seed));
        let [solo, p50, p99, fifo] = [
            percentile(&alone, 99.0),
            percentile(&beside, 50.0),
            percentile(&beside, 99.0),
            percentile(&control, 99.0),
        ];
        assert!(beside.len() > 120);
        assert!(p99 / p50 <= 1.5, "seed {seed}: p99 {p99} ms, p50 {p50} ms");
        assert!(p99 / solo <= 2.0, "seed {seed}: p99 {p99} ms beside the flood, {solo} ms alone");
        assert!(
            fifo / solo > 5.0,
            "seed {seed}: the control shows no harm: {fifo} ms against {solo} ms"
        );
    }
}

#[test]
fn a_server_keeps_quiet_tenants_quick_and_itself_busy() {
    let alone = quiet(&simulate(SERVER, false, &four(false), 120.0, 1));
    let seen = simulate(SERVER, false, &four(true), 120.0, 1);
    let control = simulate(SERVER, true, &four(true), 120.0, 1);
    let (p50, p99) = (percentile(&quiet(&seen), 50.0), percentile(&quiet(&seen), 99.0));
    let fifo = percentile(&quiet(&control), 99.0);
    // A full engine's step is longer than an idle one's, so not even a free slot is as quick.
    assert!(p50 < 2.0 * percentile(&alone, 50.0), "p50 {p50}");
    assert!(p99 < fifo / 10.0, "p99 {p99}, control {fifo}");
    let total = |s: &[simulated::Seen]| s.iter().map(|s| s.tokens).sum::<f64>();
    let kept = total(&seen) / total(&control);
    println!(
        "quiet p50 {p50:.0} p99 {p99:.0} ms, alone {:.0}, control {fifo:.0}; throughput {kept:.3}",
        percentile(&alone, 99.0)
    );
    assert!(kept > 0.9, "throughput is {kept:.3} of the control's");
}

#[test]
fn tokens_are_equal_when_all_are_backlogged_whatever_they_ask_for() {
    for engine in [SERVER, EMBEDDED] {
        let names = ["a", "b", "c", "d"];
        let tenants: Vec<_> = names
            .into_iter()
            .zip([16, 64, 128, 256])
            .map(|(name, tokens)| (name, 100, Load::Closed { at_once: 8, prompt: 32, tokens }))
            .collect();
        let seen = simulate(engine, false, &tenants, 240.0, 1);
        // A server's prompt tokens cost next to nothing, an emulated CPU's as much as any.
        let cost = |s: &simulated::Seen| if engine.yields { s.work } else { s.tokens };
        let got: Vec<f64> = seen.iter().map(cost).collect();
        assert!(jain(&got) > 0.98, "{engine:?}: {got:?}");
    }
}

#[test]
fn a_tenants_weight_is_its_share() {
    for engine in [SERVER, EMBEDDED] {
        let load = Load::Closed { at_once: 24, prompt: 32, tokens: 64 };
        let seen = simulate(engine, false, &[("heavy", 300, load), ("light", 100, load)], 240.0, 1);
        let ratio = seen[0].work / seen[1].work;
        assert!((ratio - 3.0).abs() < 0.25, "{engine:?}: {ratio:.2} instead of 3");
    }
}

#[test]
fn a_lone_tenant_gets_the_whole_engine() {
    for engine in [SERVER, EMBEDDED] {
        let tokens = |fifo| simulate(engine, fifo, &[("only", 100, FLOOD)], 60.0, 1)[0].tokens;
        let kept = tokens(false) / tokens(true);
        assert!(kept > 0.97, "{engine:?}: {kept:.3} of what it gets without us");
    }
}

#[test]
fn five_hundred_tenants_all_get_their_part() {
    let names: Vec<String> = (0..500).map(|i| format!("t{i}")).collect();
    let load = Load::Closed { at_once: 2, prompt: 16, tokens: 16 };
    let tenants: Vec<_> = names.iter().map(|n| (n.as_str(), 100, load)).collect();
    let seen = simulate(SERVER, false, &tenants, 300.0, 1);
    let work: Vec<f64> = seen.iter().map(|s| s.work).collect();
    assert!(work.iter().all(|w| *w > 0.0), "somebody starved");
    assert!(jain(&work) > 0.98, "{}", jain(&work));
}
