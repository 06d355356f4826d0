//! Datagrams of state sync, taken off the wire and put onto it; and packets of connections that nobody
//! holds.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use socket2::{Domain, Protocol, Socket, Type};
use xdp_lb::config::model::StateSync;
use xdp_lb_tests::listener::{Listener, tap};
use xdp_lb_tests::netns::Netns;

/// Bytes that wait for a tap.
const BUFFER: usize = 16 << 20;

/// A UDP datagram over IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) payload: Vec<u8>,
}

impl Datagram {
    /// From one director's port of state sync to the other's.
    pub(crate) const fn new(from: Ipv4Addr, to: Ipv4Addr, payload: Vec<u8>) -> Self {
        Self {
            from: SocketAddrV4::new(from, StateSync::PORT),
            to: SocketAddrV4::new(to, StateSync::PORT),
            payload,
        }
    }

    fn of(packet: &[u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ip(packet).ok()?;
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) =
            (packet.net, packet.transport)
        else {
            return None;
        };
        let header = ip.header();
        let datagram = Self {
            from: SocketAddrV4::new(header.source_addr(), udp.source_port()),
            to: SocketAddrV4::new(header.destination_addr(), udp.destination_port()),
            payload: udp.payload().to_vec(),
        };
        (datagram.to.port() == StateSync::PORT).then_some(datagram)
    }

    /// The IP packet.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let ip = PacketBuilder::ipv4(self.from.ip().octets(), self.to.ip().octets(), 64);
        let mut packet = Vec::new();
        ip.udp(self.from.port(), self.to.port())
            .write(&mut packet, &self.payload)
            .unwrap();
        packet
    }
}

/// A TCP packet of a connection, with these flags.
pub(crate) fn tcp(from: SocketAddrV4, to: SocketAddrV4, is_first: bool) -> Vec<u8> {
    let ip = PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64);
    let tcp = ip.tcp(from.port(), to.port(), 1, 65_535);
    let tcp = if is_first { tcp.syn() } else { tcp.ack(1) };
    let mut packet = Vec::new();
    tcp.write(&mut packet, &[]).unwrap();
    packet
}

/// A socket that takes IPv4 packets with their headers, whatever source these name.
pub(crate) fn raw() -> Socket {
    // IPPROTO_RAW: nothing is delivered to it.
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
    socket.set_header_included_v4(true).unwrap();
    socket
}

/// Hears the datagrams that a host sends and receives, until dropped.
pub(crate) struct Tap {
    listener: Listener<Datagram>,
}

impl Tap {
    pub(crate) fn start(netns: &Netns) -> Self {
        let socket = tap(netns, BUFFER).unwrap();
        let listener = Listener::start(socket, || {}, Datagram::of).unwrap();
        Self { listener }
    }

    /// Datagrams heard so far that are long enough to tell of several connections.
    pub(crate) fn long_ones(&self, from: Ipv4Addr) -> usize {
        let is = |datagram: &&Datagram| *datagram.from.ip() == from && datagram.payload.len() > 300;
        self.listener.heard().iter().filter(is).count()
    }

    /// All datagrams heard so far.
    pub(crate) fn heard(&self) -> Vec<Datagram> {
        self.listener.heard().clone()
    }
}
