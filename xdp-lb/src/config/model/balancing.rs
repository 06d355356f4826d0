//! How a virtual service spreads its connections, and how packets get to the servers.

use std::num::NonZeroU16;

/// `protocol` of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// `tcp`, `udp` or `sctp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The protocol of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|protocol| protocol.name() == name)
    }

    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => xdp_lb_common::addr::TCP,
            Self::Udp => xdp_lb_common::addr::UDP,
            Self::Sctp => 132,
        }
    }

    /// The protocol of an IP protocol number.
    pub fn from_number(number: u8) -> Option<Self> {
        let all = [Self::Tcp, Self::Udp, Self::Sctp];
        all.into_iter().find(|protocol| protocol.number() == number)
    }
}

/// What a hashing scheduler hashes, and what it does when the hash leads to a server that is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hashing {
    /// `sh-port`, `mh-port`, `flag-2`: the client's port counts as well as its address.
    pub port: bool,
    /// `sh-fallback`, `mh-fallback`, `flag-1`: another server is tried; else there is none.
    pub fallback: bool,
}

/// `lb_algo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheduler {
    /// `rr`: round robin.
    RoundRobin,
    /// `wrr`: weighted round robin.
    WeightedRoundRobin,
    /// `lc`: fewest connections.
    LeastConnections,
    /// `wlc`: fewest connections for its weight; the default.
    WeightedLeastConnections,
    /// `lblc`: one server per destination address, while it is not overloaded.
    LocalityBased,
    /// `lblcr`: a set of servers per destination address.
    LocalityBasedReplicated,
    /// `sh`: hash of the source address.
    SourceHash(Hashing),
    /// `mh`: Maglev hash of the source address.
    Maglev(Hashing),
    /// `dh`: hash of the destination address.
    DestinationHash,
    /// `sed`: shortest expected delay.
    ShortestDelay,
    /// `nq`: an idle server, else as `sed`.
    NeverQueue,
    /// `fo`: the heaviest server that is up.
    FailOver,
    /// `ovf`: the heaviest server that has no more active connections than its weight.
    Overflow,
    /// `twos`: the better of two random picks.
    TwoChoices,
}

impl Scheduler {
    /// All of them, their flags off.
    pub const ALL: [Self; 14] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnections,
        Self::WeightedLeastConnections,
        Self::LocalityBased,
        Self::LocalityBasedReplicated,
        Self::SourceHash(Hashing {
            port: false,
            fallback: false,
        }),
        Self::Maglev(Hashing {
            port: false,
            fallback: false,
        }),
        Self::DestinationHash,
        Self::ShortestDelay,
        Self::NeverQueue,
        Self::FailOver,
        Self::Overflow,
        Self::TwoChoices,
    ];

    /// The name IPVS has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
            Self::LeastConnections => "lc",
            Self::WeightedLeastConnections => "wlc",
            Self::LocalityBased => "lblc",
            Self::LocalityBasedReplicated => "lblcr",
            Self::SourceHash(_) => "sh",
            Self::Maglev(_) => "mh",
            Self::DestinationHash => "dh",
            Self::ShortestDelay => "sed",
            Self::NeverQueue => "nq",
            Self::FailOver => "fo",
            Self::Overflow => "ovf",
            Self::TwoChoices => "twos",
        }
    }

    /// The names of its flags that are on, as `ipvsadm` lists them.
    pub fn flags(self) -> Vec<&'static str> {
        let (hashing, [fallback, port]) = match self {
            Self::SourceHash(hashing) => (hashing, ["sh-fallback", "sh-port"]),
            Self::Maglev(hashing) => (hashing, ["mh-fallback", "mh-port"]),
            Self::RoundRobin
            | Self::WeightedRoundRobin
            | Self::LeastConnections
            | Self::WeightedLeastConnections
            | Self::LocalityBased
            | Self::LocalityBasedReplicated
            | Self::DestinationHash
            | Self::ShortestDelay
            | Self::NeverQueue
            | Self::FailOver
            | Self::Overflow
            | Self::TwoChoices => return Vec::new(),
        };
        let flags = [(hashing.fallback, fallback), (hashing.port, port)];
        let on = flags.into_iter().filter(|(on, _)| *on);
        on.map(|(_, name)| name).collect()
    }

    /// The scheduler of a name, its flags off.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|scheduler| scheduler.name() == name)
    }
}

/// `lb_kind`, `lvs_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// `DR`: only MAC addresses change.
    DirectRouting,
    /// `NAT`: addresses and ports change, both ways; the default.
    Nat,
    /// `TUN`: packets are wrapped, and servers answer by themselves.
    Tunnel(Tunnel),
}

impl Forwarding {
    /// `DR`, `NAT` or `TUN`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DirectRouting => "DR",
            Self::Nat => "NAT",
            Self::Tunnel(_) => "TUN",
        }
    }

    /// Whether a server may have another port, as only address translation allows.
    pub const fn changes_ports(self) -> bool {
        match self {
            Self::Nat => true,
            Self::DirectRouting | Self::Tunnel(_) => false,
        }
    }

    /// Whether IPv4 packets can go to an IPv6 server and the other way round.
    pub const fn crosses_families(self) -> bool {
        match self {
            Self::Tunnel(_) => true,
            Self::DirectRouting | Self::Nat => false,
        }
    }
}

/// What packets are wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// `type ipip`: another IP header; the default.
    Ipip,
    /// `type gue port N`: generic UDP encapsulation.
    Gue {
        /// UDP port of the servers.
        port: NonZeroU16,
        /// `nocsum` (the default), `csum`, `remcsum`.
        checksum: Checksum,
    },
    /// `type gre`, with a checksum (`csum`) or without.
    Gre {
        /// `csum`.
        checksum: bool,
    },
}

/// The checksum of a GUE header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// `nocsum`: none.
    #[default]
    None,
    /// `csum`: of the whole datagram.
    Full,
    /// `remcsum`: remote checksum offload.
    Remote,
}
