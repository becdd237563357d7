//! The memory of the machine, by what it is used for.

use crate::daemon::Daemon;
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;

/// The cgroup of all agents.
pub const SLICE: &str = "/sys/fs/cgroup/coconut.slice";

/// KiB at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Memory {
    /// All that cannot be given back: without page cache, reclaimable slab and this program's own pages.
    pub held: i64,
    /// The kernel's own estimate of what can still be had.
    pub available: i64,
    /// Used by nobody, with what each processor keeps at hand: megabytes that the kernel calls used.
    pub free: i64,
    /// Pages of processes, without this program's.
    pub anonymous: i64,
    /// Page tables.
    pub page_tables: i64,
    /// Kernel stacks.
    pub kernel_stacks: i64,
    /// Kernel objects that must stay.
    pub slab: i64,
    /// Kernel objects that may be dropped: names and inodes; not part of `held`.
    pub slab_reclaimable: i64,
    /// Per-processor areas: counters of cgroups, BPF.
    pub percpu: i64,
    /// Mapped by the kernel page by page, without kernel stacks: BPF programs and large maps.
    pub vmalloc: i64,
    /// tmpfs and shared memory.
    pub shared: i64,
    /// coconutd's resident pages, part of `anonymous` for the most part.
    pub daemon: i64,
    /// Kernel memory that coconutd's service is charged for: the maps, and what it made for agents.
    pub service: i64,
    /// `memory.stat` of all agents together, bytes.
    pub slice: BTreeMap<String, i64>,
}

impl Memory {
    /// What is held once the kernel has let go of what it keeps only in case it is wanted again: halves of
    /// slabs, names, inodes. It would under pressure, so it is nobody's cost.
    ///
    /// # Errors
    /// When `/proc` does not answer.
    pub fn now(daemon: &Daemon) -> Result<Self> {
        give_back();
        // What is freed once no processor looks at it any more; then the halves that it leaves.
        std::thread::sleep(std::time::Duration::from_secs(1));
        give_back();
        // Counters of each processor are added up before they are read. Older kernels lack it.
        let _ = fs::read_to_string("/proc/sys/vm/stat_refresh");
        let info = fields(&fs::read_to_string("/proc/meminfo")?);
        let of = |name: &str| info.get(name).copied().unwrap_or(0);
        let own = status_of("self", "RssAnon:")?;
        let (shared, reclaimable) = (of("Shmem"), of("SReclaimable"));
        let cache = of("Buffers") + of("Cached") - shared;
        let free = of("MemFree") + at_hand()?;
        Ok(Self {
            held: of("MemTotal") - free - cache - reclaimable - own,
            available: of("MemAvailable"),
            free,
            anonymous: of("AnonPages") - own,
            page_tables: of("PageTables"),
            kernel_stacks: of("KernelStack"),
            slab: of("SUnreclaim"),
            slab_reclaimable: reclaimable,
            percpu: of("Percpu"),
            vmalloc: of("VmallocUsed") - of("KernelStack"),
            shared,
            daemon: status_of(&daemon.pid.to_string(), "VmRSS:")?,
            service: service(daemon.pid)?,
            slice: fields(&fs::read_to_string(format!("{SLICE}/memory.stat")).unwrap_or_default()),
        })
    }

    /// By what it is used for, with a name for people; what remains of `held` comes last.
    pub fn parts(&self) -> [(&'static str, i64); 8] {
        let known = [
            ("pages of processes", self.anonymous),
            ("page tables", self.page_tables),
            ("kernel stacks", self.kernel_stacks),
            ("kernel objects (slab)", self.slab),
            ("per-processor areas", self.percpu),
            ("vmalloc", self.vmalloc),
            ("shared memory", self.shared),
        ];
        let sum: i64 = known.iter().map(|(_, kib)| kib).sum();
        let mut all = [("other pages", self.held - sum); 8];
        all[..7].copy_from_slice(&known);
        all
    }
}

/// `Name: 123 kB` and `name 123` lines.
fn fields(text: &str) -> BTreeMap<String, i64> {
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.trim_end_matches(':').to_owned();
        Some((name, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn status_of(process: &str, field: &str) -> Result<i64> {
    let file = format!("/proc/{process}/status");
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.with_context(|| format!("{file} has no {field}"))
}

/// KiB of free pages that lie in the lists of single processors.
fn at_hand() -> Result<i64> {
    let zones = fs::read_to_string("/proc/zoneinfo")?;
    let page = fields(&fs::read_to_string("/proc/self/smaps")?);
    let page = page.get("KernelPageSize").context("the size of a page is not known")?;
    Ok(pages_at_hand(&zones) * page)
}

fn pages_at_hand(zones: &str) -> i64 {
    let counts = zones.lines().filter_map(|line| line.trim().strip_prefix("count:"));
    counts.filter_map(|count| count.trim().parse::<i64>().ok()).sum()
}

/// KiB of kernel memory of the daemon's own cgroup; nothing where it has none of its own.
fn service(pid: u32) -> Result<i64> {
    let of = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = of.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let stat = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.stat")).unwrap_or_default();
    Ok(fields(&stat).get("kernel").copied().unwrap_or(0) / 1024)
}

/// What does not exist on a kernel is left out.
fn give_back() {
    let _ = fs::write("/proc/sys/vm/drop_caches", "3");
    for cache in fs::read_dir("/sys/kernel/slab").into_iter().flatten().flatten() {
        let _ = fs::write(cache.path().join("shrink"), "1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_lines_are_read() {
        let read = fields("MemTotal:  6000 kB\nslab_unreclaimable 4096\nflags:\t02\nname text\n");
        assert_eq!(read.get("MemTotal"), Some(&6000));
        assert_eq!(read.get("slab_unreclaimable"), Some(&4096));
        assert_eq!(read.get("name"), None);
    }

    #[test]
    fn free_pages_of_all_processors_count() {
        let zones = "Node 0, zone DMA32\n  pages free 9\n  pagesets\n    cpu: 0\n              count:    12\n\
                     high:  40\n    cpu: 1\n              count:    30\n";
        assert_eq!(pages_at_hand(zones), 42);
    }

    #[test]
    fn parts_sum_up_to_what_is_held() {
        let memory = Memory { held: 100, slab: 60, percpu: 15, ..Memory::default() };
        assert_eq!(memory.parts().iter().map(|(_, kib)| kib).sum::<i64>(), 100);
        assert_eq!(memory.parts()[7], ("other pages", 25));
    }
}
