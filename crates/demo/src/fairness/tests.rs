//! What the verdicts follow from, and what they do not.

use super::*;

fn seen(passed: u64, others: u64) -> Seen {
    let one = Waited { prompt: 60, passed: 0, others: 2 };
    Seen { asked: 2, lost: Vec::new(), waited: vec![one, Waited { passed, others, ..one }] }
}

fn all(passed: u64, others: u64) -> Seen {
    let waited = vec![Waited { prompt: 60, passed, others }; 2];
    Seen { waited, ..seen(0, 0) }
}

fn counts(tokens: u64, over_limit: u64) -> [Counts; 2] {
    let before = Counts { steps: 10, tokens: 100, over_limit: 3, present: 0 };
    let [tokens, over_limit] = [100 + tokens, 3 + over_limit];
    [before, Counts { steps: 90, tokens, over_limit, present: 0 }]
}

fn failed(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|c| !c.passed).map(|c| c.name.as_str()).collect()
}

#[test]
fn each_promise_is_judged_by_itself() {
    let (fifo, good) = (all(400, 4000), counts(1000, 0));
    assert!(failed(&judge(&seen(1, 9), &fifo, good)).is_empty());
    assert_eq!(failed(&judge(&seen(2, 9), &fifo, good)), ["quiet-next"]);
    assert_eq!(failed(&judge(&seen(1, 1025), &fifo, good)), ["others-bounded"]);
    assert_eq!(failed(&judge(&seen(1, 9), &fifo, counts(1000, 1))), ["steps-short"]);
    assert_eq!(failed(&judge(&seen(1, 9), &fifo, counts(200, 0))), ["flooder-served"]);
    let lost = Seen { lost: vec!["503".into()], ..seen(1, 9) };
    assert_eq!(failed(&judge(&lost, &fifo, good)), ["quiet-served"]);
}

#[test]
fn a_control_that_does_no_harm_proves_nothing() {
    let checks = judge(&seen(1, 9), &seen(1, 9), counts(1000, 0));
    assert_eq!(failed(&checks), ["quiet-next", "others-bounded"]);
}

#[test]
fn a_run_without_requests_proves_nothing() {
    let none = Seen::default();
    assert!(failed(&judge(&none, &all(400, 4000), counts(1000, 0))).contains(&"quiet-next"));
}

fn blocks(alone: [f64; 3], flooded: [f64; 3]) -> Blocks {
    let each = |medians: [f64; 3]| medians.map(|m| vec![m - 1.0, m, m + 900.0]).into();
    Blocks { alone: each(alone), flooded: each(flooded) }
}

#[test]
fn milliseconds_come_with_an_interval_of_pairs() {
    let times = Times::of(&blocks([100.0, 120.0, 110.0], [105.0, 132.0, 110.0])).unwrap();
    let Interval { median, low, high, .. } = times.ratio;
    assert_eq!([median, low, high].map(|r| (r * 100.0).round()), [105.0, 100.0, 110.0]);
    assert!(times.line().contains("1.05 × [1.00, 1.10]"), "{}", times.line());
}

#[test]
fn a_noisy_machine_is_said_to_be_one() {
    let times = Times::of(&blocks([100.0, 190.0, 110.0], [100.0, 100.0, 100.0])).unwrap();
    assert_eq!(times.line(), "too noisy for milliseconds: blocks alone differ by 1.9 ×");
}
