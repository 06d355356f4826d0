//! What the model says by itself: the observations of a real IPVS, and the rules of
//! `docs/dataplane.md`, one by one.

mod kinds;
mod paths;
mod schedulers;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::PacketBuilder;
use xdp_lb_common::addr::Mac;
use xdp_lb_common::conn::state::Timeouts;
use xdp_lb_common::hash::HashKey;
use xdp_lb_common::reason::Reason;
use xdp_lb_common::tick::{Clock, LongTick};

use super::{Memory, Options, Verdict};
use crate::config::model::{Endpoint, Protocol, Scheduler, ServiceKey};
use crate::dataplane::Dataplane as _;
use crate::plan::desired::{Desired, Method, Port, Reach, Server, Service};
use crate::plan::diff::steps;
use crate::plan::installed::Installed;

const PORT: u32 = 3;
const OTHER_PORT: u32 = 4;
const PORT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 200);

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const FIN_ACK: u8 = 17;

/// Of the timeouts here, no two are the same.
const TIMEOUTS: Timeouts = Timeouts {
    syn: 60,
    established: 900,
    fin: 120,
    closed: 10,
    udp: 300,
    fragment: 30,
};

fn server_mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, n]
}

fn server_ip(n: u8) -> IpAddr {
    [192, 168, 1, n].into()
}

fn key(protocol: Protocol) -> ServiceKey {
    ServiceKey::Endpoint(Endpoint {
        vip: VIP.into(),
        port: 80,
        protocol,
    })
}

/// Server `n` on the link.
fn server(n: u8, weight: u32) -> Server {
    Server {
        address: SocketAddr::new(server_ip(n), 80),
        weight,
        limit: None,
        serving: true,
        releases_clients: false,
        method: Method::Direct,
        reach: Some(Reach::Direct {
            ifindex: PORT,
            source_mac: Mac::from_octets(PORT_MAC),
            mac: Mac::from_octets(server_mac(n)),
            on_link: true,
        }),
    }
}

/// Servers 1, 2, … of these weights, added in this order.
fn service(scheduler: Scheduler, weights: &[u32]) -> Service {
    let servers = (1..).zip(weights).map(|(n, weight)| server(n, *weight));
    let mut servers: Vec<_> = servers.collect();
    servers.reverse();
    Service {
        active: true,
        lease: None,
        scheduler,
        persistence: None,
        one_packet: false,
        servers,
        peers: [].into(),
        virtual_mac: None,
        entrances: [].into(),
    }
}

/// A model, its tables and the time.
struct Director {
    memory: Memory,
    installed: Installed,
    wanted: Desired,
    now: u32,
}

impl Director {
    /// With a TCP service and a UDP service that are set the same.
    fn new(service: &Service) -> Self {
        let options = Options {
            connections: 1024,
            templates: 1024,
            clock: Clock::new(250),
            timeouts: TIMEOUTS,
            key: HashKey { k0: 1, k1: 2 },
            empty_pool: xdp_lb_common::answer::empty_pool::UNREACHABLE,
        };
        let ports = [(PORT, PORT_MAC), (OTHER_PORT, PORT_MAC)].map(|(index, mac)| {
            let mac = Mac::from_octets(mac);
            (
                index,
                Port {
                    mac,
                    mtu: 1500,
                    vlan: None,
                },
            )
        });
        let now = u32::MAX - 100;
        let mut director = Self {
            memory: Memory::new(options, LongTick(now)),
            installed: Installed::default(),
            wanted: Desired {
                ports: ports.into(),
                ..Desired::default()
            },
            now,
        };
        director.set(service);
        director
    }

    fn set(&mut self, service: &Service) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            self.wanted.services.insert(key(protocol), service.clone());
        }
        for change in steps(&self.installed, &self.wanted) {
            self.memory.apply(&change).unwrap();
            self.installed.apply(&change);
        }
    }

    fn later(&mut self, ticks: u32) -> &mut Self {
        self.now = self.now.wrapping_add(ticks);
        self.memory.at(LongTick(self.now));
        self
    }

    fn frame(&mut self, frame: &[u8]) -> Verdict {
        self.memory.decide(frame, PORT, LongTick(self.now))
    }

    /// A packet's reason, and the server it goes to; 0 for none.
    fn send(&mut self, packet: Made) -> (Reason, u8) {
        let verdict = self.frame(&packet.bytes());
        let last = |traffic: super::Traffic| match traffic.server.1.ip() {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(_) => 0,
        };
        (verdict.reason, verdict.traffic.map_or(0, last))
    }

    /// The servers of new connections by TCP, one of each of these clients.
    fn connect(&mut self, clients: impl IntoIterator<Item = u16>) -> Vec<u8> {
        let clients = clients.into_iter();
        clients
            .map(|client| self.send(tcp(client, SYN)).1)
            .collect()
    }
}

/// A packet of a client.
#[derive(Clone, Copy)]
struct Made {
    client: u16,
    port: u16,
    /// `None` for UDP.
    flags: Option<u8>,
    ttl: u8,
}

const fn tcp(client: u16, flags: u8) -> Made {
    Made {
        client,
        port: 40_000,
        flags: Some(flags),
        ttl: 64,
    }
}

const fn udp(client: u16) -> Made {
    Made {
        client,
        port: 40_000,
        flags: None,
        ttl: 64,
    }
}

impl Made {
    const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    const fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    fn bytes(self) -> Vec<u8> {
        let [high, low] = self.client.to_be_bytes();
        let packet = PacketBuilder::ethernet2(ROUTER_MAC, PORT_MAC).ipv4(
            [10, 1, high, low],
            VIP.octets(),
            self.ttl,
        );
        let mut frame = Vec::new();
        match self.flags {
            Some(flags) => {
                packet
                    .tcp(self.port, 80, 1, 100)
                    .write(&mut frame, &[])
                    .unwrap();
                frame[14 + 20 + 13] = flags;
            }
            None => packet.udp(self.port, 80).write(&mut frame, &[]).unwrap(),
        }
        frame
    }
}
