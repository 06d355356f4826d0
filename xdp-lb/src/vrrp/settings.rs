//! What the configuration says about one virtual router.
//!
//! A later step fills these from the file; the values here are what is meant, not what was written:
//! version 2 intervals are rounded to seconds, passwords cut to eight bytes, `state` has done its work
//! on `preempt` (it has no other effect: a router starts as BACKUP unless it owns the addresses).

use std::net::IpAddr;
use std::time::Duration;

use super::packet::hmac;
use super::priority::Tracker;
use super::timing::DOWN_TIMER_ADVERTS;
use super::{Interval, Priority, Version, Vrid};

/// One `vrrp_instance`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a keyword of the file that is there or not"
)]
pub struct Settings {
    /// The name of the `vrrp_instance`.
    pub name: String,
    /// `interface`: where its VRID counts, and whose failure is a fault.
    pub interface: String,
    /// `version` or `vrrp_version`; IPv6 is always version 3.
    pub version: Version,
    /// `virtual_router_id`.
    pub vrid: Vrid,
    /// `priority`: 1 to 255, before trackers.
    pub priority: Priority,
    /// Where adverts leave from, which breaks ties: `unicast_src_ip`, `mcast_src_ip` or the first
    /// address of the interface. Its family is the router's. Unspecified: there is none, a fault.
    pub source: IpAddr,
    /// `advert_int`.
    pub interval: Interval,
    /// `authentication`; version 3 has none.
    pub auth: Auth,
    /// `auth_hmac`.
    pub hmac: Option<hmac::Settings>,
    /// Multicast, or `unicast_peer`.
    pub transport: Transport,
    /// `virtual_ipaddress` of the router's family, in the order of the file, as they stand in
    /// adverts. What else moves with the router (`virtual_ipaddress_excluded`, routes, rules) is not
    /// the machine's concern.
    pub addresses: Vec<IpAddr>,
    /// A better router takes over from a worse one that is master: not `nopreempt`.
    pub preempt: bool,
    /// `preempt_delay`: how long a better router leaves a worse master alone.
    pub preempt_delay: Duration,
    /// `vrrp_startup_delay`: how long the router stays in INIT after the start.
    pub startup_delay: Duration,
    /// `down_timer_adverts`: how many adverts are missed before a backup takes over.
    pub down_timer_adverts: u8,
    /// `garp_*`.
    pub garp: Garp,
    /// A master that meets a better one sends one last advert before it steps down, upon which the
    /// better one announces itself again. keepalived's `vrrp_higher_prio_send_advert` is off unless
    /// written; this is on unless written, for without it clients may keep the loser's MAC.
    pub higher_prio_send_advert: bool,
    /// `lower_prio_no_advert`: a master does not answer the adverts of a worse one. It announces
    /// itself nevertheless.
    pub lower_prio_no_advert: bool,
    /// `owner_ignore_adverts`: the owner (priority 255) does not listen to adverts.
    pub owner_ignore_adverts: bool,
    /// `skip_check_adv_addr`: the addresses in a repeated advert of the same master are not compared.
    pub skip_check_adv_addr: bool,
    /// `v3_checksum_as_v2`: send IPv4 adverts of version 3 with a checksum that leaves out the
    /// pseudo-header. Both forms are accepted.
    pub v3_checksum_as_v2: bool,
    /// `dont_track_primary`: that its own interface is down is no fault.
    pub dont_track_primary: bool,
    /// `track_interface`, `track_script`, `track_file`, `track_process`; a sync group's, too.
    pub trackers: Vec<Tracker>,
}

/// `authentication` of version 2 (RFC 2338 section 5.3.6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// None: type 0 and eight zero bytes.
    None,
    /// `auth_type PASS`: the password, padded with zeros.
    Pass([u8; 8]),
}

impl Auth {
    /// The type on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Pass(_) => 1,
        }
    }

    /// The eight bytes on the wire.
    pub const fn data(self) -> [u8; 8] {
        match self {
            Self::None => [0; 8],
            Self::Pass(password) => password,
        }
    }

    /// `auth_pass`: what is beyond eight bytes is not used.
    pub fn password(text: &[u8]) -> Self {
        let mut password = [0; 8];
        for (to, from) in password.iter_mut().zip(text) {
            *to = *from;
        }
        Self::Pass(password)
    }
}

impl std::fmt::Debug for Auth {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Pass(_) => "Pass(…)",
        })
    }
}

/// How adverts travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To a group: 224.0.0.18 or `ff02::12` unless the file says otherwise.
    Multicast {
        /// `mcast_dst_ip`, `vrrp_mcast_group4`, `vrrp_mcast_group6`.
        group: IpAddr,
    },
    /// To each peer.
    Unicast {
        /// `unicast_peer`.
        peers: Vec<Peer>,
        /// `check_unicast_src`: adverts of others than the peers are refused.
        check_source: bool,
    },
}

/// One line of `unicast_peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// `min_ttl`: the lowest TTL or hop limit on arrival, 0 unless written.
    pub min_ttl: u8,
    /// `max_ttl`: the highest, 255 unless written.
    pub max_ttl: u8,
}

impl Peer {
    /// A peer however far away.
    pub const fn new(address: IpAddr) -> Self {
        Self {
            address,
            min_ttl: 0,
            max_ttl: u8::MAX,
        }
    }
}

/// When a master announces its addresses: gratuitous ARP, unsolicited neighbour advertisements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garp {
    /// `garp_master_repeat`: frames per address in a burst.
    pub repeat: u8,
    /// `garp_master_delay`: when the second burst follows; zero: never.
    pub delay: Duration,
    /// `garp_master_refresh`: how often to announce again while master; zero: never.
    pub refresh: Duration,
    /// `garp_master_refresh_repeat`: frames per address each time.
    pub refresh_repeat: u8,
    /// `garp_lower_prio_repeat`: frames per address after a worse master was heard.
    pub lower_prio_repeat: u8,
    /// `garp_lower_prio_delay`: when the second burst of that follows; zero: never.
    pub lower_prio_delay: Duration,
    /// `garp_interval`, `gna_interval`: the gap between two frames, which whoever sends them keeps.
    pub gap: Duration,
}

impl Garp {
    /// What keepalived does unless told otherwise: five at once, five after five seconds.
    pub const KEEPALIVED: Self = Self {
        repeat: 5,
        delay: Duration::from_secs(5),
        refresh: Duration::ZERO,
        refresh_repeat: 1,
        lower_prio_repeat: 5,
        lower_prio_delay: Duration::from_secs(5),
        gap: Duration::ZERO,
    };
    /// `vrrp_min_garp`: one frame, once.
    pub const MINIMAL: Self = Self {
        repeat: 1,
        delay: Duration::ZERO,
        refresh: Duration::ZERO,
        refresh_repeat: 1,
        lower_prio_repeat: 1,
        lower_prio_delay: Duration::ZERO,
        gap: Duration::ZERO,
    };
}

impl Settings {
    /// keepalived's defaults for everything that has one.
    pub fn new(name: &str, vrid: Vrid, source: IpAddr, addresses: Vec<IpAddr>) -> Self {
        let (version, group) = match source {
            IpAddr::V4(_) => (Version::V2, IpAddr::from([224, 0, 0, 18])),
            IpAddr::V6(_) => (Version::V3, IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 0x12])),
        };
        Self {
            name: name.to_owned(),
            interface: "eth0".to_owned(),
            version,
            vrid,
            priority: Priority::from_wire(100),
            source,
            interval: Interval(100),
            auth: Auth::None,
            hmac: None,
            transport: Transport::Multicast { group },
            addresses,
            preempt: true,
            preempt_delay: Duration::ZERO,
            startup_delay: Duration::ZERO,
            down_timer_adverts: DOWN_TIMER_ADVERTS,
            garp: Garp::KEEPALIVED,
            higher_prio_send_advert: true,
            lower_prio_no_advert: false,
            owner_ignore_adverts: false,
            skip_check_adv_addr: false,
            v3_checksum_as_v2: false,
            dont_track_primary: false,
            trackers: Vec::new(),
        }
    }

    /// Where an advert goes.
    pub fn destinations(&self) -> Vec<IpAddr> {
        match &self.transport {
            Transport::Multicast { group } => vec![*group],
            Transport::Unicast { peers, .. } => peers.iter().map(|peer| peer.address).collect(),
        }
    }
}
