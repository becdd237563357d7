//! The promise of fairness in what engines do, not in time: the real admission, fair queue and step
//! planner, and beside them the control, first come, first served.
#![allow(clippy::unwrap_used)]

mod simulated;

use simulated::{Engine, Load, Seen, Step, Wait, simulate};

/// Credit of the fair queue in front of an engine that orders its steps.
const CREDIT: f64 = 512.0;
const PROMPT: u32 = 96;
const FLOOD: Load = Load::Closed { at_once: 32, prompt: 200, tokens: 32 };

/// An emulated processor: tokens cost most, and an answer's most of all.
const EMULATED: Engine = Engine {
    slots: 4,
    fixed_ms: 1.9,
    per_token_ms: 6.3,
    prefill_ms: 1.2,
    yields: true,
    step: Step::Cost,
};
/// A large model: reading the weights is nearly everything, so steps hold many tokens.
const WEIGHTS: Engine = Engine { fixed_ms: 12.0, per_token_ms: 0.06, prefill_ms: 0.04, ..EMULATED };
/// Steps of a given size.
const TOKENS: Engine = Engine {
    fixed_ms: 5.0,
    per_token_ms: 0.5,
    prefill_ms: 0.5,
    step: Step::Tokens(16),
    ..EMULATED
};

/// Most tokens that a step may hold of those who are owed nothing: twice the shortest step's time.
fn short(engine: Engine) -> u64 {
    match engine.step {
        Step::Tokens(tokens) => tokens.into(),
        Step::Cost => {
            let shortest = engine.fixed_ms + engine.per_token_ms;
            ((2.0 * shortest - engine.fixed_ms) / engine.prefill_ms) as u64
        }
    }
}

/// A request now and then, each at another moment of the engine's steps. No tenant asks for more than its
/// share, also by tokens, of which a flood of answers computes few.
fn quiet(engine: Engine, nth: u64, seed: u64) -> Load {
    let alone = f64::from(PROMPT) * engine.prefill_ms + 4.0 * engine.per_token_ms;
    let every_ms = 30.0 * alone.max(50.0) * (1.0 + 0.017 * (seed + 3 * nth) as f64);
    Load::Even { every_ms, offset: 0.1 * seed as f64, prompt: PROMPT, tokens: 4 }
}

fn waits(seen: &[Seen], nth: usize) -> &[Wait] {
    assert!(seen[nth].waits.len() > 20, "only {} requests", seen[nth].waits.len());
    &seen[nth].waits
}

#[test]
fn who_is_owed_service_waits_for_the_step_under_way_and_for_no_other() {
    for engine in [EMULATED, WEIGHTS, TOKENS] {
        let beside = |seed, fifo| {
            let tenants = [("quiet", 100, quiet(engine, 0, seed)), ("flood", 100, FLOOD)];
            simulate(engine, fifo, &tenants, 400.0, seed)
        };
        for seed in 1..=10 {
            let seen = beside(seed, false);
            for wait in waits(&seen, 0) {
                assert!(wait.waited.passed <= 1, "{engine:?} seed {seed}: {wait:?}");
                // The step under way, and what fits beside the end of the quiet prompt.
                let most = 2 * short(engine);
                assert!(wait.waited.others <= most, "{engine:?} seed {seed}: {wait:?}, not {most}");
            }
        }
        let control = beside(1, true);
        let least = waits(&control, 0).iter().map(|w| w.waited.others).min().unwrap();
        assert!(least > 2_000, "{engine:?}: the control shows no harm, {least} tokens of others");
    }
}

#[test]
fn several_who_are_owed_service_wait_for_each_other_and_not_for_the_flood() {
    for engine in [EMULATED, WEIGHTS, TOKENS] {
        for seed in 1..=5 {
            let quiet = |name, nth| (name, 100, quiet(engine, nth, seed));
            let tenants = [quiet("a", 0), quiet("b", 1), quiet("c", 2), ("flood", 100, FLOOD)];
            let seen = simulate(engine, false, &tenants, 400.0, seed);
            for wait in (0..3).flat_map(|nth| waits(&seen, nth)) {
                let most = 2 * short(engine);
                assert!(wait.tokens[3] <= most, "{engine:?} seed {seed}: {wait:?}, not {most}");
                let others = wait.tokens[..3].iter().sum::<u64>() as f64;
                assert!(others <= 3.0 * CREDIT, "{engine:?} seed {seed}: {wait:?}");
            }
        }
    }
}

/// Nobody is quiet here: while a request waits, no other tenant gets more for its weight than the
/// request's own tenant, but for the credit and the tokens of a step.
#[test]
fn whoever_waits_gets_its_part_of_what_is_computed_meanwhile() {
    // Fewer tokens in a step than sequences: each could always use one more.
    let engine = Engine { step: Step::Tokens(2), ..TOKENS };
    let load = |prompt, tokens| Load::Closed { at_once: 12, prompt, tokens };
    let tenants = [("a", 400, load(40, 40)), ("b", 200, load(200, 8)), ("c", 100, load(16, 120))];
    for seed in 1..=5 {
        let seen = simulate(engine, false, &tenants, 2_000.0, seed);
        for (nth, (_, own, _)) in tenants.iter().enumerate() {
            for wait in waits(&seen, nth) {
                let part = |of: usize, weight: u32| wait.tokens[of] as f64 / f64::from(weight);
                for (other, (_, weight, _)) in tenants.iter().enumerate() {
                    let more = part(other, *weight) - part(nth, *own);
                    let most = CREDIT / 100.0 + 2.0 / f64::from(*own) + 2.0 / f64::from(*weight);
                    assert!(more <= most, "seed {seed}, {nth} beside {other}: {more}, {wait:?}");
                }
            }
        }
    }
}
