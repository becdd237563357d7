//! When a command that says nothing has stopped for good: judged by what it computes, so that a busy machine is
//! waited for and a test that hangs is named instead of eating the whole time of a run.

use std::time::Duration;

/// Nobody who goes on computes so little for so long.
const STILL: Duration = Duration::from_secs(600);
/// Less than this is no work: a program that only waits also wakes up.
const LITTLE: Duration = Duration::from_secs(2);
/// Processor time in which every command that goes on has said something.
const SPUN: Duration = Duration::from_secs(3600);

/// What was seen of a command; all times since its start.
pub struct Quiet {
    still: Duration,
    said: Seen,
    worked: Seen,
}

impl Default for Quiet {
    fn default() -> Self {
        Self::new(STILL)
    }
}

/// When, and how much it had computed until then.
#[derive(Default, Clone, Copy)]
struct Seen {
    at: Duration,
    work: Duration,
}

impl Quiet {
    /// Who computes nothing for so long, hangs.
    pub fn new(still: Duration) -> Self {
        Self { still, said: Seen::default(), worked: Seen::default() }
    }

    /// It said something.
    pub fn said(&mut self, at: Duration) {
        let work = self.worked.work;
        self.said = Seen { at, work };
        self.worked = Seen { at, work };
    }

    /// How long it has said nothing.
    pub fn silent(&self, now: Duration) -> Duration {
        now.saturating_sub(self.said.at)
    }

    /// It has computed for so long in all; why it is to be given up, if it is.
    pub fn look(&mut self, now: Duration, work: Duration) -> Option<String> {
        // Less than before: a child has ended that nobody waited for.
        if work < self.worked.work || work - self.worked.work > LITTLE {
            self.worked = Seen { at: now, work };
        }
        self.said.work = self.said.work.min(work);
        let spun = work - self.said.work;
        let still = now.saturating_sub(self.worked.at);
        let silent = self.silent(now).as_secs();
        if spun > SPUN {
            return Some(format!(
                "said nothing for {silent} s and computed for {} s",
                spun.as_secs()
            ));
        }
        let why = format!("said nothing for {silent} s and computes nothing: it hangs");
        (still > self.still).then_some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn who_neither_speaks_nor_computes_hangs() {
        let mut quiet = Quiet::default();
        quiet.said(secs(100));
        assert_eq!(quiet.look(secs(699), secs(1)), None);
        assert!(quiet.look(secs(701), secs(1)).unwrap().contains("said nothing for 601 s"));
        quiet.said(secs(702));
        assert_eq!(quiet.look(secs(703), secs(1)), None);
    }

    #[test]
    fn who_computes_is_waited_for_however_slow_the_machine_is() {
        let mut quiet = Quiet::default();
        for at in 1..60u32 {
            // Three seconds of processor time in five minutes.
            assert_eq!(quiet.look(secs(300) * at, secs(3) * at), None);
        }
        let mut spins = Quiet::default();
        assert_eq!(spins.look(secs(3600), secs(3600)), None);
        assert!(spins.look(secs(3601), secs(3601)).unwrap().contains("computed for 3601 s"));
    }

    #[test]
    fn what_a_child_had_computed_may_vanish_with_it() {
        let mut quiet = Quiet::default();
        assert_eq!(quiet.look(secs(10), secs(100)), None);
        quiet.said(secs(10));
        assert_eq!(quiet.look(secs(500), secs(5)), None);
        assert_eq!(quiet.look(secs(1000), secs(5)), None);
        assert!(quiet.look(secs(1101), secs(5)).is_some());
    }
}
