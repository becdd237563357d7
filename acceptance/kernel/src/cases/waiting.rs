//! A call that waits when its right goes is decided anew, and gets nothing of what comes later.

use crate::world::{Actor, Given, World, await_that, net, on};
use abi::Capability::{FsRead, NetConnect};
use anyhow::{Context as _, Result};
use libc::EACCES;
use std::fs;
use std::io::Write;
use std::net::TcpListener;

const SECRET: &[u8] = b"secret";

pub fn run(w: &World) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:1019")?;
    let connected = |a: &Actor| -> Result<(String, std::net::TcpStream)> {
        let fd = w.allowed(a, "connect 127.0.0.1 1019");
        Ok((format!("wait-recv {fd}"), listener.accept()?.0))
    };
    waits(w, &[net(NetConnect, "127.0.0.1", 32, 1019)], connected)?;
    fs::create_dir_all("/data/wait")?;
    let outsider = w.outsider()?;
    outsider.tell("mkfifo /data/wait/pipe");
    let piped = |a: &Actor| -> Result<(String, fs::File)> {
        // Open to both: neither waits for the other.
        let both = fs::File::options().read(true).write(true).open("/data/wait/pipe")?;
        let fd = w.allowed(a, "open /data/wait/pipe 0");
        Ok((format!("wait-read {fd}"), both))
    };
    waits(w, &[on(FsRead, "/data/wait")], piped)
}

/// `begin` makes the call that waits, and what it waits for.
fn waits<T: Write>(
    w: &World,
    rules: &[Given],
    begin: impl Fn(&Actor) -> Result<(String, T)>,
) -> Result<()> {
    for interrupted in [false, true] {
        let a = w.agent(rules)?;
        let (line, mut other) = begin(&a)?;
        a.start(&line);
        w.check(&format!("{line} waits"), sleeps(a.pid), String::new);
        w.apply(&a, &[])?;
        if interrupted {
            w.kernel.interrupt(a.aid.context("an agent")?)?;
            w.check("and waits no longer", await_that(|| !sleeps_in_call(a.pid)), String::new);
        }
        other.write_all(SECRET)?;
        let got = a.hear();
        match interrupted {
            true => w.same("what comes then is refused to it", &got, &-i64::from(EACCES)),
            // The control: decided and begun.
            false => w.same("else it has what comes then", &got, &(SECRET.len() as i64)),
        }
        w.end(&a)?;
    }
    Ok(())
}

/// The call, by its number; nothing for a process that runs.
fn call(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default()
}

/// In `recvfrom` or `read` of what is not the wire, which is its standard input.
fn sleeps_in_call(pid: u32) -> bool {
    let call = call(pid);
    let mut words = call.split(' ');
    matches!(words.next(), Some("45" | "0")) && words.next() != Some("0x0")
}

fn sleeps(pid: u32) -> bool {
    await_that(|| sleeps_in_call(pid))
}
