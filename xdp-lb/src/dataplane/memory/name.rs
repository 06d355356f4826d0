//! What an entry of the connection table stands for, and the keyed hash that every director of a cluster
//! names it by.

use std::net::{IpAddr, SocketAddr};

use xdp_lb_common::addr::Address;
use xdp_lb_common::flow::{FlowV4, FlowV6, FragmentsV4, FragmentsV6};

use super::Memory;
use super::frame::Packet;

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sort {
    /// A connection: client, VIP.
    Connection,
    /// What comes back of a translated one: client, real server.
    Replies,
    /// A datagram in fragments: source, destination, without ports.
    Fragments,
    /// The same, of what comes back.
    FragmentsBack,
}

/// The name of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    sort: Sort,
    ends: (SocketAddr, SocketAddr),
    /// IP protocol number; 0 for fragments of IPv6, which need not say the right one.
    protocol: u8,
    /// Identification of a datagram.
    id: u32,
}

impl Name {
    /// Of a connection by its client and its VIP.
    pub(super) const fn connection(client: SocketAddr, vip: SocketAddr, protocol: u8) -> Self {
        Self {
            sort: Sort::Connection,
            ends: (client, vip),
            protocol,
            id: 0,
        }
    }

    /// Of the connection that a packet belongs to.
    pub(super) const fn of(packet: &Packet) -> Self {
        Self::connection(packet.client, packet.vip, packet.protocol.number())
    }

    /// Of what a real server answers to a client.
    pub(super) const fn replies(client: SocketAddr, server: SocketAddr, protocol: u8) -> Self {
        Self {
            sort: Sort::Replies,
            ..Self::connection(client, server, protocol)
        }
    }

    /// Of a datagram in fragments, which is on its way to a real server, or back from one.
    pub(super) fn fragments(packet: &Packet, (id, protocol): (u32, u8), is_back: bool) -> Self {
        let [from, to] = [packet.client, packet.vip].map(|end| SocketAddr::new(end.ip(), 0));
        Self {
            sort: if is_back {
                Sort::FragmentsBack
            } else {
                Sort::Fragments
            },
            ends: (from, to),
            protocol: if from.is_ipv4() { protocol } else { 0 },
            id,
        }
    }

    /// Its client, or where fragments come from.
    #[cfg(test)]
    pub(super) const fn from(&self) -> SocketAddr {
        self.ends.0
    }

    /// The keyed hash.
    pub(super) fn hash(&self, memory: &Memory) -> u64 {
        match self.ends.0.ip() {
            IpAddr::V4(_) => self.hash_v4(memory),
            IpAddr::V6(_) => self.hash_v6(memory),
        }
    }

    fn hash_v4(&self, memory: &Memory) -> u64 {
        let coefficients = &memory.coefficients;
        let (from, to) = self.ends;
        let [from_be, to_be] = [from, to].map(|end| Address::from_ip(end.ip()).0.words_be[0]);
        let flow = FlowV4 {
            client_be: from_be,
            vip_be: to_be,
            client_port_be: from.port().to_be(),
            vip_port_be: to.port().to_be(),
            protocol: self.protocol,
        };
        let fragments = FragmentsV4 {
            source_be: from_be,
            destination_be: to_be,
            id_be: u16::try_from(self.id).unwrap_or_default().to_be(),
            protocol: self.protocol,
        };
        match self.sort {
            Sort::Connection => flow.hash(coefficients),
            Sort::Replies => flow.hash_of_replies(coefficients),
            Sort::Fragments => fragments.hash(coefficients),
            Sort::FragmentsBack => fragments.hash_of_reply(coefficients),
        }
    }

    fn hash_v6(&self, memory: &Memory) -> u64 {
        let coefficients = &memory.coefficients_v6;
        let (from, to) = self.ends;
        let [source, destination] = [from, to].map(|end| Address::from_ip(end.ip()).0);
        let flow = FlowV6 {
            client: source,
            vip: destination,
            client_port_be: from.port().to_be(),
            vip_port_be: to.port().to_be(),
            protocol: self.protocol,
        };
        let fragments = FragmentsV6 {
            source,
            destination,
            id_be: self.id.to_be(),
        };
        match self.sort {
            Sort::Connection => flow.hash(coefficients),
            Sort::Replies => flow.hash_of_replies(coefficients),
            Sort::Fragments => fragments.hash(coefficients),
            Sort::FragmentsBack => fragments.hash_of_reply(coefficients),
        }
    }
}
