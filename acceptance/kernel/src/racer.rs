//! Threads of one process that change names as fast as they can and try to reach, by any of them, what they have no
//! right to. As in `ops`, the same code runs in agents and outside of them. What is told is what was read.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use crate::board::{Board, Moment, Secret};
use crate::uring::{Ring, answer};
use libc::*;
use std::ffi::{CStr, CString};
use std::sync::Arc;

/// Descriptors that a thread keeps, to use them when the right may be gone.
const KEPT: usize = 8;
/// Of so many tries one starts a program: that costs as much as a hundred others.
const SELDOM: u64 = 512;

/// `race BOARD FOLDER SEED TRIES THREADS`; how many tries were made.
pub fn act(words: &[&str]) -> i64 {
    let number = |i: usize| words.get(i).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
    let (folder, seed, threads) = (words[2].to_owned(), number(3), number(5).max(1));
    let Ok(board) = Board::at(number(1) as c_int) else { return -i64::from(EBADF) };
    let board = Arc::new(board);
    let each = number(4) / threads;
    let run = |n: u64| {
        let (board, folder) = (Arc::clone(&board), folder.clone());
        std::thread::spawn(move || Racer::new(&folder, n, seed, &board).race(each))
    };
    let running: Vec<_> = (0..threads).map(run).collect();
    let done = running.into_iter().map(|thread| thread.join().map_or(0, |done| done as i64));
    done.sum()
}

/// One thread of it.
struct Racer<'a> {
    folder: String,
    number: u64,
    random: u64,
    board: &'a Board,
    kept: [c_int; KEPT],
    ring: Option<Ring>,
}

impl<'a> Racer<'a> {
    fn new(folder: &str, number: u64, seed: u64, board: &'a Board) -> Racer<'a> {
        let random = (seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
        let ring = Ring::new(0).ok();
        Racer { folder: folder.to_owned(), number, random, board, kept: [-1; KEPT], ring }
    }

    /// xorshift64*: the same seed has each thread do the same.
    fn any(&mut self, below: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    fn path(&self, name: &str) -> CString {
        CString::new(format!("{}/{name}", self.folder)).unwrap_or_default()
    }

    /// A name of this thread's own in the folder that is its own.
    fn mine(&self, name: &str) -> CString {
        self.path(&format!("ok/{name}-{}", self.number))
    }

    fn race(mut self, tries: u64) -> u64 {
        for _ in 0..tries {
            if self.any(2) == 0 {
                self.shuffle();
            }
            let moment = self.board.now();
            self.reach(&moment);
        }
        self.kept.into_iter().for_each(|fd| _ = unsafe { close(fd) });
        tries
    }

    /// Changes a name within what is its own.
    fn shuffle(&mut self) {
        let what = self.any(12);
        let two = |a: &str, b: &str, flags| (self.path(a), self.path(b), flags);
        let swap = RENAME_EXCHANGE;
        let (from, to, flags) = match what {
            0 => return self.relink("../some/secret"),
            1 => return self.relink("../no/secret"),
            2 => return self.relink("f"),
            3 => return self.remake("x"),
            4 => two("ok/d", "ok/l", swap),
            5 => two("ok/f", "ok/g", swap),
            6 => two("ok/a", "ok/b", swap),
            7 => two("ok/a/deep", "ok/b/deep", 0),
            8 => two("ok/b/deep", "ok/a/deep", 0),
            9 => two("ok/f", "ok/a/f", 0),
            10 => two("ok/a/f", "ok/f", 0),
            _ => return self.rename_link(),
        };
        rename(&from, &to, flags);
    }

    /// The link that all threads follow leads elsewhere.
    fn relink(&self, to: &str) {
        let (fresh, link) = (self.mine("link"), self.path("ok/s"));
        let to = CString::new(to).unwrap_or_default();
        unsafe { symlink(to.as_ptr(), fresh.as_ptr()) };
        rename(&fresh, &link, 0);
    }

    fn remake(&self, name: &str) {
        let path = self.path(&format!("ok/{name}"));
        if unsafe { rmdir(path.as_ptr()) } < 0 {
            unsafe { mkdir(path.as_ptr(), 0o755) };
        }
    }

    fn rename_link(&self) {
        let (file, second) = (self.path("ok/g"), self.mine("second"));
        unsafe {
            link(file.as_ptr(), second.as_ptr());
            unlink(second.as_ptr());
        }
    }

    /// One try to have what it has no right to.
    fn reach(&mut self, moment: &Moment) {
        const PLACES: &[&str] = &[
            "no/secret",
            "some/secret",
            "no/box/secret",
            "in/box/secret",
            "door/secret",
            "ok/s",
            "ok/d/secret",
            "ok/../no/secret",
            "ok/x/../../no/secret",
            "ok/a/deep/../../../some/secret",
            "ok/f",
        ];
        let place = self.any(PLACES.len() as u64) as usize;
        let place = self.path(PLACES[place]);
        if self.any(SELDOM) == 0 {
            return self.run(moment);
        }
        match self.any(64) {
            0 => self.by_ring(moment, &place, false),
            1 => self.by_ring(moment, &place, true),
            2 | 3 => self.linked(moment, &place),
            4 | 5 => self.moved(moment, &place),
            6 | 7 => self.swapped(moment, &place),
            // What is there now and then is kept rather than what never is.
            8 => self.keep(moment, &place),
            9 => self.keep(moment, &self.path("in/box/secret")),
            10..14 => self.mapped(moment, open_file(&place, O_RDONLY)),
            14..22 => self.use_kept(),
            22..26 => self.by_folder(moment),
            26..30 => self.by_handle(moment, &place),
            _ => self.look(moment, open_file(&place, O_RDONLY)),
        }
    }

    /// Reads what was opened, and closes it.
    fn look(&self, moment: &Moment, fd: i64) {
        self.read(moment, fd);
        shut(fd);
    }

    fn read(&self, moment: &Moment, fd: i64) {
        let mut text = [0u8; 8];
        let n = match fd {
            0.. => unsafe { pread(fd as c_int, text.as_mut_ptr().cast(), 8, 0) },
            _ => -1,
        };
        self.board.seen(moment, if n < 0 { None } else { Some(&text) });
    }

    /// From a descriptor of the own folder up and down again.
    fn by_folder(&self, moment: &Moment) {
        let folder = open_file(&self.path("ok/a"), O_PATH);
        let way = c"../../no/secret".as_ptr();
        let fd = unsafe { answer(openat(folder as c_int, way, O_RDONLY)) };
        shut(folder);
        self.look(moment, fd);
    }

    /// A handle first, and the file by it.
    fn by_handle(&self, moment: &Moment, place: &CStr) {
        let handle = open_file(place, O_PATH);
        let way = CString::new(format!("/proc/self/fd/{handle}")).unwrap_or_default();
        let fd = if handle < 0 { handle } else { open_file(&way, O_RDONLY) };
        shut(handle);
        self.look(moment, fd);
    }

    fn mapped(&self, moment: &Moment, fd: i64) {
        let at = match fd {
            0.. => unsafe { mmap(std::ptr::null_mut(), 8, PROT_READ, MAP_SHARED, fd as c_int, 0) },
            _ => MAP_FAILED,
        };
        let text = (at != MAP_FAILED).then(|| unsafe { at.cast::<[u8; 8]>().read_volatile() });
        self.board.seen(moment, text.as_ref());
        if at != MAP_FAILED {
            unsafe { munmap(at, 8) };
        }
        shut(fd);
    }

    fn by_ring(&mut self, moment: &Moment, place: &CStr, worker: bool) {
        let Some(ring) = &mut self.ring else { return };
        let fd = ring.open(place, worker);
        let mut text = [0u8; 8];
        let n = if fd < 0 { fd } else { ring.read_into(fd as c_int, &mut text, worker) };
        shut(fd);
        self.board.seen(moment, (n >= 0).then_some(&text));
    }

    /// Opens it for later.
    fn keep(&mut self, moment: &Moment, place: &CStr) {
        let fd = open_file(place, O_RDONLY);
        self.read(moment, fd);
        if fd >= 0 {
            let slot = self.any(KEPT as u64) as usize;
            shut(self.kept[slot].into());
            self.kept[slot] = fd as c_int;
        }
    }

    /// Uses all that it has opened before, when the right to it may be gone.
    fn use_kept(&mut self) {
        let way = self.any(16);
        for fd in self.kept.into_iter().filter(|fd| *fd >= 0) {
            let moment = self.board.now();
            match (way, &mut self.ring) {
                (0, _) => self.mapped(&moment, unsafe { dup(fd) }.into()),
                (1, Some(ring)) => {
                    let mut text = [0u8; 8];
                    let n = ring.read_into(fd, &mut text, false);
                    self.board.seen(&moment, (n >= 0).then_some(&text));
                }
                _ => self.read(&moment, fd.into()),
            }
        }
    }

    /// A second name in the own folder.
    fn linked(&self, moment: &Moment, place: &CStr) {
        let own = self.mine("stolen");
        unsafe { link(place.as_ptr(), own.as_ptr()) };
        self.look(moment, open_file(&own, O_RDONLY));
        unsafe { unlink(own.as_ptr()) };
    }

    /// Moved home; where that does not fail it is put back, so that there is something for the next.
    fn moved(&self, moment: &Moment, place: &CStr) {
        let own = self.mine("moved");
        if rename(place, &own, 0) >= 0 {
            self.look(moment, open_file(&own, O_RDONLY));
            rename(&own, place, RENAME_NOREPLACE);
        } else {
            self.board.seen(moment, None);
        }
    }

    fn swapped(&self, moment: &Moment, place: &CStr) {
        let bait = self.bait();
        if rename(place, &bait, RENAME_EXCHANGE) >= 0 {
            self.look(moment, open_file(&bait, O_RDONLY));
            rename(place, &bait, RENAME_EXCHANGE);
        } else {
            self.board.seen(moment, None);
        }
    }

    /// A file of its own. Nobody finds it before something is in it: who maps an empty one is ended.
    fn bait(&self) -> CString {
        let (bait, fresh) = (self.mine("bait"), self.mine("fresh"));
        if unsafe { access(bait.as_ptr(), F_OK) } < 0 {
            let fd = open_file(&fresh, O_CREAT | O_WRONLY);
            unsafe { write(fd as c_int, b"its own.".as_ptr().cast(), 8) };
            shut(fd);
            rename(&fresh, &bait, 0);
        }
        bait
    }

    /// Starts what the link leads to: the one program ends with 0, the other, which is not to run, with 1.
    fn run(&self, moment: &Moment) {
        let (fresh, link) = (self.mine("run"), self.path("ok/program"));
        for to in [c"../no/script", c"../exe/script"] {
            unsafe { symlink(to.as_ptr(), fresh.as_ptr()) };
            rename(&fresh, &link, 0);
        }
        let words = [link.as_ptr().cast_mut(), std::ptr::null_mut()];
        let none = [std::ptr::null_mut()];
        let (mut pid, mut status) = (0, 0);
        let null = std::ptr::null();
        let direct = self.path("no/script");
        // Every other time without the detour.
        let program = if moment.is_even() { &link } else { &direct };
        let spawned = unsafe {
            posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                null,
                null.cast(),
                words.as_ptr(),
                none.as_ptr(),
            )
        };
        if spawned != 0 {
            return self.board.seen(moment, None);
        }
        unsafe { waitpid(pid, &raw mut status, 0) };
        self.board.ran(WIFEXITED(status) && WEXITSTATUS(status) == Secret::PROGRAM_ENDS_WITH);
    }
}

fn open_file(path: &CStr, flags: c_int) -> i64 {
    answer(unsafe { open(path.as_ptr(), flags | O_CLOEXEC, 0o644) })
}

fn shut(fd: i64) {
    if fd >= 0 {
        unsafe { close(fd as c_int) };
    }
}

fn rename(from: &CStr, to: &CStr, flags: c_uint) -> i64 {
    let (from, to) = (from.as_ptr(), to.as_ptr());
    answer(unsafe { syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags) })
}
