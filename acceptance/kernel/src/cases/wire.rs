//! What leaves on the wire: what a call has put into a queue does not go on when the right has gone.

use crate::world::{Actor, World, await_that, net};
use abi::AgentState;
use abi::Capability::{NetBind, NetConnect};
use abi::event::Hook;
use anyhow::{Context, Result};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

pub fn run(w: &World) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:1401")?;
    queued(w, &listener)?;
    held(w, &listener)?;
    accepted(w)
}

/// What comes until nothing has come for a second: longer than the kernel waits before it sends again, at first.
fn heard(peer: &mut TcpStream) -> Result<u64> {
    peer.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (mut block, mut all) = (vec![0; 1 << 16], 0);
    while let Ok(n @ 1..) = peer.read(&mut block) {
        all += n as u64;
    }
    Ok(all)
}

/// All of it comes, however long that takes.
fn comes(w: &World, what: &str, peer: &mut TcpStream, mut came: u64, sent: u64) {
    let whole = await_that(|| {
        came += heard(peer).unwrap_or(0);
        came >= sent
    });
    w.check(what, whole && came == sent, || format!("{came} of {sent}"));
}

/// What comes after the first packet was stopped; nothing is judged before that.
fn comes_then(w: &World, a: &Actor, peer: &mut TcpStream) -> Result<u64> {
    let mut came = 0;
    await_that(|| {
        came += heard(peer).unwrap_or(0);
        stopped(w, a) > 0
    });
    Ok(came + heard(peer)?)
}

fn stopped(w: &World, a: &Actor) -> usize {
    w.drain();
    w.count(|e| Some(e.aid) == a.aid.map(|aid| aid.0) && e.hook == Hook::Egress as u32)
}

/// An agent that has filled a connection that nobody reads; the other end, and how much it was.
fn filled(w: &World, listener: &TcpListener) -> Result<(Actor, TcpStream, u64)> {
    let a = w.agent(&[net(NetConnect, "127.0.0.1", 32, 1401)])?;
    let s = w.allowed(&a, "connect 127.0.0.1 1401");
    let (peer, _) = listener.accept().context("accept")?;
    let sent = w.allowed(&a, &format!("fill {s}"));
    Ok((a, peer, sent.unsigned_abs()))
}

fn queued(w: &World, listener: &TcpListener) -> Result<()> {
    // The control: it goes on by itself, without another call.
    let (a, mut peer, sent) = filled(w, listener)?;
    comes(w, "what is queued goes on", &mut peer, 0, sent);
    w.same("and nothing is denied", &stopped(w, &a), &0);
    w.end(&a)?;
    let (a, mut peer, sent) = filled(w, listener)?;
    w.apply(&a, &[])?;
    let came = comes_then(w, &a, &mut peer)?;
    w.check("what is queued stays when the right goes", came < sent, || {
        format!("{came} of {sent}")
    });
    w.same("it is on record once, however often it is tried", &stopped(w, &a), &1);
    w.end(&a)?;
    let more = heard(&mut peer)?;
    w.same("nor does it go when the agent ends", &more, &0);
    Ok(())
}

fn held(w: &World, listener: &TcpListener) -> Result<()> {
    let (a, mut peer, sent) = filled(w, listener)?;
    let aid = a.aid.unwrap_or_default();
    w.kernel.set_state(aid, AgentState::Quarantined).map_err(crate::world::explain)?;
    let came = comes_then(w, &a, &mut peer)?;
    w.check("a quarantine holds it", came < sent, || format!("{came} of {sent}"));
    w.kernel.set_state(aid, AgentState::Active).map_err(crate::world::explain)?;
    comes(w, "and a release lets it go", &mut peer, came, sent);
    w.end(&a)
}

/// The same of a connection that came to it.
fn accepted(w: &World) -> Result<()> {
    let a = w.agent(&[net(NetBind, "127.0.0.1", 32, 1402)])?;
    let l = w.allowed(&a, "listen 127.0.0.1 1402");
    let mut peer = TcpStream::connect("127.0.0.1:1402")?;
    let s = w.allowed(&a, &format!("accept {l}"));
    let sent = w.allowed(&a, &format!("fill {s}")).unsigned_abs();
    w.apply(&a, &[])?;
    let came = comes_then(w, &a, &mut peer)?;
    w.check("what is queued stays", came < sent, || format!("{came} of {sent}"));
    w.same("it is on record", &stopped(w, &a), &1);
    w.end(&a)
}
