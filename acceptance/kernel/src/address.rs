//! Internet addresses as system calls take them.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is about local memory

use libc::*;

/// Of a host that is written as a number, with its length.
pub fn address(host: &str, port: u16) -> (sockaddr_storage, socklen_t) {
    unsafe {
        let mut storage: sockaddr_storage = std::mem::zeroed();
        match host.parse() {
            Ok(std::net::IpAddr::V6(v6)) => {
                let a = &mut *(&raw mut storage).cast::<sockaddr_in6>();
                a.sin6_family = AF_INET6 as u16;
                a.sin6_port = port.to_be();
                a.sin6_addr.s6_addr = v6.octets();
                (storage, size_of::<sockaddr_in6>() as u32)
            }
            Ok(std::net::IpAddr::V4(v4)) => {
                let a = &mut *(&raw mut storage).cast::<sockaddr_in>();
                a.sin_family = AF_INET as u16;
                a.sin_port = port.to_be();
                a.sin_addr.s_addr = u32::from_ne_bytes(v4.octets());
                (storage, size_of::<sockaddr_in>() as u32)
            }
            Err(_) => (storage, 0),
        }
    }
}
