//! VIPs with all that keepalived.conf can say of one, put on interfaces and taken off many at a time.
//!
//! For a thread without a runtime; [`addresses`](super::addresses) is the same for a task.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use nix::libc::{EADDRNOTAVAIL, EEXIST, ENODEV};

use super::Error;
use super::addresses::{self, Added};
use super::batch::{Batch, Request};
use crate::plan::desired::OwnedAddress;

/// A VIP on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Interface, address, prefix length, label, broadcast address, scope.
    pub address: OwnedAddress,
    /// `peer`: the other end of a point-to-point link. The prefix length is the peer's.
    pub peer: Option<IpAddr>,
    /// `preferred_lft`, seconds; `u32::MAX` is for ever. By default for ever, but 0 for an IPv6
    /// address alone in its prefix (/128): so it is deprecated, and no source of connections that
    /// this host makes.
    pub preferred_s: Option<u32>,
    /// `-nodad`: IPv6 duplicate address detection delays its use.
    pub detect_duplicates: bool,
    /// `noprefixroute`: no route to its prefix comes with it.
    pub no_prefix_route: bool,
    /// `home`: IPv6, a home address in the sense of mobile IP.
    pub home: bool,
    /// `mngtmpaddr`: IPv6, the kernel makes temporary addresses from it.
    pub manage_temporary: bool,
    /// `autojoin`: a multicast address that is joined.
    pub auto_join: bool,
}

impl From<OwnedAddress> for Vip {
    fn from(address: OwnedAddress) -> Self {
        Self {
            address,
            peer: None,
            preferred_s: None,
            detect_duplicates: false,
            no_prefix_route: false,
            home: false,
            manage_temporary: false,
            auto_join: false,
        }
    }
}

/// Adds and removes VIPs in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Vips {
    kernel: Batch,
}

impl Vips {
    /// Opens a connection to the kernel.
    pub fn open() -> Result<Self, Error> {
        Batch::open().map(|kernel| Self { kernel })
    }

    /// Adds VIPs, in their order; says of each what became of it.
    ///
    /// # Errors
    ///
    /// When the kernel did not answer; nothing is known of any VIP then. Of one VIP: as
    /// [`Addresses::add`](addresses::Addresses::add).
    pub fn add(&mut self, vips: &[Vip]) -> Result<Vec<Result<Added, Error>>, Error> {
        let request = |vip| Request {
            message: RouteNetlinkMessage::NewAddress(message(vip)),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        };
        let answers = self
            .kernel
            .run(vips.iter().map(request).collect(), "add VIPs")?;
        let become_of = |(vip, answer): (&Vip, std::io::Result<()>)| match answer {
            Ok(()) => Ok(Added::New),
            Err(error) => match error.raw_os_error() {
                Some(EEXIST) => Ok(Added::Existed),
                Some(ENODEV) => Err(Error::NoInterface(vip.address.ifindex)),
                _ => Err(refused("add", "to", vip, error)),
            },
        };
        Ok(vips.iter().zip(answers).map(become_of).collect())
    }

    /// Removes VIPs, the last one first: the first address of a subnet takes the others with it on
    /// hosts that do not promote them. One that is not there, or whose interface is not, is no error.
    /// What became of each is in the order of the argument.
    ///
    /// # Errors
    ///
    /// When the kernel did not answer.
    pub fn remove(&mut self, vips: &[Vip]) -> Result<Vec<Result<(), Error>>, Error> {
        let request = |vip| Request {
            message: RouteNetlinkMessage::DelAddress(bare(vip)),
            flags: 0,
        };
        let requests = vips.iter().rev().map(request).collect();
        let mut answers = self.kernel.run(requests, "remove VIPs")?;
        answers.reverse();
        let become_of = |(vip, answer): (&Vip, std::io::Result<()>)| match answer {
            Ok(()) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(EADDRNOTAVAIL | ENODEV) => Ok(()),
                _ => Err(refused("remove", "from", vip, error)),
            },
        };
        Ok(vips.iter().zip(answers).map(become_of).collect())
    }
}

fn refused(verb: &str, preposition: &str, vip: &Vip, source: std::io::Error) -> Error {
    let interface = addresses::name(vip.address.ifindex);
    Error::Refused {
        operation: format!("{verb} {} {preposition} {interface}", vip.address.address),
        source,
    }
}

fn bare(vip: &Vip) -> AddressMessage {
    with_peer(addresses::bare(&vip.address), vip)
}

fn with_peer(mut message: AddressMessage, vip: &Vip) -> AddressMessage {
    if let Some(peer) = vip.peer {
        message
            .attributes
            .retain(|attribute| !matches!(attribute, AddressAttribute::Address(_)));
        message.attributes.push(AddressAttribute::Address(peer));
    }
    message
}

fn message(vip: &Vip) -> AddressMessage {
    let mut message = with_peer(addresses::message(&vip.address), vip);
    let mut flags = AddressFlags::empty();
    let is_v6 = vip.address.address.addr().is_ipv6();
    flags.set(AddressFlags::Nodad, is_v6 && !vip.detect_duplicates);
    flags.set(AddressFlags::Homeaddress, vip.home);
    flags.set(AddressFlags::Managetempaddr, vip.manage_temporary);
    flags.set(AddressFlags::Noprefixroute, vip.no_prefix_route);
    flags.set(AddressFlags::Mcautojoin, vip.auto_join);
    // The header has room for the first eight.
    let [first, ..] = flags.bits().to_le_bytes();
    message.header.flags = AddressHeaderFlags::from_bits_retain(first);
    message.attributes.retain(|attribute| match attribute {
        AddressAttribute::Flags(_) => false,
        AddressAttribute::CacheInfo(_) => vip.preferred_s.is_none(),
        _ => true,
    });
    message.attributes.push(AddressAttribute::Flags(flags));
    if let Some(preferred) = vip.preferred_s {
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_preferred = preferred;
        lifetimes.ifa_valid = u32::MAX;
        message
            .attributes
            .push(AddressAttribute::CacheInfo(lifetimes));
    }
    message
}
