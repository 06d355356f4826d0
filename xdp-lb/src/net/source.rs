//! Which address of this host packets come from when that must not be a VIP.
//!
//! The kernel may choose one. Of the IPv6 addresses of a prefix it takes the newest, unless that is
//! deprecated and another is not. Of IPv4 addresses it takes the first of a subnet, which a VIP is when
//! its prefix is longer than that of the host's own address, or when that has been taken off and added
//! again.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use socket2::{Domain, Protocol, Socket, Type};

/// Where packets go, and what else says which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way<'a> {
    /// Whom they go to.
    pub to: SocketAddr,
    /// Interface that they leave by, if it is not for the routes to say.
    pub interface: Option<&'a str>,
    /// Firewall mark; 0 is none.
    pub mark: u32,
}

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// Name of its interface.
    pub interface: String,
    /// The address, with the scope that one of the link has. The port is 0.
    pub address: SocketAddr,
    /// Length of its prefix.
    pub prefix_len: u8,
}

/// What the kernel chooses; port 0.
///
/// # Errors
///
/// There is no way, or no such interface.
pub fn natural(way: &Way<'_>) -> io::Result<SocketAddr> {
    let domain = Domain::for_address(way.to);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(interface) = way.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if way.mark != 0 {
        socket.set_mark(way.mark)?;
    }
    // Nothing is sent by this.
    socket.connect(&way.to.into())?;
    match socket.local_addr()?.as_socket() {
        Some(local) => Ok(without_port(local)),
        None => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// The addresses of this host. None when the kernel does not say.
pub fn here() -> Vec<Here> {
    let all = getifaddrs().into_iter().flatten();
    let here = all.filter_map(|entry| {
        let address = socket_address(&entry.address?)?;
        let mask = entry.netmask.as_ref().and_then(socket_address);
        let prefix_len = mask.and_then(|mask| ipnet::ip_mask_to_prefix(mask.ip()).ok());
        Some(Here {
            interface: entry.interface_name,
            address,
            prefix_len: prefix_len.unwrap_or(0),
        })
    });
    here.collect()
}

/// The address that does in place of a VIP: the one before, if it is still there; else one on the same
/// interface, or one whose network the packets go to; of several the one in whose network that is, then
/// the one that has most in common with it.
pub fn instead_of(
    vip: IpAddr,
    (to, before): (IpAddr, Option<IpAddr>),
    here: &[Here],
    vips: &BTreeSet<IpAddr>,
) -> Option<SocketAddr> {
    let stands = here.iter().find(|of| of.address.ip() == vip)?;
    let is_near = |of: &Here| {
        let network = IpNet::new(of.address.ip(), of.prefix_len);
        network.is_ok_and(|network| network.contains(&to))
    };
    let fits = |of: &&Here| {
        let address = of.address.ip();
        address.is_ipv4() == vip.is_ipv4()
            && is_of_the_link(address) == is_of_the_link(vip)
            && !vips.contains(&address)
            && (of.interface == stands.interface || is_near(of))
    };
    let rank = |of: &&Here| {
        let address = of.address.ip();
        let is_same = of.interface == stands.interface;
        (
            before == Some(address),
            is_same,
            is_near(of),
            in_common(address, to),
        )
    };
    let best = here.iter().filter(fits).max_by_key(rank);
    best.map(|of| of.address)
}

fn is_of_the_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Leading bits.
fn in_common(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()));
    let v6 = || {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6((*v6).into()))
    };
    v4.or_else(v6).map(without_port)
}

fn without_port(mut address: SocketAddr) -> SocketAddr {
    address.set_port(0);
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn here(all: &[(&str, &str)]) -> Vec<Here> {
        let here = all.iter().map(|(interface, network)| {
            let network: IpNet = network.parse().unwrap();
            Here {
                interface: (*interface).to_owned(),
                address: SocketAddr::new(network.addr(), 0),
                prefix_len: network.prefix_len(),
            }
        });
        here.collect()
    }

    #[test]
    fn an_address_that_is_no_vip_takes_the_place_of_one() {
        let here = here(&[
            ("eth0", "fe80::1/64"),
            ("eth0", "2001:db8::1/64"),
            ("eth0", "fd00::200/64"),
            ("eth0", "fd00::1/64"),
            ("eth0", "fd00::9/64"),
            ("eth1", "fd00:1::3/64"),
            ("eth0", "10.0.0.1/8"),
        ]);
        let vips = ["fd00::200", "fd00::9"].map(ip).into();
        let instead_of = |vip: &str, before: Option<IpAddr>| {
            let best = instead_of(ip(vip), (ip("fd00::2"), before), &here, &vips);
            best.map(|address| address.ip())
        };
        assert_eq!(instead_of("fd00::200", None), Some(ip("fd00::1")));
        let before = Some(ip("2001:db8::1"));
        assert_eq!(
            instead_of("fd00::200", before),
            before,
            "it goes on as it was"
        );
        let gone = Some(ip("2001:db8::7"));
        assert_eq!(instead_of("fd00::200", gone), Some(ip("fd00::1")));
        assert_eq!(
            instead_of("fd00::77", None),
            None,
            "it is not here any more"
        );
    }

    #[test]
    fn a_vip_on_an_interface_of_its_own_gives_way_to_one_in_the_same_network() {
        let here = here(&[
            ("vrrp.51", "10.0.0.200/24"),
            ("eth1", "10.1.0.1/24"),
            ("eth0", "10.0.0.1/24"),
        ]);
        let vips = [ip("10.0.0.200")].into();
        let instead = |to| instead_of(ip("10.0.0.200"), (ip(to), None), &here, &vips);
        assert_eq!(instead("10.0.0.9").unwrap().ip(), ip("10.0.0.1"));
        assert_eq!(instead("192.0.2.9"), None, "neither is better for a router");
    }
}
