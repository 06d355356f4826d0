//! Tunnels and address translation.

use etherparse::{SlicedPacket, TransportSlice};

use super::super::{Outside, Routed};
use super::*;
use crate::config::model::{Checksum, Tunnel};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 250));

/// One server, of a kind.
fn one(method: Method) -> Service {
    let mut made = service(Scheduler::RoundRobin, &[1]);
    let server = &mut made.servers[0];
    server.method = method;
    if method == Method::Nat {
        server.address.set_port(8080);
    }
    made
}

/// A SYN with a right checksum.
fn open(asked: Made) -> Vec<u8> {
    let [high, low] = asked.client.to_be_bytes();
    let made = PacketBuilder::ethernet2(ROUTER_MAC, PORT_MAC);
    let made = made.ipv4([10, 1, high, low], VIP.octets(), 64);
    let mut frame = Vec::new();
    let made = made.tcp(asked.port, 80, 1, 100).syn();
    made.write(&mut frame, &[]).unwrap();
    frame
}

/// The answer of the server to a packet, as it comes here.
fn answer(asked: Made) -> Vec<u8> {
    let [high, low] = asked.client.to_be_bytes();
    let made = PacketBuilder::ethernet2(server_mac(1), PORT_MAC);
    let made = made.ipv4([192, 168, 1, 1], [10, 1, high, low], 64);
    let mut frame = Vec::new();
    let made = made.tcp(8080, asked.port, 1, 100).ack(1);
    made.write(&mut frame, b"answer").unwrap();
    frame
}

/// Both ends of the packet in a frame, whose checksums must be right.
fn ends(frame: &[u8]) -> (SocketAddr, SocketAddr) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else {
        panic!("no IPv4");
    };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
        panic!("no TCP");
    };
    let sum = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload());
    assert_eq!(sum.unwrap(), tcp.checksum());
    let (from, to) = (ip.header().source_addr(), ip.header().destination_addr());
    (
        SocketAddr::new(from.into(), tcp.source_port()),
        SocketAddr::new(to.into(), tcp.destination_port()),
    )
}

#[test]
fn a_tunnel_puts_headers_in_front_and_takes_their_length_off_the_mtu() {
    let gue = Tunnel::Gue {
        port: 6080.try_into().unwrap(),
        checksum: Checksum::None,
    };
    for (tunnel, grows) in [
        (Tunnel::Ipip, 20),
        (gue, 32),
        (Tunnel::Gre { checksum: true }, 28),
    ] {
        let mut director = Director::new(&one(Method::Tunnel(tunnel, OWN)));
        let came = tcp(1, SYN).bytes();
        let verdict = director.frame(&came);
        assert_eq!(verdict.reason, Reason::TxScheduled);
        let sent = verdict.frame.unwrap();
        assert_eq!(sent.len(), came.len() + grows);
        // Behind its hops and its checksum the packet is as it was.
        assert_eq!(sent[14 + grows + 12..], came[14 + 12..]);
        assert_eq!(sent[22], 63, "the hops of the inner header");
        let mut long = came.clone();
        long.resize(14 + 1500 - grows + 1, 0);
        let len = u16::try_from(long.len() - 14).unwrap();
        long[16..18].copy_from_slice(&len.to_be_bytes());
        let verdict = director.frame(&long);
        assert_eq!(verdict.reason, Reason::TxTooBig);
        let mtu = 1500 - u16::try_from(grows).unwrap();
        assert_eq!(verdict.frame.unwrap()[40..42], mtu.to_be_bytes());
    }
}

#[test]
fn addresses_are_translated_there_and_back() {
    let mut director = Director::new(&one(Method::Nat));
    let asked = tcp(1, SYN);
    assert_eq!(director.frame(&answer(asked)).reason, Reason::NoService);
    let there = director.frame(&open(asked));
    assert_eq!(there.reason, Reason::TxScheduled);
    let client = SocketAddr::new([10, 1, 0, 1].into(), 40_000);
    let server = SocketAddr::new(server_ip(1), 8080);
    assert_eq!(ends(&there.frame.unwrap()), (client, server));
    let back = director.frame(&answer(asked));
    assert_eq!(back.reason, Reason::TxReply);
    let frame = back.frame.unwrap();
    assert_eq!(ends(&frame), (SocketAddr::new(VIP.into(), 80), client));
    assert_eq!(
        frame[..6],
        ROUTER_MAC,
        "the way that the client's packets came"
    );
}

/// The kernel's routing table.
struct Routes(Routed);

impl Outside for Routes {
    fn pick(&mut self, servers: &[SocketAddr]) -> Option<SocketAddr> {
        servers.first().copied()
    }

    fn identification(&mut self) -> u16 {
        0
    }

    fn route(&self, _ifindex: u32, _from: IpAddr, _to: IpAddr) -> Option<Routed> {
        Some(self.0)
    }
}

#[test]
fn answers_take_the_route_that_there_is() {
    let mac = Mac::from_octets([2, 0, 0, 0, 0, 7]);
    let over = |mtu, hop| Routed::Over { mtu, hop };
    for (routed, reason) in [
        (Routed::Nowhere, Reason::NoReplyRoute),
        (over(1500, Some((OTHER_PORT, mac))), Reason::RedirectReply),
        (over(1500, Some((77, mac))), Reason::TxReply),
        (over(1500, None), Reason::TxReply),
        (over(45, None), Reason::TxTooBig),
    ] {
        let mut director = Director::new(&one(Method::Nat));
        director.frame(&tcp(1, SYN).bytes());
        let now = LongTick(director.now);
        let frame = answer(tcp(1, SYN));
        let mut routes = Routes(routed);
        let verdict = director.memory.decide_by(&frame, PORT, now, &mut routes);
        assert_eq!(verdict.reason, reason, "{routed:?}");
    }
}
