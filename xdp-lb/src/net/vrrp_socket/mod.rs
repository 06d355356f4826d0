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

mod receive;
mod send;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use nix::net::if_::if_nametoindex;
use socket2::{SockAddr, Socket};

pub use receive::{AsyncReceiver, Drained, Listen, Packet, Receiver};
pub use send::Sender;

/// The IP protocol of VRRP.
pub const PROTOCOL: u8 = 112;
/// Where IPv4 adverts go unless the configuration says otherwise.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Where IPv6 adverts go unless the configuration says otherwise.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// TTL or hop limit of an advert; whoever receives another one knows that a router was in between.
pub const TTL: u8 = 255;

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
