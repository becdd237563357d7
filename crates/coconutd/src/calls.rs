//! What the broker tells of calls that are over: each is booked and recorded once, however often it is told.

use crate::state::Inner;
use abi::{Capability, Kind, Verdict};
use api::broker::{SettledCalls, Usage};
use record::{Body, Entry, body};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Journals that are remembered. A broker has one for as long as its folder lies there.
const JOURNALS: usize = 64;

/// Up to which number each journal's calls are booked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journals(BTreeMap<Uuid, u64>);

impl Journals {
    /// As an earlier daemon left them.
    pub fn restored(all: BTreeMap<Uuid, u64>) -> Self {
        Journals(all)
    }

    /// Each, with its number.
    pub fn all(&self) -> &BTreeMap<Uuid, u64> {
        &self.0
    }

    /// So many of the first of these are booked already; from now on all of them are.
    fn take(&mut self, told: &SettledCalls) -> usize {
        let through = self.0.get(&told.journal).copied().unwrap_or(0);
        let known = through.saturating_add(1).saturating_sub(told.first);
        let last = told.first.saturating_add(told.calls.len() as u64).saturating_sub(1);
        self.0.insert(told.journal, through.max(last));
        // Ids are of version 7: the first is the oldest.
        while self.0.len() > JOURNALS {
            self.0.pop_first();
        }
        usize::try_from(known).unwrap_or(usize::MAX).min(told.calls.len())
    }
}

impl Inner {
    /// Books what is not booked yet; its records, and the tenants whose sums have changed.
    pub fn book_calls(&mut self, told: &SettledCalls) -> (Vec<Entry>, BTreeSet<String>) {
        let known = self.journals.take(told);
        let news = told.calls.get(known..).unwrap_or_default();
        let entries = news.iter().map(|usage| self.book_usage(usage)).collect();
        (entries, news.iter().map(|usage| usage.tenant.clone()).collect())
    }

    fn book_usage(&mut self, usage: &Usage) -> Entry {
        let tokens = u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens);
        let aid = self.supervisor.by_uuid(usage.agent).map(|agent| agent.aid);
        let tenant = self.tenants.entry(usage.tenant.clone()).or_default();
        tenant.tokens += tokens;
        tenant.calls += 1;
        tenant.refused += u64::from(usage.refused.is_some());
        let mut entry = match aid {
            Some(aid) => {
                if let Some(info) = self.info.get_mut(&aid) {
                    info.tokens += tokens;
                    info.calls += 1;
                    self.supervisor.note(aid);
                }
                self.entry(aid, Kind::Inference)
            }
            None => crate::sink::own(Kind::Inference, "", ""),
        };
        entry.agent = usage.agent;
        entry.tenant.clone_from(&usage.tenant);
        entry.time_ns = usage.time_ns;
        entry.capability = Capability::Infer;
        entry.verdict = if usage.refused.is_some() { Verdict::Deny } else { Verdict::Allow };
        entry.object.clone_from(&usage.model);
        entry.body = Body::Inference(body::Inference {
            prompt_tokens: Some(usage.prompt_tokens.into()),
            completion_tokens: Some(usage.completion_tokens.into()),
            queued_us: Some(usage.queued_us),
            first_token_us: Some(usage.first_token_us),
            steps: Some(usage.steps),
            passed_steps: Some(usage.passed_steps),
            others_tokens: Some(usage.others_tokens),
            refused: usage.refused.clone().unwrap_or_default(),
            call: if usage.call.is_nil() { String::new() } else { usage.call.to_string() },
        });
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(journal: u128, first: u64, calls: usize) -> SettledCalls {
        let calls = vec![Usage::default(); calls];
        SettledCalls { journal: Uuid::from_u128(journal), first, calls }
    }

    #[test]
    fn what_is_told_again_is_known() {
        let mut journals = Journals::default();
        assert_eq!(journals.take(&told(1, 1, 3)), 0);
        assert_eq!(journals.take(&told(1, 1, 3)), 3, "the same again");
        assert_eq!(journals.take(&told(1, 2, 4)), 2, "two of them, and two new ones");
        assert_eq!(journals.take(&told(2, 1, 1)), 0, "another journal");
        assert_eq!(journals.take(&told(1, 6, 1)), 0, "the next");
        assert_eq!(journals.take(&told(1, 1, 2)), 2, "long ago");
        assert_eq!(journals.take(&told(1, 7, 0)), 0, "nothing");
        assert_eq!(journals.all()[&Uuid::from_u128(1)], 6);
        for journal in 3..200 {
            journals.take(&told(journal, 1, 1));
        }
        assert_eq!(journals.all().len(), JOURNALS);
    }
}
