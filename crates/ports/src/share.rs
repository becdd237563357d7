//! Who pays for a call's tokens, and who counts them.

use crate::Tokens;

/// Virtual times of an account and of those whose part it shares, the topmost first: what each has been
/// served, weighted. The smaller goes first.
pub type Key = Vec<u64>;

/// The account that pays for a call's tokens: its place in the queue. Dropping the last hold on it gives the
/// place up.
///
/// Implemented by the broker's fair queue. `charge` is called for every token before it is computed,
/// prefill included; `key` may change with every charge to any call of the same account.
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
    /// The call's first token is there.
    fn answered(&self) {}
}

/// Counts what was really done for a call, at the moment at which it is done: before anybody hears of a
/// token, and whatever becomes of the caller. What was counted outlives the process.
pub trait Meter: Send + Sync {
    /// So many tokens of the prompt were read.
    fn read(&self, tokens: u32);
    /// So many tokens were written.
    fn wrote(&self, tokens: u32);
    /// The count of another server for the whole call, which holds instead.
    fn counted(&self, tokens: Tokens);
}

/// For measurements of an engine alone.
impl Meter for () {
    fn read(&self, _tokens: u32) {}
    fn wrote(&self, _tokens: u32) {}
    fn counted(&self, _tokens: Tokens) {}
}
