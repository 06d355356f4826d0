//! Gratuitous ARP: tells switches and neighbours on the segment which MAC a VIP has now.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use etherparse::{ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use xdp_lb_common::addr::Mac;

use super::Error;

/// Length of a gratuitous ARP frame; the driver pads it to Ethernet's minimum.
pub const FRAME_LEN: usize = 14 + 28;

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

/// Sends gratuitous ARP in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Announcer {
    socket: OwnedFd,
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
        Ok(Self { socket })
    }

    /// Announces `vip` at `mac` on an interface, `repeat` times in a row (keepalived: 5). Only queues
    /// the frames: microseconds.
    ///
    /// # Errors
    ///
    /// No such interface, none that speaks ARP, or one that is down.
    pub fn send(&self, ifindex: u32, mac: Mac, vip: Ipv4Addr, repeat: u32) -> Result<(), Error> {
        let (interface, link) = link(ifindex)?;
        let frame = frame(mac, vip);
        for _ in 0..repeat {
            sendto(self.socket.as_raw_fd(), &frame, &link, MsgFlags::empty()).map_err(|errno| {
                Error::Send {
                    interface: interface.clone(),
                    source: errno.into(),
                }
            })?;
        }
        Ok(())
    }
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
