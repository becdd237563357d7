//! What a step is planned for: sequences, and the accounts that pay for them.

/// Virtual times of an account and of those whose part it shares, the topmost first: what each has been
/// served, weighted. The smaller goes first.
pub type Key = Vec<u64>;

/// The account that pays for a sequence's tokens.
///
/// Implemented by the broker's fair queue. `charge` is called for every token before it is computed,
/// prefill included; `key` may change with every charge to any sequence of the same account.
pub trait Share: Send + Sync {
    /// Where the account stands now.
    fn key(&self) -> Key;
    /// Tokens about to be computed for this account.
    fn charge(&self, tokens: u32);
    /// Somebody else may come at any time, so steps should be short.
    fn crowded(&self) -> bool {
        false
    }
    /// Somebody else has been served more than this account has.
    fn owed(&self) -> bool {
        false
    }
    /// The step of this number is over; so many of its tokens were the account's.
    fn computed(&self, _step: u64, _tokens: u32) {}
    /// The request's first token is there.
    fn answered(&self) {}
}

/// What one sequence could use in the next step.
pub trait Demand {
    /// Prompt tokens not computed yet; 0 while it generates (it then takes one token a step).
    fn prefill_left(&self) -> u32;
    /// Tokens of context that it holds.
    fn held(&self) -> u32;
    /// Its account.
    fn share(&self) -> &dyn Share;
}
