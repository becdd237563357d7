//! Tells a service manager that we are ready (systemd's `NOTIFY_SOCKET` datagram).

/// Does nothing where there is no service manager.
pub fn ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&path) {
        tracing::warn!(%error, "cannot tell the service manager that we are ready");
    }
}

fn send(path: &std::ffi::OsStr) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixDatagram;
    let socket = UnixDatagram::unbound()?;
    #[cfg(target_os = "linux")]
    if let Some(name) = path.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return socket.send_to_addr(b"READY=1", &address).map(drop);
    }
    socket
        .send_to(b"READY=1", std::path::Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())))
        .map(drop)
}
