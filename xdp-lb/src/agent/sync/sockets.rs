//! The UDP socket that state sync speaks by.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _};

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::source::Sources;
use crate::sync::mirror::Destination;

/// Bytes that the kernel keeps for a thread that is busy: a second of a peer's fastest.
const BUFFER: usize = 4 << 20;

/// Whom to speak to, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transport {
    /// The peers; none: the group.
    pub(super) peers: Vec<SocketAddr>,
    /// The group, if there are no peers.
    pub(super) group: IpAddr,
    /// Hops of datagrams to the group.
    pub(super) ttl: u8,
    /// UDP port.
    pub(super) port: u16,
    /// The interface.
    pub(super) interface: Option<String>,
}

/// One socket for each family that peers have.
#[derive(Debug)]
pub(super) struct Sockets {
    transport: Transport,
    /// One for each family.
    bound: Vec<UdpSocket>,
    sources: Sources,
}

impl Sockets {
    pub(super) fn open(transport: &Transport, vips: &BTreeSet<IpAddr>) -> io::Result<Self> {
        let mut sockets = Vec::new();
        if transport.peers.is_empty() {
            sockets.push(grouped(transport)?);
        }
        for is_v4 in [true, false] {
            let mut peers = transport.peers.iter();
            if peers.any(|peer| peer.is_ipv4() == is_v4) {
                sockets.push(UdpSocket::from(bound(transport, is_v4)?));
            }
        }
        Ok(Self {
            transport: transport.clone(),
            bound: sockets,
            sources: Sources::new(vips.clone(), transport.interface.clone()),
        })
    }

    /// The VIPs are others now.
    pub(super) fn set_vips(&mut self, vips: &BTreeSet<IpAddr>) {
        self.sources = Sources::new(vips.clone(), self.transport.interface.clone());
    }

    /// What can be waited for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        self.bound.iter().map(AsFd::as_fd)
    }

    /// The next datagram, if one has come.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        for socket in &self.bound {
            match socket.recv_from(buffer) {
                Ok((length, from)) => return Ok(Some((length, plain(from)))),
                // What came back for a datagram that was sent says nothing about those that arrive.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock
                            | ErrorKind::Interrupted
                            | ErrorKind::ConnectionRefused
                            | ErrorKind::HostUnreachable
                            | ErrorKind::NetworkUnreachable
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Sends a datagram; the last error, if there was one.
    pub(super) fn send(&mut self, to: Destination, datagram: &[u8]) -> io::Result<()> {
        let Transport {
            peers, group, port, ..
        } = &self.transport;
        let (group, port) = (*group, *port);
        match to {
            Destination::Peer(peer) => self.send_to(peer, datagram),
            Destination::All if peers.is_empty() => {
                self.send_to(SocketAddr::new(group, port), datagram)
            }
            Destination::All => peers
                .clone()
                .into_iter()
                .map(|peer| self.send_to(peer, datagram))
                .fold(Ok(()), Result::and),
        }
    }

    fn send_to(&mut self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let fits = |socket: &&UdpSocket| {
            let local = socket.local_addr();
            local.is_ok_and(|local| local.is_ipv4() == to.is_ipv4())
        };
        match self.bound.iter().find(fits) {
            Some(socket) => {
                let source = self.sources.of(to);
                let sent = send_from(socket, source, to, datagram);
                if sent.is_err() {
                    self.sources.forget();
                }
                sent
            }
            None => Ok(()),
        }
    }
}

/// Sends from an address of this host, or from that which the kernel chooses. Which interface it leaves
/// by is for the routes to say, but for addresses of a link.
fn send_from(
    socket: &UdpSocket,
    source: Option<SocketAddr>,
    to: SocketAddr,
    datagram: &[u8],
) -> io::Result<()> {
    let (v4, v6);
    let control = match source {
        None => None,
        Some(SocketAddr::V4(source)) => {
            v4 = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr {
                    s_addr: u32::from_ne_bytes(source.ip().octets()),
                },
                ipi_addr: in_addr { s_addr: 0 },
            };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        Some(SocketAddr::V6(source)) => {
            v6 = in6_pktinfo {
                ipi6_addr: in6_addr {
                    s6_addr: source.ip().octets(),
                },
                ipi6_ifindex: source.scope_id(),
            };
            Some(ControlMessage::Ipv6PacketInfo(&v6))
        }
    };
    let to = SockaddrStorage::from(to);
    let sent = sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(datagram)],
        control.as_slice(),
        MsgFlags::empty(),
        Some(&to),
    );
    sent.map(drop).map_err(io::Error::from)
}

/// Without the scope that the kernel adds to addresses of the link.
fn plain(from: SocketAddr) -> SocketAddr {
    SocketAddr::new(from.ip(), from.port())
}

fn bound(transport: &Transport, is_v4: bool) -> io::Result<Socket> {
    let (domain, any): (_, IpAddr) = if is_v4 {
        (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into())
    } else {
        (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into())
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if !is_v4 {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // Beyond the limit of the host, for which this process has the capability; else what is allowed.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        socket.set_recv_buffer_size(BUFFER)?;
    }
    if let Some(interface) = &transport.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.bind(&SocketAddr::new(any, transport.port).into())?;
    Ok(socket)
}

fn grouped(transport: &Transport) -> io::Result<UdpSocket> {
    let index = match &transport.interface {
        Some(name) => if_nametoindex(name.as_str())?,
        None => 0,
    };
    let socket = bound(transport, transport.group.is_ipv4())?;
    match transport.group {
        IpAddr::V4(group) => {
            let interface = socket2::InterfaceIndexOrAddress::Index(index);
            socket.join_multicast_v4_n(&group, &interface)?;
            socket.set_multicast_loop_v4(false)?;
            socket.set_multicast_ttl_v4(transport.ttl.into())?;
        }
        IpAddr::V6(group) => {
            socket.join_multicast_v6(&group, index)?;
            socket.set_multicast_if_v6(index)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_hops_v6(transport.ttl.into())?;
        }
    }
    Ok(socket.into())
}
