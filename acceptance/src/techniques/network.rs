//! Techniques on addresses, sockets and packets.

use super::{Technique, privileged, root, theft, user};
use demo::attacks::Who;

pub const TECHNIQUES: &[Technique] = &[
    theft("tcp-zero", "{tcp}", "reach a listener by 0.0.0.0"),
    theft("udp-zero", "{udp}", "send a datagram by 0.0.0.0"),
    theft("udp-mapped", "{udp}", "… by its IPv6-mapped address"),
    theft("udp-many", "{udp}", "… by sendmmsg"),
    theft("udp-empty", "{udp}", "… without a byte in it"),
    theft("uring-udp", "{udp}", "… by io_uring"),
    user("multicast", "239.1.2.3:4321", "send to a group"),
    user("reuseport", "{shared}", "share another's port"),
    user("udp-bind", "127.0.0.1:4322", "receive at a port"),
    user("udp-eavesdrop", "", "receive at a port that a look-up took"),
    user("tcp-listen-any", "", "listen on any port"),
    user("uring-bind", "127.0.0.1:4323", "listen by io_uring"),
    theft("seqpacket", "{seqpacket}", "reach a socket of packets"),
    user("ip-options", "", "have its way recorded"),
    user("route-header", "", "send by way of another"),
    privileged("mark", "", "mark packets for the firewall"),
    root("uring-raw", "", "open a raw socket by io_uring"),
    root("socket", "44,3,0", "an AF_XDP socket"),
    user("socket", "38,5,0", "use the kernel's ciphers"),
    user("socket", "16,3,4", "list everybody's connections (sock_diag)"),
    user("socket", "16,3,12", "talk to the packet filter"),
    user("socket", "16,3,15", "be told of every device"),
    user("socket", "16,3,16", "talk generic netlink"),
    user("socket", "16,3,21", "talk to the kernel's ciphers"),
    user("socket", "2,5,132", "an SCTP socket").who(Who::UserIfThere),
    privileged("netlink-change", "", "take an interface down"),
    privileged("forge-sender", "", "claim to be root"),
];
