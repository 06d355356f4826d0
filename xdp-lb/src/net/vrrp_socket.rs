//! Raw sockets that carry VRRP adverts: IP protocol 112, on one interface, in one address family.
//!
//! What comes in: adverts as bytes, interface, addresses. What goes out: adverts on the wire as
//! keepalived 2.2 sends them, and what others sent. Nothing here reads an advert: which are good is
//! for the router machine to say, and the kernel drops only what was not sent to the address that was
//! listened on. A thread polls a [`Receiver`] by its file descriptor and is never made to wait; a task
//! waits in [`AsyncReceiver`].
//!
//! A flood cannot hold up whoever receives: [`Receiver::drain`] takes a budget, and what the kernel
//! keeps meanwhile is bounded by the socket's buffer. What did not fit is counted.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn6, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;

use super::wire;

/// The IP protocol of VRRP.
pub const PROTOCOL: u8 = 112;
/// Where IPv4 adverts go unless the configuration says otherwise.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Where IPv6 adverts go unless the configuration says otherwise.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// TTL or hop limit of an advert; whoever receives another one knows that a router was in between.
pub const TTL: u8 = 255;

/// Queueing priority of adverts on this host, `TC_PRIO_CONTROL`: they pass bulk traffic.
const QUEUE_PRIORITY: u32 = 7;
/// Longest packet: 255 IPv6 addresses, the fixed part of an advert, authentication, IPv4 options.
const LONGEST: usize = 255 * 16 + 8 + 28 + 60;

/// Why no advert can be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket cannot be made as it has to be.
    #[error("cannot open a VRRP socket on {interface}: cannot {step}: {source}")]
    Open {
        /// The interface's name, or where else the socket would have been.
        interface: String,
        /// What failed, as the object of "cannot".
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Source and destination are of different families.
    #[error("cannot send VRRP from {from} to {to}: one is IPv4, the other IPv6")]
    Families {
        /// The source.
        from: IpAddr,
        /// The destination.
        to: IpAddr,
    },
    /// More than an IP packet holds.
    #[error("cannot send a VRRP advert of {0} bytes: an IP packet holds less")]
    TooLong(usize),
    /// The kernel did not send.
    #[error("cannot send VRRP from {from} to {to} on {interface}: {source}")]
    Send {
        /// The source.
        from: IpAddr,
        /// The destination.
        to: IpAddr,
        /// The interface's name.
        interface: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel did not hand over what arrived.
    #[error("cannot receive VRRP on {interface}: {source}")]
    Receive {
        /// The interface's name.
        interface: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// What a receiver listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A group, which is joined on the interface.
    Group(IpAddr),
    /// This host's own address, to which unicast peers send. It need not be there yet.
    Own(IpAddr),
}

impl Listen {
    const fn address(self) -> IpAddr {
        match self {
            Self::Group(address) | Self::Own(address) => address,
        }
    }
}

/// A packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Over IPv4: the whole packet, its IP header first.
    V4(&'a [u8]),
    /// Over IPv6: the kernel has taken the header off.
    V6 {
        /// What follows the IPv6 header and its extensions.
        payload: &'a [u8],
        /// The header's hop limit.
        hop_limit: u8,
        /// The header's source.
        source: Ipv6Addr,
        /// The header's destination.
        destination: Ipv6Addr,
    },
}

/// How a [`Receiver::drain`] ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Packets handed over.
    pub packets: usize,
    /// The budget is spent; there may be more. Whoever waits for readiness must not wait now.
    pub more: bool,
    /// Packets for which the kernel had no room since the socket was opened, as far as it told: it
    /// does so with the next packet that has room.
    pub lost: u32,
}

/// Receives adverts on an interface.
#[derive(Debug)]
pub struct Receiver {
    socket: Socket,
    interface: String,
    family: Family,
    buffer: Vec<u8>,
    lost: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl From<IpAddr> for Family {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl Receiver {
    /// Opens a socket in the network namespace of the calling thread; needs `CAP_NET_RAW`.
    /// `buffer_bytes` is what the kernel may keep for it, its own default when `None`.
    ///
    /// # Errors
    ///
    /// No such interface, an address that cannot be listened on, no privilege.
    pub fn open(
        interface: &str,
        listen: Listen,
        buffer_bytes: Option<usize>,
    ) -> Result<Self, Error> {
        let open = Opening(interface);
        let family = Family::from(listen.address());
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let protocol = Some(Protocol::from(i32::from(PROTOCOL)));
        let socket = open.step("open it", Socket::new(domain, Type::RAW, protocol))?;
        let index = open.step("find the interface", index(interface))?;
        open.step("bind it to the interface", bind_device(&socket, interface))?;
        open.step("set it up", prepare_to_receive(&socket, family))?;
        if let Some(bytes) = buffer_bytes {
            open.step("size its buffer", size_buffer(&socket, bytes))?;
        }
        let address = socket_address(listen.address(), index);
        open.step("listen on the address", socket.bind(&address))?;
        if let Listen::Group(group) = listen {
            open.step("join the multicast group", join(&socket, group, index))?;
        }
        Ok(Self {
            socket,
            interface: interface.to_owned(),
            family,
            buffer: vec![0; LONGEST],
            lost: 0,
        })
    }

    /// Hands over what has arrived, `budget` packets at most, and returns at once. Call it again
    /// before waiting when [`Drained::more`] says so, but look after the timers first.
    ///
    /// # Errors
    ///
    /// When the socket is of no more use, its interface being gone: open another one.
    pub fn drain(
        &mut self,
        budget: usize,
        mut each: impl FnMut(Packet<'_>),
    ) -> Result<Drained, Error> {
        for packets in 0..budget {
            match self.receive() {
                Ok(Some(packet)) => each(packet),
                // Without its addresses nobody could judge a packet.
                Ok(None) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(self.drained(packets, false)),
                Err(errno) => return Err(self.failed(errno.into())),
            }
        }
        Ok(self.drained(budget, true))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Receive {
            interface: self.interface.clone(),
            source,
        }
    }

    const fn drained(&self, packets: usize, more: bool) -> Drained {
        Drained {
            packets,
            more,
            lost: self.lost,
        }
    }

    fn receive(&mut self) -> nix::Result<Option<Packet<'_>>> {
        let mut control = nix::cmsg_space!(libc::c_int, libc::in6_pktinfo, u32);
        let mut hop_limit = None;
        let mut destination = None;
        let mut iov = [IoSliceMut::new(&mut self.buffer)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut iov,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        for entry in message.cmsgs()? {
            match entry {
                ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).ok(),
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
                }
                ControlMessageOwned::RxqOvfl(lost) => self.lost = lost,
                _ => {}
            }
        }
        let source = message
            .address
            .and_then(|address| address.as_sockaddr_in6().map(SockaddrIn6::ip));
        let length = message.bytes;
        let payload = self.buffer.get(..length).unwrap_or_default();
        Ok(match self.family {
            Family::V4 => Some(Packet::V4(payload)),
            Family::V6 => match (hop_limit, source, destination) {
                (Some(hop_limit), Some(source), Some(destination)) => Some(Packet::V6 {
                    payload,
                    hop_limit,
                    source,
                    destination,
                }),
                _ => None,
            },
        })
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Receiver {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A receiver for a task.
#[derive(Debug)]
pub struct AsyncReceiver {
    receiver: Receiver,
    /// The same socket as the runtime knows it. It is not UDP, which nobody looks at: this type is
    /// the one that takes any socket without unsafe code.
    readiness: tokio::net::UdpSocket,
}

impl AsyncReceiver {
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// No file descriptor is left.
    pub fn new(receiver: Receiver) -> Result<Self, Error> {
        let socket = receiver.socket.try_clone().map(std::net::UdpSocket::from);
        let readiness = socket.and_then(tokio::net::UdpSocket::from_std);
        let readiness = Opening(&receiver.interface).step("have it watched", readiness)?;
        Ok(Self {
            receiver,
            readiness,
        })
    }

    /// Waits for packets and hands over `budget` of them at most. Nothing is lost when the future is
    /// dropped.
    ///
    /// # Errors
    ///
    /// As [`Receiver::drain`].
    pub async fn drain(
        &mut self,
        budget: usize,
        mut each: impl FnMut(Packet<'_>),
    ) -> Result<Drained, Error> {
        loop {
            let ready = self.readiness.readable().await;
            ready.map_err(|source| self.receiver.failed(source))?;
            let mut result = Ok(Drained::default());
            // What empties the socket tells the runtime so, or it would be found readable for ever.
            let emptied = self.readiness.try_io(Interest::READABLE, || {
                result = self.receiver.drain(budget, &mut each);
                match &result {
                    Ok(drained) if !drained.more => Err(io::ErrorKind::WouldBlock.into()),
                    Ok(_) | Err(_) => Ok(()),
                }
            });
            let drained = result?;
            if drained.packets > 0 || emptied.is_ok() {
                return Ok(drained);
            }
        }
    }
}

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

/// Names the step that failed.
struct Opening<'a>(&'a str);

impl Opening<'_> {
    fn step<T>(&self, step: &'static str, result: io::Result<T>) -> Result<T, Error> {
        result.map_err(|source| Error::Open {
            interface: self.0.to_owned(),
            step,
            source,
        })
    }
}

fn index(interface: &str) -> io::Result<u32> {
    if_nametoindex(interface).map_err(io::Error::from)
}

fn bind_device(socket: &Socket, interface: &str) -> io::Result<()> {
    socket.bind_device(Some(interface.as_bytes()))
}

fn prepare_to_receive(socket: &Socket, family: Family) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    setsockopt(socket, sockopt::RxqOvfl, &1)?;
    match family {
        Family::V4 => {
            // Only what was joined by this socket, not by any other of this host, and an address
            // that is still to come may be listened on.
            socket.set_multicast_all_v4(false)?;
            socket.set_freebind_v4(true)
        }
        Family::V6 => {
            socket.set_multicast_all_v6(false)?;
            socket.set_freebind_v6(true)?;
            setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            Ok(())
        }
    }
}

fn size_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    // Beyond the system's limit only with a capability; without it the limit is what there is.
    setsockopt(socket, sockopt::RcvBufForce, &bytes)
        .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &bytes))
        .map_err(io::Error::from)
}

fn join(socket: &Socket, group: IpAddr, index: u32) -> io::Result<()> {
    match group {
        IpAddr::V4(group) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, index),
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

/// The address on the interface; only IPv6 addresses of the link need to know which that is.
fn socket_address(address: IpAddr, index: u32) -> SockAddr {
    match address {
        IpAddr::V4(ip) => SockAddr::from(SocketAddrV4::new(ip, 0)),
        IpAddr::V6(ip) => {
            let of_the_link = ip.is_unicast_link_local() || ip.is_multicast();
            let scope = if of_the_link { index } else { 0 };
            SockAddr::from(SocketAddrV6::new(ip, 0, 0, scope))
        }
    }
}
