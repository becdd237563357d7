//! How large anything in a manifest may be. Sets are bounded, so that no agent can fill a kernel map.

/// Bytes of a manifest.
pub const MANIFEST_BYTES: usize = 256 * 1024;
/// Rules of one agent after profiles are put in.
pub const RULES: usize = 2048;
/// Entries of one list in a manifest.
pub const LIST_ENTRIES: usize = 512;
/// Bytes of a path (`PATH_MAX` without its NUL).
pub const PATH_BYTES: usize = 4095;
/// Bytes of a DNS name (RFC 1035 §2.3.4, printable form).
pub const HOST_BYTES: usize = 253;
/// Bytes of an agent's, tenant's or model's name.
pub const NAME_BYTES: usize = 63;
/// Words of a command line, and entries of `env`.
pub const ARGUMENTS: usize = 256;
/// Bytes of one word of a command line or of one variable's value.
pub const ARGUMENT_BYTES: usize = 32 * 1024;
/// Largest weight of a lane (`cpu.weight` of cgroup v2 has the same range).
pub const WEIGHT: u32 = 10_000;
/// Largest number of denials that a manifest may name.
pub const DENIALS: u64 = 1_000_000_000;
/// Children that one agent may have at most.
pub const CHILDREN: u32 = 10_000;
/// Problems that are reported of one manifest.
pub const PROBLEMS: usize = 25;
/// Uses that one grant of a counted capability may give.
pub const USES: u32 = 1_000_000_000;
/// Longest expiry of a capability: ten years of 365 days, in milliseconds.
pub const EXPIRY_MS: u64 = 10 * 365 * 86_400_000;
