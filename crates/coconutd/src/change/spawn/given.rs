//! What a new agent is given: its records say it, its environment names it.

use super::{HOME, Plan};
use crate::state::Inner;
use abi::{AgentId, Capability, Kind, Verdict};
use api::broker::BROKER_PORT;
use manifest::{Digest, Origin};
use record::{Body, Entry, body};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use supervisor::Event;

/// What git only reads, it does not lock: `git status` would write down what it saw (git(1)).
const GIT_READS: (&str, &str) = ("GIT_OPTIONAL_LOCKS", "0");
/// Where an agent's programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Plan {
    /// `spawn`, its grants, what is degraded, and the step to `Attested`.
    pub(super) fn records(&self, inner: &mut Inner, aid: AgentId) -> Vec<Entry> {
        let origin = &self.prepared.origin;
        let mut spawn = inner.entry(aid, Kind::Spawn);
        spawn.object = self.shown.join(" ");
        spawn.body = Body::Spawn(body::Spawn {
            name: self.prepared.manifest.agent.name.clone(),
            manifest: origin.digest.to_string(),
            signed: Some(origin.signed),
            authorizer: origin.authorizer.clone(),
            program: Digest(self.program.digest).to_string(),
            uid: Some(self.run_as.uid.into()),
        });
        let mut entries = vec![spawn];
        let unheld = (!self.program.guarded())
            .then(|| format!("nothing holds the content of {} until it runs", self.program.real));
        for text in self.prepared.degraded.iter().cloned().chain(unheld) {
            let mut entry = inner.entry(aid, Kind::Degraded);
            entry.object = text;
            entries.push(entry);
        }
        entries.extend(self.grants(inner, aid));
        entries.extend(inner.step(aid, Event::Attest).map(|(_, entry)| entry));
        entries
    }

    /// One record for each right of the manifest's own and what it implies, one for each profile,
    /// one for what every agent has at its launch.
    fn grants(&self, inner: &Inner, aid: AgentId) -> Vec<Entry> {
        let Ok(agent) = inner.supervisor.get(aid) else { return Vec::new() };
        let given = |object: String, given: body::Grant| {
            let mut entry = inner.entry(aid, Kind::Grant);
            entry.verdict = Verdict::Allow;
            (entry.object, entry.body) = (object, given.into());
            entry
        };
        let mut profiles: BTreeMap<&str, usize> = BTreeMap::new();
        let mut entries = Vec::new();
        let authorizer = &self.prepared.origin.authorizer;
        let by = |from: String| {
            let authorizer = authorizer.clone();
            body::Grant { from, authorizer, ..body::Grant::default() }
        };
        for held in agent.held() {
            if let Origin::Profile { name } = &held.rule.origin {
                *profiles.entry(name).or_default() += 1;
                continue;
            }
            let rule = Some(held.id.into());
            let from = by(crate::view::source(&held.rule.origin));
            let entry = given(held.rule.rule.value(), body::Grant { rule, ..from });
            entries.push(Entry { capability: held.rule.rule.capability(), ..entry });
        }
        for (name, count) in profiles {
            let rules = Some(count as u64);
            let from = by("profile".into());
            entries.push(given(format!("@{name}"), body::Grant { rules, ..from }));
        }
        let launch = inner.info.get(&aid).map(|info| info.launch.as_slice()).unwrap_or_default();
        let given_at = launch.iter().map(|given| format!("{}={}", given.kind, given.object));
        let at_launch = body::Grant {
            rule: Some(0),
            from: "launch".into(),
            launch: given_at.collect::<Vec<_>>().join(" "),
            ..body::Grant::default()
        };
        entries.push(given("its own mounts and standard files".to_owned(), at_launch));
        entries
    }

    /// The manifest's variables, then the request's, then ours: the last wins.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        let agent = &self.prepared.manifest.agent;
        let mut env: HashMap<String, String> = HashMap::new();
        for (name, value) in [("PATH", PATH), ("HOME", HOME), ("LANG", "C.UTF-8")] {
            env.insert(name.to_owned(), value.to_owned());
        }
        let profiles = &self.prepared.manifest.profiles;
        if profiles.iter().any(|profile| profile.name == "git") {
            env.insert(GIT_READS.0.to_owned(), GIT_READS.1.to_owned());
        }
        env.extend(agent.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        let asked = self.env.iter().filter_map(|variable| variable.split_once('='));
        env.extend(asked.map(|(name, value)| (name.to_owned(), value.to_owned())));
        env.insert("COCONUT_AGENT".into(), self.uuid.to_string());
        env.insert("COCONUT_TENANT".into(), agent.tenant.clone());
        if self.wanted.own.iter().any(|rule| rule.rule.capability() == Capability::Infer) {
            env.insert("OPENAI_BASE_URL".into(), format!("http://127.0.0.1:{BROKER_PORT}/v1"));
            env.entry("OPENAI_API_KEY".into()).or_insert_with(|| "coconut".into());
        }
        env.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }
}
