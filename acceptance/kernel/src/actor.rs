//! The program inside the agents, and outside of them as the control: does what it is told.
#![allow(unsafe_code)]

use std::io::Read as _;
use std::os::unix::net::UnixStream;

/// Does one thing.
pub fn act(line: &str, wire: &mut UnixStream) -> i64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.first() == Some(&"race") {
        return crate::racer::act(&words);
    }
    let timed = words.first().and_then(|name| crate::measure::act(name, &words));
    timed.unwrap_or_else(|| crate::ops::act(line, wire))
}

/// Serves commands on standard input until it closes.
pub fn serve(mut act: impl FnMut(&str, &mut UnixStream) -> i64) {
    use std::os::fd::FromRawFd;
    // SAFETY: standard input is a socket of ours, and nobody else here has it.
    let mut wire = unsafe { UnixStream::from_raw_fd(0) };
    let mut line = Vec::new();
    let mut byte = [0u8];
    while wire.read_exact(&mut byte).is_ok() {
        if byte[0] != b'\n' {
            line.push(byte[0]);
            continue;
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        line.clear();
        let result = act(&text, &mut wire);
        if std::io::Write::write_all(&mut wire, &result.to_ne_bytes()).is_err() {
            break;
        }
    }
}
