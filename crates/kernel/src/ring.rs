//! The audit ring, read without giving room back: an event's room is given back when it is in the log
//! ([`Ring::release`]), so that the next daemon finds what this one had read and not yet written.
//!
//! Layout and protocol are those of `BPF_MAP_TYPE_RINGBUF` (`kernel/bpf/ringbuf.c`): a page with the consumer's
//! position, a page with the producer's, then the data twice, one behind the other, so that no record is cut.
#![allow(unsafe_code)]

use crate::sys::last;
use crate::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const PAGE: usize = 4096;
/// The writer has not finished this record.
const BUSY: u32 = 1 << 31;
/// The writer gave this record up.
const DISCARDED: u32 = 1 << 30;
/// Length and place of the page, before each record.
const HEADER: u64 = 8;

/// A ring, mapped; lives as long as the process.
pub(crate) struct Ring {
    consumer: NonNull<u8>,
    producer: NonNull<u8>,
    size: u64,
    /// Up to here it was read.
    read: u64,
}

// SAFETY: the mappings are never unmapped; positions are atomics, and records that are not busy do not change
// before they are released.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps a ring of so many bytes; what was not released is read first.
    pub fn map(fd: BorrowedFd<'_>, bytes: u32) -> Result<Ring> {
        let size = bytes as usize;
        if !size.is_power_of_two() || size < PAGE {
            return Err(Error::Invalid(format!("a ring of {bytes} bytes")));
        }
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let consumer = map(fd, PAGE, writable, 0)?;
        let producer = map(fd, PAGE + 2 * size, libc::PROT_READ, PAGE)?;
        let mut ring = Ring { consumer, producer, size: size as u64, read: 0 };
        ring.read = ring.consumed().load(Ordering::Acquire);
        Ok(ring)
    }

    /// Hands records to `sink`, each with the position behind it, `most` of them at most; how many there were.
    pub fn take(&mut self, most: usize, mut sink: impl FnMut(u64, &[u8])) -> usize {
        let end = self.written();
        let mut count = 0;
        while self.read < end && count < most {
            let Some((length, bytes)) = self.record(self.read) else { break };
            let behind = self.read + length;
            if let Some(bytes) = bytes {
                sink(behind, bytes);
                count += 1;
            }
            self.read = behind;
        }
        count
    }

    /// Looks through what was not read yet, which stays there.
    pub fn look(&self, mut sink: impl FnMut(u64, &[u8])) {
        let (mut at, end) = (self.read, self.written());
        while at < end {
            let Some((length, bytes)) = self.record(at) else { return };
            at += length;
            if let Some(bytes) = bytes {
                sink(at, bytes);
            }
        }
    }

    /// One record's length in the ring and its bytes, none if it was given up; none if it is not finished.
    fn record(&self, at: u64) -> Option<(u64, Option<&[u8]>)> {
        let offset = (at & (self.size - 1)) as usize;
        // SAFETY: the offset lies within the data, which is mapped twice, so that a record which begins there
        // ends within it. Its length does not change once it is not busy, nor its bytes before it is released.
        unsafe {
            let header = self.producer.as_ptr().add(PAGE + offset);
            let length = AtomicU32::from_ptr(header.cast()).load(Ordering::Acquire);
            if length & BUSY != 0 {
                return None;
            }
            let bytes = u64::from(length & !DISCARDED);
            let start = header.add(HEADER as usize);
            let body = core::slice::from_raw_parts(start, bytes as usize);
            let whole = (bytes + HEADER).next_multiple_of(8);
            Some((whole, (length & DISCARDED == 0).then_some(body)))
        }
    }

    /// Gives back the room of everything up to a position that [`Ring::take`] told.
    pub fn release(&self, position: u64) {
        let position = position.min(self.read);
        self.consumed().fetch_max(position, Ordering::SeqCst);
    }

    /// Up to here it was read.
    pub fn position(&self) -> u64 {
        self.read
    }

    /// Whether something was read and is not released.
    pub fn holds(&self) -> bool {
        self.read > self.consumed().load(Ordering::SeqCst)
    }

    /// Bytes whose room was not given back.
    pub fn used(&self) -> u64 {
        self.written().saturating_sub(self.consumed().load(Ordering::SeqCst))
    }

    fn consumed(&self) -> &AtomicU64 {
        // SAFETY: the page begins with the position, which the kernel only reads.
        unsafe { AtomicU64::from_ptr(self.consumer.as_ptr().cast()) }
    }

    fn written(&self) -> u64 {
        // SAFETY: the page begins with the position, which the kernel writes with single stores.
        unsafe { AtomicU64::from_ptr(self.producer.as_ptr().cast()) }.load(Ordering::Acquire)
    }
}

fn map(fd: BorrowedFd<'_>, bytes: usize, protection: i32, offset: usize) -> Result<NonNull<u8>> {
    let offset = offset as libc::off_t;
    // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing else.
    let at = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            bytes,
            protection,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            offset,
        )
    };
    match NonNull::new(at.cast::<u8>()) {
        Some(place) if at != libc::MAP_FAILED => Ok(place),
        _ => Err(last("map the ring of events")),
    }
}
