//! `cap ls`, `cap grant`, `cap revoke`.

use super::{Context, agent_path};
use crate::cli::Cap;
use crate::failure::{Done, Failure};
use crate::render::{self, time};
use api::ErrorCode;
use api::agent::{CapabilityChange, CapabilityList, ChangeReport};

/// `coconut cap …`.
pub fn cap(cx: &Context, cap: Cap) -> Done {
    match cap {
        Cap::Ls(target) => ls(cx, &target.aid),
        Cap::Grant { aid, capability, expires, uses, once } => {
            let expires_ms = expires
                .map(|text| time::parse_span(&text).map(|ns| ns.div_ceil(1_000_000)))
                .transpose()
                .map_err(|e| Failure::new(ErrorCode::Usage, e))?;
            let uses = if once { Some(1) } else { uses };
            change(cx, &aid, "grant", &CapabilityChange { capability, expires_ms, uses })
        }
        Cap::Revoke { aid, capability } => {
            let change_of = CapabilityChange { capability, expires_ms: None, uses: None };
            change(cx, &aid, "revoke", &change_of)
        }
    }
}

fn ls(cx: &Context, aid: &str) -> Done {
    let held: CapabilityList = cx.client()?.get(&agent_path(aid, "/capabilities"))?;
    cx.out.answer("coconut.cap-ls/1", &held, |width| {
        render::caps::table(&held.capabilities, time::now_ns(), width)
    })?;
    Ok(0)
}

fn change(cx: &Context, aid: &str, what: &str, change: &CapabilityChange) -> Done {
    let report: ChangeReport = cx.client()?.post(&agent_path(aid, &format!("/{what}")), change)?;
    let done = if what == "grant" { "Granted" } else { "Revoked" };
    cx.out.answer(&format!("coconut.cap-{what}/1"), &report, |_| {
        render::caps::change(&format!("{done} {}", change.capability), &report)
    })?;
    Ok(0)
}
