//! How many descriptors this process may have: what every limit of connections is made from.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where the system sets no limit, as many as the kernel gives at most (`fs.nr_open`'s default).
const UNLIMITED: u64 = 1 << 20;

/// Raises the limit of open descriptors as far as this process may, and says how far that is.
pub fn limit() -> usize {
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => now.maximum,
        Err(_) => now.current,
    };
    usize::try_from(current.unwrap_or(UNLIMITED).min(UNLIMITED)).unwrap_or(usize::MAX)
}
