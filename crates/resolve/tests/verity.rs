//! Files that nobody can write to, whatever lease there is: fs-verity and images under dm-verity.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

use manifest::AbsPath;
use resolve::programs::{Basis, Leases, Programs};
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
