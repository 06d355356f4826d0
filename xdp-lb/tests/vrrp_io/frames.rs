//! Frames as data: what is on the wire, and what should be.

use std::io::Read as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::support::{Namespace, pair};

/// Bound of whatever should take milliseconds: a busy machine may be slow, not wrong.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The octets of a text of hexadecimal digits and white space.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).unwrap();
    digits.chunks(2).map(byte).collect()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

/// Two hosts as in the captures: 10.9.0.11 with MAC 02:00:00:00:00:01, and 10.9.0.12.
pub(crate) fn captured_pair() -> (Namespace, Namespace) {
    let (one, other) = pair();
    // The addresses that the kernel makes up come when they like.
    for namespace in [&one, &other] {
        namespace.ip("link set eth0 addrgenmode none");
        namespace.ip("-6 addr flush dev eth0 scope link");
    }
    one.ip("link set eth0 address 02:00:00:00:00:01");
    other.ip("link set eth0 address 02:00:00:00:00:02");
    assert_eq!(one.mac("eth0"), "02:00:00:00:00:01");
    one.ip("addr add 10.9.0.11/24 dev eth0");
    other.ip("addr add 10.9.0.12/24 dev eth0");
    one.ip("addr add fe80::1/64 dev eth0 nodad");
    other.ip("addr add fe80::2/64 dev eth0 nodad");
    (one, other)
}

/// All frames that arrive in a namespace from now on.
pub(crate) fn sniffer(namespace: &Namespace) -> Socket {
    namespace.enter(|| {
        let all = Protocol::from(i32::from(0x0003_u16.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    })
}

/// The next frame for which this holds.
pub(crate) fn frame(sniffer: &Socket, is: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < SOON, "no such frame came");
        let mut buffer = [0; 2048];
        let length = (&mut &*sniffer).read(&mut buffer).unwrap();
        if is(&buffer[..length]) {
            return buffer[..length].to_vec();
        }
    }
}
