//! What arrives.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn6, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::Interest;

use super::{Error, Family, Opening, PROTOCOL, bind_device, index, socket_address};

/// Longest packet: 255 IPv6 addresses, the fixed part of an advert, authentication, IPv4 options.
const LONGEST: usize = 255 * 16 + 8 + 28 + 60;

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
