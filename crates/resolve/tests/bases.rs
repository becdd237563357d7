//! What a digest stands on where the kernel's answers are the test's: fs-verity, images under dm-verity,
//! leases that end at the worst moment.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

use manifest::AbsPath;
use resolve::programs::{Basis, Leases, ProgramError, Programs};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A kernel whose files are all like this.
struct Kernel {
    measured: Option<Vec<u8>>,
    image: bool,
    asked_for_lease: AtomicUsize,
}

impl Leases for Kernel {
    fn take(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        self.asked_for_lease.fetch_add(1, Ordering::SeqCst);
        Err(io::ErrorKind::InvalidInput.into())
    }
    fn give_back(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        unreachable!("none was taken")
    }
    fn is_held(&self, _: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(false)
    }
    fn verity_digest(&self, _: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
        Ok(self.measured.clone())
    }
    fn is_verity_image(&self, _: u32, _: u32) -> bool {
        self.image
    }
}

/// What a program stands on there, how many digests stay remembered, how often a lease was asked for.
async fn on(measured: Option<Vec<u8>>, image: bool) -> (Basis, usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = fs::canonicalize(dir.path()).unwrap().join("program");
    fs::write(&path, "program").unwrap();
    let kernel = Arc::new(Kernel { measured, image, asked_for_lease: AtomicUsize::new(0) });
    let programs = Programs::start(Arc::clone(&kernel) as Arc<dyn Leases>, 8).unwrap();
    let path = AbsPath::parse(path.to_str().unwrap()).unwrap();
    let program = programs.open(&path).unwrap();
    assert_eq!(programs.open(&path).unwrap().digest, program.digest);
    let held = *program.basis() != Basis::Nothing;
    assert_eq!((program.guarded(), program.holds()), (held, held));
    assert_eq!(programs.on_lease_break(), 0, "no writer waits for such a file");
    let asked = kernel.asked_for_lease.load(Ordering::SeqCst);
    (program.basis().clone(), programs.remembered(), asked)
}

#[tokio::test]
async fn what_verity_holds_needs_no_lease() {
    assert_eq!(on(None, true).await, (Basis::VerityImage, 1, 0));
    let measured = vec![1, 0, 0xab];
    assert_eq!(on(Some(measured.clone()), false).await, (Basis::VerityFile(measured), 1, 0));
    // The control: without either it is asked for each time, and nothing is remembered.
    assert_eq!(on(None, false).await, (Basis::Nothing, 0, 2));
}

/// Leases that are given, and of which the test says whether they are held; no signal ever comes.
#[derive(Default)]
struct Silent {
    taken: AtomicUsize,
    /// Answers in turn; when they are used up, it is held.
    held: Mutex<VecDeque<bool>>,
}

impl Leases for Silent {
    fn take(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        self.taken.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn give_back(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
    fn is_held(&self, _: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(self.held.lock().unwrap().pop_front().unwrap_or(true))
    }
    fn verity_digest(&self, _: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_lease_is_asked_for_before_its_word_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = fs::canonicalize(dir.path()).unwrap().join("program");
    fs::write(&path, "good").unwrap();
    let name = AbsPath::parse(path.to_str().unwrap()).unwrap();
    let leases = Arc::new(Silent::default());
    let programs = Programs::start(Arc::clone(&leases) as Arc<dyn Leases>, 8).unwrap();
    let says = |answers: &[bool]| leases.held.lock().unwrap().extend(answers);
    let taken = || leases.taken.load(Ordering::SeqCst);

    programs.open(&name).unwrap();
    programs.open(&name).unwrap();
    assert_eq!(taken(), 1, "the control: while it is held, the file is not read again");
    // It ended, and the signal has not come yet: the digest is not used.
    says(&[false]);
    programs.open(&name).unwrap();
    assert_eq!(taken(), 2);
    // The next one ended while the file was read.
    says(&[false, false]);
    assert!(matches!(programs.open(&name), Err(ProgramError::Changed(_))));
    // The next one ended before the digest was remembered: nobody would be told to let go.
    says(&[true, false]);
    programs.open(&name).unwrap();
    assert_eq!((taken(), programs.remembered()), (4, 0));
}
