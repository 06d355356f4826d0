//! Tables and packets in few words: one VIP, real servers by number, clients by number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use xdp_lb::config::model::{
    ConnectionLimit, Endpoint, Family, Mark, Persistence, Protocol, Scheduler, ServiceKey,
};
use xdp_lb::plan::desired::{Desired, Method, Port, Reach, Server, Service};
use xdp_lb_common::addr::Mac;
use xdp_lb_tests::packet::{Packet, Transport};

/// The VIP of all services.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 200);

/// Index of the interface that frames come in by.
pub(crate) const PORT: u32 = 11;
/// Index of another one. The two begin at one slot of the table of interfaces.
pub(crate) const OTHER_PORT: u32 = PORT + xdp_lb_common::limits::MAX_PORTS;

/// MAC of [`PORT`].
pub(crate) const PORT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC of [`OTHER_PORT`].
pub(crate) const OTHER_PORT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// MAC that all clients' frames come from: a router's.
pub(crate) const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// MAC of real server `n`.
pub(crate) const fn server_mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, n]
}

/// Address of real server `n`.
pub(crate) const fn server_ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 1, n)
}

/// A virtual service on the VIP.
#[derive(Clone)]
pub(crate) struct Virtual {
    /// What names it.
    pub key: ServiceKey,
    /// What it is.
    pub service: Service,
}

/// The TCP service of a port.
pub(crate) const fn tcp(port: u16) -> Virtual {
    virtual_service(port, Protocol::Tcp)
}

/// The UDP service of a port.
pub(crate) const fn udp(port: u16) -> Virtual {
    virtual_service(port, Protocol::Udp)
}

const fn virtual_service(port: u16, protocol: Protocol) -> Virtual {
    Virtual {
        key: ServiceKey::Endpoint(endpoint(port, protocol)),
        service: Service {
            active: true,
            lease: None,
            scheduler: Scheduler::RoundRobin,
            persistence: None,
            one_packet: false,
            servers: Vec::new(),
            peers: BTreeMap::new(),
            virtual_mac: None,
            entrances: BTreeSet::new(),
        },
    }
}

/// A port of the VIP.
pub(crate) const fn endpoint(port: u16, protocol: Protocol) -> Endpoint {
    Endpoint {
        vip: IpAddr::V4(VIP),
        port,
        protocol,
    }
}

/// The service of a firewall mark, which these have.
pub(crate) fn marked(mark: u32, entrances: &[Endpoint]) -> Virtual {
    let family = Family::V4;
    let mut made = tcp(0);
    made.key = ServiceKey::Mark(Mark { mark, family });
    made.service.entrances = entrances.iter().copied().collect();
    made
}

impl Virtual {
    /// Round robin over servers 1 to `count`, added in this order.
    pub(crate) fn rr(mut self, count: u8) -> Self {
        self.service.scheduler = Scheduler::RoundRobin;
        (1..=count).fold(self, |made, n| made.add(n, 1))
    }

    /// Weighted round robin over servers 1, 2, … of these weights, added in this order.
    pub(crate) fn wrr(mut self, weights: &[u32]) -> Self {
        self.service.scheduler = Scheduler::WeightedRoundRobin;
        (1..)
            .zip(weights)
            .fold(self, |made, (n, weight)| made.add(n, *weight))
    }

    /// Another scheduler, over the servers there are.
    pub(crate) const fn by(mut self, scheduler: Scheduler) -> Self {
        self.service.scheduler = scheduler;
        self
    }

    /// Each datagram is scheduled by itself.
    pub(crate) const fn one_packet(mut self) -> Self {
        self.service.one_packet = true;
        self
    }

    /// Server `n` takes so many connections, and again at so few.
    pub(crate) fn limit(self, n: u8, upper: u32, lower: u32) -> Self {
        let upper = upper.try_into().unwrap();
        let limit = Some(ConnectionLimit { upper, lower });
        self.edit(n, |server| server.limit = limit)
    }

    /// Adds server `n` as keepalived does: at the head of the list.
    pub(crate) fn add(mut self, n: u8, weight: u32) -> Self {
        let server = Server {
            address: SocketAddr::from((server_ip(n), self.key.port())),
            weight,
            limit: None,
            serving: true,
            releases_clients: false,
            method: Method::Direct,
            reach: Some(direct(n, PORT)),
        };
        self.service.servers.insert(0, server);
        self
    }

    /// Takes server `n` out of the file.
    pub(crate) fn remove(mut self, n: u8) -> Self {
        self.service
            .servers
            .retain(|s| s.address.ip() != server_ip(n));
        self
    }

    /// Clients send to this MAC for its VIP.
    pub(crate) fn virtual_mac(mut self, mac: [u8; 6]) -> Self {
        self.service.virtual_mac = Some(Mac::from_octets(mac));
        self
    }

    /// Gives server `n` another weight.
    pub(crate) fn weigh(self, n: u8, weight: u32) -> Self {
        self.edit(n, |server| server.weight = weight)
    }

    /// The checks of server `n` fail.
    pub(crate) fn fail(self, n: u8) -> Self {
        self.edit(n, |server| server.serving = false)
    }

    /// A server keeps its flows, and its templates are void.
    pub(crate) fn release(self, n: u8) -> Self {
        self.edit(n, |server| server.releases_clients = true)
    }

    /// Server `n` came back: it is added anew.
    pub(crate) fn recover(self, n: u8) -> Self {
        let weight = self.server(n).weight;
        self.remove(n).add(n, weight)
    }

    /// Server `n` is the director itself.
    pub(crate) fn local(self, n: u8) -> Self {
        self.edit(n, |server| server.reach = Some(Reach::Local))
    }

    /// Server `n` is behind [`OTHER_PORT`].
    pub(crate) fn elsewhere(self, n: u8) -> Self {
        self.edit(n, |server| server.reach = Some(direct(n, OTHER_PORT)))
    }

    /// Server `n` is behind the router that the clients are behind.
    pub(crate) fn behind_router(self, n: u8) -> Self {
        let reach = Reach::Direct {
            ifindex: PORT,
            source_mac: Mac::from_octets(PORT_MAC),
            mac: Mac::from_octets(ROUTER_MAC),
            on_link: false,
        };
        self.edit(n, |server| server.reach = Some(reach))
    }

    /// Nobody knows the MAC of server `n`.
    pub(crate) fn unresolved(self, n: u8) -> Self {
        self.edit(n, |server| server.reach = None)
    }

    /// Clients of one prefix stick to a server for this long.
    pub(crate) const fn persistent(mut self, seconds: u64, prefix_len: u8) -> Self {
        self.service.persistence = Some(Persistence {
            timeout: Duration::from_secs(seconds),
            prefix_len,
        });
        self
    }

    /// Its gate closes so long after the last heartbeat.
    pub(crate) const fn leased(mut self, lease: Duration) -> Self {
        self.service.lease = Some(lease);
        self
    }

    /// Another director has the MAC and the address of server `n`.
    pub(crate) fn peer(mut self, n: u8) -> Self {
        let peers = &mut self.service.peers;
        peers.insert(server_ip(n).into(), Mac::from_octets(server_mac(n)));
        self
    }

    /// Another director owns the VIP.
    pub(crate) const fn inactive(mut self) -> Self {
        self.service.active = false;
        self
    }

    fn edit(mut self, n: u8, change: impl FnOnce(&mut Server)) -> Self {
        let mut servers = self.service.servers.iter_mut();
        change(servers.find(|s| s.address.ip() == server_ip(n)).unwrap());
        self
    }

    fn server(&self, n: u8) -> &Server {
        let mut servers = self.service.servers.iter();
        servers.find(|s| s.address.ip() == server_ip(n)).unwrap()
    }
}

/// The way to server `n`, on the link of a port.
pub(crate) fn direct(n: u8, port: u32) -> Reach {
    Reach::Direct {
        ifindex: port,
        source_mac: Mac::from_octets(if port == PORT {
            PORT_MAC
        } else {
            OTHER_PORT_MAC
        }),
        mac: Mac::from_octets(server_mac(n)),
        on_link: true,
    }
}

/// Tables with these services, and both ports.
pub(crate) fn tables<const N: usize>(services: [Virtual; N]) -> Desired {
    let ports = [(PORT, PORT_MAC), (OTHER_PORT, OTHER_PORT_MAC)].map(|(index, mac)| {
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
    Desired {
        belongings: Vec::new(),
        ports: ports.into(),
        services: services.map(|made| (made.key, made.service)).into(),
        addresses: [].into(),
    }
}

/// Address of client `n`.
pub(crate) fn client_ip(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 0, 0).to_bits() + n)
}

/// A packet of client `n`, port 40,000, to port 80 of the VIP.
pub(crate) fn from_client(n: u32, transport: Transport) -> Packet {
    let client = SocketAddrV4::new(client_ip(n), 40_000);
    let vip = SocketAddrV4::new(VIP, 80);
    Packet::new((ROUTER_MAC, client), (PORT_MAC, vip), transport)
}

/// Words for a packet.
pub(crate) trait Words {
    /// From this port of the client.
    fn port(self, port: u16) -> Self;
    /// To this port of the VIP.
    fn to_port(self, port: u16) -> Self;
    /// From this address.
    fn source_ip(self, ip: Ipv4Addr) -> Self;
    /// To this address.
    fn to_ip(self, ip: Ipv4Addr) -> Self;
    /// From this MAC.
    fn source_mac(self, mac: [u8; 6]) -> Self;
    /// To this MAC.
    fn to_mac(self, mac: [u8; 6]) -> Self;
    /// With this TTL.
    fn ttl(self, ttl: u8) -> Self;
    /// With these IP options.
    fn options(self, options: &[u8]) -> Self;
    /// A fragment.
    fn fragment(self, offset: u16, more: bool) -> Self;
    /// Routers may fragment it.
    fn may_fragment(self) -> Self;
    /// With this payload.
    fn payload(self, payload: &[u8]) -> Self;
}

impl Words for Packet {
    fn port(mut self, port: u16) -> Self {
        self.from.set_port(port);
        self
    }

    fn to_port(mut self, port: u16) -> Self {
        self.to.set_port(port);
        self
    }

    fn source_ip(mut self, ip: Ipv4Addr) -> Self {
        self.from.set_ip(ip);
        self
    }

    fn to_ip(mut self, ip: Ipv4Addr) -> Self {
        self.to.set_ip(ip);
        self
    }

    fn source_mac(mut self, mac: [u8; 6]) -> Self {
        self.source = mac;
        self
    }

    fn to_mac(mut self, mac: [u8; 6]) -> Self {
        self.destination = mac;
        self
    }

    fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    fn options(mut self, options: &[u8]) -> Self {
        options.clone_into(&mut self.options);
        self
    }

    fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = (offset, more);
        self
    }

    fn may_fragment(mut self) -> Self {
        self.dont_fragment = false;
        self
    }

    fn payload(mut self, payload: &[u8]) -> Self {
        payload.clone_into(&mut self.payload);
        self
    }
}

/// A SYN of client `n`.
pub(crate) fn syn(n: u32) -> Packet {
    from_client(n, Transport::Tcp(xdp_lb_tests::packet::flags::SYN))
}

/// An ACK of client `n`.
pub(crate) fn ack(n: u32) -> Packet {
    from_client(n, Transport::Tcp(xdp_lb_tests::packet::flags::ACK))
}

/// A datagram of client `n`.
pub(crate) fn datagram(n: u32) -> Packet {
    from_client(n, Transport::Udp)
}
