//! The agent's life as a state machine. The only way to a state is an event that leads to it.

use abi::AgentState;
use std::fmt;

/// How an agent ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum End {
    /// By itself with status 0, or by `kill` as asked.
    Clean,
    /// Because a right that it was using was revoked.
    Revoked,
    /// With another status, by a signal of its own, or before it ran.
    Failed,
}

/// What happens to an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Event {
    /// Signature and code digest were verified.
    Attest,
    /// Its program runs.
    Activate,
    /// It waits for the broker.
    AskModel,
    /// The broker answered.
    ModelAnswered,
    /// Something was refused.
    Deny,
    /// Something was allowed, after a denial.
    Allow,
    /// An operator or a policy stops it.
    Quarantine,
    /// An operator lets it go on.
    Release,
    /// It has ended.
    Terminate(End),
}

impl Event {
    /// Every event.
    pub const ALL: [Event; 11] = [
        Self::Attest,
        Self::Activate,
        Self::AskModel,
        Self::ModelAnswered,
        Self::Deny,
        Self::Allow,
        Self::Quarantine,
        Self::Release,
        Self::Terminate(End::Clean),
        Self::Terminate(End::Revoked),
        Self::Terminate(End::Failed),
    ];

    /// The agent itself brings it about, by what it does; nobody decides anything.
    pub(crate) const fn is_its_own(self) -> bool {
        matches!(self, Self::AskModel | Self::ModelAnswered | Self::Deny | Self::Allow)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attest => "attest",
            Self::Activate => "activate",
            Self::AskModel => "ask a model",
            Self::ModelAnswered => "have a model answer",
            Self::Deny => "be denied",
            Self::Allow => "be allowed",
            Self::Quarantine => "be quarantined",
            Self::Release => "be released",
            Self::Terminate(_) => "end",
        })
    }
}

/// One step: exactly one audit record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    /// Before.
    pub from: AgentState,
    /// After.
    pub to: AgentState,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from.name(), self.to.name())
    }
}

/// The event cannot happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an agent that is {} cannot {event}", .state.name())]
pub struct IllegalTransition {
    /// Where it is.
    pub state: AgentState,
    /// What was tried.
    pub event: Event,
}

/// An agent's place in its life. Starts in [`AgentState::Spawning`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifecycle {
    state: AgentState,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Lifecycle { state: AgentState::Spawning }
    }
}

impl Lifecycle {
    /// Where an earlier daemon left it.
    pub(crate) fn at(state: AgentState) -> Self {
        Lifecycle { state }
    }

    /// Where it is.
    pub fn state(&self) -> AgentState {
        self.state
    }

    /// Goes on; `None` if the event leaves the state as it is.
    pub fn apply(&mut self, event: Event) -> Result<Option<Transition>, IllegalTransition> {
        let from = self.state;
        let to = next(from, event).ok_or(IllegalTransition { state: from, event })?;
        self.state = to;
        Ok((from != to).then_some(Transition { from, to }))
    }
}

/// The design's diagram (§4). A denial is noted in every living state, but only a running agent
/// moves: one that waits for a model or is frozen stays what it is.
fn next(state: AgentState, event: Event) -> Option<AgentState> {
    use AgentState as S;
    Some(match (state, event) {
        (S::Spawning, Event::Attest) => S::Attested,
        (S::Attested, Event::Activate) => S::Active,
        (S::Active | S::CapDenied, Event::AskModel) => S::InferenceBlocked,
        (S::InferenceBlocked, Event::ModelAnswered) => S::Active,
        (S::Active | S::CapDenied, Event::Deny) => S::CapDenied,
        (S::Active | S::CapDenied, Event::Allow) => S::Active,
        (S::Active | S::CapDenied | S::InferenceBlocked, Event::Quarantine) => S::Quarantined,
        (S::Quarantined, Event::Release) => S::Active,
        // A late answer or use is no news to an agent that has been frozen or moved on meanwhile.
        (S::Active | S::CapDenied | S::Quarantined, Event::ModelAnswered) => state,
        (S::InferenceBlocked | S::Quarantined, Event::Allow) => state,
        (living, Event::Deny) if !living.is_terminal() => living,
        (living, Event::Terminate(end)) if !living.is_terminal() => match end {
            End::Clean => S::TerminatedClean,
            End::Revoked => S::TerminatedRevoked,
            End::Failed => S::TerminatedFailed,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use AgentState as S;

    fn at(state: AgentState) -> Lifecycle {
        Lifecycle { state }
    }

    #[test]
    fn the_diagram_and_nothing_else() {
        let steps = |state: AgentState| {
            let mut list: Vec<AgentState> = Event::ALL
                .into_iter()
                .filter_map(|event| at(state).apply(event).ok().flatten())
                .map(|step| step.to)
                .collect();
            list.dedup();
            list
        };
        let ends = [S::TerminatedClean, S::TerminatedRevoked, S::TerminatedFailed];
        let with_ends = |states: &[AgentState]| [states, &ends].concat();
        assert_eq!(steps(S::Spawning), with_ends(&[S::Attested]));
        assert_eq!(steps(S::Attested), with_ends(&[S::Active]));
        assert_eq!(
            steps(S::Active),
            with_ends(&[S::InferenceBlocked, S::CapDenied, S::Quarantined])
        );
        assert_eq!(steps(S::InferenceBlocked), with_ends(&[S::Active, S::Quarantined]));
        assert_eq!(
            steps(S::CapDenied),
            with_ends(&[S::InferenceBlocked, S::Active, S::Quarantined])
        );
        assert_eq!(steps(S::Quarantined), with_ends(&[S::Active]));
        for end in ends {
            assert!(Event::ALL.into_iter().all(|event| at(end).apply(event).is_err()));
        }
    }

    #[test]
    fn nothing_runs_before_it_was_attested() {
        assert!(at(S::Spawning).apply(Event::Activate).is_err());
        let mut life = Lifecycle::default();
        life.apply(Event::Attest).unwrap();
        assert_eq!(life.apply(Event::Activate).unwrap().unwrap().to_string(), "attested -> active");
    }

    #[test]
    fn a_frozen_agent_is_not_thawed_by_an_answer() {
        let mut life = at(S::Quarantined);
        assert_eq!(life.apply(Event::ModelAnswered), Ok(None));
        assert_eq!(life.apply(Event::Allow), Ok(None));
        assert_eq!(life.state(), S::Quarantined);
    }

    #[test]
    fn a_second_denial_is_no_second_transition() {
        let mut life = at(S::Active);
        assert!(life.apply(Event::Deny).unwrap().is_some());
        assert!(life.apply(Event::Deny).unwrap().is_none());
        assert_eq!(life.apply(Event::Allow).unwrap().unwrap().to, S::Active);
    }

    #[test]
    fn the_error_reads_well() {
        let error = at(S::TerminatedClean).apply(Event::Release).unwrap_err();
        assert_eq!(error.to_string(), "an agent that is terminated-clean cannot be released");
    }
}
