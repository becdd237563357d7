//! Opens, fits, loads, attaches and pins the kernel programs.

use crate::maps::Maps;
use crate::{Error, LoadOptions, Result};
use abi::control::Policy;
use libbpf_rs::btf::types::Func;
use libbpf_rs::btf::{Btf, TypeId};
use libbpf_rs::{Link, MapCore, MapHandle, Object, ObjectBuilder, OpenObject};
use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("COCONUT_BPF_OBJECT")));

/// Programs without which the policy is weaker but holds; the caller is told which are missing.
const OPTIONAL: [&str; 18] = [
    "file_opened",
    "capability_refused",
    "uring_splices",
    "uring_splices_again",
    "file_to_pipe",
    "file_to_pipe_again",
    "memory_spliced",
    "memory_spliced_again",
    "memory_spliced_32",
    "memory_spliced_32_again",
    "pages_pinned",
    "pages_pinned_again",
    "cgroup_attach_task",
    "inode_file_setattr",
    "inode_set_acl",
    "inode_remove_acl",
    "path_notify",
    "file_ioctl_compat",
];

/// Programs for the same purpose on older kernels: of each pair one is enough.
const ALTERNATIVES: [(&str, &str); 1] = [("file_opened", "filp_opened")];

/// The programs in the kernel.
pub(crate) struct Programs {
    pub maps: Maps,
    pub links: Vec<Link>,
    /// Programs that this kernel has no place for.
    pub weaker: Vec<String>,
}

/// Loads everything and pins it below `options.pin_dir`.
pub(crate) fn load(options: &LoadOptions) -> Result<Programs> {
    raise_memlock();
    let mut open = ObjectBuilder::default()
        .name("coconut")
        .and_then(|b| b.open_memory(&OBJECT.0))
        .map_err(|source| Error::Bpf { action: "open", source })?;
    size_maps(&mut open, options)?;
    let weaker = leave_out_missing(&mut open)?;
    let mut object = open.load().map_err(|source| Error::Bpf { action: "load", source })?;
    let maps = take_maps(&object)?;
    make_folder(&options.pin_dir)?;
    let links = attach(&object, &weaker, options)?;
    pin_all(&mut object, &maps_dir(options))?;
    Ok(Programs { maps, links, weaker: without_substitute(&weaker) })
}

/// The maps' pins lie beside the links', so that a listing of the links is one of programs.
pub(crate) fn maps_dir(options: &LoadOptions) -> PathBuf {
    let mut name = options.pin_dir.file_name().unwrap_or_default().to_owned();
    name.push("-maps");
    options.pin_dir.with_file_name(name)
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| Error::File {
        action: "make the folder for pins",
        path: path.to_owned(),
        source,
    })
}

fn size_maps(open: &mut OpenObject, options: &LoadOptions) -> Result<()> {
    for mut map in open.maps_mut() {
        let entries = match map.name().to_str() {
            Some("files" | "file_nodes") => options.max_files,
            Some("fs_caps") => options.max_grants,
            Some("net_caps") => options.max_addresses,
            Some("events") => options.ring_bytes,
            _ => continue,
        };
        map.set_max_entries(entries).map_err(|source| Error::Bpf { action: "size", source })?;
    }
    Ok(())
}

/// The kernel function that a program attaches to, where it can be told from the section's name.
fn target(section: &str) -> Option<String> {
    match section.split_once('/')? {
        ("lsm", hook) => Some(format!("{HOOK}{hook}")),
        ("fentry" | "fexit", function) => Some(function.to_owned()),
        _ => None,
    }
}

/// All functions that the running kernel describes. One walk: to look a single one up takes as long.
fn functions() -> Result<HashSet<String>> {
    let btf = Btf::from_vmlinux().map_err(|source| Error::Bpf { action: "fit", source })?;
    let all = (1..u32::try_from(btf.len()).unwrap_or(u32::MAX)).map(TypeId::from);
    let named =
        all.filter_map(|id| btf.type_by_id::<Func<'_>>(id)?.name()?.to_str().map(str::to_owned));
    Ok(named.collect())
}

/// Hooks that have a program.
pub(crate) fn hooks() -> Result<Vec<String>> {
    let open = ObjectBuilder::default()
        .open_memory(&OBJECT.0)
        .map_err(|source| Error::Bpf { action: "open", source })?;
    let section = |p: libbpf_rs::OpenProgram<'_>| p.section().to_string_lossy().into_owned();
    Ok(open.progs().map(section).filter_map(|s| Some(s.strip_prefix("lsm/")?.to_owned())).collect())
}

/// What looks like a hook in the running kernel.
pub(crate) fn named_hooks() -> Result<Vec<String>> {
    let mut found: Vec<String> =
        functions()?.iter().filter_map(|f| Some(f.strip_prefix(HOOK)?.to_owned())).collect();
    found.sort();
    Ok(found)
}

/// Those that a program of its own can be loaded for.
pub(crate) fn attachable() -> Result<Vec<String>> {
    let btf = Btf::from_vmlinux().map_err(|source| Error::Bpf { action: "fit", source })?;
    let id =
        |hook: &str| Some(btf.type_by_name::<Func<'_>>(&format!("{HOOK}{hook}"))?.type_id().into());
    let takes = |hook: &String| id(hook).is_some_and(crate::sys::takes_program);
    Ok(named_hooks()?.into_iter().filter(takes).collect())
}

/// How the kernel names the functions of its hooks.
const HOOK: &str = "bpf_lsm_";

fn leave_out_missing(open: &mut OpenObject) -> Result<Vec<String>> {
    let there = functions()?;
    let mut weaker = Vec::new();
    for mut program in open.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        let Some(function) = target(&program.section().to_string_lossy()) else { continue };
        if there.contains(&function) {
            continue;
        }
        let alternative = ALTERNATIVES.iter().any(|(_, old)| *old == name);
        if !alternative && !OPTIONAL.contains(&name.as_str()) {
            return Err(Error::Unsupported {
                what: format!("it has no function {function} for the program {name}"),
                hint: "boot the kernel that this version of Coconut was made for, or a newer one",
            });
        }
        program.set_autoload(false);
        weaker.push(name);
    }
    Ok(weaker)
}

/// Programs that are missing and have no substitute here.
fn without_substitute(missing: &[String]) -> Vec<String> {
    let lacks = |name: &str| missing.iter().any(|m| m == name);
    let substituted = |name: &str| {
        ALTERNATIVES.iter().any(|(new, old)| name == *old || (name == *new && !lacks(old)))
    };
    missing.iter().filter(|name| !substituted(name)).cloned().collect()
}

fn take_maps(object: &Object) -> Result<Maps> {
    let bpf = |source| Error::Bpf { action: "take the maps of", source };
    let control: OwnedFd = object
        .progs()
        .find(|p| p.name() == CONTROL)
        .ok_or_else(|| missing(CONTROL))?
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::System { action: "copy a descriptor", source })?;
    maps(control, |name| {
        // libbpf prefixes the name of the data section with the object's.
        let named = |m: &libbpf_rs::Map<'_>| match name {
            BSS => m.name().to_string_lossy().ends_with(BSS),
            _ => m.name() == name,
        };
        let map = object.maps().find(named).ok_or_else(|| missing(name))?;
        MapHandle::try_from(&map).map_err(bpf)
    })
}

/// What the programs and this crate agree on, as a number: FNV-1a (RFC 9923) of the header that both are made of.
pub(crate) const LAYOUT: u64 = {
    let header = include_bytes!("../../../bpf/include/coconut_abi.h");
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while at < header.len() {
        hash = (hash ^ header[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
};

/// The data section, whose only variable is the policy.
const BSS: &str = ".bss";
/// The program by which the daemon changes what is in the maps.
const CONTROL: &str = "control";

fn maps(control: OwnedFd, find: impl Fn(&'static str) -> Result<MapHandle>) -> Result<Maps> {
    let bss = find(BSS)?;
    if (bss.value_size() as usize) < size_of::<Policy>() {
        return Err(missing("policy"));
    }
    Ok(Maps {
        agents: find("agents")?,
        daemons: find("daemons")?,
        lists: find("lists")?,
        files: find("files")?,
        fs_caps: find("fs_caps")?,
        net_caps: find("net_caps")?,
        unix_abstract_caps: find("unix_abstract_caps")?,
        plain_caps: find("plain_caps")?,
        counted: find("counted")?,
        counters: find("counters")?,
        parents: find("parents")?,
        tcp_peers: find("tcp_peers")?,
        peer_counts: find("peer_counts")?,
        resolved: find("resolved")?,
        throttled: find("throttled")?,
        kept: find("kept")?,
        stops: find("stops")?,
        tallies: find("tallies")?,
        events: find("events")?,
        policy: crate::sys::SharedPolicy::map(bss.as_fd())?,
        control,
    })
}

/// What an earlier daemon left in the kernel, if it left anything.
pub(crate) fn standing(options: &LoadOptions) -> Result<Option<Maps>> {
    let dir = maps_dir(options);
    if !dir.exists() {
        return Ok(None);
    }
    let bpf = |source: libbpf_rs::Error| match source.kind() {
        libbpf_rs::ErrorKind::PermissionDenied => Error::NotAdmitted,
        _ => Error::Bpf { action: "take over", source },
    };
    let control = libbpf_rs::Program::fd_from_pinned_path(dir.join(CONTROL)).map_err(bpf)?;
    maps(control, |name| MapHandle::from_pinned_path(dir.join(pin_name(name))).map_err(bpf))
        .map(Some)
}

/// What this kernel has no place for.
pub(crate) fn weaker() -> Result<Vec<String>> {
    let mut open = ObjectBuilder::default()
        .open_memory(&OBJECT.0)
        .map_err(|source| Error::Bpf { action: "open", source })?;
    Ok(without_substitute(&leave_out_missing(&mut open)?))
}

/// Takes the pins away: what is pinned and held by nobody ends.
pub(crate) fn remove_pins(options: &LoadOptions) -> Result<()> {
    for dir in [options.pin_dir.clone(), maps_dir(options)] {
        match fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::File { action: "remove the pins in", path: dir, source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn missing(name: &str) -> Error {
    Error::Invalid(format!("the compiled kernel programs lack {name}"))
}

/// The one program that hangs on the slice, not on a hook of the whole kernel.
const EGRESS: &str = "cgroup_skb/egress";

fn attach(object: &Object, weaker: &[String], options: &LoadOptions) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    let path = options.cgroup_root.join(&options.slice);
    let slice = fs::File::open(&path).map_err(|source| Error::File {
        action: "open the cgroup",
        path,
        source,
    })?;
    for program in object.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        if program.section() == "syscall" || weaker.contains(&name) {
            continue;
        }
        let link = match program.section() == EGRESS {
            true => program.attach_cgroup(slice.as_raw_fd()),
            false => program.attach(),
        };
        let mut link = link.map_err(|source| Error::Bpf { action: "attach", source })?;
        link.pin(options.pin_dir.join(&name))
            .map_err(|source| Error::Bpf { action: "pin", source })?;
        links.push(link);
    }
    Ok(links)
}

/// By these a later daemon takes over what this one leaves.
fn pin_all(object: &mut Object, dir: &Path) -> Result<()> {
    let pin = |source| Error::Bpf { action: "pin", source };
    make_folder(dir)?;
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let name = if name.ends_with(BSS) { BSS } else { &name };
        map.pin(dir.join(pin_name(name))).map_err(pin)?;
    }
    let control = object.progs_mut().find(|p| p.name() == CONTROL);
    control.ok_or_else(|| missing(CONTROL))?.pin(dir.join(CONTROL)).map_err(pin)
}

/// A bpffs takes no names with dots.
fn pin_name(map: &str) -> String {
    map.replace('.', "_")
}

/// Kernels charge maps to cgroups; the limit is raised for those that still count it.
fn raise_memlock() {
    let limit = rustix::process::Rlimit { current: None, maximum: None };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Memlock, limit);
}
