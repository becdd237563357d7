//! What each call has cost: on record before it runs, counted as it runs, settled once when nobody holds it
//! any more; whatever happens to the caller, to this process, or to coconutd.
//!
//! | what dies | who knows what was done |
//! |---|---|
//! | the caller | the [`Account`]: it is settled when the engine has let go of the call, too |
//! | this process | the [`journal`]: the next one settles what it finds open |
//! | coconutd | the journal, until coconutd has acknowledged the record; it knows the records that it has by their numbers |

mod account;
mod delivery;
pub mod journal;
mod log;
pub mod waits;

pub use account::Account;
pub use log::UsageLog;
