//! The scene of an attack: somebody else's files, key, listeners and process, and the attacker's own corner.

use crate::control::User;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

/// Files that an attempt would change or remove: one for each, so that one success hides no other.
pub const VICTIMS: &[&str] = &[
    "to-rename",
    "to-exchange",
    "to-append",
    "to-empty",
    "to-unlink",
    "to-chmod",
    "to-tag",
    "to-touch",
    "to-unlink-by-ring",
];

/// Everything that can be attacked. Its files are removed when it is dropped.
pub struct Scene {
    /// The top directory.
    pub root: PathBuf,
    /// Text that no attacker may ever hold.
    pub secret: String,
    /// Somebody else's directory.
    pub other: PathBuf,
    /// A private key, mode 0600, of the same user.
    pub ssh_key: PathBuf,
    /// The attacker's own directory.
    pub own: PathBuf,
    /// A copy of the probe that is set-uid root; none where the caller is not root.
    pub helper: Option<PathBuf>,
    /// A listener that gives the secret to whoever says hello, and echoes after that.
    pub tcp: SocketAddr,
    /// The same for datagrams.
    pub udp: SocketAddr,
    /// The same at a path.
    pub unix: PathBuf,
    /// The same for datagrams at a path.
    pub unix_datagram: PathBuf,
    /// The same at an abstract name.
    pub abstract_name: String,
    before: BTreeMap<PathBuf, Vec<u8>>,
}

impl Scene {
    /// Sets the scene below `root`; the files belong to `user`.
    ///
    /// # Errors
    /// When a file or listener cannot be made.
    pub fn set(root: &Path, name: &str, user: User, probe: &Path) -> Result<Scene> {
        let root = root.join(name);
        let _ = std::fs::remove_dir_all(&root);
        let secret = format!("SECRET-{}", &uuid::Uuid::now_v7().simple().to_string()[20..]);
        let (other, own) = (root.join("other"), root.join("own"));
        let ssh_key = root.join("home/.ssh/id_ed25519");
        for dir in [&other, &own, &root.join("home/.ssh")] {
            std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        }
        std::fs::write(other.join("secret.txt"), format!("{secret}\n"))?;
        for victim in VICTIMS {
            std::fs::write(other.join(victim), format!("{secret}\n"))?;
        }
        std::fs::write(own.join("notes.txt"), "mine\n")?;
        std::fs::write(&ssh_key, format!("{secret}-OPENSSH-PRIVATE-KEY\n"))?;
        give(&root, user)?;
        std::fs::set_permissions(&ssh_key, std::fs::Permissions::from_mode(0o600))?;
        let helper = set_uid_helper(&root, probe)?;
        let abstract_name = format!("coconut-demo-{name}-{}", std::process::id());
        let (tcp, udp) = (serve_tcp(&secret)?, serve_udp(&secret)?);
        let (unix, unix_datagram) = (root.join("stream.sock"), root.join("datagram.sock"));
        serve_unix(UnixListener::bind(&unix)?, &secret);
        let address = UnixAddress::from_abstract_name(&abstract_name)?;
        serve_unix(UnixListener::bind_addr(&address)?, &secret);
        let datagrams = UnixDatagram::bind(&unix_datagram)?;
        std::thread::spawn(move || while datagrams.recv(&mut [0; 64]).is_ok() {});
        for socket in [&unix, &unix_datagram] {
            std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
        }
        let before = contents(&other)?;
        #[rustfmt::skip]
        let scene = Scene {
            root, secret, other, ssh_key, own, helper, tcp, udp, unix, unix_datagram, abstract_name, before,
        };
        Ok(scene)
    }

    /// What in the other's directory is not as it was: changed, missing and new names.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn damage(&self) -> Result<Vec<String>> {
        let now = contents(&self.other)?;
        let names = self.before.keys().chain(now.keys());
        let mut damaged: Vec<String> = names
            .filter(|path| self.before.get(*path) != now.get(*path))
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        damaged.sort();
        damaged.dedup();
        Ok(damaged)
    }

    /// A path of the other's, as text.
    pub fn theirs(&self, name: &str) -> String {
        self.other.join(name).display().to_string()
    }

    /// The attacker's own directory, as text.
    pub fn own_dir(&self) -> String {
        self.own.display().to_string()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn contents(dir: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        // Mode and length stand for what is not a regular file; a FIFO would never end.
        let bytes = if kind.is_file() { std::fs::read(entry.path())? } else { Vec::new() };
        let mode = entry.metadata()?.permissions().mode();
        all.insert(entry.path(), [format!("{mode:o} ").as_bytes(), &bytes].concat());
    }
    Ok(all)
}

fn give(path: &Path, user: User) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    chown(path, Some(user.uid), Some(user.gid)).with_context(|| path.display().to_string())?;
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), user)?;
        }
    }
    Ok(())
}

fn set_uid_helper(root: &Path, probe: &Path) -> Result<Option<PathBuf>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let helper = root.join("set-uid-helper");
    std::fs::copy(probe, &helper).with_context(|| probe.display().to_string())?;
    chown(&helper, Some(0), Some(0))?;
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o4755))?;
    Ok(Some(helper))
}

/// Answers the first bytes with the secret and everything after that with itself.
fn converse(mut peer: impl Read + Write, secret: &str) {
    let mut bytes = [0u8; 64];
    let mut first = true;
    while let Ok(n @ 1..) = peer.read(&mut bytes) {
        let hello = first && bytes[..n] == *b"hello";
        let answer = if hello { secret.as_bytes() } else { &bytes[..n] };
        if peer.write_all(answer).is_err() {
            break;
        }
        first = false;
    }
}

fn serve_tcp(secret: &str) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, secret) = (listener.local_addr()?, secret.to_owned());
    std::thread::spawn(move || {
        for peer in listener.incoming().flatten() {
            let secret = secret.clone();
            let _ = peer.set_nodelay(true);
            std::thread::spawn(move || converse(peer, &secret));
        }
    });
    Ok(address)
}

fn serve_udp(secret: &str) -> Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let (address, secret) = (socket.local_addr()?, secret.to_owned());
    std::thread::spawn(move || {
        let mut bytes = [0u8; 64];
        while let Ok((_, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(secret.as_bytes(), from);
        }
    });
    Ok(address)
}

fn serve_unix(listener: UnixListener, secret: &str) {
    let secret = secret.to_owned();
    std::thread::spawn(move || {
        for peer in listener.incoming().flatten() {
            let secret = secret.clone();
            std::thread::spawn(move || converse(peer, &secret));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn damage_is_seen_and_its_absence_too() {
        let dir = tempfile::tempdir().unwrap();
        let user = User { uid: 65534, gid: 65534 };
        let scene = Scene::set(dir.path(), "s", user, Path::new("/bin/true")).unwrap();
        assert!(scene.damage().unwrap().is_empty());
        std::fs::write(scene.other.join("to-empty"), "").unwrap();
        std::fs::remove_file(scene.other.join("to-unlink")).unwrap();
        std::fs::write(scene.other.join("new"), "").unwrap();
        assert_eq!(scene.damage().unwrap(), ["new", "to-empty", "to-unlink"]);
    }

    #[test]
    fn the_listener_tells_its_secret_and_then_echoes() {
        let mut peer = TcpStream::connect(serve_tcp("SECRET").unwrap()).unwrap();
        let mut bytes = [0u8; 64];
        peer.write_all(b"hello").unwrap();
        let n = peer.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..n], b"SECRET");
        peer.write_all(b"x").unwrap();
        let n = peer.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..n], b"x");
    }
}
