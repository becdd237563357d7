//! `ps --follow` as a person sees it in 80 columns.

use super::super::sample::{NOW, agent, fits, plain};
use super::*;
use abi::AgentState;
use api::Exit;
use api::feed::{FeedEnd, Snapshot};

const AID: u32 = 0x0a1b_2c3d;

fn delta(number: u64, delta: Delta) -> FeedLine {
    FeedLine::Delta { number, delta }
}

fn shown(followed: &mut Followed, line: &FeedLine) -> String {
    let text = followed.line(line, NOW, 80);
    fits(&text, 80);
    plain(&text)
}

/// Without the clock, which is in the machine's time zone.
fn told(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.get(10..).unwrap_or_default().trim_end()).collect()
}

fn changed(of: &Agent, state: AgentState, weight: u32) -> Delta {
    Delta::Changed { aid: of.aid, state, pid: None, parent: None, weight, ended_ns: None }
}

#[test]
fn each_change_is_a_line_under_one_heading() {
    let mut followed = Followed::default();
    let clerk = agent(AID, "clerk", "omar");
    let snapshot = Snapshot { agents: vec![clerk.clone()], ..Snapshot::default() };
    let list = shown(&mut followed, &FeedLine::Snapshot { number: 0, snapshot });
    assert!(list.starts_with("AID ") && list.contains("clerk"), "{list}");

    let mut child = agent(AID + 1, "a-name-that-is-far-too-long\x1b[2J", "omar");
    child.parent = Some(clerk.aid);
    let text = shown(&mut followed, &delta(1, Delta::Added { agent: child.clone() }));
    let lines = told(&text);
    assert_eq!(lines[1], "AID       NAME            TENANT        CHANGE");
    assert_eq!(lines[2], "0a1b2c3e  a-name-that-i…  omar          new, active, below 0a1b2c3d");

    let frozen = changed(&clerk, AgentState::Quarantined, 50);
    let text = shown(&mut followed, &delta(2, frozen.clone()));
    assert_eq!(told(&text), ["0a1b2c3d  clerk           omar          quarantined, weight 50"]);
    // The same again says nothing.
    assert_eq!(shown(&mut followed, &delta(3, frozen)), "");

    let state = AgentState::TerminatedFailed;
    assert_eq!(shown(&mut followed, &delta(4, changed(&clerk, state, 50))), "");
    let exit = Exit { status: Some(3), signal: None, reason: None, state };
    let end = Delta::Ended { aid: clerk.aid, state, ended_ns: Some(NOW), exit };
    let text = shown(&mut followed, &delta(4, end));
    assert_eq!(told(&text), ["0a1b2c3d  clerk           omar          ended: exit 3"]);
    // Its end was told; the other went out of sight while it ran.
    assert_eq!(shown(&mut followed, &delta(5, Delta::Gone { aid: clerk.aid })), "");
    let text = shown(&mut followed, &delta(6, Delta::Gone { aid: child.aid }));
    assert!(text.contains("not yours any more"), "{text}");
}

#[test]
fn who_was_cut_off_is_shown_all_anew() {
    let mut followed = Followed::default();
    let snapshot = || Snapshot { agents: vec![agent(AID, "clerk", "omar")], ..Snapshot::default() };
    shown(&mut followed, &FeedLine::Snapshot { number: 0, snapshot: snapshot() });
    let end = shown(&mut followed, &FeedLine::End { end: FeedEnd::TooSlow });
    assert!(end.contains("here is the list again"), "{end}");
    let list = shown(&mut followed, &FeedLine::Snapshot { number: 0, snapshot: snapshot() });
    assert!(list.contains("clerk"));
    let text =
        shown(&mut followed, &delta(1, Delta::Tenant { tenant: "omar".into(), weight: 200 }));
    assert!(text.contains("TENANT") && text.contains("weight 200 among tenants"), "{text}");
}
