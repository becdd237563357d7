//! The user that an agent runs as.

use crate::caller::Caller;
use crate::error::{Answer, Refusal};
use crate::state::Daemon;
use nix::unistd::{Gid, User, getgrouplist};
use std::ffi::CString;

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Whom an agent of `caller` runs as, when its manifest wants `wanted`.
///
/// # Errors
/// When there is no such user, or the caller may not choose it.
pub fn run_as(daemon: &Daemon, caller: &Caller, wanted: Option<&str>) -> Answer<RunAs> {
    let own = match caller {
        Caller::Operator { uid: 0, .. } => {
            by_name(&daemon.config.agent_user).map_err(|refusal| {
                refusal.hint("the package makes it: `systemd-sysusers`; or set `user` in [agent]")
            })?
        }
        Caller::Operator { uid, gid } | Caller::User { uid, gid } => by_id(*uid, *gid),
        Caller::Agent { aid, gid, .. } => {
            let inner = daemon.inner();
            let uid = inner.info.get(aid).map(|info| info.uid);
            drop(inner);
            by_id(uid.ok_or_else(|| Refusal::denied("the parent is not known"))?, *gid)
        }
        Caller::Broker { .. } => return Err(Refusal::denied("the broker does not spawn agents")),
    };
    let Some(name) = wanted else { return Ok(own) };
    let user = by_name(name)?;
    if caller.is_operator() || user.uid == own.uid {
        return Ok(user);
    }
    Err(Refusal::denied(format!(
        "the manifest wants user `{name}`, which {} may not choose",
        caller.name()
    ))
    .hint("leave `user` out of [agent], or ask an operator to start it"))
}

fn by_name(name: &str) -> Answer<RunAs> {
    let user = User::from_name(name)
        .map_err(|e| Refusal::failed(format!("cannot look up user `{name}`: {e}")))?
        .ok_or_else(|| Refusal::usage(format!("there is no user `{name}`")))?;
    Ok(with_groups(user.uid.as_raw(), user.gid, &user.name))
}

/// A user without an entry in the user database has its own group only.
fn by_id(uid: u32, gid: u32) -> RunAs {
    match User::from_uid(uid.into()) {
        Ok(Some(user)) => with_groups(uid, user.gid, &user.name),
        _ => RunAs { uid, gid, groups: Vec::new() },
    }
}

fn with_groups(uid: u32, gid: Gid, name: &str) -> RunAs {
    let groups = CString::new(name).ok().and_then(|name| getgrouplist(&name, gid).ok());
    let groups = groups.unwrap_or_default().into_iter().map(Gid::as_raw).collect();
    RunAs { uid, gid: gid.as_raw(), groups }
}
