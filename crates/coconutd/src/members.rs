//! Which users are operators, remembered until the user database changes.

use crate::caller::Caller;
use crate::config::Config;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Files of the user database; another source of users (LDAP, systemd) changes none of them, so
/// nothing is remembered for longer than [`LIFE`].
const FILES: [&str; 2] = ["/etc/passwd", "/etc/group"];
const LIFE: Duration = Duration::from_secs(1);
/// Users that are remembered at once.
const REMEMBERED: usize = 1_024;

/// Device, inode, size and time of change of each file.
type Stamp = [Option<(u64, u64, u64, i64, i64)>; 2];

/// Remembers who is what.
#[derive(Debug, Default)]
pub struct Members {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    stamp: Stamp,
    since: Option<Instant>,
    callers: HashMap<(u32, u32), Caller>,
}

impl Members {
    /// What the user with these ids is. May read the user database, so it may wait for it.
    pub fn caller(&self, uid: u32, gid: u32, config: &Config) -> Caller {
        if uid == 0 {
            return Caller::Operator { uid, gid };
        }
        let stamp = FILES.map(|file| stamp(Path::new(file)));
        if let Some(caller) = self.remembered(uid, gid, stamp) {
            return caller;
        }
        // Not under the lock: a user database that hangs holds up whoever asks it, nobody else.
        let caller = look_up(uid, gid, config);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.stamp == stamp && known.callers.len() < REMEMBERED {
            known.callers.insert((uid, gid), caller);
        }
        caller
    }

    fn remembered(&self, uid: u32, gid: u32, stamp: Stamp) -> Option<Caller> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = known.since.is_some_and(|since| since.elapsed() < LIFE);
        if !fresh || known.stamp != stamp {
            *known = Known { stamp, since: Some(Instant::now()), callers: HashMap::new() };
        }
        known.callers.get(&(uid, gid)).copied()
    }
}

fn stamp(path: &Path) -> Option<(u64, u64, u64, i64, i64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
}

fn look_up(uid: u32, gid: u32, config: &Config) -> Caller {
    let name = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
    let group = nix::unistd::Group::from_name(&config.operator_group).ok().flatten();
    let member = group.is_some_and(|group| {
        group.gid.as_raw() == gid || name.as_ref().is_some_and(|name| group.mem.contains(name))
    });
    match name {
        _ if uid == 0 || member => Caller::Operator { uid, gid },
        Some(name) if name == config.broker_user => Caller::Broker { uid },
        _ => Caller::User { uid, gid },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_an_operator_and_nobody_is_a_user() {
        let (members, config) = (Members::default(), Config::default());
        assert!(members.caller(0, 0, &config).is_operator());
        assert!(matches!(members.caller(65_534, 65_534, &config), Caller::User { .. }));
    }

    #[test]
    fn what_is_remembered_goes_with_a_change_of_the_database() {
        let (members, config) = (Members::default(), Config::default());
        members.caller(65_534, 65_534, &config);
        let stamp = members.known.lock().unwrap().stamp;
        assert!(members.remembered(65_534, 65_534, stamp).is_some());
        let mut changed = stamp;
        changed[1] = Some((0, 0, 0, 0, 0));
        assert!(members.remembered(65_534, 65_534, changed).is_none(), "group was changed");
        assert!(members.remembered(65_534, 65_534, stamp).is_none(), "and is asked anew");
    }
}
