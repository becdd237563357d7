//! What the racing process and its test both see: which rights there are at the moment, and what came of the tries.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use anyhow::{Result, ensure};
use libc::*;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What is not to be read without a right.
pub enum Secret {}

impl Secret {
    /// To this there is never a right.
    pub const NEVER: &[u8; 8] = b"NEVER-IT";
    /// To this there is one now and then.
    pub const SOME: &[u8; 8] = b"SOMETIME";
    /// This lies now and then in a folder to which there is one.
    pub const MOVED: &[u8; 8] = b"MOVED-IN";
    /// What the program says that is not to run.
    pub const PROGRAM_ENDS_WITH: i32 = 1;
}

/// One page in the memory of both.
pub struct Board(*const Page);

// Atomic words alone are touched, by whomever.
unsafe impl Send for Board {}
unsafe impl Sync for Board {}

/// Its words.
#[repr(C)]
struct Page {
    /// Odd from before the right is given until after it is taken.
    some: AtomicU64,
    /// Odd from before the folder is moved in until after it is moved out.
    moved: AtomicU64,
    /// Tries that read nothing.
    refused: AtomicU64,
    /// Tries that read what they may.
    own: AtomicU64,
    /// Tries that read what they may at the moment only.
    lawful: AtomicU64,
    /// Tries that read what they may not, by what they read.
    through: [AtomicU64; 4],
}

/// What rights there were when a try began.
pub struct Moment {
    some: u64,
    moved: u64,
}

impl Moment {
    /// Changes with the rights, and means nothing else.
    pub fn is_even(&self) -> bool {
        (self.some / 2 + self.moved / 2).is_multiple_of(2)
    }
}

/// What came of many tries.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sum {
    pub refused: u64,
    pub own: u64,
    pub lawful: u64,
    /// Of what there is never a right to, of what there is none to at the moment, of what was moved out, programs.
    pub through: [u64; 4],
}

impl Board {
    /// A new one, and the descriptor by which another process has it.
    pub fn make() -> Result<(Board, OwnedFd)> {
        let fd = unsafe { memfd_create(c"board".as_ptr(), MFD_CLOEXEC) };
        ensure!(fd >= 0 && unsafe { ftruncate(fd, 4096) } == 0, "no board");
        Ok((Board::at(fd)?, unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// By that descriptor.
    pub fn at(fd: c_int) -> Result<Board> {
        let both = PROT_READ | PROT_WRITE;
        let at = unsafe { mmap(std::ptr::null_mut(), 4096, both, MAP_SHARED, fd, 0) };
        ensure!(at != MAP_FAILED, "the board cannot be mapped");
        Ok(Board(at.cast()))
    }

    fn page(&self) -> &Page {
        unsafe { &*self.0 }
    }

    /// Says that a right is about to be there, or is there no more.
    pub fn turn_some(&self) {
        self.page().some.fetch_add(1, SeqCst);
    }

    /// The same of the folder that is moved.
    pub fn turn_moved(&self) {
        self.page().moved.fetch_add(1, SeqCst);
    }

    /// Before a try.
    pub fn now(&self) -> Moment {
        let page = self.page();
        Moment { some: page.some.load(SeqCst), moved: page.moved.load(SeqCst) }
    }

    /// Books what a try that began at `moment` has read.
    pub fn seen(&self, moment: &Moment, text: Option<&[u8; 8]>) {
        let (page, now) = (self.page(), self.now());
        // There was no right when it began, and none came since.
        let never_some = moment.some.is_multiple_of(2) && now.some == moment.some;
        let never_moved = moment.moved.is_multiple_of(2) && now.moved == moment.moved;
        let word = match text {
            None => &page.refused,
            Some(Secret::NEVER) => &page.through[0],
            Some(Secret::SOME) if never_some => &page.through[1],
            Some(Secret::MOVED) if never_moved => &page.through[2],
            Some(Secret::SOME | Secret::MOVED) => &page.lawful,
            Some(_) => &page.own,
        };
        word.fetch_add(1, SeqCst);
    }

    /// Books that a program ran, and whether it was the one that is not to.
    pub fn ran(&self, wrong: bool) {
        let page = self.page();
        if wrong { &page.through[3] } else { &page.own }.fetch_add(1, SeqCst);
    }

    /// What came of all.
    pub fn sum(&self) -> Sum {
        let page = self.page();
        let read = |word: &AtomicU64| word.load(SeqCst);
        Sum {
            refused: read(&page.refused),
            own: read(&page.own),
            lawful: read(&page.lawful),
            through: [0, 1, 2, 3].map(|n| read(&page.through[n])),
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        unsafe { munmap(self.0.cast_mut().cast(), 4096) };
    }
}
