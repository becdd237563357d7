//! `logs`: what a background agent wrote, byte for byte.

use super::{Context, Showing, agent_path};
use crate::failure::{Done, Failure};
use api::ErrorCode;
use serde::Serialize;
use std::io::{IsTerminal, Write};

#[derive(Serialize)]
struct Chunk<'a> {
    text: &'a str,
}

/// `coconut logs`.
pub fn logs(cx: &Context, aid: &str, follow: bool) -> Done {
    let path = agent_path(aid, if follow { "/logs?follow=true" } else { "/logs" });
    let terminal = std::io::stdout().is_terminal();
    let mut showing = Showing::default();
    cx.client()?.bytes(&path, |data| {
        let done = match (cx.out.json, terminal) {
            (true, _) => {
                let text = String::from_utf8_lossy(data);
                cx.out.item("coconut.logs/1", &Chunk { text: &text }, |_| String::new())
            }
            // A terminal obeys what is written to it; an agent may not write to the reader's.
            (false, true) => crate::output::put(&printable(data)),
            (false, false) => raw(data),
        };
        showing.goes_on(done)
    })?;
    showing.end()
}

fn raw(data: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|e| {
            Failure::from_error(
                ErrorCode::Failed,
                anyhow::Error::new(e).context("cannot write to stdout"),
            )
        }),
    }
}

/// Lines and tabs stay, every other control character is shown instead of obeyed.
fn printable(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| {
            let cells: Vec<String> = line.split('\t').map(crate::render::clean).collect();
            cells.join("\t")
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_terminal_is_not_obeyed() {
        assert_eq!(super::printable(b"a\tb\n\x1b[31mc\n"), "a\tb\n\\x1b[31mc\n");
    }
}
