//! The two clocks: people and the log read the wall, the kernel's events and expiries count from
//! boot.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the UNIX epoch.
pub fn wall_ns() -> u64 {
    read(ClockId::Realtime)
}

/// `CLOCK_BOOTTIME` nanoseconds.
pub fn boot_ns() -> u64 {
    read(ClockId::Boottime)
}

/// What to add to a boot time for the wall's.
pub fn boot_to_wall() -> u64 {
    wall_ns().saturating_sub(boot_ns())
}

/// The wall's time for a boot time.
pub fn wall_of(boot: u64) -> u64 {
    boot_to_wall().saturating_add(boot)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
