//! Low descriptors, so that an agent's table of them stays small.
//!
//! A child gets a copy of the daemon's table, as large as its highest open descriptor, and that memory stays
//! with the process for as long as it lives: `execve` closes what is open and keeps the table. With
//! thousands of agents the daemon has thousands of descriptors open, so each new agent would cost more
//! than the one before. A child therefore shares the daemon's table for one moment and takes a copy of
//! its lowest part only (`CLOSE_RANGE_UNSHARE`). What it needs lies there, on a seat.

use crate::lock::lock;
use rustix::io::{DupFlags, Errno, dup3, fcntl_dupfd_cloexec};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Descriptors of one seat: three standard ones, the program, two pipes, three of what is shared.
const PLACES: usize = 9;
/// Launches at once, for each processor; a launch leaves its seat before it does anything that can last.
const PER_CPU: usize = 2;
const LEAST: usize = 4;
const MOST: usize = 56;

/// All seats of the daemon.
pub(crate) struct Seats {
    free: Mutex<Vec<Places>>,
    left: Condvar,
    /// Lies on every place that nobody uses.
    nothing: OwnedFd,
    /// Above all seats.
    end: RawFd,
}

type Places = [OwnedFd; PLACES];

impl Seats {
    /// Takes the lowest numbers that are free; the earlier, the lower.
    pub fn new() -> io::Result<Arc<Seats>> {
        let nothing: OwnedFd = std::fs::File::open("/dev/null")?.into();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let many = (PER_CPU * cpus).clamp(LEAST, MOST);
        let mut free = Vec::with_capacity(many);
        for _ in 0..many {
            let mut places = Vec::with_capacity(PLACES);
            for _ in 0..PLACES {
                places.push(fcntl_dupfd_cloexec(&nothing, 3)?);
            }
            free.extend(Places::try_from(places));
        }
        let end = free.iter().flatten().map(AsRawFd::as_raw_fd).max().unwrap_or(2) + 1;
        Ok(Arc::new(Seats { free: Mutex::new(free), left: Condvar::new(), nothing, end }))
    }

    /// Waits for a free one.
    pub fn take(self: &Arc<Self>) -> Seat {
        let mut free = lock(&self.free);
        loop {
            if let Some(places) = free.pop() {
                return Seat { places: Some(places), used: 0, of: Arc::clone(self) };
            }
            free = self.left.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A launch's own, until it is dropped: not before the child has taken its copy.
pub(crate) struct Seat {
    places: Option<Places>,
    used: usize,
    of: Arc<Seats>,
}

impl Seat {
    /// Puts a copy of a descriptor on the next place; its number in the child.
    pub fn put(&mut self, fd: impl AsFd) -> io::Result<RawFd> {
        let place = self.places.as_mut().and_then(|places| places.get_mut(self.used));
        let place = place.ok_or(Errno::MFILE)?;
        dup3(fd, place, DupFlags::CLOEXEC)?;
        self.used += 1;
        Ok(place.as_raw_fd())
    }

    /// What of the table the child takes: below this number.
    pub fn end(&self) -> RawFd {
        self.of.end
    }

    /// The numbers of this seat.
    pub fn numbers(&self) -> [RawFd; PLACES] {
        self.places
            .as_ref()
            .map_or([-1; PLACES], |places| places.each_ref().map(AsRawFd::as_raw_fd))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(mut places) = self.places.take() else { return };
        for place in places.iter_mut().take(self.used) {
            // Fails for want of nothing: the number is open.
            let _ = dup3(&self.of.nothing, place, DupFlags::CLOEXEC);
        }
        lock(&self.of.free).push(places);
        self.of.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_keeps_its_numbers_and_gives_back_what_lay_there() {
        let seats = Seats::new().unwrap();
        let mut seat = seats.take();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let numbers = seat.numbers();
        assert_eq!(seat.put(&write).unwrap(), numbers[0]);
        assert!(numbers.iter().all(|n| (3..seat.end()).contains(n)));
        drop(write);
        let ended = |fd: &OwnedFd| {
            rustix::io::fcntl_getfd(fd).is_ok() && {
                let mut byte = [0u8; 1];
                matches!(rustix::io::read(fd, &mut byte), Ok(0))
            }
        };
        drop(seat);
        assert!(ended(&read), "the seat does not keep what lay on it");
        let again = seats.take();
        assert!(again.numbers().iter().all(|n| *n >= 3));
    }

    #[test]
    fn who_comes_when_all_are_taken_waits() {
        let seats = Seats::new().unwrap();
        let count = lock(&seats.free).len();
        let mut all: Vec<Seat> = (0..count).map(|_| seats.take()).collect();
        let waiting = {
            let seats = Arc::clone(&seats);
            std::thread::spawn(move || seats.take().numbers())
        };
        let given = all.pop().map(|seat| seat.numbers());
        assert_eq!(waiting.join().ok(), given);
    }

    #[test]
    fn a_seat_has_as_many_places_as_it_says() {
        let mut seat = Seats::new().unwrap().take();
        let null = std::fs::File::open("/dev/null").unwrap();
        for _ in 0..PLACES {
            seat.put(&null).unwrap();
        }
        assert!(seat.put(&null).is_err());
    }
}
