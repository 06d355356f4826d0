//! VIPs on interfaces.

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use nix::libc::{EADDRNOTAVAIL, EEXIST, ENODEV};

use super::Error;
use super::netlink::{self, Netlink};
use super::view::Interface;
use crate::plan::desired::OwnedAddress;

/// What became of an address that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was not there before.
    New,
    /// The interface had it already, with the same prefix length. Its label, scope and broadcast
    /// address stay as they were.
    Existed,
}

/// Adds and removes addresses in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Addresses {
    kernel: Netlink,
}

impl Addresses {
    /// Opens a connection to the kernel. Must be called inside a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        Netlink::open().map(|kernel| Self { kernel })
    }

    /// Adds an address.
    ///
    /// # Errors
    ///
    /// [`Error::NoInterface`], or what the kernel refuses: EINVAL for an address of the same subnet
    /// but another scope than one that is there.
    pub async fn add(&self, address: &OwnedAddress) -> Result<Added, Error> {
        let request = RouteNetlinkMessage::NewAddress(message(address));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let what = || format!("add {} to {}", address.address, name(address.ifindex));
        match self.kernel.request(request, flags, what).await {
            Ok(_) => Ok(Added::New),
            Err(error) => match error.errno() {
                Some(EEXIST) => Ok(Added::Existed),
                Some(ENODEV) => Err(Error::NoInterface(address.ifindex)),
                _ => Err(error),
            },
        }
    }

    /// Removes an address, by interface, address and prefix length; one that is not there, or whose
    /// interface is not, is no error.
    pub async fn remove(&self, address: &OwnedAddress) -> Result<(), Error> {
        let request = RouteNetlinkMessage::DelAddress(bare(address));
        let what = || format!("remove {} from {}", address.address, name(address.ifindex));
        match self.kernel.request(request, NLM_F_ACK, what).await {
            Ok(_) => Ok(()),
            Err(error) => match error.errno() {
                Some(EADDRNOTAVAIL | ENODEV) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// The addresses of an interface; none if there is no such interface.
    pub async fn list(&self, ifindex: u32) -> Result<Vec<OwnedAddress>, Error> {
        let mut all = self.list_all().await?;
        all.retain(|address| address.ifindex == ifindex);
        Ok(all)
    }

    /// The addresses of this host.
    pub async fn list_all(&self) -> Result<Vec<OwnedAddress>, Error> {
        let messages = self.kernel.addresses().await?;
        Ok(messages.iter().filter_map(owned).collect())
    }

    /// The interfaces of this host.
    pub async fn interfaces(&self) -> Result<Vec<Interface>, Error> {
        self.kernel.links().await
    }
}

/// Interface, family, address, its peer and prefix length: what names an address to the kernel.
fn bare(address: &OwnedAddress) -> AddressMessage {
    let ip = address.address.addr();
    let mut message = AddressMessage::default();
    message.header.family = netlink::family(ip);
    message.header.index = address.ifindex;
    message.header.prefix_len = address.address.prefix_len();
    message.attributes.push(AddressAttribute::Local(ip));
    let other_end = address.peer.unwrap_or(ip);
    message
        .attributes
        .push(AddressAttribute::Address(other_end));
    message
}

/// The request to add it.
fn message(address: &OwnedAddress) -> AddressMessage {
    let mut message = bare(address);
    message.header.scope = address.scope.into();
    let flags = flags(address);
    // The header has room for the first eight.
    let [first, ..] = flags.bits().to_le_bytes();
    message.header.flags = AddressHeaderFlags::from_bits_retain(first);
    let label = address.label.clone().map(AddressAttribute::Label);
    let broadcast = address.broadcast.map(AddressAttribute::Broadcast);
    let lifetimes = lifetimes(address).map(AddressAttribute::CacheInfo);
    let flags = Some(AddressAttribute::Flags(flags));
    let rest = [label, broadcast, flags, lifetimes];
    message.attributes.extend(rest.into_iter().flatten());
    message
}

fn flags(address: &OwnedAddress) -> AddressFlags {
    let is_v6 = address.address.addr().is_ipv6();
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Nodad, is_v6 && !address.detect_duplicates);
    flags.set(AddressFlags::Homeaddress, address.home);
    flags.set(AddressFlags::Managetempaddr, address.manage_temporary);
    flags.set(AddressFlags::Noprefixroute, address.no_prefix_route);
    flags.set(AddressFlags::Mcautojoin, address.auto_join);
    flags
}

fn lifetimes(address: &OwnedAddress) -> Option<CacheInfo> {
    let has_end = address.preferred_s != OwnedAddress::FOREVER;
    has_end.then(|| {
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_preferred = address.preferred_s;
        lifetimes.ifa_valid = u32::MAX;
        lifetimes
    })
}

fn owned(message: &AddressMessage) -> Option<OwnedAddress> {
    let ifindex = message.header.index;
    let address = netlink::address(message)?;
    let mut owned = OwnedAddress::new(ifindex, address);
    owned.scope = message.header.scope.into();
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            // Without a label the kernel puts the interface's name.
            AddressAttribute::Label(text) if *text != name(ifindex) => {
                owned.label = Some(text.clone());
            }
            AddressAttribute::Broadcast(ip) => owned.broadcast = Some(*ip),
            AddressAttribute::Address(ip) => {
                owned.peer = Some(*ip).filter(|ip| *ip != address.addr());
            }
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::CacheInfo(lifetimes) => owned.preferred_s = lifetimes.ifa_preferred,
            _ => {}
        }
    }
    owned.detect_duplicates = address.addr().is_ipv6() && !flags.contains(AddressFlags::Nodad);
    owned.home = flags.contains(AddressFlags::Homeaddress);
    owned.manage_temporary = flags.contains(AddressFlags::Managetempaddr);
    owned.no_prefix_route = flags.contains(AddressFlags::Noprefixroute);
    owned.auto_join = flags.contains(AddressFlags::Mcautojoin);
    Some(owned)
}

/// The name of an interface, for messages.
pub(super) fn name(ifindex: u32) -> String {
    nix::net::if_::if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| format!("interface {ifindex}"))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn vip(address: &str) -> OwnedAddress {
        OwnedAddress::new(7, address.parse().unwrap())
    }

    #[test]
    fn a_vip_survives_the_trip_to_the_kernel_and_back() {
        let mut with_all = vip("192.168.1.200/24");
        with_all.label = Some("eth0:1".into());
        with_all.broadcast = Some([192, 168, 1, 255].into());
        with_all.scope = 253;
        let mut other = vip("2001:db8::1/64");
        other.preferred_s = 0;
        other.detect_duplicates = true;
        other.no_prefix_route = true;
        other.home = true;
        let mut linked = vip("10.0.0.1/32");
        linked.peer = Some([10, 0, 0, 2].into());
        let plain = [vip("192.168.1.200/32"), vip("2001:db8::1/64")];
        for address in plain.into_iter().chain([with_all, other, linked]) {
            assert_eq!(owned(&message(&address)), Some(address));
        }
    }

    #[test]
    fn no_broadcast_address_is_made_up() {
        let attributes = message(&vip("192.168.1.200/24")).attributes;
        let broadcast = |a: &AddressAttribute| matches!(a, AddressAttribute::Broadcast(_));
        assert!(!attributes.iter().any(broadcast));
    }

    #[test]
    fn the_address_of_a_point_to_point_link_is_the_local_one() {
        let mut message = bare(&vip("10.0.0.1/32"));
        let peer: IpAddr = "10.0.0.2".parse().unwrap();
        message.attributes = vec![
            AddressAttribute::Address(peer),
            AddressAttribute::Local("10.0.0.1".parse().unwrap()),
        ];
        assert_eq!(
            netlink::address(&message),
            Some("10.0.0.1/32".parse().unwrap())
        );
    }
}
