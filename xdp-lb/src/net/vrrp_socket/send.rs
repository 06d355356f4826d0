//! What is sent.

use std::io;
use std::net::IpAddr;

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Error, Family, Opening, bind_device, index, socket_address};
use crate::net::wire;

/// Queueing priority of adverts on this host, `TC_PRIO_CONTROL`: they pass bulk traffic.
const QUEUE_PRIORITY: u32 = 7;
/// Sends adverts. One for each router, as each counts its packets.
#[derive(Debug)]
pub struct Sender {
    socket: Socket,
    interface: String,
    index: u32,
    source: IpAddr,
    ttl: u8,
    /// IPv4 identification of the next packet.
    next_id: u16,
}

impl Sender {
    /// Opens a socket in the network namespace of the calling thread; needs `CAP_NET_RAW`. Packets
    /// leave by `interface` with `source` in their header, which need not be an address of it.
    ///
    /// # Errors
    ///
    /// No such interface, no privilege.
    pub fn open(interface: &str, source: IpAddr, ttl: u8) -> Result<Self, Error> {
        let open = Opening(interface);
        let domain = match source {
            IpAddr::V4(_) => Domain::IPV4,
            IpAddr::V6(_) => Domain::IPV6,
        };
        // It sends packets with their headers, and nothing is ever delivered to it.
        let protocol = Some(Protocol::from(libc::IPPROTO_RAW));
        let socket = open.step("open it", Socket::new(domain, Type::RAW, protocol))?;
        let index = open.step("find the interface", index(interface))?;
        open.step("bind it to the interface", bind_device(&socket, interface))?;
        open.step("set it up", prepare_to_send(&socket, source))?;
        Ok(Self {
            socket,
            interface: interface.to_owned(),
            index,
            source,
            ttl,
            next_id: 1,
        })
    }

    /// The address adverts come from.
    pub const fn source(&self) -> IpAddr {
        self.source
    }

    /// From now on adverts come from another address of the same family.
    ///
    /// # Errors
    ///
    /// [`Error::Families`] if it is of the other one.
    pub fn set_source(&mut self, source: IpAddr) -> Result<(), Error> {
        if Family::from(source) != Family::from(self.source) {
            return Err(Error::Families {
                from: source,
                to: self.source,
            });
        }
        self.source = source;
        Ok(())
    }

    /// Sends an advert to a group or to a peer; only queues it.
    ///
    /// # Errors
    ///
    /// What the kernel says: the interface is down or gone, a firewall rule forbids it.
    pub fn send(&mut self, advert: &[u8], destination: IpAddr) -> Result<(), Error> {
        let packet = self.packet(advert, destination)?;
        let to = socket_address(destination, self.index);
        match self.socket.send_to(&packet, &to) {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Send {
                from: self.source,
                to: destination,
                interface: self.interface.clone(),
                source,
            }),
        }
    }

    fn packet(&mut self, advert: &[u8], destination: IpAddr) -> Result<Vec<u8>, Error> {
        let too_long = || Error::TooLong(advert.len());
        let mut packet = match (self.source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let id = self.take_id();
                wire::ipv4_header(id, self.ttl, source, destination, advert.len())
                    .map(|header| header.to_vec())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                wire::ipv6_header(self.ttl, source, destination, advert.len())
                    .map(|header| header.to_vec())
            }
            (from, to) => return Err(Error::Families { from, to }),
        }
        .ok_or_else(too_long)?;
        packet.extend_from_slice(advert);
        Ok(packet)
    }

    fn take_id(&mut self) -> u16 {
        let id = self.next_id;
        // The kernel would put one of its own for 0.
        self.next_id = id.checked_add(1).unwrap_or(1);
        id
    }
}

fn prepare_to_send(socket: &Socket, source: IpAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    match source {
        IpAddr::V4(_) => socket.set_multicast_loop_v4(false)?,
        IpAddr::V6(_) => socket.set_multicast_loop_v6(false)?,
    }
    socket.set_priority(QUEUE_PRIORITY)
}
