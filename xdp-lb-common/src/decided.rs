//! What one program of a packet's path hands on to the next, in a map of one entry per CPU.

use crate::addr::Address;
use crate::pod::{no_padding, pod};

/// Of [`Decided::special`]: a later fragment, which goes where the first one went. No IP protocol is as high.
pub const LATER: u32 = 1 << 8;

/// What was decided about a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Decided {
    /// The route, as the program packs it; never 0.
    pub route: u64,
    /// Index of the virtual service.
    pub service: u32,
    /// Index of the program that is to go on, see [`crate::stage`].
    pub stage: u32,
    /// UDP source port for a tunnel, network order.
    pub source_port_be: u16,
    /// Octets that an IP packet of this flow may have; set for one that is too long.
    pub mtu: u16,
    /// The [`crate::reason::Reason`] that the packet's sender is to be told; of an ICMP error, why it passes
    /// if it is not about a tunnel.
    pub why: u32,
    /// 1 once the sender was told: what leaves is the answer.
    pub answered: u32,
    /// 1 if `source` is where the answer comes from, else 0: then it is whom the packet was for.
    pub has_source: u32,
    /// See above.
    pub source: Address,
    /// Of an ICMP error about a connection the protocol of the packet that it quotes; [`LATER`]; else 0.
    pub special: u32,
    /// 1 if the packet's connection is to be placed anew, over the way that it has; else 0.
    pub again: u32,
    /// The keyed hash of a connection that is to be placed.
    pub hash: u64,
    /// What its flow has besides addresses: ports in network order, the client's in the lowest 16 bits; above
    /// them the protocol.
    pub names: u64,
    /// Octets of its packet.
    pub len: u32,
    /// Flags of its packet's TCP header; 0 for UDP.
    pub tcp_flags: u32,
    /// The route by which a packet without a connection was placed; 0 if it is yet to be placed.
    pub placed: u64,
    /// Index of the template made for it, plus one; 0 if none was.
    pub template: u32,
    /// Index of the interface that is the network of a tagged frame; 0 of others. Whoever takes the tags off
    /// sets it, and takes it back.
    pub network: u32,
    /// Fills the second cache line.
    pub reserved: [u32; 8],
}
pod!(Decided);
no_padding!(
    Decided, u64, u32, u32, u16, u16, u32, u32, u32, Address, u32, u32, u64, u64, u32, u32, u64,
    u32, u32, [u32; 8]
);
