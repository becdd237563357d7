//! What the rules of this small world allow, told without the algebra: as the files that can be read by them.

use coconut_supervisor::{Held, HeldSet, Inode, Place, RuleSet, SetKeys, SetRule};
use manifest::{Origin, Rule};
use std::sync::Arc;

/// Files that can be read, a bit for each: what is directly in `/a`, what is in `/a/b`, and what is in the folder that
/// lies at `/a` once somebody has put another one there.
pub type Files = u8;

const HERE: Files = 0b001;
const BELOW: Files = 0b010;
const OTHER: Files = 0b100;

/// A rule with the file that its name leads to, and what can be read by it.
pub struct Given {
    pub text: &'static str,
    nodes: &'static [u64],
    pub files: Files,
}

/// What can be given.
pub const GIVEN: [Given; 3] = [
    Given { text: "fs.read=/a", nodes: &[1], files: HERE | BELOW },
    Given { text: "fs.read=/a", nodes: &[2], files: OTHER },
    Given { text: "fs.read=/a/b", nodes: &[3, 1], files: BELOW },
];

/// What can be taken: everything whose name is the one, or begins with the other.
pub const TAKEN: [(&str, &str); 2] = [("/a", "/a/"), ("/a/b", "/a/b/")];

fn set_rule(text: &str, place: Place) -> SetRule {
    let rule: Rule = text.parse().unwrap();
    SetRule { rule, origin: Origin::Command, expires_ns: None, counter: None, place, granted_ns: 0 }
}

/// A rule, as it is granted.
pub fn rule(index: usize) -> SetRule {
    let given = &GIVEN[index];
    let nodes = given.nodes.iter().map(|ino| Inode { dev: 1, ino: *ino }).collect();
    set_rule(given.text, Place::File { nodes, follows: false })
}

/// A set for a new agent: these rules, and that it may have children.
pub fn set(keys: &SetKeys, rules: &[usize]) -> Arc<RuleSet> {
    let spawn = set_rule("agent.spawn=4", Place::Free);
    let rules = rules.iter().map(|index| rule(*index));
    RuleSet::new(keys.fresh(), std::iter::once(spawn).chain(rules))
}

fn files_of(rule: &SetRule) -> Files {
    let Place::File { nodes, .. } = &rule.place else { return 0 };
    files_at(nodes.first().map(|node| node.ino))
}

/// What can be read by a rule whose name led to this file.
pub fn files_at(ino: Option<u64>) -> Files {
    let known = GIVEN.iter().find(|given| ino == Some(given.nodes[0]));
    known.map_or(0, |given| given.files)
}

fn all<'a>(held: impl Iterator<Item = Held<'a>>) -> Files {
    held.fold(0, |files, held| files | files_of(held.rule))
}

/// What can be read by sets.
pub fn files(sets: &[HeldSet]) -> Files {
    all(sets.iter().flat_map(HeldSet::held))
}

/// What an agent cannot read any more once this was taken from it.
pub fn lost(sets: &[HeldSet], taken: usize) -> Files {
    let (name, below) = TAKEN[taken];
    let held = || sets.iter().flat_map(HeldSet::held);
    let goes = |held: &Held<'_>| {
        let path = held.rule.rule.value();
        held.rule.rule.to_string().starts_with("fs.read=")
            && (path == name || path.starts_with(below))
    };
    all(held().filter(goes)) & !all(held().filter(|held| !goes(held)))
}
