//! Properties of the fair queue, each a promise: weights are kept, nobody starves, no slot idles.

use super::*;
use proptest::prelude::*;

const CREDIT: u32 = 1000;

fn lane(tenant: &str, tenant_weight: u32, agent: &str, agent_weight: u32) -> Lineage {
    below(Level::new(tenant, tenant_weight), &[(agent, agent_weight)])
}

fn below(tenant: Level, agents: &[(&str, u32)]) -> Lineage {
    Lineage {
        tenant,
        agents: agents.iter().map(|(name, weight)| Level::new(*name, *weight)).collect(),
    }
}

fn jain(x: &[f64]) -> f64 {
    x.iter().sum::<f64>().powi(2) / (x.len() as f64 * x.iter().map(|v| v * v).sum::<f64>())
}

/// Everybody always has a request waiting; each is served with its own size. Returns tokens by agent.
fn backlog(agents: &[(&str, u32, &str, u32, u32)], rounds: usize) -> Vec<f64> {
    let mut queue = FairQueue::new(CREDIT);
    for (i, (tenant, weight, agent, agent_weight, _)) in agents.iter().enumerate() {
        queue.arrive(&lane(tenant, *weight, agent, *agent_weight), |_| i);
    }
    let mut served = vec![0.0; agents.len()];
    for _ in 0..rounds {
        let (flow, i) = queue.next(|_| May::Start).expect("somebody waits");
        let (tenant, weight, agent, agent_weight, tokens) = agents[i];
        queue.arrive(&lane(tenant, weight, agent, agent_weight), |_| i);
        queue.charge(flow, tokens);
        queue.leave(flow);
        served[i] += f64::from(tokens);
    }
    served
}

#[test]
fn equal_weights_give_equal_tokens_whatever_the_request_size() {
    let served = backlog(
        &[
            ("a", 100, "x", 1, 16),
            ("b", 100, "x", 1, 64),
            ("c", 100, "x", 1, 128),
            ("d", 100, "x", 1, 256),
        ],
        20_000,
    );
    assert!(jain(&served) > 0.999, "{served:?}");
}

#[test]
fn a_tenant_of_twice_the_weight_gets_twice_the_tokens() {
    let served =
        backlog(&[("a", 200, "x", 1, 50), ("b", 100, "x", 1, 50), ("c", 25, "x", 1, 50)], 30_000);
    assert!((served[0] / served[1] - 2.0).abs() < 0.02, "{served:?}");
    assert!((served[1] / served[2] - 4.0).abs() < 0.05, "{served:?}");
}

#[test]
fn agents_share_their_tenants_part_by_their_own_weights() {
    let agents = [("a", 100, "x", 300, 40), ("a", 100, "y", 100, 40), ("b", 100, "z", 7, 40)];
    let served = backlog(&agents, 30_000);
    assert!(((served[0] + served[1]) / served[2] - 1.0).abs() < 0.02, "{served:?}");
    assert!((served[0] / served[1] - 3.0).abs() < 0.05, "{served:?}");
}

#[test]
fn many_agents_do_not_win_more_for_their_tenant() {
    let names: Vec<String> = (0..50).map(|i| i.to_string()).collect();
    let mut agents: Vec<_> = names.iter().map(|n| ("many", 100, n.as_str(), 100, 30)).collect();
    agents.push(("one", 100, "x", 100, 30));
    let served = backlog(&agents, 20_000);
    let many: f64 = served[..50].iter().sum();
    assert!((many / served[50] - 1.0).abs() < 0.02, "{many} and {}", served[50]);
}

/// The tokens that each of many lanes gets while all have requests waiting, by turns of 50.
fn shared(lanes: &[Lineage], rounds: usize) -> Vec<f64> {
    let mut queue = FairQueue::new(CREDIT);
    for (nth, lane) in lanes.iter().enumerate() {
        queue.arrive(lane, |_| nth);
    }
    let mut served = vec![0.0; lanes.len()];
    for _ in 0..rounds {
        let (flow, nth) = queue.next(|_| May::Start).expect("somebody waits");
        queue.arrive(&lanes[nth], |_| nth);
        queue.charge(flow, 50);
        queue.leave(flow);
        served[nth] += 50.0;
    }
    served
}

#[test]
fn children_share_their_parents_part_and_their_children_theirs() {
    let tenant = || Level::new("t", 100);
    let names: Vec<String> = (0..40).map(|i| format!("below {i}")).collect();
    // One beside the parent, the parent, a child without children, one with forty.
    let mut lanes = vec![
        below(tenant(), &[("beside", 100)]),
        below(tenant(), &[("parent", 100)]),
        below(tenant(), &[("parent", 100), ("quiet", 100)]),
        below(tenant(), &[("parent", 100), ("many", 100)]),
    ];
    let deepest = |name| below(tenant(), &[("parent", 100), ("many", 100), (name, 100)]);
    lanes.extend(names.iter().map(|name| deepest(name)));
    let got = shared(&lanes, 40_000);
    let many: f64 = got[3..].iter().sum();
    let family = got[1] + got[2] + many;
    let near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.03;
    assert!(near(got[0], family), "beside {}, the family {family}", got[0]);
    assert!(near(got[1], got[2]) && near(got[2], many), "{} {} {many}", got[1], got[2]);
    assert!(near(many / 41.0, got[3]) && near(got[3], got[20]), "{got:?}");

    // The control: agents that nobody knows to be of one family.
    let flat = |lane: &Lineage| Lineage {
        agents: lane.agents[lane.agents.len() - 1..].to_vec(),
        ..lane.clone()
    };
    let got = shared(&lanes.iter().map(flat).collect::<Vec<_>>(), 40_000);
    assert!(got[1..].iter().sum::<f64>() > 40.0 * got[0], "the control shows no harm: {got:?}");
}

#[test]
fn a_weight_that_changes_above_changes_what_all_below_get() {
    let mut queue = FairQueue::new(CREDIT);
    let lanes = |parent| {
        let child = |name| below(Level::new("t", 100), &[("parent", parent), (name, 100)]);
        [below(Level::new("t", 100), &[("beside", 100)]), child("one"), child("two")]
    };
    let mut served = |parent| {
        let lanes = lanes(parent);
        let mut served = [0.0_f64; 3];
        for (nth, lane) in lanes.iter().enumerate() {
            queue.arrive(lane, |_| nth);
        }
        for round in 0..6_000 {
            let (flow, nth) = queue.next(|_| May::Start).expect("somebody waits");
            queue.charge(flow, 50);
            if round < 5_997 {
                queue.arrive(&lanes[nth], |_| nth);
            }
            queue.leave(flow);
            served[nth] += 50.0;
        }
        served[0] / (served[1] + served[2])
    };
    assert!((served(100) - 1.0).abs() < 0.03);
    assert!((served(25) - 4.0).abs() < 0.1);
    assert!((served(400) - 0.25).abs() < 0.01);
    assert_eq!((queue.queued(), queue.remembered()), (0, 0));
}

#[test]
fn who_was_idle_goes_first_but_saves_up_one_burst_only() {
    let mut queue = FairQueue::new(CREDIT);
    let flood = queue.arrive(&lane("flood", 100, "x", 100), |_| 0);
    queue.next(|_| May::Start);
    queue.charge(flood, 1_000_000);
    queue.charge(flood, 1);
    // The quiet tenant has never been seen, and the flooder is far ahead.
    queue.arrive(&lane("flood", 100, "x", 100), |_| 0);
    let mut served = 0;
    for _ in 0..1000 {
        queue.arrive(&lane("quiet", 100, "x", 100), |_| 1);
        let (flow, who) = queue.next(|_| May::Start).unwrap();
        if who == 0 {
            break;
        }
        queue.charge(flow, 64);
        queue.leave(flow);
        served += 64;
    }
    assert!(served >= CREDIT - 64, "it is owed a burst, and got {served}");
    assert!(served <= CREDIT + 1 + 2 * 64, "it got {served}, more than a burst");
}

#[test]
fn what_was_used_of_an_idle_engine_is_owed_to_nobody() {
    let mut queue = FairQueue::new(CREDIT);
    for _ in 0..200 {
        let flow = queue.arrive(&lane("quiet", 100, "x", 100), |_| "quiet");
        queue.next(|_| May::Start);
        queue.charge(flow, 70);
        queue.leave(flow);
    }
    assert_eq!(queue.remembered(), 0, "a busy period ends with all accounts");
    let newcomer = queue.arrive(&lane("newcomer", 100, "x", 100), |_| "newcomer");
    queue.next(|_| May::Start);
    let quiet = queue.arrive(&lane("quiet", 100, "x", 100), |_| "quiet");
    assert_eq!(queue.key(newcomer)[0], queue.key(quiet)[0], "neither owes the other anything");
    queue.charge(newcomer, 17);
    queue.charge(newcomer, 1);
    assert!(queue.holding(quiet).behind && !queue.holding(newcomer).behind);
}

#[test]
fn a_debt_lasts_while_anybody_is_present() {
    let mut queue = FairQueue::new(CREDIT);
    let flood = queue.arrive(&lane("flood", 100, "x", 100), |_| "flood");
    queue.next(|_| May::Start);
    queue.charge(flood, 700);
    queue.arrive(&lane("quiet", 100, "x", 100), |_| "quiet");
    // It goes and comes back, to be new again.
    queue.leave(flood);
    queue.arrive(&lane("flood", 100, "x", 100), |_| "flood");
    let (flow, who) = queue.next(|_| May::Start).expect("two wait");
    assert_eq!(who, "quiet");
    queue.charge(flow, 600);
    queue.arrive(&lane("quiet", 100, "x", 100), |_| "quiet");
    queue.leave(flow);
    assert_eq!(queue.next(|_| May::Start).map(|n| n.1), Some("quiet"), "it is still behind");
}

#[test]
fn a_tenant_that_cannot_use_its_share_does_not_save_it_up() {
    let mut queue = FairQueue::new(CREDIT);
    let slow = queue.arrive(&lane("slow", 100, "x", 100), |_| ());
    let fast = queue.arrive(&lane("fast", 100, "x", 100), |_| ());
    queue.next(|_| May::Start);
    queue.next(|_| May::Start);
    for _ in 0..10_000 {
        queue.charge(slow, 1);
        queue.charge(fast, 20);
    }
    let lag = (queue.key(fast)[0] - queue.key(slow)[0]) / (SCALE / 100);
    assert!(lag <= u64::from(CREDIT) + 2 * 20, "it lags by {lag} tokens");
}

#[test]
fn idle_accounts_are_forgotten_and_nothing_leaks() {
    let mut queue = FairQueue::new(CREDIT);
    let flood = queue.arrive(&lane("flood", 100, "x", 100), |_| ());
    queue.next(|_| May::Start);
    for i in 0..5_000 {
        let name = format!("t{i}");
        let flow = queue.arrive(&lane(&name, 100, "x", 100), |_| ());
        queue.next(|_| May::Start);
        queue.charge(flow, 10);
        queue.leave(flow);
        queue.charge(flood, 100);
    }
    assert!(queue.remembered() < 100, "{} tenants are still remembered", queue.remembered());
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(usize),
    Serve(u32),
    Finish(usize),
    Withdraw(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0usize..12).prop_map(Step::Arrive),
        4 => (1u32..500).prop_map(Step::Serve),
        3 => any::<usize>().prop_map(Step::Finish),
        1 => any::<usize>().prop_map(Step::Withdraw),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    /// Whatever happens: what arrives is served or withdrawn once, and a waiting request is always found.
    #[test]
    fn nothing_is_lost_and_no_slot_idles(steps in steps()) {
        let names = ["a", "b", "c"];
        let mut queue = FairQueue::new(CREDIT);
        let (mut waiting, mut running) = (Vec::new(), Vec::new());
        for (id, step) in steps.into_iter().enumerate() {
            match step {
                Step::Arrive(who) => {
                    let agents = [(names[who / 4], 50), (names[who % 2], 70), ("d", 5)];
                    let lane = below(Level::new(names[who % 3], 100 + who as u32), &agents[..who % 4]);
                    let flow = queue.arrive(&lane, |_| id);
                    waiting.push((flow, id));
                }
                Step::Serve(tokens) => match queue.next(|_| May::Start) {
                    Some((flow, id)) => {
                        prop_assert!(waiting.contains(&(flow, id)));
                        waiting.retain(|w| w.1 != id);
                        queue.charge(flow, tokens);
                        running.push(flow);
                    }
                    None => prop_assert!(waiting.is_empty(), "work conservation"),
                },
                Step::Finish(n) if !running.is_empty() => queue.leave(running.swap_remove(n % running.len())),
                Step::Withdraw(n) if !waiting.is_empty() => {
                    let (flow, id) = waiting.swap_remove(n % waiting.len());
                    prop_assert_eq!(queue.withdraw(flow, |w| *w == id), Some(id));
                }
                Step::Finish(_) | Step::Withdraw(_) => {}
            }
            prop_assert_eq!(queue.queued(), waiting.len());
        }
        for (flow, id) in waiting {
            prop_assert_eq!(queue.withdraw(flow, |w| *w == id), Some(id));
        }
        running.into_iter().for_each(|flow| queue.leave(flow));
        prop_assert_eq!((queue.queued(), queue.remembered()), (0, 0));
    }

    /// A light newcomer is served within one round of everybody, however many wait before it.
    #[test]
    fn nobody_starves(others in 1usize..60, weight in 1u32..100) {
        let mut queue = FairQueue::new(CREDIT);
        let names: Vec<String> = (0..others).map(|i| format!("t{i}")).collect();
        for name in &names {
            for _ in 0..20 {
                queue.arrive(&lane(name, 1000, "x", 100), |_| false);
            }
        }
        for _ in 0..others * 2 {
            let (flow, _) = queue.next(|_| May::Start).unwrap();
            queue.charge(flow, 100);
            queue.leave(flow);
        }
        queue.arrive(&lane("late", weight, "x", 100), |_| true);
        let mut turns = 0;
        loop {
            let (flow, late) = queue.next(|_| May::Start).unwrap();
            queue.charge(flow, 100);
            queue.leave(flow);
            if late { break }
            turns += 1;
        }
        prop_assert!(turns <= others, "{turns} others went first");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any weights, any request sizes: over a long backlog each gets its part.
    #[test]
    fn weights_are_kept(weights in prop::collection::vec(50u32..1000, 2..6), sizes in prop::collection::vec(20u32..300, 6)) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let agents: Vec<_> =
            weights.iter().enumerate().map(|(i, w)| (names[i], *w, "x", 100, sizes[i])).collect();
        let served = backlog(&agents, 60_000);
        let normal: Vec<f64> = served.iter().zip(&weights).map(|(s, w)| s / f64::from(*w)).collect();
        prop_assert!(jain(&normal) > 0.99, "{:?} of {:?}", served, weights);
    }

    /// Any tree: whoever asks gets its part of the part of whoever is above.
    #[test]
    fn parts_are_of_parts(parents in prop::collection::vec((any::<usize>(), 50u32..400), 1..9)) {
        let mut lanes: Vec<Lineage> = vec![below(Level::new("t", 100), &[("top", 100)])];
        for (nth, (parent, weight)) in parents.iter().enumerate() {
            let mut lane = lanes[parent % lanes.len()].clone();
            lane.agents.push(Level::new(nth.to_string(), *weight));
            lanes.push(lane);
        }
        let part = |lane: &Lineage| {
            let mut part = 1.0;
            for depth in 0..lane.agents.len() {
                let (above, at) = (&lane.agents[..=depth], &lane.agents[depth]);
                let children = lanes.iter().filter(|l| l.agents.len() == depth + 2 && l.agents.starts_with(above));
                let weights: u32 = children.map(|l| l.agents[depth + 1].weight).sum();
                let next = lane.agents.get(depth + 1).unwrap_or(at);
                part *= f64::from(next.weight) / f64::from(weights + at.weight);
            }
            part
        };
        let normal: Vec<f64> = shared(&lanes, 60_000).iter().zip(&lanes).map(|(got, lane)| got / part(lane)).collect();
        prop_assert!(jain(&normal) > 0.99, "{:?} of {:?}", normal, lanes);
    }
}
