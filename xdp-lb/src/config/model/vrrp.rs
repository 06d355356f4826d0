//! VRRP: instances, and how they meet other directors.
//!
//! What `global_defs` sets for every instance is filled in, and names of tracked objects and of
//! members exist: whoever reads an instance looks nowhere else.

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use super::{
    Authentication, Family, Garp, HmacKeys, Notify, OwnRoute, OwnRule, Trackers, VirtualAddress,
    VirtualInterface,
};

/// A `vrrp_instance`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VrrpInstance {
    /// Its name.
    pub name: String,
    /// `state`: the state it wishes to start in.
    pub initial_state: InitialState,
    /// `interface`.
    pub interface: String,
    /// `virtual_router_id`, 1 to 255.
    pub virtual_router_id: u8,
    /// `priority`, 1 to 255; 100 by default.
    pub priority: u8,
    /// `virtual_ipaddress`, in the order of the file; all of the instance's family.
    pub virtual_addresses: Vec<VirtualAddress>,
    /// `virtual_ipaddress_excluded`: owned with the others and not advertised; of either family.
    pub excluded_addresses: Vec<VirtualAddress>,
    /// `virtual_routes`: the master's.
    pub routes: Vec<OwnRoute>,
    /// `virtual_rules`: the master's.
    pub rules: Vec<OwnRule>,
    /// Family of its adverts.
    pub family: Family,
    /// `version`, with `advert_int` and what else only that version has.
    pub version: Version,
    /// `auth_hmac`.
    pub hmac: Option<HmacKeys>,
    /// How adverts travel.
    pub transport: Transport,
    /// `unicast_src_ip` or `mcast_src_ip`: source of the adverts, of the instance's family; by default
    /// the first address of the interface.
    pub source: Option<IpAddr>,
    /// `track_src_ip`: a missing source address is a fault.
    pub track_source: bool,
    /// `nopreempt`, `preempt_delay`.
    pub preemption: Preemption,
    /// `down_timer_adverts`: adverts that are missed before it takes over, 1 to 100; 3 by default.
    pub down_timer_adverts: u8,
    /// `garp_…`: how addresses are made known.
    pub garp: Garp,
    /// `lower_prio_no_advert`: a master does not answer adverts of a lower priority.
    pub lower_prio_no_advert: bool,
    /// `higher_prio_send_advert`: a master sends a last advert when it hears a higher priority; `None`
    /// when the file does not say.
    pub higher_prio_send_advert: Option<bool>,
    /// `owner_ignore_adverts`: with priority 255 it does not listen to adverts.
    pub owner_ignore_adverts: bool,
    /// `timer_expired_backup`: a master that was scheduled too late yields.
    pub timer_expired_backup: bool,
    /// `strict_mode` or `vrrp_strict`. What it switches off is off in the other fields already.
    pub strict: bool,
    /// `skip_check_adv_addr`: addresses in repeated adverts of the same master are not compared.
    pub skip_check_adv_addr: bool,
    /// Not `no_accept`: the master takes packets to its addresses. The owner always does.
    pub accept: bool,
    /// `use_vmac`, `use_ipvlan`: the interface that addresses stand on and adverts leave by.
    pub virtual_interface: Option<VirtualInterface>,
    /// `use_vmac_addr`: addresses on other interfaces get a VMAC, too.
    pub vmac_addresses: bool,
    /// `kernel_rx_buf_size`: receive buffer of the socket, bytes.
    pub receive_buffer: Option<u32>,
    /// `promote_secondaries`: other addresses of a network stay when the first one goes.
    pub promote_secondaries: bool,
    /// `dont_track_primary`: its own interface may be down.
    pub ignore_own_interface: bool,
    /// `track_…`.
    pub trackers: Trackers,
    /// `notify_…`, `smtp_alert`.
    pub notify: Notify,
}

impl VrrpInstance {
    /// An IPv4 instance that says nothing else, as keepalived fills it in.
    pub fn new(name: &str, interface: &str, virtual_router_id: NonZeroU8) -> Self {
        Self {
            name: name.to_owned(),
            initial_state: InitialState::Backup,
            interface: interface.to_owned(),
            virtual_router_id: virtual_router_id.get(),
            priority: Self::DEFAULT_PRIORITY,
            virtual_addresses: Vec::new(),
            excluded_addresses: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            family: Family::V4,
            version: Version::V2 {
                advert_interval: Seconds::ONE,
                authentication: None,
            },
            hmac: None,
            transport: Transport::Multicast {
                group: Family::V4.group(),
            },
            source: None,
            track_source: false,
            preemption: Preemption::default(),
            down_timer_adverts: 3,
            garp: Garp::default(),
            lower_prio_no_advert: false,
            higher_prio_send_advert: None,
            owner_ignore_adverts: false,
            timer_expired_backup: false,
            strict: false,
            skip_check_adv_addr: false,
            accept: true,
            virtual_interface: None,
            vmac_addresses: false,
            receive_buffer: None,
            promote_secondaries: false,
            ignore_own_interface: false,
            trackers: Trackers::default(),
            notify: Notify::default(),
        }
    }

    /// `priority` when the file has none.
    pub const DEFAULT_PRIORITY: u8 = 100;
    /// The priority of the owner of the addresses (RFC 5798, 5.2.4).
    pub const OWNER_PRIORITY: u8 = 255;
}

/// `state` of a `vrrp_instance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// `MASTER`, also when the keyword is missing and the priority is 255.
    Master,
    /// `BACKUP`, also when the keyword is missing.
    Backup,
}

impl Family {
    /// The multicast group of VRRP (RFC 5798, 5.1.1.2 and 5.1.2.2).
    pub const fn group(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(std::net::Ipv4Addr::new(224, 0, 0, 18)),
            Self::V6 => IpAddr::V6(std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)),
        }
    }
}

/// Version of VRRP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// Version 2, IPv4 only.
    V2 {
        /// `advert_int`, 1 s by default.
        advert_interval: Seconds,
        /// `authentication`.
        authentication: Option<Authentication>,
    },
    /// Version 3.
    V3 {
        /// `advert_int`, 1 s by default.
        advert_interval: Centiseconds,
        /// `v3_checksum_as_v2`: adverts are sent with a checksum without pseudo header; IPv4 only.
        checksum_as_v2: bool,
    },
}

impl Version {
    /// 2 or 3.
    pub const fn number(&self) -> u8 {
        match self {
            Self::V2 { .. } => 2,
            Self::V3 { .. } => 3,
        }
    }

    /// `advert_int`, as it goes on the wire.
    pub fn advert_interval(&self) -> Duration {
        match self {
            Self::V2 {
                advert_interval, ..
            } => Duration::from_secs(u64::from(advert_interval.0.get())),
            Self::V3 {
                advert_interval, ..
            } => Duration::from_millis(10 * u64::from(advert_interval.0)),
        }
    }
}

/// An interval of version 2: 1 to 255 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub NonZeroU8);

impl Seconds {
    /// One second.
    pub const ONE: Self = Self(NonZeroU8::MIN);

    /// The nearest to `time`, a half rounds up; at least a second.
    pub fn nearest(time: Duration) -> Self {
        let seconds = (time.as_millis() + 500) / 1000;
        let seconds = u8::try_from(seconds).unwrap_or(u8::MAX);
        Self(NonZeroU8::new(seconds).unwrap_or(NonZeroU8::MIN))
    }
}

/// An interval of version 3: 0.01 to 40.95 s, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Centiseconds(u16);

impl Centiseconds {
    /// Twelve bits of the advert hold it (RFC 5798, 5.2.7).
    const LONGEST: u16 = 4095;
    /// One second.
    pub const SECOND: Self = Self(100);

    /// The nearest to `time` within the range, a half rounds up.
    pub fn nearest(time: Duration) -> Self {
        let hundredths = (time.as_millis() + 5) / 10;
        let hundredths = u16::try_from(hundredths).unwrap_or(u16::MAX);
        Self(hundredths.clamp(1, Self::LONGEST))
    }

    /// As it goes on the wire.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// How adverts travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To a group.
    Multicast {
        /// `mcast_dst_ip`, `vrrp_mcast_group4`, `vrrp_mcast_group6`; of the instance's family.
        group: IpAddr,
    },
    /// To each peer.
    Unicast {
        /// `unicast_peer`: one at least, all of the instance's family.
        peers: Vec<Peer>,
        /// `unicast_ttl`: TTL or hop limit of adverts sent, 255 by default.
        ttl: u8,
        /// `check_unicast_src`: adverts of others than the peers are refused.
        check_source: bool,
        /// `old_unicast_checksum`: `None` finds out whether a peer sends the checksum of keepalived
        /// 1.3; else whether it does.
        old_checksum: Option<bool>,
    },
    /// `unicast_fault_no_peer` without a peer: the instance stays in FAULT.
    NoPeer,
}

/// A line of `unicast_peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// `min_ttl`: lowest TTL or hop limit on arrival, 0 by default.
    pub min_ttl: u8,
    /// `max_ttl`: the highest, 255 by default.
    pub max_ttl: u8,
}

/// Whether and when it takes over from a master of lower priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// `nopreempt`. Only an instance that starts as BACKUP below priority 255 can have it.
    Never,
    /// `preempt_delay`: as long after it started or heard of that master; 0 by default, at most
    /// 1000 s.
    After(Duration),
}

impl Default for Preemption {
    fn default() -> Self {
        Self::After(Duration::ZERO)
    }
}
