//! Admission with tickets: who starts when, and that every place is given back.

use super::*;
use crate::fair::Level;
use futures_util::FutureExt;
use std::pin::pin;

fn lane(tenant: &str) -> Lineage {
    Lineage { tenant: Level::new(tenant, 100), agents: vec![Level::new("x", 100)] }
}

fn admission(slots: usize, yields: bool, fifo: bool) -> Arc<Admission> {
    Admission::new(Policy { slots, yields, fifo, max_queued: 10 })
}

/// Nothing begins with the turn.
fn nothing() -> AtTurn {
    Box::new(drop)
}

/// The ticket, if the turn has come already.
fn now(a: &Arc<Admission>, tenant: &str) -> Option<Arc<Ticket>> {
    a.admit(&lane(tenant), nothing()).now_or_never().map(|t| t.unwrap())
}

#[test]
fn slots_are_filled_and_given_back() {
    let a = admission(2, false, false);
    let first = now(&a, "a").unwrap();
    let _second = now(&a, "a").unwrap();
    assert!(now(&a, "a").is_none());
    drop(first);
    assert!(now(&a, "a").is_some());
    assert_eq!(a.depth().queued, 0, "a place that was given up is gone");
}

#[test]
fn a_newcomer_overtakes_at_a_backend_that_yields() {
    let a = admission(2, true, false);
    let _flood = [now(&a, "flood").unwrap(), now(&a, "flood").unwrap()];
    assert!(now(&a, "flood").is_none(), "the flooder has all slots and waits");
    let quiet = now(&a, "quiet").expect("a newcomer is taken over the slots");
    assert!(now(&a, "quiet").is_none(), "but no more than its share");
    drop(quiet);
}

#[tokio::test]
async fn the_control_is_first_come_first_served() {
    let a = admission(1, false, true);
    let held = now(&a, "flood").unwrap();
    let second = lane("flood");
    let third = lane("quiet");
    let mut second = pin!(a.admit(&second, nothing()));
    let mut third = pin!(a.admit(&third, nothing()));
    assert!(second.as_mut().now_or_never().is_none());
    assert!(third.as_mut().now_or_never().is_none());
    drop(held);
    assert!(third.as_mut().now_or_never().is_none(), "the quiet tenant is behind the flooder");
    let ticket = second.await.unwrap();
    drop(ticket);
    assert!(third.await.is_ok());
}

#[test]
fn a_tenants_queue_is_bounded_and_others_are_not_touched() {
    let a = admission(1, false, false);
    let _held = now(&a, "flood").unwrap();
    let f = lane("flood");
    let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(a.admit(&f, nothing()))).collect();
    assert!(waiting.iter_mut().all(|w| w.as_mut().now_or_never().is_none()));
    let refused = a.admit(&f, nothing()).now_or_never().unwrap().err().unwrap();
    assert_eq!(refused, Refused::QueueFull { tenant: "flood".into(), queued: 10 });
    assert!(
        a.admit(&lane("quiet"), nothing()).now_or_never().is_none(),
        "waits, but is not refused"
    );
}

#[tokio::test]
async fn a_caller_that_goes_away_gives_its_turn_to_the_next() {
    let a = admission(1, false, false);
    let held = now(&a, "a").unwrap();
    let l = lane("a");
    let mut gone = Box::pin(a.admit(&l, nothing()));
    let mut next = pin!(a.admit(&l, nothing()));
    assert!(gone.as_mut().now_or_never().is_none());
    assert!(next.as_mut().now_or_never().is_none());
    drop(held);
    // Its turn has come, but it never learns of it.
    drop(gone);
    assert!(next.await.is_ok());
    assert_eq!(a.depth().running, 0);
}

#[tokio::test]
async fn what_begins_with_the_turn_begins_before_anybody_is_told() {
    let a = admission(1, true, false);
    let held = now(&a, "a").unwrap();
    let begun = Arc::new(OnceLock::new());
    let (l, seen) = (lane("a"), begun.clone());
    let mut next = pin!(a.admit(&l, Box::new(move |t: Arc<Ticket>| seen.set(t.id).unwrap())));
    assert!(next.as_mut().now_or_never().is_none() && begun.get().is_none());
    drop(held);
    assert!(begun.get().is_some(), "its own task has not gone on yet");
    assert_eq!(next.await.unwrap().id, *begun.get().unwrap());
}

#[tokio::test]
async fn what_would_have_begun_for_a_caller_that_is_gone_does_not() {
    let a = admission(1, true, false);
    let held = now(&a, "a").unwrap();
    let begun = Arc::new(OnceLock::new());
    let (l, seen) = (lane("a"), begun.clone());
    let mut gone = Box::pin(a.admit(&l, Box::new(move |t: Arc<Ticket>| seen.set(t.id).unwrap())));
    assert!(gone.as_mut().now_or_never().is_none());
    drop(gone);
    drop(held);
    assert!(begun.get().is_none());
    assert_eq!((a.depth().running, a.depth().queued), (0, 0));
}

#[test]
fn only_what_others_get_between_arrival_and_first_token_counts() {
    let a = admission(4, true, false);
    let flood = now(&a, "flood").unwrap();
    flood.computed(1, 5);
    let (quiet, sibling) = (now(&a, "quiet").unwrap(), now(&a, "quiet").unwrap());
    flood.computed(2, 7);
    sibling.computed(3, 100);
    quiet.computed(4, 30);
    flood.computed(4, 2);
    quiet.answered();
    flood.computed(5, 9);
    quiet.answered();
    assert_eq!(quiet.waited().get(), Some(&Waited { steps: 3, passed: 1, others: 9 }));
}

/// However many tenants wait, few are asked in vain: those who are behind and hold what they are owed.
#[test]
fn who_may_start_is_found_among_thousands_without_asking_them() {
    const SLOTS: usize = 8;
    let mut queue = FairQueue::new(512);
    for tenant in 0..5_000 {
        for _ in 0..2 {
            queue.arrive(&lane(&format!("t{tenant}")), |_| ());
        }
    }
    let asked = std::cell::Cell::new(0);
    let may = |anybody, owed| {
        let asked = &asked;
        asked.set(0);
        move |holding: Holding| {
            asked.set(asked.get() + 1);
            May::of(holding, SLOTS, anybody, owed)
        }
    };
    for started in 0..2 * SLOTS {
        queue.next(may(false, true)).expect("somebody is owed a slot");
        assert_eq!(asked.get(), started + 1, "those who have started, and one more");
    }
    assert!(queue.next(may(false, false)).is_none());
    assert_eq!(asked.get(), 1, "nobody may, so nobody else is asked");
    assert!(queue.next(may(true, true)).is_some());
    assert_eq!(asked.get(), 1);
}
