//! Why a packet left the XDP program the way it did. Every exit has exactly one reason, counted per
//! CPU and served as `xdp_lb_packets_total{reason}`.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal => $verdict:ident,)+) => {
        /// The reasons, in the order of the packet path.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value of the metric label.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What becomes of the packet.
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$variant => Verdict::$verdict),+ }
            }

            /// One line of help.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+)),+ }
            }
        }
    };
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the kernel's stack.
    Pass,
    /// Out of the port it came in by: to a real server, or an answer to whoever sent it.
    Tx,
    /// To a real server, out of another port.
    Redirect,
    /// To nobody.
    Drop,
}

reasons! {
    /// Shorter than its headers say.
    Truncated = "truncated" => Pass,
    /// A header contradicts itself.
    Malformed = "malformed" => Pass,
    /// Neither IPv4 nor IPv6 nor anything the program balances.
    NotIp = "not_ip" => Pass,
    /// IPv6 with extension headers that are not followed: too many, or a route that is not over.
    Ipv6 = "ipv6" => Pass,
    /// Neither TCP nor UDP.
    NotTcpUdp = "not_tcp_udp" => Pass,
    /// A fragment of a datagram whose first one was not balanced, or did not come yet; the kernel has it.
    Fragment = "fragment" => Pass,
    /// Not for a virtual service.
    NoService = "no_service" => Pass,
    /// For a virtual service, but the frame is addressed to another host.
    OtherHost = "other_host" => Pass,
    /// The VIP is not this director's now.
    NotActive = "not_active" => Pass,
    /// The agent is silent for so long that another director may own the VIP.
    LeaseOver = "lease_over" => Pass,
    /// Another director balanced this frame already.
    AlreadyBalanced = "already_balanced" => Pass,
    /// In the middle of a TCP connection that is not known; the kernel answers with a reset.
    NoConnection = "no_connection" => Pass,
    /// Its real server failed or was removed; the kernel answers with a reset.
    Purged = "purged" => Pass,
    /// No real server is eligible, and the client is not told.
    NoRealServer = "no_real_server" => Drop,
    /// The real server is this director.
    Local = "local" => Pass,
    /// TTL used up, and the sender is not told.
    TtlExpired = "ttl_expired" => Drop,
    /// The tables contradict each other; never seen while userspace keeps them.
    Inconsistent = "inconsistent" => Drop,
    /// To the real server of its connection.
    TxConnection = "tx_connection" => Tx,
    /// A new connection, placed by the scheduler.
    TxScheduled = "tx_scheduled" => Tx,
    /// A new connection, placed by the client's persistence.
    TxPersistent = "tx_persistent" => Tx,
    /// No way was free: placed by consistent hash.
    TxStateless = "tx_stateless" => Tx,
    /// To the real server of its connection, behind another port.
    RedirectConnection = "redirect_connection" => Redirect,
    /// A new connection, placed by the scheduler, behind another port.
    RedirectScheduled = "redirect_scheduled" => Redirect,
    /// A new connection, placed by the client's persistence, behind another port.
    RedirectPersistent = "redirect_persistent" => Redirect,
    /// No way was free: placed by consistent hash, behind another port.
    RedirectStateless = "redirect_stateless" => Redirect,
    /// Its port is not in the map of ports to send out of.
    RedirectFailed = "redirect_failed" => Drop,
    /// ICMP that tells of no error, such as an echo request: the kernel answers.
    Icmp = "icmp" => Pass,
    /// A fragment of an ICMP message; the kernel reassembles it.
    IcmpFragment = "icmp_fragment" => Pass,
    /// An ICMP error about a packet that belongs to no connection known here.
    IcmpUnknown = "icmp_unknown" => Pass,
    /// An ICMP error, to the real server of the connection it is about.
    TxIcmp = "tx_icmp" => Tx,
    /// An ICMP error, to the real server of the connection it is about, behind another port.
    RedirectIcmp = "redirect_icmp" => Redirect,
    /// A real server's reply, or an ICMP error about what was sent to it, from the service's address to the client.
    TxReply = "tx_reply" => Tx,
    /// A real server's reply, or an ICMP error about what was sent to it, from the service's address to the client behind another port.
    RedirectReply = "redirect_reply" => Redirect,
    /// Longer than the MTU on its way, and the sender is not told.
    TooBig = "too_big" => Drop,
    /// The driver leaves no room for the headers of its tunnel, or the tags of its VLAN.
    NoHeadroom = "no_headroom" => Drop,
    /// The connection table has no room for the entry by which the replies of a real server find back.
    NoReplyWay = "no_reply_way" => Drop,
    /// No route leads from this director to the client that a real server answers.
    NoReplyRoute = "no_reply_route" => Drop,
    /// The program that forwards so is not loaded; never seen while the agent loads them.
    NoProgram = "no_program" => Drop,
    /// A later fragment, to the real server of the first one.
    TxFragment = "tx_fragment" => Tx,
    /// A later fragment, to the real server of the first one, behind another port.
    RedirectFragment = "redirect_fragment" => Redirect,
    /// A fragment that splits a TCP header, or is to be written over one: only an attacker makes them.
    FragmentTiny = "fragment_tiny" => Drop,
    /// Tagged for a VLAN that this director has no interface in, or with more than two tags.
    Vlan = "vlan" => Pass,
    /// No real server is eligible: the client is told, by an ICMP error.
    TxUnreachable = "tx_unreachable" => Tx,
    /// No real server is eligible: the client is told, by a TCP reset.
    TxReset = "tx_reset" => Tx,
    /// TTL used up: the sender is told.
    TxTimeExceeded = "tx_time_exceeded" => Tx,
    /// Longer than the MTU on its way: the sender is told how long packets may be.
    TxTooBig = "tx_too_big" => Tx,
    /// More answers than the limit allows.
    AnswerLimited = "answer_limited" => Drop,
}

impl Reason {
    /// Whether the packet is answered, by one that the director makes.
    pub const fn is_answer(self) -> bool {
        matches!(
            self,
            Self::TxUnreachable | Self::TxReset | Self::TxTimeExceeded | Self::TxTooBig
        )
    }
}

/// Slots of the per-CPU counter array: room for new reasons without a new layout.
pub const REASON_SLOTS: usize = 64;

const _: () = assert!(Reason::ALL.len() <= REASON_SLOTS);

/// Things that happen inside the program beside a packet's one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Event {
    /// A connection found no way in its two places.
    NoWay,
    /// An unconfirmed or closing connection gave its way to a new one.
    Evicted,
    /// A persistence template found no way.
    NoTemplateWay,
    /// Another CPU changed the same entry at the same moment, and this one gave way.
    RaceLost,
    /// What is to be remembered of a first fragment found no way.
    NoFragmentWay,
}

impl Event {
    /// All events, in the order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::NoWay,
        Self::Evicted,
        Self::NoTemplateWay,
        Self::RaceLost,
        Self::NoFragmentWay,
    ];

    /// The value of the metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoWay => "no_way",
            Self::Evicted => "evicted",
            Self::NoTemplateWay => "no_template_way",
            Self::RaceLost => "race_lost",
            Self::NoFragmentWay => "no_fragment_way",
        }
    }
}

/// Slots of the per-CPU event counters.
pub const EVENT_SLOTS: usize = 16;

/// All counters of one CPU that are not per service or backend.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Counters {
    /// Packets by [`Reason`].
    pub reasons: [u64; REASON_SLOTS],
    /// Occurrences by [`Event`].
    pub events: [u64; EVENT_SLOTS],
}
crate::pod::pod!(Counters);

impl Default for Counters {
    fn default() -> Self {
        Self {
            reasons: [0; REASON_SLOTS],
            events: [0; EVENT_SLOTS],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions_and_names_are_unique() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            let same = Reason::ALL.iter().filter(|r| r.name() == reason.name());
            assert_eq!(same.count(), 1, "{}", reason.name());
        }
        for (at, event) in Event::ALL.iter().enumerate() {
            assert_eq!(*event as usize, at);
        }
    }
}
