//! Attempts on the machine itself: privileges, kernel, cgroups, programs that were not granted.

use super::{Attempt, Got, Target, first_bytes, printable, step};
use crate::sys;
use rustix::fs::MemfdFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::Command;

/// The table.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "exec", argument: "PROGRAM", wants: "run it", run: exec },
    Attempt {
        name: "exec-copy",
        argument: "PROGRAM,OWNDIR",
        wants: "copy it home and run it",
        run: exec_copy,
    },
    Attempt {
        name: "exec-memfd",
        argument: "PROGRAM",
        wants: "run a copy in memory",
        run: exec_memfd,
    },
    Attempt {
        name: "exec-loader",
        argument: "PROGRAM",
        wants: "run it by the dynamic loader",
        run: exec_loader,
    },
    Attempt {
        name: "setuid-program",
        argument: "PROBE",
        wants: "be root by a set-uid program",
        run: suid,
    },
    Attempt { name: "setuid-root", argument: "", wants: "be root by setresuid", run: setuid },
    Attempt { name: "capset", argument: "", wants: "take every capability", run: capset },
    Attempt { name: "nnp-off", argument: "", wants: "switch no_new_privs off", run: nnp_off },
    Attempt { name: "realtime", argument: "", wants: "SCHED_FIFO", run: realtime },
    Attempt { name: "renice", argument: "", wants: "a better nice value", run: renice },
    Attempt { name: "userns", argument: "", wants: "root in a user namespace", run: userns },
    Attempt { name: "mount-tmpfs", argument: "DIR", wants: "mount over a directory", run: mount },
    Attempt { name: "mount-new-api", argument: "", wants: "fsopen and fsmount", run: fsopen },
    Attempt { name: "umount", argument: "DIR", wants: "unmount", run: umount },
    Attempt { name: "remount", argument: "DIR", wants: "change mount flags", run: remount },
    Attempt { name: "chroot", argument: "DIR", wants: "another root", run: chroot },
    Attempt { name: "bpf-list", argument: "", wants: "list kernel programs", run: bpf_list },
    Attempt { name: "bpf-map", argument: "", wants: "make a map", run: bpf_map },
    Attempt { name: "bpf-pin", argument: "PIN", wants: "open what is pinned", run: bpf_pin },
    Attempt { name: "perf", argument: "", wants: "count the CPU clock", run: perf },
    Attempt { name: "keyring", argument: "NAME", wants: "read the user's key", run: keyring },
    Attempt { name: "module", argument: "FILE", wants: "load a kernel module", run: module },
    Attempt { name: "kexec", argument: "", wants: "replace the kernel", run: kexec },
    Attempt { name: "dmesg", argument: "", wants: "read the kernel log", run: dmesg },
    Attempt { name: "fanotify", argument: "DIR", wants: "be told of every open", run: fanotify },
    Attempt { name: "sethostname", argument: "", wants: "rename the machine", run: hostname },
    Attempt {
        name: "sysctl",
        argument: "FILE,VALUE",
        wants: "write below /proc/sys",
        run: write_value,
    },
    Attempt { name: "sysfs", argument: "FILE,VALUE", wants: "write below /sys", run: write_value },
    Attempt {
        name: "cgroup-write",
        argument: "FILE,VALUE",
        wants: "write a cgroup's file; @self is the own",
        run: write_value,
    },
    Attempt {
        name: "cgroup-join",
        argument: "CGROUP",
        wants: "leave for another cgroup",
        run: join,
    },
    Attempt {
        name: "cgroup-make",
        argument: "CGROUP",
        wants: "make a cgroup below it",
        run: make_cgroup,
    },
    Attempt {
        name: "proc1-environ",
        argument: "",
        wants: "read init's environment",
        run: init_environ,
    },
    Attempt { name: "proc1-root", argument: "", wants: "enter init's root", run: init_root },
];

fn output(command: &mut Command) -> Got {
    let done = command.output()?;
    match done.status.success() {
        true => Ok(format!("ran: {}", printable(&done.stdout))),
        false => Err(io::Error::other(format!(
            "{}: {}",
            done.status,
            printable(&done.stderr[..done.stderr.len().min(200)])
        ))),
    }
}

fn exec(t: &Target) -> Got {
    output(&mut Command::new(t.path(0)?))
}

fn exec_copy(t: &Target) -> Got {
    let copy = t.path(1)?.join("copied-program");
    step("copy", std::fs::copy(t.path(0)?, &copy))?;
    output(&mut Command::new(copy))
}

fn exec_memfd(t: &Target) -> Got {
    let memory = step("memfd_create", rustix::fs::memfd_create("program", MemfdFlags::empty()))?;
    let mut file = File::from(memory);
    io::copy(&mut step("open", File::open(t.path(0)?))?, &mut file)?;
    output(&mut Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())))
}

fn exec_loader(t: &Target) -> Got {
    output(Command::new("/lib64/ld-linux-x86-64.so.2").arg(t.path(0)?))
}

fn suid(t: &Target) -> Got {
    let done = step("exec", Command::new(t.path(0)?).arg("whoami").output())?;
    let said: serde_json::Value = serde_json::from_slice(&done.stdout)?;
    let uid = said["uid"].as_str().unwrap_or_default().to_owned();
    let effective = uid.split_whitespace().nth(1).unwrap_or_default();
    match effective == "0" && !rustix::process::getuid().is_root() {
        true => Ok(format!("is root now: uid {uid}")),
        false => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

fn setuid(_: &Target) -> Got {
    sys::become_root()?;
    // For a root without capabilities the call succeeds and changes nothing.
    sys::take_all_capabilities()?;
    Ok("is root".to_owned())
}

fn capset(_: &Target) -> Got {
    sys::take_all_capabilities()?;
    Ok("has every capability".to_owned())
}

fn nnp_off(_: &Target) -> Got {
    sys::allow_new_privileges()?;
    Ok("no_new_privs is off".to_owned())
}

fn realtime(_: &Target) -> Got {
    sys::become_realtime()?;
    Ok("runs before everybody".to_owned())
}

fn renice(_: &Target) -> Got {
    rustix::process::setpriority_process(None, -19)?;
    Ok("nice is -19".to_owned())
}

fn userns(_: &Target) -> Got {
    sys::unshare(libc::CLONE_NEWUSER)?;
    Ok("has a user namespace".to_owned())
}

fn mount(t: &Target) -> Got {
    use rustix::mount::{MountFlags, mount};
    // Only so that the control leaves nothing behind: an agent is refused with and without, and has one record of it.
    if rustix::process::geteuid().is_root() {
        super::private_mounts()?;
    }
    mount("none", t.path(0)?, "tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>)?;
    Ok("mounted".to_owned())
}

fn fsopen(_: &Target) -> Got {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen,
    };
    let fs = step("fsopen", fsopen("tmpfs", FsOpenFlags::empty()))?;
    step("fsconfig", fsconfig_create(fs.as_fd()))?;
    step("fsmount", fsmount(fs.as_fd(), FsMountFlags::empty(), MountAttrFlags::empty()))?;
    Ok("has a mount".to_owned())
}

fn umount(t: &Target) -> Got {
    rustix::mount::unmount(t.path(0)?, rustix::mount::UnmountFlags::DETACH)?;
    Ok("unmounted".to_owned())
}

fn remount(t: &Target) -> Got {
    use rustix::mount::{MountFlags, mount_remount};
    mount_remount(t.path(0)?, MountFlags::BIND, c"")?;
    Ok("remounted".to_owned())
}

fn chroot(t: &Target) -> Got {
    rustix::process::chroot(t.path(0)?)?;
    Ok("has another root".to_owned())
}

fn bpf_list(_: &Target) -> Got {
    Ok(format!("program {}", sys::bpf_next_program()?))
}

fn bpf_map(_: &Target) -> Got {
    sys::bpf_map_create()?;
    Ok("has a map".to_owned())
}

fn bpf_pin(t: &Target) -> Got {
    sys::bpf_obj_get(&t.c_path(0)?)?;
    Ok("has the pinned object".to_owned())
}

fn perf(_: &Target) -> Got {
    sys::perf_cpu_clock()?;
    Ok("counts".to_owned())
}

fn keyring(t: &Target) -> Got {
    let mut bytes = [0u8; 64];
    let n = sys::key_read(&t.c_path(0)?, &mut bytes)?;
    Ok(printable(&bytes[..n]))
}

fn module(t: &Target) -> Got {
    let file = step("open", File::open(t.path(0)?))?;
    sys::load_module(file.as_fd(), !t.text(0)?.ends_with(".ko"))?;
    Ok("loaded".to_owned())
}

fn kexec(_: &Target) -> Got {
    sys::kexec_nothing()?;
    Ok("may replace the kernel".to_owned())
}

fn dmesg(_: &Target) -> Got {
    let mut bytes = vec![0u8; 4096];
    let n = sys::kernel_log(&mut bytes)?;
    Ok(printable(&bytes[..n.min(60)]))
}

fn fanotify(t: &Target) -> Got {
    sys::fanotify(&t.c_path(0)?)?;
    Ok("is told of every open".to_owned())
}

fn hostname(_: &Target) -> Got {
    // Its own UTS namespace, so that the control does no lasting harm.
    step("unshare", sys::unshare(libc::CLONE_NEWUTS))?;
    rustix::system::sethostname(b"probe")?;
    Ok("renamed".to_owned())
}

/// A path; `@self` in front is this process's own cgroup.
fn cgroup_path(text: &str) -> io::Result<PathBuf> {
    let Some(below) = text.strip_prefix("@self") else { return Ok(PathBuf::from(text)) };
    let own = std::fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/").to_owned();
    Ok(PathBuf::from(format!("/sys/fs/cgroup{own}{below}")))
}

fn write_value(t: &Target) -> Got {
    let mut file = step("open", OpenOptions::new().write(true).open(cgroup_path(t.text(0)?)?))?;
    file.write_all(t.text(1)?.as_bytes())?;
    Ok(format!("wrote {}", t.text(1)?))
}

fn join(t: &Target) -> Got {
    let procs = cgroup_path(t.text(0)?)?.join("cgroup.procs");
    let mut file = step("open", OpenOptions::new().write(true).open(procs))?;
    file.write_all(b"0")?;
    let now = std::fs::read_to_string("/proc/self/cgroup")?;
    Ok(format!("is in {}", now.trim()))
}

fn make_cgroup(t: &Target) -> Got {
    let path = cgroup_path(t.text(0)?)?.join("probe");
    std::fs::create_dir(&path)?;
    let _ = std::fs::remove_dir(&path);
    Ok("made one".to_owned())
}

fn init_environ(_: &Target) -> Got {
    let init = std::fs::read_to_string("/proc/1/cgroup")?;
    if Some(&init) == std::fs::read_to_string("/proc/self/cgroup").ok().as_ref() {
        return Err(io::Error::other("process 1 here is the agent itself"));
    }
    first_bytes(File::open("/proc/1/environ")?)
}

fn init_root(_: &Target) -> Got {
    let init = std::fs::read_to_string("/proc/1/cgroup")?;
    if Some(&init) == std::fs::read_to_string("/proc/self/cgroup").ok().as_ref() {
        return Err(io::Error::other("process 1 here is the agent itself"));
    }
    Ok(format!("{} names", std::fs::read_dir("/proc/1/root/")?.count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_cannot_be_run() {
        let refused = exec(&Target::new("/does/not/exist")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOENT));
        let said = exec(&Target::new("/bin/true")).unwrap();
        assert!(said.starts_with("ran"), "{said}");
    }
}
