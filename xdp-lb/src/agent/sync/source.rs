//! Which address datagrams to an IPv6 peer come from.
//!
//! Peers know a director by the address of its datagrams, and the kernel may choose a VIP for them as
//! soon as there is one: of two addresses in one prefix it is as good as the other. For IPv4 it takes the
//! first address of an interface in the peer's subnet, which a VIP that comes later is not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use socket2::{Domain, Protocol, Socket, Type};

/// How long a choice stands: addresses and routes come and go.
const STANDS: Duration = Duration::from_secs(1);

/// The choices.
#[derive(Debug, Default)]
pub(super) struct Sources {
    virtual_ones: BTreeSet<IpAddr>,
    interface: Option<String>,
    chosen: BTreeMap<SocketAddrV6, (Instant, Option<Ipv6Addr>)>,
}

impl Sources {
    /// No VIP is ever chosen. Datagrams leave by `interface`, if there is one.
    pub(super) fn new(virtual_ones: BTreeSet<IpAddr>, interface: Option<String>) -> Self {
        Self {
            virtual_ones,
            interface,
            chosen: BTreeMap::new(),
        }
    }

    /// Where a datagram to this peer comes from; `None`: that is for the kernel to say.
    pub(super) fn of(&mut self, peer: SocketAddrV6) -> Option<Ipv6Addr> {
        let known = self.chosen.get(&peer).copied();
        if let Some((since, chosen)) = known
            && since.elapsed() < STANDS
        {
            return chosen;
        }
        let before = known.and_then(|(_, chosen)| chosen);
        let chosen = self.choose(peer, before);
        self.chosen.insert(peer, (Instant::now(), chosen));
        chosen
    }

    /// What was chosen does not do any more.
    pub(super) fn forget(&mut self) {
        self.chosen.clear();
    }

    fn choose(&self, peer: SocketAddrV6, before: Option<Ipv6Addr>) -> Option<Ipv6Addr> {
        let natural = natural(peer, self.interface.as_deref()).ok()?;
        if !self.virtual_ones.contains(&IpAddr::V6(natural)) {
            return Some(natural);
        }
        let here: Vec<_> = addresses().collect();
        best(*peer.ip(), (natural, before), &here, &self.virtual_ones)
    }
}

/// What the kernel chooses.
fn natural(peer: SocketAddrV6, interface: Option<&str>) -> io::Result<Ipv6Addr> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    // Nothing is sent by this.
    socket.connect(&SocketAddr::V6(peer).into())?;
    match socket.local_addr()?.as_socket_ipv6() {
        Some(local) => Ok(*local.ip()),
        None => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// The IPv6 addresses of this host, each with its interface.
fn addresses() -> impl Iterator<Item = (String, Ipv6Addr)> {
    let all = getifaddrs().into_iter().flatten();
    all.filter_map(|entry| {
        let address = entry.address?;
        let address = address.as_sockaddr_in6()?.ip();
        Some((entry.interface_name, address))
    })
}

/// The address on the interface of a VIP that does in its place: the one before, else the one that has
/// most in common with the peer's.
fn best(
    peer: Ipv6Addr,
    (vip, before): (Ipv6Addr, Option<Ipv6Addr>),
    here: &[(String, Ipv6Addr)],
    virtual_ones: &BTreeSet<IpAddr>,
) -> Option<Ipv6Addr> {
    let on = |wanted: Ipv6Addr| here.iter().find(|(_, address)| *address == wanted);
    let (interface, _) = on(vip)?;
    let of_the_link = |address: Ipv6Addr| address.is_unicast_link_local();
    let fits = |(name, address): &&(String, Ipv6Addr)| {
        name == interface
            && !virtual_ones.contains(&IpAddr::V6(*address))
            && of_the_link(*address) == of_the_link(vip)
    };
    let fitting = here.iter().filter(fits).map(|(_, address)| *address);
    let in_common = |address: &Ipv6Addr| (address.to_bits() ^ peer.to_bits()).leading_zeros();
    fitting.max_by_key(|address| (before == Some(*address), in_common(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_no_vip_takes_the_place_of_one() {
        let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let here = [
            ("eth0", "fe80::1"),
            ("eth0", "2001:db8::1"),
            ("eth0", "fd00::200"),
            ("eth0", "fd00::1"),
            ("eth0", "fd00::9"),
            ("eth1", "fd00::3"),
        ];
        let here = here.map(|(name, address)| (name.to_owned(), ip(address)));
        let virtual_ones = ["fd00::200", "fd00::9"].map(|vip| ip(vip).into());
        let virtual_ones = virtual_ones.into();
        let best = |vip: &str, before: Option<Ipv6Addr>| {
            best(ip("fd00::2"), (ip(vip), before), &here, &virtual_ones)
        };
        assert_eq!(best("fd00::200", None), Some(ip("fd00::1")));
        let before = Some(ip("2001:db8::1"));
        assert_eq!(best("fd00::200", before), before, "it goes on as it was");
        let gone = Some(ip("2001:db8::7"));
        assert_eq!(best("fd00::200", gone), Some(ip("fd00::1")));
        assert_eq!(best("fd00::77", None), None, "it is not here any more");
    }
}
