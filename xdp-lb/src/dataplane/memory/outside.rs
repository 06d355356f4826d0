//! What neither tables nor a frame say: chance, what the driver has room for, and the kernel's routes.

use std::net::{IpAddr, SocketAddr};

use xdp_lb_common::addr::Mac;

/// What the kernel's routing table says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// Nothing goes there: `blackhole`, `unreachable`, `prohibit`.
    Nowhere,
    /// By an interface.
    Over {
        /// The longest IP packet on that way, octets.
        mtu: u32,
        /// The interface and the MAC of the next hop, if that is known.
        hop: Option<(u32, Mac)>,
    },
}

/// Whoever knows it.
pub trait Outside {
    /// Which of several servers chance picks.
    fn pick(&mut self, servers: &[SocketAddr]) -> Option<SocketAddr>;

    /// The identification of an IPv4 header that the director makes. None but those that routers may
    /// fragment have one.
    fn identification(&mut self) -> u16;

    /// How packets from one address to another, that came in by an interface, go on. `None` if there is no
    /// route, or the kernel does not forward what comes in there.
    fn route(&self, _ifindex: u32, _from: IpAddr, _to: IpAddr) -> Option<Routed> {
        None
    }

    /// Octets that may be put in front of the frame.
    fn room(&self) -> usize {
        // What XDP grants (XDP_PACKET_HEADROOM) less the kernel's own.
        216
    }
}

/// Numbers of its own, and nothing else.
pub(super) struct Dice(pub u64);

impl Dice {
    /// The next number (xorshift).
    const fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

impl Outside for Dice {
    fn pick(&mut self, servers: &[SocketAddr]) -> Option<SocketAddr> {
        let pick = self.roll().checked_rem(servers.len() as u64)?;
        servers.get(usize::try_from(pick).ok()?).copied()
    }

    fn identification(&mut self) -> u16 {
        let [low, high, ..] = self.roll().to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}
