//! What a step is planned for: sequences, and the accounts that pay for them.

use ports::Share;

/// What one sequence could use in the next step.
pub trait Demand {
    /// Prompt tokens not computed yet; 0 while it generates (it then takes one token a step).
    fn prefill_left(&self) -> u32;
    /// Tokens of context that it holds.
    fn held(&self) -> u32;
    /// Its account.
    fn share(&self) -> &dyn Share;
}
