//! The programs that the entry goes on to by tail calls, for packets that need more than IPv4's own
//! path: each has a stack and a share of the verifier's patience of its own, and costs the packets of
//! IPv4 no more than the branch that leads to it.

/// A program, and its place in the map `STAGES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name in the object file.
    pub name: &'static str,
    /// Index in the map; the same for ever, as a pinned map may hold an older version's programs.
    pub index: u32,
}

/// Entries of the map.
pub const STAGES: u32 = 32;

/// Frames that carry IPv6.
pub const IPV6: Stage = Stage {
    name: "xdp_lb_v6",
    index: 0,
};

/// IPv6 packets without a connection.
pub const IPV6_NEW: Stage = Stage {
    name: "xdp_lb_v6_new",
    index: 6,
};

/// IPv4 packets without a connection.
pub const NEW: Stage = Stage {
    name: "xdp_lb_new",
    index: 16,
};

/// IPv4 packets that begin a connection to a persistent service: their client's template.
pub const PERSIST: Stage = Stage {
    name: "xdp_lb_persist",
    index: 18,
};

/// The same of IPv6.
pub const PERSIST_V6: Stage = Stage {
    name: "xdp_lb_persist_v6",
    index: 19,
};

/// ICMP: errors about connections.
pub const ICMP: Stage = Stage {
    name: "xdp_lb_icmp",
    index: 1,
};

/// ICMPv6: errors about connections.
pub const ICMP_V6: Stage = Stage {
    name: "xdp_lb_icmp_v6",
    index: 7,
};

/// Packets that go to their real server in a tunnel.
pub const FORWARD: Stage = Stage {
    name: "xdp_lb_forward",
    index: 4,
};

/// Packets whose destination becomes their real server's address.
pub const NAT: Stage = Stage {
    name: "xdp_lb_nat",
    index: 8,
};

/// Packets for no service, which may be replies of such real servers.
pub const REPLY: Stage = Stage {
    name: "xdp_lb_reply",
    index: 9,
};

/// ICMP errors about what such real servers sent.
pub const NAT_ERROR: Stage = Stage {
    name: "xdp_lb_nat_error",
    index: 13,
};

/// ICMP errors for no service, which may be about what such real servers got.
pub const REPLY_ERROR: Stage = Stage {
    name: "xdp_lb_reply_error",
    index: 14,
};

/// Fragments for no service, which may be of replies of such real servers.
pub const REPLY_FRAGMENT: Stage = Stage {
    name: "xdp_lb_reply_fragment",
    index: 15,
};

/// ICMP errors about the packets of tunnels, of which those are told who sent what these carry.
pub const TUNNEL_ERROR: Stage = Stage {
    name: "xdp_lb_tunnel_error",
    index: 20,
};

/// Packets that the director answers itself: it says why they go nowhere.
pub const ANSWER: Stage = Stage {
    name: "xdp_lb_answer",
    index: 5,
};

/// Tagged frames.
pub const TAGGED: Stage = Stage {
    name: "xdp_lb_tagged",
    index: 3,
};

/// The entry itself, for frames whose tags were taken off.
pub const ENTRY: Stage = Stage {
    name: "xdp_lb",
    index: 12,
};

/// Fragments of IPv4 datagrams.
pub const FRAGMENT: Stage = Stage {
    name: "xdp_lb_fragment",
    index: 2,
};

/// First fragments of IPv4 datagrams, placed already.
pub const FRAGMENT_NEW: Stage = Stage {
    name: "xdp_lb_fragment_new",
    index: 17,
};

/// Fragments of IPv6 packets.
pub const FRAGMENT_V6: Stage = Stage {
    name: "xdp_lb_fragment_v6",
    index: 10,
};

/// First fragments of IPv6 packets, placed already.
pub const FRAGMENT_V6_NEW: Stage = Stage {
    name: "xdp_lb_fragment_v6_new",
    index: 11,
};

/// All of them.
pub const ALL: &[Stage] = &[
    ENTRY,
    NEW,
    PERSIST,
    PERSIST_V6,
    TAGGED,
    IPV6,
    IPV6_NEW,
    ICMP,
    ICMP_V6,
    FRAGMENT,
    FRAGMENT_NEW,
    FRAGMENT_V6,
    FRAGMENT_V6_NEW,
    FORWARD,
    NAT,
    NAT_ERROR,
    REPLY,
    REPLY_ERROR,
    REPLY_FRAGMENT,
    TUNNEL_ERROR,
    ANSWER,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_a_place_of_its_own() {
        let mut taken = [false; STAGES as usize];
        for stage in ALL {
            let place = &mut taken[stage.index as usize];
            assert!(!*place, "{} is not alone", stage.name);
            *place = true;
        }
    }
}
