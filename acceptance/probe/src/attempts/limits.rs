//! Attempts to use more than was given: memory and processes.

use super::{Attempt, Got, Target};
use crate::sys;
use std::io;

/// The table.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "memory", argument: "MIB", wants: "use that much memory", run: memory },
    Attempt {
        name: "fork-bomb",
        argument: "COUNT",
        wants: "have that many processes",
        run: fork_bomb,
    },
    Attempt { name: "tmp-fill", argument: "MIB,DIR", wants: "fill a directory", run: fill },
];

const MIB: usize = 1 << 20;

fn memory(t: &Target) -> Got {
    let wanted: usize = t.parse(0)?;
    let mut held: Vec<Vec<u8>> = Vec::with_capacity(wanted);
    for n in 0..wanted {
        let mut block = Vec::new();
        block.try_reserve_exact(MIB).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        // Not zeros, and different in each page, so that nothing can share or compress it away.
        block.extend((0..MIB).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ n as u8));
        held.push(block);
    }
    Ok(format!("holds {} MiB", std::hint::black_box(&held).len()))
}

fn fork_bomb(t: &Target) -> Got {
    let wanted: usize = t.parse(0)?;
    let mut children = Vec::new();
    let refused = loop {
        if children.len() == wanted {
            break None;
        }
        match sys::fork_sleeper() {
            Ok(pid) => children.push(pid),
            Err(error) => break Some(error),
        }
    };
    for pid in children.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
    match refused {
        None => Ok(format!("had {wanted} processes")),
        Some(error) => {
            eprintln!("  fork: refused after {} children: {error}", children.len());
            Err(error)
        }
    }
}

fn fill(t: &Target) -> Got {
    let path = t.path(1)?.join("filled-by-probe");
    let block = vec![0x5au8; MIB];
    let mut file = std::fs::File::create(&path)?;
    let written =
        (0..t.parse::<usize>(0)?).try_for_each(|_| std::io::Write::write_all(&mut file, &block));
    let _ = std::fs::remove_file(&path);
    written.map(|()| format!("wrote {} MiB", t.text(0).unwrap_or_default()))
}
