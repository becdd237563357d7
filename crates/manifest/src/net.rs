//! Where an agent may connect or bind: host or CIDR, and port.

use crate::limits;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address block in CIDR notation; the bits behind the prefix are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

impl IpNet {
    /// A block. `None` if the prefix is too long for the family or the address has bits behind it.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let block = IpNet { address, prefix };
        (prefix <= block.width() && mask(address, prefix) == address).then_some(block)
    }

    /// One address.
    pub fn host(address: IpAddr) -> Self {
        IpNet { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// First address of the block.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits that count, within the family: 32 is one IPv4 address.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    fn width(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// True if every address of `other` is in `self`.
    pub fn contains(&self, other: &IpNet) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.prefix <= other.prefix
            && mask(other.address, self.prefix) == self.address
    }
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & keep))
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & keep))
        }
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == self.width() {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

/// Which hosts an [`Endpoint`] covers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Host {
    /// Every address of both families, and every name: `*`.
    Any,
    /// An address block.
    Net(IpNet),
    /// A DNS name in lower case; the daemon resolves it and pins the answers.
    Name(String),
}

impl Host {
    /// True if `self` covers all that `other` covers. A name and an address are never compared.
    pub fn contains(&self, other: &Host) -> bool {
        match (self, other) {
            (Host::Any, _) => true,
            (Host::Net(a), Host::Net(b)) => a.contains(b),
            (Host::Name(a), Host::Name(b)) => a == b,
            _ => false,
        }
    }
}

/// Hosts and port; `port: None` is every port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// Which hosts.
    pub host: Host,
    /// Which port, in host byte order; `None` is every port.
    pub port: Option<u16>,
}

impl Endpoint {
    /// True if `self` covers all that `other` covers.
    pub fn contains(&self, other: &Endpoint) -> bool {
        self.host.contains(&other.host) && (self.port.is_none() || self.port == other.port)
    }
}

/// Why a text is no [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum EndpointError {
    #[error("`{0}` has no port")]
    NoPort(String),
    #[error("`{0}` is not a port from 1 to 65535, nor `*`")]
    Port(String),
    #[error("`{0}` has address bits behind its prefix or a prefix that is too long")]
    Prefix(String),
    #[error("`{0}` is neither an address, a CIDR block, a DNS name nor `*`")]
    Host(String),
    #[error("`{0}`: an IPv6 address needs brackets in front of the port")]
    Brackets(String),
    #[error("`{0}`: names with `*` in them cannot be resolved and pinned")]
    Wildcard(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, port) =
                    rest.split_once("]:").ok_or_else(|| EndpointError::NoPort(text.to_owned()))?;
                (parse_block(inside)?, port)
            }
            None => {
                let (host, port) =
                    text.rsplit_once(':').ok_or_else(|| EndpointError::NoPort(text.to_owned()))?;
                if host.contains(':') {
                    return Err(EndpointError::Brackets(text.to_owned()));
                }
                (parse_host(host)?, port)
            }
        };
        Ok(Endpoint { host, port: parse_port(port)? })
    }
}

fn parse_port(text: &str) -> Result<Option<u16>, EndpointError> {
    if text == "*" {
        return Ok(None);
    }
    match text.parse::<u16>() {
        Ok(port) if port > 0 && !text.starts_with(['+', '0']) => Ok(Some(port)),
        _ => Err(EndpointError::Port(text.to_owned())),
    }
}

fn parse_block(text: &str) -> Result<Host, EndpointError> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| EndpointError::Host(text.to_owned()))?;
    let block = match prefix {
        None => Some(IpNet::host(address)),
        Some(bits) => bits.parse().ok().and_then(|bits| IpNet::new(address, bits)),
    };
    block.map(Host::Net).ok_or_else(|| EndpointError::Prefix(text.to_owned()))
}

fn parse_host(text: &str) -> Result<Host, EndpointError> {
    if text == "*" {
        return Ok(Host::Any);
    }
    if text.contains('*') {
        return Err(EndpointError::Wildcard(text.to_owned()));
    }
    // A name whose last label is a number would be taken for an address by some resolvers.
    let last = text.rsplit('.').next().unwrap_or_default();
    if text.contains('/') || last.bytes().all(|b| b.is_ascii_digit()) {
        return parse_block(text);
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.len() <= limits::HOST_BYTES && text.split('.').all(label) {
        Ok(Host::Name(text.to_ascii_lowercase()))
    } else {
        Err(EndpointError::Host(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Name(name) => f.write_str(name)?,
            Host::Net(block) if block.address.is_ipv6() => write!(f, "[{block}]")?,
            Host::Net(block) => write!(f, "{block}")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn text_forms() {
        for text in [
            "api.github.com:443",
            "10.0.0.0/8:*",
            "127.0.0.1:80",
            "[2001:db8::/32]:443",
            "[::1]:*",
            "*:53",
        ] {
            assert_eq!(at(text).to_string(), text);
        }
        assert_eq!(at("API.GitHub.com:443").to_string(), "api.github.com:443");
    }

    #[test]
    fn wrong_forms_are_refused() {
        for text in [
            "host",
            "host:0",
            "host:70000",
            "host:+1",
            "10.0.0.1/8:1",
            "10.0.0.0/33:1",
            "::1:80",
            "*.a.b:1",
            "a..b:1",
            "-a:1",
            "1.2.3:4",
            "[::1]80",
            ":80",
            "1.2.3.4.5:1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn containment() {
        assert!(at("10.0.0.0/8:*").contains(&at("10.1.2.3:443")));
        assert!(!at("10.0.0.0/8:443").contains(&at("10.1.2.3:*")));
        assert!(!at("10.0.0.0/8:*").contains(&at("11.0.0.0/8:*")));
        assert!(at("*:443").contains(&at("api.github.com:443")));
        assert!(!at("0.0.0.0/0:443").contains(&at("[::1]:443")));
        assert!(!at("0.0.0.0/0:443").contains(&at("*:443")));
        assert!(!at("a.b:443").contains(&at("c.a.b:443")));
    }
}
