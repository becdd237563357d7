//! The supervisor and the algebra against a model that was written without them: agents hold plain sets of what they may
//! try, and every change looks at all of it anew. After each step of a random tree both allow the same, at this moment
//! and at every later one; neither a right too many nor one too few.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

mod model;
mod points;

use abi::AgentId;
use coconut_supervisor::{
    Admission, End, Event, Limits, Place, RuleSet, SetKeys, SetRule, Supervisor, absolute,
};
use manifest::{Children, Memory, Origin, Rule, Scope};
use model::{Model, Right};
use points::{Points, RULES, universe};
use proptest::prelude::*;
use std::sync::Arc;
use uuid::Uuid;

const SECOND: u64 = 1_000_000_000;
/// Later than anything ends that ends at all.
const LATEST: u64 = 60 * SECOND;

fn scope(text: &str) -> Scope {
    text.parse::<Rule>().unwrap().scope
}

#[test]
fn the_algebra_means_what_the_rules_say() {
    let universe = universe();
    let points = RULES.map(|rule| Points::of(rule, &universe));
    let mut met = 0;
    for (a, in_a) in RULES.iter().zip(points) {
        assert!(!in_a.is_empty(), "{a} allows nothing that is tried");
        let each = universe.iter().enumerate();
        let wrong = each.filter(|(at, tried)| scope(a).covers(&scope(tried)) != in_a.has(*at));
        assert_eq!(wrong.map(|(_, tried)| tried).collect::<Vec<_>>(), [""; 0], "{a}");
        for (b, in_b) in RULES.iter().zip(points) {
            assert_eq!(scope(a).covers(&scope(b)), in_a.all_of(in_b), "{a} and {b}");
            let meet = scope(a).meet(&scope(b));
            let both = meet.map(|meet| Points::of(&Rule::new(meet).to_string(), &universe));
            assert_eq!(both.unwrap_or_default(), in_a.meets(in_b), "what {a} and {b} both allow");
            met += u32::from(!in_a.meets(in_b).is_empty());
        }
    }
    assert!(met > 100, "{met} pairs have something in common");
}

#[derive(Clone, Debug)]
enum Step {
    Spawn(usize, Vec<Wanted>, bool),
    Grant(usize, Wanted),
    Revoke(usize, usize),
    End(usize),
    Wait(u64),
}

/// A rule, and for how many seconds.
type Wanted = (usize, Option<u64>);

fn wanted() -> impl Strategy<Value = Wanted> {
    (0..RULES.len(), prop::option::weighted(0.2, 1_u64..8))
}

fn step() -> impl Strategy<Value = Step> {
    let spawn = (0_usize..8, prop::collection::vec(wanted(), 0..4), any::<bool>());
    prop_oneof![
        4 => spawn.prop_map(|(parent, rules, reparents)| Step::Spawn(parent, rules, reparents)),
        4 => (0_usize..8, wanted()).prop_map(|(agent, rule)| Step::Grant(agent, rule)),
        3 => (0_usize..8, 0..RULES.len()).prop_map(|(agent, rule)| Step::Revoke(agent, rule)),
        1 => (0_usize..8).prop_map(Step::End),
        1 => (1_u64..3).prop_map(Step::Wait),
    ]
}

/// Both, side by side: an agent has the same place in both lists.
struct Pair {
    real: Supervisor,
    keys: Arc<SetKeys>,
    model: Model,
    universe: Vec<String>,
    points: [Points; RULES.len()],
    /// Of each number of the model's.
    aids: Vec<AgentId>,
    now: u64,
    done: u32,
}

impl Pair {
    fn new() -> Pair {
        let keys = Arc::new(SetKeys::default());
        let universe = universe();
        let points = RULES.map(|rule| Points::of(rule, &universe));
        let real = Supervisor::new(Limits::default(), keys.clone());
        let (model, aids) = (Model::default(), Vec::new());
        Pair { real, keys, model, universe, points, aids, now: 0, done: 0 }
    }

    fn rule(&self, (rule, seconds): Wanted) -> SetRule {
        let rule: Rule = match seconds {
            Some(seconds) => format!("{};expires={seconds}s", RULES[rule]).parse().unwrap(),
            None => RULES[rule].parse().unwrap(),
        };
        let expires_ns = absolute(&rule, self.now);
        let rule = Rule::new(rule.scope);
        SetRule {
            rule,
            origin: Origin::Command,
            expires_ns,
            counter: None,
            place: Place::Free,
            granted_ns: self.now,
        }
    }

    fn right(&self, (rule, seconds): Wanted) -> Right {
        let until = seconds.map(|seconds| self.now + seconds * SECOND);
        Right { rule, may: self.points[rule], until }
    }

    fn spawn(&mut self, parent: Option<usize>, rules: &[Wanted], reparents: bool) {
        let set = RuleSet::new(self.keys.fresh(), rules.iter().map(|rule| self.rule(*rule)));
        let admission = Admission {
            uuid: Uuid::now_v7(),
            parent: parent.map(|parent| self.aids[parent]),
            name: "n".into(),
            tenant: "maya".into(),
            children: if reparents { Children::Reparent } else { Children::End },
            weight: 100,
            memory: Memory::default(),
            denial_limit: None,
            sets: vec![set],
        };
        let real = self.real.admit(admission, self.now);
        let rights: Vec<Right> = rules.iter().map(|rule| self.right(*rule)).collect();
        let model = self.model.spawn(parent, &rights, reparents, self.now);
        assert_eq!(real.is_ok(), model, "admitted: {real:?}");
        if let Ok(aid) = real {
            for event in [Event::Attest, Event::Activate] {
                self.real.event(aid, event).unwrap().unwrap();
            }
            self.aids.push(aid);
            self.done += 1;
        }
    }

    fn grant(&mut self, agent: usize, wanted: Wanted) {
        let plan = self.real.plan_grant(self.aids[agent], self.rule(wanted), self.now);
        let model = self.model.grant(agent, self.right(wanted), self.now);
        assert_eq!(plan.is_ok(), model, "granted: {plan:?}");
        if let Ok(plan) = plan {
            self.real.commit(&plan.changes, self.now);
            self.done += 1;
        }
    }

    fn revoke(&mut self, agent: usize, rule: usize) {
        let plan = self.real.plan_revoke(self.aids[agent], &RULES[rule].parse().unwrap(), self.now);
        let model = self.model.revoke(agent, self.points[rule], self.now);
        let still = plan.as_ref().ok().map(|plan| plan.still.len());
        assert_eq!(still, model, "revoked, and what is left of it: {plan:?}");
        if let Ok(plan) = plan {
            self.real.commit(&plan.changes, self.now);
            self.done += 1;
        }
    }

    fn end(&mut self, agent: usize) {
        let plan = self.real.plan_end(self.aids[agent]).unwrap();
        self.real.reparent(&plan).unwrap();
        for aid in plan.end {
            self.real.event(aid, Event::Terminate(End::Clean)).unwrap().unwrap();
            self.real.release_slot(aid).unwrap();
        }
        self.model.end(agent);
        self.done += 1;
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
        for aid in self.real.due(self.now) {
            let change = self.real.plan_expire(aid, self.now).unwrap();
            self.real.commit(&Vec::from_iter(change), self.now);
        }
        self.model.expire(self.now);
    }

    fn step(&mut self, step: Step) {
        let living: Vec<usize> = self.model.living.keys().copied().collect();
        let pick = |at: usize| living.get(at % living.len().max(1)).copied();
        match step {
            Step::Spawn(parent, rules, reparents) => {
                let parent = pick(parent);
                self.spawn(parent, &rules, reparents);
            }
            Step::Grant(agent, rule) => {
                pick(agent).into_iter().for_each(|agent| self.grant(agent, rule))
            }
            Step::Revoke(agent, rule) => {
                pick(agent).into_iter().for_each(|agent| self.revoke(agent, rule))
            }
            Step::End(agent) => pick(agent).into_iter().for_each(|agent| self.end(agent)),
            Step::Wait(seconds) => self.wait(seconds),
        }
    }

    /// The same agents live, below the same parents, and may try the same, whenever they are asked.
    fn agree(&self, tried: &[Scope]) {
        let living: Vec<AgentId> =
            self.model.living.keys().map(|number| self.aids[*number]).collect();
        assert_eq!(self.real.living().map(|agent| agent.aid).collect::<Vec<_>>(), living);
        for (number, agent) in &self.model.living {
            let real = self.real.get(self.aids[*number]).unwrap();
            assert_eq!(real.parent, agent.parent.map(|parent| self.aids[parent]));
            for time in (self.now..=self.now + 8 * SECOND).step_by(1_000_000_000).chain([LATEST]) {
                let alive: Vec<&Scope> = real
                    .held()
                    .filter(|held| held.rule.is_alive(time))
                    .map(|held| &held.rule.rule.scope)
                    .collect();
                for (at, tried) in tried.iter().enumerate() {
                    let may = alive.iter().any(|scope| scope.covers(tried));
                    let what = &self.universe[at];
                    assert_eq!(
                        may,
                        self.model.may(*number, at, time),
                        "agent {number}, {what}, at {time}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_tree_allows_what_a_plain_model_of_it_allows() {
    let config =
        ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let tried: Vec<Scope> = universe().iter().map(|tried| scope(tried)).collect();
    let (steps, done) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let trees = runner.run(&prop::collection::vec(step(), 0..40), |all| {
        let mut pair = Pair::new();
        let everything: Vec<Wanted> = (0..RULES.len()).map(|rule| (rule, None)).collect();
        pair.spawn(None, &everything, true);
        steps.set(steps.get() + all.len());
        for step in all {
            pair.step(step);
            pair.agree(&tried);
        }
        done.set(done.get() + pair.done);
        Ok(())
    });
    trees.unwrap();
    println!("{} steps, {} of them changed something", steps.get(), done.get());
    assert!(done.get() > 5_000);
}
