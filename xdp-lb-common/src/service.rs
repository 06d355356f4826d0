//! Virtual services: the index that finds one from a packet, and what the packet path needs of it.
//!
//! The index is open-addressed in an array, laid out by userspace (a kernel hash map costs 30 ns a
//! lookup, this 3). Several slots may lead to one service: a firewall mark has one for each address and
//! port. It has two banks: userspace fills the idle one and then flips the bank word, so a
//! reload publishes all services at once and no reader ever sees half a slot.

use crate::addr::{Address, FAMILY_V6};
use crate::hash::mix;
use crate::limits::SERVICE_INDEX_SLOTS;
use crate::pod::{no_padding, pod};

/// One slot of the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ServiceSlot {
    /// Virtual IP.
    pub vip: Address,
    /// Port, network order; 0 matches any port.
    pub port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Address family; 0 marks a free slot, where a probe sequence ends.
    pub family: u8,
    /// Index of the service.
    pub service: u32,
    /// Fills the slot.
    pub reserved: u64,
}
pod!(ServiceSlot);
no_padding!(ServiceSlot, Address, u16, u8, u8, u32, u64);

/// Where the probe sequence of an IPv4 service starts within a bank.
#[inline(always)]
pub const fn index_start_v4(vip_be: u32, port_be: u16, protocol: u8) -> u32 {
    mix(vip_be as u64, (port_be as u64) << 8 | protocol as u64) & (SERVICE_INDEX_SLOTS - 1)
}

/// Where the probe sequence of an IPv6 service starts within a bank.
#[inline(always)]
pub const fn index_start_v6(vip: Address, port_be: u16, protocol: u8) -> u32 {
    let [a, b, c, d] = vip.words_be;
    let low = (c as u64 | (d as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let folded = low ^ (a as u64 | (b as u64) << 32);
    mix(folded, (port_be as u64) << 8 | protocol as u64) & (SERVICE_INDEX_SLOTS - 1)
}

impl ServiceSlot {
    /// Where its probe sequence starts within a bank.
    pub const fn start(&self) -> u32 {
        if self.family == FAMILY_V6 {
            index_start_v6(self.vip, self.port_be, self.protocol)
        } else {
            index_start_v4(self.vip.words_be[0], self.port_be, self.protocol)
        }
    }
}

/// Clients stick to a real server.
pub const SERVICE_PERSISTENT: u32 = 1 << 0;
/// Someone else's frames must be told apart by [`Service::host_filter`] and the host table.
pub const SERVICE_HAS_HOSTS: u32 = 1 << 1;
/// Each datagram is scheduled by itself, and none makes a connection.
pub const SERVICE_ONE_PACKET: u32 = 1 << 2;

/// What the packet path needs of a virtual service: one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Service {
    /// The gate: 1 while packets are balanced (this director is MASTER, or no VRRP instance carries
    /// the VIP), else 0.
    pub active: u32,
    /// `SERVICE_*` bits.
    pub flags: u32,
    /// The scheduling table, see [`Slots`].
    pub slots: u64,
    /// The consistent-hash table for flows that found no way, see [`Slots`].
    pub fallback: u64,
    /// The first of `mac_bits(mac)` is set for every MAC that the host table knows for this service.
    pub host_filter: u64,
    /// Life of an idle persistence template, ticks.
    pub persistence_ticks: u32,
    /// Clients are masked by this before the template is looked up: IPv4 by this mask in network
    /// order, IPv6 by this prefix length.
    pub client_mask: u32,
    /// The gate closes by itself when the agent's heartbeat is older than this, ticks;
    /// [`crate::lease::NONE`] for never.
    pub lease_ticks: u32,
    /// How new connections are placed, see [`crate::schedule::Rule`].
    pub rule: u32,
    /// The virtual MAC of the VIP: frames to it are for this director, too; 0 for none.
    pub virtual_mac: u64,
    /// As `host_filter`, for the second of those bits.
    pub host_filter_2: u64,
}
pod!(Service);
no_padding!(
    Service, u32, u32, u64, u64, u64, u32, u32, u32, u32, u64, u64
);

/// A part of the shared slot array, packed in one word so that it is published by one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// First entry.
    pub base: u32,
    /// Number of entries; 0 when no server is eligible.
    pub len: u32,
}

impl Slots {
    /// As held in [`Service`].
    pub const fn pack(self) -> u64 {
        (self.base as u64) << 32 | self.len as u64
    }

    /// From [`Service`].
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            base: (word >> 32) as u32,
            len: word as u32,
        }
    }
}

/// The tables' control words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Control {
    /// The bank of the service index and of the host table that packets use: 0 or 1.
    pub bank: u64,
    /// The agent's last sign of life, a [`crate::tick::LongTick`] in the low half.
    pub heartbeat: u64,
    /// 1 while any real server has its addresses translated: packets for no service may be its replies.
    pub translates: u64,
    /// No interface that packets leave by has a smaller MTU, octets; packets that fit it fit every one.
    pub smallest_mtu: u64,
    /// Fills the cache line.
    pub reserved: [u64; 4],
}
pod!(Control);

/// The identity of a service, for userspace that takes over pinned maps: an endpoint, or a firewall
/// mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ServiceName {
    /// Virtual IP; zero of a mark.
    pub vip: Address,
    /// Port, network order.
    pub port_be: u16,
    /// IP protocol number; 0 of a mark.
    pub protocol: u8,
    /// Address family; 0 marks a free index.
    pub family: u8,
    /// The firewall mark, 0 of an endpoint.
    pub mark: u32,
}
pod!(ServiceName);
no_padding!(ServiceName, Address, u16, u8, u8, u32);

/// Packets, bytes (IP length, as IPVS counts) and connections, per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Stats {
    /// New connections.
    pub connections: u64,
    /// Packets sent on to a real server.
    pub packets: u64,
    /// Their IP length.
    pub bytes: u64,
    /// Replies of real servers sent on to a client: only those whose addresses are translated come by.
    pub reply_packets: u64,
    /// Their IP length.
    pub reply_bytes: u64,
}
pod!(Stats);
no_padding!(Stats, u64, u64, u64, u64, u64);
