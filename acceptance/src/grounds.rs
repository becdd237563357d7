//! Where the techniques are tried: the scene of the demonstration and what it has not: tags, links and sockets of other
//! kinds, a file that may only be read, and a victim that shares a secret by names.

use anyhow::{Context as _, Result};
use demo::attacks::Target;
use demo::control::User;
use demo::scene::Scene;
use rustix::fs::{XattrFlags, setxattr};
use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::{Path, PathBuf};

use crate::techniques::Grounds;

/// Files of somebody else, one for each technique that would change it.
const FILES: &[&str] = &[
    "secret.txt",
    "to-link",
    "to-link-by-ring",
    "to-move",
    "to-replace",
    "to-give",
    "to-open",
    "to-touch",
    "to-share",
    "to-tag",
    "to-flag",
];

/// The places; its files go with its scene.
pub struct Place {
    /// Of the demonstration.
    pub scene: Scene,
    /// Somebody else's directory.
    theirs: PathBuf,
    /// A directory with a file that the attacker may only read.
    pub read: PathBuf,
    /// A name in the user's keyring.
    pub key: String,
    /// The number of which the victim makes names.
    pub ipc: i32,
    /// A port that its owner shares.
    shared: SocketAddr,
    name: String,
    before: BTreeMap<PathBuf, String>,
    _open: (UdpSocket, UnixDatagram),
}

impl Place {
    /// Makes it, for agents of this user or for its ordinary processes.
    ///
    /// # Errors
    /// When a file or socket cannot be made.
    pub fn set(work: &Path, probe: &Path, name: &str, ipc: i32) -> Result<Place> {
        let user = User::of_agents()?;
        let scene = Scene::set(work, name, user, probe)?;
        let (theirs, read) = (scene.root.join("theirs"), scene.root.join("read"));
        fs::create_dir_all(theirs.join("empty"))?;
        fs::create_dir_all(&read)?;
        for file in FILES {
            fs::write(theirs.join(file), format!("{}\n", scene.secret))?;
        }
        fs::write(read.join("file"), "for reading\n")?;
        fs::write(scene.own.join("account"), "")?;
        write_swap(&scene.own.join("swap"))?;
        symlink(&scene.secret, theirs.join("link"))?;
        for (tag, value) in [(c"user.secret", scene.secret.as_bytes()), (c"user.to-take", b"x")] {
            setxattr(theirs.join("secret.txt"), tag, value, XattrFlags::empty()).context("tag")?;
        }
        listen_for_packets(&scene)?;
        for dir in [&theirs, &read, &scene.own] {
            give(dir, user)?;
        }
        let name = format!("coconut-attacks-{name}-{}", std::process::id());
        let datagrams = UnixDatagram::bind_addr(&UnixAddress::from_abstract_name(&name)?)?;
        let shared = share_port(user)?;
        let before = contents(&theirs)?;
        #[rustfmt::skip]
        let place = Place {
            scene, theirs, read, key: name.clone(), ipc, shared: shared.local_addr()?, name, before,
            _open: (shared, datagrams),
        };
        Ok(place)
    }

    /// What the techniques are aimed at, with this victim.
    pub fn grounds(&self, target: Target) -> Grounds<'_> {
        let text = |path: &Path| path.display().to_string();
        // The control's other one is frozen by the time that somebody wants to be there.
        let cgroup = match target.own_cgroup.starts_with('/') {
            true => target.own_cgroup.clone(),
            false => target.cgroup.clone(),
        };
        let places = vec![
            ("pid", target.pid.to_string()),
            ("cgroup", cgroup),
            ("key", target.key.clone()),
            ("theirs", text(&self.theirs)),
            ("own", self.scene.own_dir()),
            ("reads", text(&self.read)),
            ("read", text(&self.read.join("file"))),
            ("tcp", self.scene.tcp.to_string()),
            ("udp", self.scene.udp.to_string()),
            ("shared", self.shared.to_string()),
            ("seqpacket", text(&packets(&self.scene))),
            ("abstract-dgram", self.name.clone()),
            ("abstract-free", format!("{}-free", self.name)),
            ("ipc", self.ipc.to_string()),
        ];
        Grounds { scene: &self.scene, target, places }
    }

    /// What of somebody else's is not as it was.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn damage(&self) -> Result<Vec<String>> {
        let now = contents(&self.theirs)?;
        let names = self.before.keys().chain(now.keys());
        let mut changed: Vec<String> = names
            .filter(|path| self.before.get(*path) != now.get(*path))
            .map(|path| path.display().to_string())
            .collect();
        changed.sort();
        changed.dedup();
        Ok([self.scene.damage()?, changed].concat())
    }
}

/// A header of swap space and nothing else: ten pages.
fn write_swap(path: &Path) -> Result<()> {
    let mut bytes = vec![0u8; 10 * 4096];
    bytes[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    bytes[1028..1032].copy_from_slice(&9u32.to_ne_bytes());
    bytes[4086..4096].copy_from_slice(b"SWAPSPACE2");
    fs::write(path, bytes)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

fn give(path: &Path, user: User) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user)?;
        }
    }
    Ok(())
}

fn packets(scene: &Scene) -> PathBuf {
    scene.root.join("packets.sock")
}

/// Gives the secret to whoever sends a packet.
fn listen_for_packets(scene: &Scene) -> Result<()> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, accept, bind, listen, socket};
    let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    let path = packets(scene);
    bind(&socket, &SocketAddrUnix::new(&path)?)?;
    listen(&socket, 8)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    let secret = scene.secret.clone();
    std::thread::spawn(move || {
        while let Ok(peer) = accept(&socket) {
            let heard = rustix::io::read(&peer, &mut [0u8; 64]);
            let _ = heard.and_then(|_| rustix::io::write(&peer, secret.as_bytes()));
        }
    });
    Ok(())
}

/// A port whose owner lets others of its user share it, which is who binds it.
fn share_port(user: User) -> Result<UdpSocket> {
    use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt::set_socket_reuseport};
    let made: OwnedFd = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    set_socket_reuseport(&made, true)?;
    // The kernel compares the users of those who share.
    rustix::fs::fchown(&made, Some(rustix::fs::Uid::from_raw(user.uid)), None)?;
    bind(&made, &SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok(made.into())
}

/// Of each file what can be changed about it.
fn contents(dir: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let about = fs::symlink_metadata(&path)?;
        let text = if about.is_file() { fs::read_to_string(&path)? } else { String::new() };
        let (mode, owner) = (about.mode(), (about.uid(), about.gid()));
        all.insert(path, format!("{mode:o} {owner:?} {} {} {text}", about.mtime(), about.nlink()));
    }
    Ok(all)
}
