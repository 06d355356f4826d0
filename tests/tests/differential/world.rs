//! Tables by chance, and their changes: a few services over a few servers, as a fixture holds them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xdp_lb::config::model::{
    Endpoint, Family, Hashing, Mark, Persistence, Protocol, Scheduler, ServiceKey,
};
use xdp_lb::plan::desired::{Desired, Port, Service, Vlan};
use xdp_lb_common::addr::Mac;
use xdp_lb_common::tick::Clock;
use xdp_lb_common::vlan::Tags;

use crate::case::Style;
use crate::dice::Dice;
use crate::frames::{FAR, NEAR, NETWORKS, host_mac, mtu, port_mac, virtual_mac};
use crate::servers::{Kind, Real, limit, some_limit, way, weight};

/// All services.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct World {
    pub services: Vec<Virtual>,
}

/// A virtual service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Virtual {
    pub vip: IpAddr,
    pub port: u16,
    pub udp: bool,
    /// Its packets have a firewall mark, and so have those to two other ports.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marked: bool,
    pub active: bool,
    /// Ticks.
    pub lease: Option<u32>,
    pub scheduler: Plan,
    /// Ticks and prefix length.
    pub persistence: Option<(u32, u8)>,
    pub one_packet: bool,
    pub own_mac: bool,
    /// Other directors.
    pub peers: Vec<u8>,
    /// The last added first.
    pub servers: Vec<Real>,
}

/// A scheduler by name and flags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub name: String,
    #[serde(default)]
    pub port: bool,
    #[serde(default)]
    pub fallback: bool,
}

const NAMES: [&str; 14] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "sed", "nq", "fo", "ovf", "twos",
];

/// VIPs: two of IPv4, one of IPv6.
pub(crate) const VIPS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(192, 168, 1, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 1, 201)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x200)),
];

/// Address of server `n` in the family of a VIP.
pub(crate) const fn host_ip(vip: IpAddr, n: u8) -> IpAddr {
    match vip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 168, 1, n)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n as u16)),
    }
}

pub(crate) fn one_of<T: Clone>(dice: &mut Dice, of: &[T]) -> T {
    of[usize::try_from(dice.roll(of.len() as u64)).unwrap()].clone()
}

pub(crate) fn chance(dice: &mut Dice, percent: u64) -> bool {
    dice.roll(100) < percent
}

impl World {
    /// Some services.
    pub(crate) fn random(dice: &mut Dice, style: Style) -> Self {
        let count = match style {
            Style::Scheduling => 1,
            Style::Flood => 1 + dice.roll(2),
            Style::Mixed | Style::Tidy => 1 + dice.roll(4),
        };
        let mut world = Self {
            services: Vec::new(),
        };
        for _ in 0..count {
            world.add(Virtual::random(dice, style));
        }
        world
    }

    /// Adds a service, unless there is one of that name.
    fn add(&mut self, new: Virtual) {
        if self.services.iter().all(|known| known.key() != new.key()) {
            self.services.push(new);
        }
    }

    /// One thing becomes different.
    pub(crate) fn change(&mut self, dice: &mut Dice, style: Style) {
        let services = self.services.len() as u64;
        match dice.roll(12) {
            0 if style == Style::Mixed => self.add(Virtual::random(dice, style)),
            1 if style == Style::Mixed && services > 1 => {
                let at = usize::try_from(dice.roll(services)).unwrap();
                self.services.remove(at);
            }
            _ => {
                let at = usize::try_from(dice.roll(services)).unwrap();
                self.services[at].change(dice, style);
            }
        }
    }

    /// As the data planes are told.
    pub(crate) fn desired(&self, clock: Clock) -> Desired {
        let ports = [NEAR, FAR].map(|port| {
            let mac = Mac::from_octets(port_mac(port));
            let mtu = mtu(port);
            let vlan = None;
            (port, Port { mac, mtu, vlan })
        });
        let mut ports = BTreeMap::from(ports);
        for (ifindex, parent, tags) in NETWORKS {
            let tags = tags.iter().fold(Tags::NONE, |tags, (ethertype, number)| {
                tags.then(*ethertype, *number).unwrap()
            });
            let port = Port {
                mac: Mac::from_octets(port_mac(ifindex)),
                mtu: mtu(parent),
                vlan: Some(Vlan { parent, tags }),
            };
            ports.insert(ifindex, port);
        }
        Desired {
            ports,
            services: self
                .services
                .iter()
                .map(|made| (made.key(), made.service(clock)))
                .collect(),
            ..Desired::default()
        }
    }
}

impl Virtual {
    fn random(dice: &mut Dice, style: Style) -> Self {
        let vip = one_of(dice, &VIPS);
        let udp = chance(dice, 35);
        let mut made = Self {
            vip,
            port: one_of(dice, &[80, 80, 443, 0]),
            udp,
            marked: style != Style::Flood && chance(dice, 20),
            active: chance(dice, 92),
            lease: chance(dice, 20).then(|| some_lease(dice)),
            scheduler: Plan::random(dice),
            persistence: None,
            one_packet: udp && chance(dice, 15),
            own_mac: chance(dice, 15),
            peers: if chance(dice, 20) {
                vec![7]
            } else {
                Vec::new()
            },
            servers: Vec::new(),
        };
        if style == Style::Scheduling {
            (made.active, made.lease, made.one_packet) = (true, None, false);
        }
        if style == Style::Flood {
            (made.active, made.lease) = (true, None);
        }
        let sticky = match style {
            Style::Scheduling => 10,
            Style::Mixed | Style::Tidy => 40,
            Style::Flood => 60,
        };
        if chance(dice, sticky) {
            made.persistence = Some(made.stickiness(dice, style));
        }
        let all_limited = chance(dice, 15);
        // The fewer there are, the more often an answer comes from the right one.
        let all_translated = style != Style::Scheduling && chance(dice, 25);
        let servers: &[u8] = if all_translated {
            &[1, 1, 2, 3]
        } else {
            &[0, 1, 2, 2, 3, 3, 4, 5, 6]
        };
        for n in 1..=one_of(dice, servers) {
            let mut server = Real::random(dice, style, n);
            if all_translated {
                let own_port = chance(dice, 60);
                server.kind = Kind::Nat { own_port };
            }
            if all_limited {
                server.limit = Some(some_limit(dice));
            }
            made.servers.insert(0, server);
        }
        made
    }

    fn stickiness(&self, dice: &mut Dice, style: Style) -> (u32, u8) {
        let prefixes: &[u8] = match self.vip {
            IpAddr::V4(_) => &[32, 32, 24, 30, 8, 0],
            IpAddr::V6(_) => &[128, 128, 64, 120, 33, 0],
        };
        if style == Style::Flood && chance(dice, 70) {
            return (1000, prefixes[0]);
        }
        (one_of(dice, &[1, 20, 50, 300]), one_of(dice, prefixes))
    }

    fn change(&mut self, dice: &mut Dice, style: Style) {
        let is_calm = matches!(style, Style::Scheduling | Style::Flood);
        match dice.roll(12) {
            0 if !is_calm => self.active = !self.active,
            1 if !is_calm => self.lease = chance(dice, 50).then(|| some_lease(dice)),
            2 => self.scheduler = Plan::random(dice),
            3 if !is_calm => {
                let some = chance(dice, 70).then(|| self.stickiness(dice, style));
                self.persistence = some;
            }
            4 if !is_calm => self.own_mac = !self.own_mac,
            5 if !is_calm && self.udp => self.one_packet = !self.one_packet,
            0..7 => self.add_or_remove(dice, style),
            _ => self.change_server(dice, style),
        }
    }

    fn add_or_remove(&mut self, dice: &mut Dice, style: Style) {
        let n = u8::try_from(1 + dice.roll(6)).unwrap();
        match self.servers.iter().position(|server| server.n == n) {
            Some(at) => {
                self.servers.remove(at);
            }
            None => self.servers.insert(0, Real::random(dice, style, n)),
        }
    }

    fn change_server(&mut self, dice: &mut Dice, style: Style) {
        if self.servers.is_empty() {
            return self.add_or_remove(dice, style);
        }
        let at = usize::try_from(dice.roll(self.servers.len() as u64)).unwrap();
        let mut server = self.servers.remove(at);
        let before = server.serving;
        match dice.roll(9) {
            0..3 => server.weight = weight(dice),
            3 => server.limit = limit(dice),
            4 | 5 => server.serving = !server.serving,
            6 => server.releases = !server.releases,
            7 => server.kind = Kind::random(dice),
            _ => server.way = way(dice),
        }
        // A server that recovered is added anew.
        let place = if server.serving && !before { 0 } else { at };
        self.servers.insert(place, server);
    }

    /// What names it.
    pub(crate) fn key(&self) -> ServiceKey {
        if !self.marked {
            return ServiceKey::Endpoint(self.endpoint(self.port, self.udp));
        }
        let vip = VIPS.iter().position(|vip| *vip == self.vip).unwrap();
        ServiceKey::Mark(Mark {
            mark: u32::try_from(vip << 20).unwrap() | u32::from(self.other_port()),
            family: Family::of(self.vip),
        })
    }

    /// A port that packets of the mark go to, and of no other mark.
    pub(crate) fn other_port(&self) -> u16 {
        1000 + self.port + u16::from(self.udp)
    }

    const fn endpoint(&self, port: u16, udp: bool) -> Endpoint {
        Endpoint {
            vip: self.vip,
            port,
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        }
    }

    /// What the mark is on.
    fn entrances(&self) -> BTreeSet<Endpoint> {
        if !self.marked {
            return BTreeSet::new();
        }
        let other = self.other_port();
        [
            self.endpoint(self.port, self.udp),
            self.endpoint(other, false),
            self.endpoint(other, true),
        ]
        .into()
    }

    /// Whether chance picks the server: then the MAC must show which, or the connection that is made.
    pub(crate) fn plays(&self) -> bool {
        self.scheduler.name == "twos"
    }

    fn service(&self, clock: Clock) -> Service {
        let time = |ticks| Duration::from_secs(clock.seconds(ticks).into());
        Service {
            active: self.active,
            lease: self.lease.map(time),
            scheduler: self.scheduler.scheduler(),
            persistence: self.persistence.map(|(ticks, prefix_len)| Persistence {
                timeout: time(ticks),
                prefix_len,
            }),
            entrances: self.entrances(),
            one_packet: self.one_packet && !self.plays(),
            servers: self
                .servers
                .iter()
                .map(|server| server.server(self))
                .collect(),
            peers: self
                .peers
                .iter()
                .map(|n| (host_ip(self.vip, *n), Mac::from_octets(host_mac(*n))))
                .collect(),
            virtual_mac: self.own_mac.then(|| Mac::from_octets(virtual_mac())),
        }
    }
}

fn some_lease(dice: &mut Dice) -> u32 {
    5 + u32::try_from(dice.roll(20)).unwrap()
}

impl Plan {
    fn random(dice: &mut Dice) -> Self {
        Self {
            name: one_of(dice, &NAMES).to_owned(),
            port: chance(dice, 50),
            fallback: chance(dice, 50),
        }
    }

    fn scheduler(&self) -> Scheduler {
        let hashing = Hashing {
            port: self.port,
            fallback: self.fallback,
        };
        match self.name.as_str() {
            "rr" => Scheduler::RoundRobin,
            "wrr" => Scheduler::WeightedRoundRobin,
            "lc" => Scheduler::LeastConnections,
            "wlc" => Scheduler::WeightedLeastConnections,
            "lblc" => Scheduler::LocalityBased,
            "lblcr" => Scheduler::LocalityBasedReplicated,
            "sh" => Scheduler::SourceHash(hashing),
            "mh" => Scheduler::Maglev(hashing),
            "dh" => Scheduler::DestinationHash,
            "sed" => Scheduler::ShortestDelay,
            "nq" => Scheduler::NeverQueue,
            "fo" => Scheduler::FailOver,
            "ovf" => Scheduler::Overflow,
            "twos" => Scheduler::TwoChoices,
            other => panic!("no scheduler {other}"),
        }
    }
}
