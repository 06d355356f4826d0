//! What a connection is, and what a packet of its client makes of it: the states that `ipvs.md`'s
//! observations and the timeouts of `docs/dataplane.md` name.

use xdp_lb_common::conn::Kind;
use xdp_lb_common::conn::state::Timeouts;

use crate::config::model::Protocol;

use super::frame::Packet;
use super::table::Rank;
use super::{Connection, Memory};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The state of a connection, as the client's half shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// TCP, only SYNs seen.
    SynSeen,
    /// TCP.
    Established,
    /// TCP, the client sent a FIN.
    FinSeen,
    /// TCP, the client sent a RST.
    Closed,
    /// UDP, one datagram seen.
    FirstDatagram,
    /// UDP, several seen.
    Datagrams,
    /// None: what is kept of the first fragment of a datagram.
    Fragment,
    /// None: what finds the answers to a connection of which [`Self::SynSeen`] or [`Self::FirstDatagram`]
    /// is true,
    FirstReplies,
    /// or to another.
    Replies,
}

/// What a packet does to the connection that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is in this state from here on.
    State(State),
    /// It is over: the packet opens a new one.
    Anew,
}

/// Whether a packet can open a connection: a datagram can, a segment with SYN and without RST.
pub(super) const fn opens(packet: &Packet) -> bool {
    match packet.protocol {
        Protocol::Tcp => packet.flags & SYN != 0 && packet.flags & RST == 0,
        Protocol::Udp | Protocol::Sctp => true,
    }
}

impl State {
    /// A connection that this packet opens.
    pub(super) const fn opened_by(packet: &Packet) -> Self {
        match packet.protocol {
            Protocol::Tcp => Self::SynSeen,
            Protocol::Udp | Protocol::Sctp => Self::FirstDatagram,
        }
    }

    /// After a packet of the client.
    pub(super) const fn after(self, packet: &Packet) -> Next {
        let flags = packet.flags;
        Next::State(match self {
            Self::FirstDatagram | Self::Datagrams => Self::Datagrams,
            Self::Fragment | Self::FirstReplies | Self::Replies => self,
            // A RST ends what was established; the handshake goes on regardless.
            Self::SynSeen if flags & RST != 0 => Self::SynSeen,
            Self::Established | Self::FinSeen | Self::Closed if flags & RST != 0 => Self::Closed,
            // Nobody waits for a closing connection to be gone.
            Self::FinSeen | Self::Closed if flags & SYN != 0 => return Next::Anew,
            Self::SynSeen | Self::Established if flags & SYN != 0 => self,
            _ if flags & FIN != 0 => Self::FinSeen,
            // Data after a RST: it was forged.
            Self::SynSeen | Self::Closed if flags & ACK != 0 => Self::Established,
            Self::SynSeen | Self::Established | Self::FinSeen | Self::Closed => self,
        })
    }

    /// Ticks it lives on without a packet.
    pub(super) const fn life(self, timeouts: &Timeouts) -> u32 {
        match self {
            Self::SynSeen => timeouts.syn,
            Self::Established => timeouts.established,
            Self::FinSeen => timeouts.fin,
            Self::Closed => timeouts.closed,
            Self::FirstDatagram | Self::Datagrams => timeouts.udp,
            Self::Fragment => timeouts.fragment,
            // As long as their connection; nobody asks here.
            Self::FirstReplies | Self::Replies => 0,
        }
    }

    /// Whether a client that sends at random would have got so far: its template is worth keeping.
    pub(super) const fn is_confirmed(self) -> bool {
        matches!(self, Self::Established | Self::Datagrams)
    }

    /// Whether IPVS lists it as active; datagrams are not.
    pub(super) const fn is_active(self) -> bool {
        matches!(self, Self::SynSeen | Self::Established)
    }

    /// Whether it counts at its server.
    pub(super) const fn is_connection(self) -> bool {
        !matches!(self, Self::Fragment | Self::FirstReplies | Self::Replies)
    }

    /// How readily it gives its way to a new connection.
    pub(super) const fn rank(self) -> Rank {
        match self {
            Self::SynSeen | Self::FirstDatagram | Self::Fragment | Self::FirstReplies => {
                Rank::Unconfirmed
            }
            Self::FinSeen | Self::Closed => Rank::Closing,
            Self::Established | Self::Datagrams | Self::Replies => Rank::Stays,
        }
    }

    /// As the tables of the XDP program name it.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::SynSeen => Kind::Syn,
            Self::Established => Kind::Established,
            Self::FinSeen => Kind::Fin,
            Self::Closed => Kind::Closed,
            Self::FirstDatagram => Kind::UdpNew,
            Self::Datagrams => Kind::Udp,
            Self::Fragment => Kind::Fragment,
            Self::FirstReplies => Kind::ReplyNew,
            Self::Replies => Kind::Reply,
        }
    }
}

/// Counts what became of a connection, at servers that still are in the life it belonged to.
pub(super) fn count(memory: &mut Memory, old: Option<Connection>, new: Option<Connection>) {
    if let (Some(old), Some(new)) = (old, new)
        && (old.server, old.life) == (new.server, new.life)
    {
        count_at(memory, old, Some(old.state), Some(new.state));
        return;
    }
    if let Some(old) = old {
        count_at(memory, old, Some(old.state), None);
    }
    if let Some(new) = new {
        count_at(memory, new, None, Some(new.state));
    }
}

fn count_at(memory: &mut Memory, at: Connection, old: Option<State>, new: Option<State>) {
    if let Some(server) = memory.servers.get_mut(&at.server)
        && server.life == at.life
    {
        server.count(old, new);
    }
}
