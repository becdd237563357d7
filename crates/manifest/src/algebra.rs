//! Subset and intersection of capabilities: what keeps a grant from amplifying.
//!
//! `covers` is decided rule by rule, so that a union of rules never covers more than one of them
//! does: two /25 blocks do not cover their /24. That refuses a little too much and never too little.

use crate::net::{Endpoint, Host};
use crate::path::AbsPath;
use crate::rule::{FsRight, InferScope, Rule, RuleError, Scope, UnixAddress};
use std::collections::BTreeSet;
use std::time::Duration;

impl Scope {
    /// True if everything that `other` allows is allowed by `self`.
    pub fn covers(&self, other: &Scope) -> bool {
        match (self, other) {
            (Scope::Fs { right: a, path: tree }, Scope::Fs { right: b, path }) => {
                a.bits() & b.bits() == b.bits() && path.is_below(tree)
            }
            (Scope::Net { right: a, endpoint }, Scope::Net { right: b, endpoint: inner }) => {
                a == b && endpoint.contains(inner)
            }
            (Scope::NetRaw, Scope::NetRaw) | (Scope::Signal, Scope::Signal) => true,
            (Scope::Unix(a), Scope::Unix(b)) => covers_unix(a, b),
            (Scope::Infer(a), Scope::Infer(b)) => covers_infer(a, b),
            (Scope::Spawn { count: a }, Scope::Spawn { count: b }) => a >= b,
            (Scope::Device(tree), Scope::Device(path)) => path.is_below(tree),
            (Scope::AuditRead(a), Scope::AuditRead(b)) => a >= b,
            _ => false,
        }
    }

    /// What both allow; none if nothing.
    pub fn meet(&self, other: &Scope) -> Option<Scope> {
        Some(match (self, other) {
            (Scope::Fs { right: a, path: p }, Scope::Fs { right: b, path: q }) => {
                Scope::Fs { right: meet_rights(*a, *b)?, path: deeper(p, q)?.clone() }
            }
            (Scope::Net { right: a, endpoint: e }, Scope::Net { right: b, endpoint: f })
                if a == b =>
            {
                Scope::Net { right: *a, endpoint: meet_endpoints(e, f)? }
            }
            (Scope::Infer(a), Scope::Infer(b)) => Scope::Infer(meet_infer(a, b)?),
            (Scope::Device(a), Scope::Device(b)) => Scope::Device(deeper(a, b)?.clone()),
            (a, b) if a.covers(b) => b.clone(),
            (a, b) if b.covers(a) => a.clone(),
            _ => return None,
        })
    }
}

fn covers_unix(a: &UnixAddress, b: &UnixAddress) -> bool {
    match (a, b) {
        (UnixAddress::Path(tree), UnixAddress::Path(path)) => path.is_below(tree),
        (UnixAddress::Abstract(a), UnixAddress::Abstract(b)) => a == b,
        _ => false,
    }
}

/// `None` is no limit, so it covers every limit.
fn at_least<T: Ord>(a: Option<T>, b: Option<T>) -> bool {
    match (a, b) {
        (None, _) => true,
        (Some(a), Some(b)) => a >= b,
        (Some(_), None) => false,
    }
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

fn covers_infer(a: &InferScope, b: &InferScope) -> bool {
    (a.any_model() || b.models.is_subset(&a.models))
        && at_least(a.tokens_per_minute, b.tokens_per_minute)
        && at_least(a.concurrency, b.concurrency)
        && at_least(a.context, b.context)
}

fn meet_infer(a: &InferScope, b: &InferScope) -> Option<InferScope> {
    let models: BTreeSet<String> = match (a.any_model(), b.any_model()) {
        (true, _) => b.models.clone(),
        (_, true) => a.models.clone(),
        _ => a.models.intersection(&b.models).cloned().collect(),
    };
    (!models.is_empty()).then(|| InferScope {
        models,
        tokens_per_minute: least(a.tokens_per_minute, b.tokens_per_minute),
        concurrency: least(a.concurrency, b.concurrency),
        context: least(a.context, b.context),
    })
}

fn meet_rights(a: FsRight, b: FsRight) -> Option<FsRight> {
    let bits = a.bits() & b.bits();
    FsRight::ALL.into_iter().find(|right| right.bits() == bits)
}

fn deeper<'a>(a: &'a AbsPath, b: &'a AbsPath) -> Option<&'a AbsPath> {
    if a.is_below(b) { Some(a) } else { b.is_below(a).then_some(b) }
}

fn meet_endpoints(a: &Endpoint, b: &Endpoint) -> Option<Endpoint> {
    let host: &Host = if a.host.contains(&b.host) {
        &b.host
    } else if b.host.contains(&a.host) {
        &a.host
    } else {
        return None;
    };
    let port = match (a.port, b.port) {
        (Some(a), Some(b)) if a != b => return None,
        (one, other) => one.or(other),
    };
    Some(Endpoint { host: host.clone(), port })
}

impl Rule {
    /// True if `self` allows all that `other` allows, for at least as long and as often.
    pub fn covers(&self, other: &Rule) -> bool {
        self.scope.covers(&other.scope)
            && at_least(self.expires, other.expires)
            && at_least(self.uses, other.uses)
    }

    /// What both allow, as long and as often as both do.
    pub fn meet(&self, other: &Rule) -> Option<Rule> {
        let scope = self.scope.meet(&other.scope)?;
        let (expires, uses) = (least(self.expires, other.expires), least(self.uses, other.uses));
        Some(Rule { scope, expires, uses })
    }

    /// The same rule for at most `span`.
    pub fn clipped(mut self, span: Option<Duration>) -> Rule {
        self.expires = least(self.expires, span);
        self
    }

    /// The same rule for at most so many uses.
    ///
    /// # Errors
    /// For what is not counted: what is no single use, or not the kernel's to decide.
    pub fn counted(mut self, uses: Option<u32>) -> Result<Self, RuleError> {
        let countable = match &self.scope {
            Scope::Fs { .. } | Scope::Net { .. } | Scope::Unix(_) | Scope::Device(_) => true,
            Scope::NetRaw
            | Scope::Infer(_)
            | Scope::Spawn { .. }
            | Scope::Signal
            | Scope::AuditRead(_) => false,
        };
        if uses.is_some() && !countable {
            return Err(RuleError::Uncountable(self.capability()));
        }
        self.uses = least(self.uses, uses);
        Ok(self)
    }
}
