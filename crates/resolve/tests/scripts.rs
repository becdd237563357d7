//! Scripts, read as the kernel that runs this test reads them.
//!
//! One test, alone in its process: a child between fork and exec has the files of other tests open.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

use manifest::AbsPath;
use resolve::programs::{Leases, Program, ProgramError, Programs};
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A file system without leases.
struct Without;

impl Leases for Without {
    fn take(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::InvalidInput.into())
    }
    fn give_back(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        unreachable!("none was taken")
    }
    fn is_held(&self, _: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(false)
    }
    fn verity_digest(&self, _: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

fn write(path: &Path, head: &[u8]) {
    fs::write(path, head).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn open(programs: &Programs, path: &Path) -> Result<Program, ProgramError> {
    programs.open(&AbsPath::parse(path.to_str().unwrap()).unwrap())
}

/// True if the kernel executes it.
fn runs(script: &Path) -> bool {
    std::process::Command::new(script).status().is_ok_and(|status| status.success())
}

#[tokio::test]
async fn scripts_are_read_as_the_kernel_reads_them() {
    let programs = Programs::start(std::sync::Arc::new(Without), 8).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let (mut yes, mut no) = (0, 0);
    for head in heads() {
        let script = root.join("script");
        write(&script, &head);
        let ours = open(&programs, &script);
        let shown = String::from_utf8_lossy(&head).into_owned();
        assert_eq!(ours.is_ok(), runs(&script), "{shown:?}: {ours:?}");
        if ours.is_ok() { yes += 1 } else { no += 1 }
    }
    assert!(yes >= 6 && no >= 6, "{yes} run, {no} do not: both must be met");

    let mut below = PathBuf::from("/bin/true");
    let mut deepest = 0;
    for depth in 1..=7 {
        let script = root.join(format!("s{depth}"));
        write(&script, format!("#!{}\n", below.display()).as_bytes());
        let ours = open(&programs, &script);
        assert_eq!(ours.is_ok(), runs(&script), "{depth} scripts: {ours:?}");
        if let Ok(program) = ours {
            assert_eq!(program.chain().count(), depth + 1);
            assert!(!program.guarded() && !program.holds(), "nothing holds it, and that is said");
            deepest = depth;
        }
        below = script;
    }
    assert_eq!(deepest, 5);
    assert_eq!(programs.remembered(), 0, "nothing is remembered of what nothing holds");
}

fn heads() -> Vec<Vec<u8>> {
    let mut heads: Vec<Vec<u8>> = [
        "#!/bin/true",
        "#!/bin/true\n",
        "#! \t/bin/true \t\n",
        "#!/bin/true one two\n",
        "#!/bin/true\0\n",
        "#!/bin/true\r\n",
        "#!\n/bin/true\n",
        "#!   \n",
        "#!\0/bin/true\n",
        "#!/bin\0/true\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    // Around the end of the buffer: the name's end lies in it, is its last byte, lies behind it.
    for blanks in 240..=248 {
        for tail in ["", "\n", " -x\n", "-not-it\n"] {
            heads.push(format!("#!{}/bin/true{tail}", " ".repeat(blanks)).into_bytes());
        }
    }
    heads
}
