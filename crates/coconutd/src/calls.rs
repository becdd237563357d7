//! What the broker tells of calls that are over: each is booked and recorded once, however often it is told.

use crate::state::Inner;
use abi::{Capability, Kind, Verdict};
use api::broker::{SettledCalls, Usage};
use record::{Body, Entry, body};
use std::collections::BTreeSet;

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
