//! Gratuitous ARP and unsolicited neighbour advertisements: they tell switches and neighbours on the
//! segment which MAC a VIP has now.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use etherparse::{ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use xdp_lb_common::addr::Mac;

use super::{Error, wire};

/// Length of a gratuitous ARP frame; the driver pads it to Ethernet's minimum.
pub const FRAME_LEN: usize = 14 + 28;
/// Length of a neighbour advertisement as a frame.
pub const ADVERTISEMENT_LEN: usize = 14 + 40 + MESSAGE_LEN;

/// Octets of the message: 24 and one option of 8.
const MESSAGE_LEN: usize = MESSAGE_LEN_U8 as usize;
const MESSAGE_LEN_U8: u8 = 32;
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// The option "target link-layer address".
const TARGET_LINK_ADDRESS: u8 = 2;
/// Flags of an advertisement.
const OVERRIDE: u8 = 0x20;
const ROUTER: u8 = 0x80;
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// After that it is looked at again whether this host is a router. An interface is what it is until it
/// goes: to ask the kernel takes its lock on all links, which others may hold for seconds.
const KNOWN_FOR: Duration = Duration::from_secs(1);

const BROADCAST: [u8; 6] = [0xff; 6];
/// Hardware type of Ethernet, also that of veth, bridges, bonds and VLANs.
const ARPHRD_ETHER: u16 = 1;

/// The frame that announces `vip` at `mac`, byte for byte as keepalived sends it: a broadcast
/// *request* (RFC 5227 section 3 tells why not a reply) whose sender and target address are the VIP
/// and whose target hardware address is the broadcast address.
pub fn frame(mac: Mac, vip: Ipv4Addr) -> [u8; FRAME_LEN] {
    let header = Ethernet2Header {
        destination: BROADCAST,
        source: mac.octets(),
        ether_type: EtherType::ARP,
    };
    let request = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: mac.octets(),
        sender_ipv4: vip.octets(),
        target_mac: BROADCAST,
        target_ipv4: vip.octets(),
    };
    let mut frame = [0; FRAME_LEN];
    let (head, body) = frame.split_at_mut(14);
    head.copy_from_slice(&header.to_bytes());
    body.copy_from_slice(&request.to_bytes());
    frame
}

/// The frame that announces an IPv6 `vip` at `mac`: an unsolicited neighbour advertisement (RFC 4861
/// section 7.2.6) to all nodes, from the VIP itself, which overrides what they knew. `router` is
/// whether this host forwards IPv6: hosts that use it as a router stop doing so when told otherwise.
pub fn advertisement(mac: Mac, vip: Ipv6Addr, router: bool) -> [u8; ADVERTISEMENT_LEN] {
    let header = Ethernet2Header {
        destination: ALL_NODES_MAC,
        source: mac.octets(),
        ether_type: EtherType::IPV6,
    };
    let mut message = [0; MESSAGE_LEN];
    let (fixed, rest) = message.split_at_mut(8);
    let (target, option) = rest.split_at_mut(16);
    let router = if router { ROUTER } else { 0 };
    fixed.copy_from_slice(&[NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE | router, 0, 0, 0]);
    target.copy_from_slice(&vip.octets());
    let (kind, address) = option.split_at_mut(2);
    kind.copy_from_slice(&[TARGET_LINK_ADDRESS, 1]);
    address.copy_from_slice(&mac.octets());
    // The pseudo-header of RFC 8200 section 8.1: addresses, length, next header.
    let tail = [0, 0, 0, MESSAGE_LEN_U8, 0, 0, 0, ICMPV6];
    let sum = wire::checksum(&[&vip.octets(), &ALL_NODES.octets(), &tail, &message]);
    let [high, low] = sum.to_be_bytes();
    message[2] = high;
    message[3] = low;

    let length = u16::from(MESSAGE_LEN_U8);
    let ip = wire::ipv6(0, length, ICMPV6, 255, vip, ALL_NODES);
    let mut frame = [0; ADVERTISEMENT_LEN];
    let (ethernet, packet) = frame.split_at_mut(14);
    let (packet_header, payload) = packet.split_at_mut(40);
    ethernet.copy_from_slice(&header.to_bytes());
    packet_header.copy_from_slice(&ip);
    payload.copy_from_slice(&message);
    frame
}

/// Announces VIPs in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Announcer {
    socket: OwnedFd,
    links: Mutex<BTreeMap<u32, Link>>,
}

/// What is known of an interface.
#[derive(Clone, Debug)]
struct Link {
    name: String,
    address: LinkAddr,
    is_router: bool,
    since: Instant,
}

impl Announcer {
    /// Opens a packet socket; needs `CAP_NET_RAW`.
    pub fn open() -> Result<Self, Error> {
        // Protocol 0: it sends only, and the kernel need not copy any frame to it.
        let opened = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        );
        let socket = opened.map_err(|errno| Error::Send {
            interface: "any interface".to_owned(),
            source: errno.into(),
        })?;
        Ok(Self {
            socket,
            links: Mutex::default(),
        })
    }

    /// Announces `vip` at `mac` on an interface, `repeat` times in a row (keepalived: 5). Only queues
    /// the frames: microseconds.
    ///
    /// # Errors
    ///
    /// No such interface, none that speaks ARP, or one that is down.
    pub fn send(&self, ifindex: u32, mac: Mac, vip: Ipv4Addr, repeat: u32) -> Result<(), Error> {
        for _ in 0..repeat {
            self.announce(ifindex, mac, vip.into())?;
        }
        Ok(())
    }

    /// Announces `vip` at `mac` on an interface once: by gratuitous ARP, or by an unsolicited
    /// neighbour advertisement. Only queues the frame: one system call, but for the first look at
    /// the interface ([`Announcer::prepare`]).
    ///
    /// # Errors
    ///
    /// As [`Announcer::send`].
    pub fn announce(&self, ifindex: u32, mac: Mac, vip: IpAddr) -> Result<(), Error> {
        let link = self.link(ifindex)?;
        let sent = match vip {
            IpAddr::V4(vip) => self.transmit(&frame(mac, vip), &link),
            IpAddr::V6(vip) => self.transmit(&advertisement(mac, vip, link.is_router), &link),
        };
        sent.or_else(|errno| {
            self.links().remove(&ifindex);
            // It may have gone.
            self.link(ifindex)?;
            Err(Error::Send {
                interface: link.name,
                source: errno.into(),
            })
        })
    }

    /// Looks at an interface, for as long as the kernel has others change links, so that
    /// [`Announcer::announce`] need not.
    pub fn prepare(&self, ifindex: u32) {
        // What is wrong is said when something is to be announced.
        drop(self.link(ifindex));
    }

    fn transmit(&self, frame: &[u8], link: &Link) -> nix::Result<()> {
        let socket = self.socket.as_raw_fd();
        sendto(socket, frame, &link.address, MsgFlags::empty()).map(drop)
    }

    fn link(&self, ifindex: u32) -> Result<Link, Error> {
        if let Some(known) = self.links().get_mut(&ifindex) {
            if known.since.elapsed() >= KNOWN_FOR {
                known.is_router = is_router(&known.name);
                known.since = Instant::now();
            }
            return Ok(known.clone());
        }
        let (name, address) = link(ifindex)?;
        let link = Link {
            is_router: is_router(&name),
            name,
            address,
            since: Instant::now(),
        };
        self.links().insert(ifindex, link.clone());
        Ok(link)
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<u32, Link>> {
        // Whoever panicked while holding it cannot have left half a link in it.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this host forwards IPv6 packets that arrive there.
fn is_router(interface: &str) -> bool {
    let sysctl = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    fs::read_to_string(sysctl).is_ok_and(|value| value.trim() != "0")
}

/// Name and packet-level address of an interface. (`getifaddrs` is the one way to the latter that
/// needs no unsafe code.)
fn link(ifindex: u32) -> Result<(String, LinkAddr), Error> {
    let addresses = getifaddrs().map_err(|errno| Error::Refused {
        operation: "list interfaces".to_owned(),
        source: io::Error::from(errno),
    })?;
    for entry in addresses {
        let Some(link) = entry.address.as_ref().and_then(|a| a.as_link_addr()) else {
            continue;
        };
        if u32::try_from(link.ifindex()) == Ok(ifindex) {
            return match link.hatype() {
                ARPHRD_ETHER => Ok((entry.interface_name, *link)),
                _ => Err(Error::NotEthernet(entry.interface_name)),
            };
        }
    }
    Err(Error::NoInterface(ifindex))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of keepalived 2.2.7, captured on the wire.
    const CAPTURED: &str = "ffffffffffff 020000000001 0806 0001080006040001 \
                            020000000001 0a090032 ffffffffffff 0a090032";
    const CAPTURED_VMAC: &str = "ffffffffffff 00005e000133 0806 0001080006040001 \
                                 00005e000133 0a090032 ffffffffffff 0a090032";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        let byte = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn the_frame_is_the_one_keepalived_sends() {
        let vip = Ipv4Addr::new(10, 9, 0, 50);
        for (mac, captured) in [
            ([2, 0, 0, 0, 0, 1], CAPTURED),
            ([0, 0, 0x5e, 0, 1, 0x33], CAPTURED_VMAC),
        ] {
            let frame = frame(Mac::from_octets(mac), vip);
            assert_eq!(frame.to_vec(), bytes(captured));
        }
    }

    #[test]
    fn the_advertisement_is_the_one_keepalived_sends() {
        // Both captured from keepalived 2.2.7.
        let head = "333300000001 020000000001 86dd 6000000000203aff";
        let all_nodes = "ff020000000000000000000000000001";
        for (vip, address, checksum) in [
            ("fe80::50", "fe800000000000000000000000000050", "56fd"),
            ("fd00:9::51", "fd000009000000000000000000000051", "59e9"),
        ] {
            let captured = format!(
                "{head} {address} {all_nodes} 8800{checksum} 20000000 {address} 0201020000000001"
            );
            let mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
            let sent = advertisement(mac, vip.parse().unwrap(), false);
            assert_eq!(sent.to_vec(), bytes(&captured));
        }
    }

    #[test]
    fn a_router_says_that_it_is_one() {
        let mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
        let vip = "fe80::50".parse().unwrap();
        let [host, router] = [false, true].map(|router| advertisement(mac, vip, router));
        assert_eq!((host[58], router[58]), (0x20, 0xa0));
        let sum = |frame: &[u8]| u16::from_be_bytes([frame[56], frame[57]]);
        // The complement of a sum that is 0x8000 more, the carry added in.
        assert_eq!((sum(&host), sum(&router)), (!0xa902, !0x2903));
    }

    #[test]
    fn an_interface_that_is_not_there_or_not_ethernet_is_refused_by_name() {
        assert!(matches!(
            link(0x7fff_fff0),
            Err(Error::NoInterface(0x7fff_fff0))
        ));
        let lo = nix::net::if_::if_nametoindex("lo").unwrap();
        let Err(Error::NotEthernet(name)) = link(lo) else {
            panic!("ARP on lo");
        };
        assert_eq!(name, "lo");
    }
}
