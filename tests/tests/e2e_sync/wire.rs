//! Datagrams of state sync, taken off the wire and put onto it; and packets of connections that nobody
//! holds.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use socket2::{Domain, Protocol, Socket, Type};
use xdp_lb::config::model::StateSync;
use xdp_lb_tests::netns::Netns;

/// `linux/if_ether.h`: what arrives and what is sent.
const ETH_P_ALL: u16 = 3;
/// Bytes that wait for a tap.
const BUFFER: usize = 16 << 20;
/// How soon a tap notices that it is to stop.
const TICK: Duration = Duration::from_millis(50);

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
    heard: Arc<Mutex<Vec<Datagram>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tap {
    pub(crate) fn start(netns: &Netns) -> Self {
        let open = || {
            // Without an address it is on all interfaces. The number is in network byte order.
            let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(all)).unwrap();
            socket.set_recv_buffer_size(BUFFER).unwrap();
            socket.set_read_timeout(Some(TICK)).unwrap();
            socket
        };
        let mut socket = netns.run(open).unwrap();
        let (heard, stop) = <(Arc<Mutex<Vec<Datagram>>>, Arc<AtomicBool>)>::default();
        let (list, stopped) = (heard.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !stopped.load(Ordering::Acquire) {
                match socket.read(&mut buffer) {
                    Ok(length) => {
                        let datagram = Datagram::of(&buffer[..length]);
                        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
                        list.extend(datagram);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // An interface that goes down is told of once.
                    Err(_) => std::thread::sleep(TICK),
                }
            }
        });
        Self {
            heard,
            stop,
            thread: Some(thread),
        }
    }

    /// Datagrams heard so far that are long enough to tell of several connections.
    pub(crate) fn long_ones(&self, from: Ipv4Addr) -> usize {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |datagram: &&Datagram| *datagram.from.ip() == from && datagram.payload.len() > 300;
        heard.iter().filter(is).count()
    }

    /// All datagrams heard so far.
    pub(crate) fn heard(&self) -> Vec<Datagram> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        drop(self.thread.take().map(JoinHandle::join));
    }
}
