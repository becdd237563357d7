//! Every technique of attack, counted: refused, recorded once, explained, and shown to do harm without Coconut.

use super::Case;
use crate::campaign::{Campaign, Try};
use crate::techniques::{By, Kind};
use crate::world::World;
use anyhow::{Result, ensure};
use demo::attacks::Who;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "attacks.files",
        promise: "each technique on files of others, and on what may only be read, is refused, recorded once and explained",
        run: |w| kind(w, Kind::Files),
    },
    Case {
        name: "attacks.network",
        promise: "the same of each on addresses, sockets and packets",
        run: |w| kind(w, Kind::Network),
    },
    Case {
        name: "attacks.processes",
        promise: "the same of each on other processes, by number or by a handle that leaked",
        run: |w| kind(w, Kind::Processes),
    },
    Case {
        name: "attacks.kernel",
        promise: "the same of each on the machine and on more rights",
        run: |w| kind(w, Kind::Kernel),
    },
    Case {
        name: "attacks.agents",
        promise: "the same of each by names that programs of one user share",
        run: |w| kind(w, Kind::Agents),
    },
    Case {
        name: "attacks.counted",
        promise: "there are 120 techniques at least; what the kernel refused and what the log holds are one, and each is somebody's",
        run: counted,
    },
];

fn kind(world: &World, kind: Kind) -> Result<String> {
    let campaign = world.campaign()?;
    let tries: Vec<&Try> = campaign.tries.iter().filter(|one| one.kind == kind).collect();
    let wrong: Vec<String> = tries
        .iter()
        .map(|one| (one.name(), one.faults(&campaign.secrets)))
        .filter(|(_, faults)| !faults.is_empty())
        .map(|(name, faults)| format!("{name}: {}", faults.join(", ")))
        .collect();
    ensure!(wrong.is_empty(), "{} of {}: {}", wrong.len(), tries.len(), wrong.join("; "));
    ensure!(!tries.is_empty(), "nothing was tried");
    Ok(summary(campaign, &tries))
}

fn summary(campaign: &Campaign, tries: &[&Try]) -> String {
    let [_, plain] = &campaign.secrets;
    let by = |wanted: fn(&By) -> bool| tries.iter().filter(|one| wanted(&one.tried.by)).count();
    let harm = tries.iter().filter(|one| one.harm(plain) == Some(true)).count();
    let sealed = tries.iter().filter(|one| one.tried.attack.who == Who::Nobody).count();
    let absent: Vec<String> = tries
        .iter()
        .filter(|one| one.harm(plain).is_none() && one.tried.attack.who != Who::Nobody)
        .map(|one| one.name())
        .collect();
    format!(
        "({} techniques: {} refused by the policy, {} for want of a privilege, {} by Linux before that; \
         {harm} controls did harm, {sealed} are refused to root as well, this kernel lacks {absent:?})",
        tries.len(),
        by(|by| matches!(by, By::Policy | By::Twice(_))),
        by(|by| matches!(by, By::Privilege)),
        by(|by| matches!(by, By::Linux(_))),
    )
}

fn counted(world: &World) -> Result<String> {
    let campaign = world.campaign()?;
    let tries: Vec<&Try> = campaign.tries.iter().collect();
    ensure!(tries.len() >= 120, "{} techniques", tries.len());
    let recorded: u64 = tries.iter().flat_map(|one| &one.records).map(|r| u64::from(r.count)).sum();
    let stray: Vec<String> =
        campaign.stray.iter().map(|r| format!("{} {}", r.object, r.detail)).collect();
    ensure!(stray.is_empty(), "{} denials of nobody: {}", stray.len(), stray.join("; "));
    ensure!(
        recorded == campaign.counted,
        "the kernel counted {} denials, the log has {recorded}",
        campaign.counted
    );
    let [damaged, plain] = &campaign.damage;
    ensure!(damaged.is_empty(), "the victim's files were changed: {}", damaged.join(" "));
    ensure!(plain.len() > 20, "the control changed {} files only", plain.len());
    ensure!(campaign.victim.agent.exit.is_none(), "the victim has ended");
    Ok(format!("{} {recorded} records", summary(campaign, &tries)))
}
