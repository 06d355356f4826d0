//! The far end of a tunnel: takes packets out of IPIP, GUE and GRE and hands them to its own stack.
//!
//! A real server has a device for that (`ip link add type ipip`, `ip fou add`), which not every kernel
//! has that these suites run on. The outer headers are the kernel's to check here, too: it is its
//! sockets that packets come by.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// How soon it notices that it is to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// What packets are wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// Another IP header, of IPv4.
    Ipip,
    /// The same, of IPv6.
    IpipV6,
    /// Another IP header, UDP to this port, and four octets of GUE.
    Gue(u16),
    /// Another IP header and GRE, with four octets more if it has a checksum.
    Gre,
}

impl Wrap {
    /// A socket that its packets come by.
    fn socket(self) -> Result<Socket> {
        let raw = |protocol| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol)));
        let socket = match self {
            Self::Ipip => raw(4)?,
            Self::IpipV6 => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(4)))?,
            Self::Gre => raw(47)?,
            Self::Gue(port) => {
                let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
                socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
                socket
            }
        };
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    /// Octets in front of the packet that it carries, as the socket hands them out.
    fn headers(self, packet: &[u8]) -> Option<usize> {
        let outer = || Some(usize::from(packet.first()? & 0xf) * 4);
        match self {
            Self::Ipip => outer(),
            // The kernel keeps IPv6's.
            Self::IpipV6 => Some(0),
            Self::Gue(_) => Some(4),
            Self::Gre => {
                let at = outer()?;
                let has_checksum = packet.get(at)? & 0x80 != 0;
                Some(at + if has_checksum { 8 } else { 4 })
            }
        }
    }
}

/// The far end of a tunnel, until dropped.
#[derive(Debug)]
pub struct FarEnd {
    ends: Arc<AtomicBool>,
    packets: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl FarEnd {
    /// Opens it on a host.
    ///
    /// # Errors
    /// When the kernel refuses the sockets.
    pub fn open(netns: &Netns, wrap: Wrap) -> Result<Self> {
        let open = || -> Result<_> {
            // IPPROTO_RAW: what is sent by it has its header already.
            let own = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
            Ok((wrap.socket()?, own))
        };
        let (tunnel, own) = netns.run(open)?.context("no far end of a tunnel")?;
        let (ends, packets) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let (until, counted) = (Arc::clone(&ends), Arc::clone(&packets));
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                if hand_on(&tunnel, &own, wrap).is_some() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self {
            ends,
            packets,
            thread: Some(thread),
        })
    }

    /// Packets that came out of the tunnel.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }
}

/// Waits for a packet and hands what it carries to its destination, an address of this host.
fn hand_on(tunnel: &Socket, own: &Socket, wrap: Wrap) -> Option<()> {
    use std::io::Read as _;
    let mut packet = [0; 2048];
    let len = { tunnel }.read(&mut packet).ok()?;
    let packet = packet.get(..len)?;
    let inner = packet.get(wrap.headers(packet)?..)?;
    let to: [u8; 4] = inner.get(16..20)?.try_into().ok()?;
    let to = SocketAddrV4::new(Ipv4Addr::from(to), 0);
    own.send_to(inner, &to.into()).ok()?;
    Some(())
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            drop(thread.join());
        }
    }
}
