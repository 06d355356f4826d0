//! Frames by chance: mostly such as clients send, then a little wrong, then very wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xdp_lb_common::vlan::{CUSTOMER, SERVICE};

use crate::case::{Step, Style};
use crate::dice::Dice;
use crate::made::Made;
use crate::replies;
use crate::world::{VIPS, Virtual, World, host_ip};

/// Interfaces: one that frames come in by, another, and one that no table knows.
pub(crate) const PORTS: [u32; 3] = [NEAR, FAR, UNKNOWN];
pub(crate) const NEAR: u32 = 11;
/// Begins at the same slot of the table of interfaces.
pub(crate) const FAR: u32 = NEAR + xdp_lb_common::limits::MAX_PORTS;
pub(crate) const UNKNOWN: u32 = 13;
/// The most octets of the headroom that anybody takes.
pub(crate) const MOST_TAKEN: usize = 212;
/// A tag: its type, and priority and number of the VLAN.
pub(crate) type Tag = (u16, u16);

/// VLANs behind the first two: index, the interface that carries it, tags.
pub(crate) const NETWORKS: [(u32, u32, &[Tag]); 3] = [
    (21, NEAR, &[(CUSTOMER, 10)]),
    (22, NEAR, &[(SERVICE, 5), (CUSTOMER, 7)]),
    (23, FAR, &[(CUSTOMER, 10)]),
];

/// The MAC that clients' frames come from.
pub(crate) const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// The MAC of an interface.
pub(crate) fn port_mac(port: u32) -> [u8; 6] {
    let [.., high, low] = port.to_be_bytes();
    [2, 0, 0, high, 2, low]
}

/// The MTU of an interface.
pub(crate) const fn mtu(port: u32) -> u32 {
    if port == FAR { 1300 } else { 1500 }
}

/// The MAC of server or director `n`.
pub(crate) const fn host_mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, n]
}

/// The MAC that moves with a VIP.
pub(crate) const fn virtual_mac() -> [u8; 6] {
    [0, 0, 0x5e, 0, 1, 51]
}

/// Clients of a case, and what they did so far.
pub(crate) struct Flows {
    clients: u64,
    ports: u64,
    /// Connections that were spoken of.
    known: Vec<Flow>,
}

/// A connection.
#[derive(Clone, Copy)]
struct Flow {
    vip: SocketAddr,
    udp: bool,
    client: SocketAddr,
    /// It was spoken of before.
    is_known: bool,
}

impl Flows {
    /// None so far.
    pub(crate) fn new(dice: &mut Dice, style: Style) -> Self {
        let (clients, ports) = match style {
            Style::Mixed | Style::Tidy => (1 + dice.roll(8), 4),
            Style::Scheduling => (40, 20),
            Style::Flood => (1 << 14, 2),
        };
        Self {
            clients,
            ports,
            known: Vec::new(),
        }
    }

    /// One that was spoken of, or a new one to a service.
    fn pick(&mut self, dice: &mut Dice, style: Style, world: &World) -> Flow {
        let again = match style {
            Style::Mixed => 50,
            Style::Scheduling => 30,
            Style::Tidy => 80,
            Style::Flood => 45,
        };
        if !self.known.is_empty() && dice.roll(100) < again {
            let at = usize::try_from(dice.roll(self.known.len() as u64)).unwrap();
            return Flow {
                is_known: true,
                ..self.known[at]
            };
        }
        let (vip, udp) = destination(dice, world);
        let client = client(dice, vip.ip(), self.clients);
        let port = 40_000 + u16::try_from(dice.roll(self.ports)).unwrap();
        let flow = Flow {
            vip,
            udp,
            client: SocketAddr::new(client, port),
            is_known: false,
        };
        self.known.push(flow);
        flow
    }
}

/// A service's address, or one near it.
fn destination(dice: &mut Dice, world: &World) -> (SocketAddr, bool) {
    let services = world.services.len() as u64;
    if services == 0 || dice.roll(20) == 0 {
        let vip = VIPS[usize::try_from(dice.roll(3)).unwrap()];
        let port = [80, 443, 8080, 0][usize::try_from(dice.roll(4)).unwrap()];
        return (SocketAddr::new(vip, port), dice.roll(2) == 0);
    }
    let service: &Virtual = &world.services[usize::try_from(dice.roll(services)).unwrap()];
    if service.marked && dice.roll(3) == 0 {
        let other = SocketAddr::new(service.vip, service.other_port());
        return (other, dice.roll(2) == 0);
    }
    let port = match service.port {
        0 => [80, 443, 8080, 1][usize::try_from(dice.roll(4)).unwrap()],
        port => port,
    };
    (SocketAddr::new(service.vip, port), service.udp)
}

/// A client, of one of two nets.
fn client(dice: &mut Dice, vip: IpAddr, clients: u64) -> IpAddr {
    let n = u16::try_from(dice.roll(clients)).unwrap();
    let net = u8::try_from(dice.roll(2)).unwrap();
    let [high, low] = n.to_be_bytes();
    match vip {
        IpAddr::V4(_) => Ipv4Addr::new(10, net, high, low).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0xc, net.into(), 0, 0, 0, n).into(),
    }
}

/// A frame of some client, as a step.
pub(crate) fn random(dice: &mut Dice, style: Style, world: &World, flows: &mut Flows) -> Step {
    let Flow {
        vip,
        udp,
        client,
        is_known,
    } = flows.pick(dice, style, world);
    let flags = flags(dice, style, is_known);
    let payload = usize::try_from(dice.roll(40)).unwrap();
    let mut made = Made::of((client, vip), udp, (flags, payload));
    made.unchecked = dice.roll(12) == 0;
    made.tos = [0, 0, 0x10, 0xb9][usize::try_from(dice.roll(4)).unwrap()];
    made.dont_fragment = dice.roll(3) > 0;
    let mut port = NEAR;
    let replies = match style {
        Style::Mixed | Style::Tidy => 3,
        Style::Scheduling => 8,
        Style::Flood => 12,
    };
    // Of connections that never were, there are few answers.
    if dice.roll(replies) == 0
        && (is_known || dice.roll(8) == 0)
        && let Some(behind) = replies::turn(dice, world, &mut made)
    {
        port = behind;
    }
    let pieces = match style {
        Style::Mixed | Style::Tidy => 9,
        Style::Scheduling | Style::Flood => 60,
    };
    if dice.roll(pieces) == 0 {
        made.fragment =
            [(0, true), (0, true), (2, true), (3, false)][usize::try_from(dice.roll(4)).unwrap()];
        made.id = u32::try_from(dice.roll(2)).unwrap();
    }
    let errors = match style {
        Style::Mixed => 5,
        Style::Tidy | Style::Scheduling => 12,
        Style::Flood => 30,
    };
    if dice.roll(errors) == 0 {
        made = error(dice, style, made);
    }
    if style == Style::Mixed {
        port = odd(dice, &mut made).unwrap_or(port);
    }
    let mut frame = made.bytes();
    if style == Style::Mixed && dice.roll(8) == 0 {
        spoil(dice, &mut frame);
    }
    // No more than a header's room is left, now and then.
    let is_plain = frame.len() < 1500 && frame.get(12..14) != Some(&CUSTOMER.to_be_bytes());
    let is_plain = is_plain && frame.get(12..14) != Some(&SERVICE.to_be_bytes());
    let taken = if style == Style::Mixed && is_plain && dice.roll(30) == 0 {
        MOST_TAKEN - 4 * usize::try_from(dice.roll(14)).unwrap()
    } else {
        0
    };
    Step::Frame {
        port,
        hex: crate::case::hex(&frame),
        taken,
    }
}

/// An ICMP error about what is answered to a packet.
fn error(dice: &mut Dice, style: Style, packet: Made) -> Made {
    let vip = packet.vip;
    let mut answer = Made::of((vip, packet.client), packet.udp, (0x10, packet.payload));
    if style == Style::Mixed {
        let _: Option<u32> = odd(dice, &mut answer);
    }
    let mut quote = answer.bytes();
    if style == Style::Mixed && dice.roll(8) == 0 {
        spoil(dice, &mut quote);
    }
    quote.drain(..14);
    // Routers must quote eight octets of what the packet carries; most quote more.
    let header = if vip.is_ipv4() { 20 } else { 40 };
    let most = match dice.roll(6) {
        0 => usize::try_from(dice.roll(header + 12)).unwrap(),
        1 | 2 => usize::try_from(header + 8).unwrap(),
        _ => 548,
    };
    quote.truncate(most);
    let errors: &[u8] = if vip.is_ipv4() {
        &[3, 11, 12]
    } else {
        &[1, 2, 3, 4]
    };
    let kind = match dice.roll(10) {
        0 => u8::try_from(dice.roll(256)).unwrap(),
        1 => [0, 4, 5, 8, 128, 135][usize::try_from(dice.roll(6)).unwrap()],
        _ => errors[usize::try_from(dice.roll(errors.len() as u64)).unwrap()],
    };
    let code = u8::try_from(dice.roll(6)).unwrap();
    let mut message = vec![kind, code, 0, 0, 0, 0, 5, 120];
    message.extend(quote);
    let mut made = Made {
        message: Some(message),
        ..packet
    };
    let router = match vip.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 7)),
    };
    match dice.roll(8) {
        // The client itself tells.
        0 | 1 => {}
        2 if style == Style::Mixed => made.vip.set_ip(host_ip(vip.ip(), 1)),
        _ => made.client.set_ip(router),
    }
    made
}

/// Flags such as clients send, and now and then any.
fn flags(dice: &mut Dice, style: Style, is_known: bool) -> u8 {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const PSH: u8 = 8;
    const ACK: u8 = 16;
    let often_syn = match (style, is_known) {
        (Style::Tidy, _) | (Style::Flood, true) => 4,
        (Style::Flood, false) => 14,
        (Style::Mixed | Style::Scheduling, _) => 9,
    };
    match dice.roll(20) {
        at if at < often_syn => SYN,
        at if at < 14 => ACK,
        14 | 15 => FIN | ACK,
        16 => RST,
        17 => PSH | ACK,
        18 => SYN | ACK,
        _ => u8::try_from(dice.roll(256)).unwrap(),
    }
}

/// Something out of the ordinary; the interface it comes in by, if that is another one.
fn odd(dice: &mut Dice, made: &mut Made) -> Option<u32> {
    let byte = |dice: &mut Dice| u8::try_from(dice.roll(256)).unwrap();
    match dice.roll(40) {
        0 | 1 => made.ttl = [0, 1, 2, 255][usize::try_from(dice.roll(4)).unwrap()],
        2 => made.destination = host_mac(1),
        3 | 4 => made.destination = virtual_mac(),
        5 => made.destination = [0xff; 6],
        6..9 => {
            // A host of the pool: of its own accord, or with a client's packet.
            let n = u8::try_from(1 + dice.roll(7)).unwrap();
            made.source = host_mac(n);
            if dice.roll(2) == 0 {
                made.client.set_ip(host_ip(made.vip.ip(), n));
            }
        }
        9 | 10 => {
            made.destination = port_mac(FAR);
            return Some(FAR);
        }
        11 => return Some([FAR, UNKNOWN][usize::try_from(dice.roll(2)).unwrap()]),
        12..15 => made.options = usize::try_from(dice.roll(11)).unwrap() * 4,
        29..33 => {
            let network = usize::try_from(dice.roll(3)).unwrap();
            made.tags = NETWORKS[network].2.to_vec();
            if dice.roll(3) == 0 {
                let (ethertype, _) = made.tags[0];
                let number = [0, 0xe000, 0x600a, 7][usize::try_from(dice.roll(4)).unwrap()];
                made.tags[0] = (ethertype, number);
            }
            if dice.roll(3) == 0 {
                made.destination = port_mac(NETWORKS[network].0);
            }
        }
        15 | 25..29 => made.fragment = (u16::try_from(dice.roll(3)).unwrap(), dice.roll(2) == 0),
        16 => {
            let numbers = [1, 2, 47, 50, 51, 58, 132, 255, 6, 17];
            made.protocol = Some(numbers[usize::try_from(dice.roll(10)).unwrap()]);
        }
        17..22 => {
            for _ in 0..=dice.roll(5) {
                let number =
                    [0, 43, 44, 60, 60, 0, 51, 135][usize::try_from(dice.roll(8)).unwrap()];
                let left = if dice.roll(4) == 0 { byte(dice) } else { 0 };
                made.extensions
                    .push((number, u8::try_from(dice.roll(3)).unwrap(), left));
            }
        }
        22 => made.payload = 1000 + usize::try_from(dice.roll(500)).unwrap(),
        33..36 => made.payload = about_as_long(dice),
        23 => made.client.set_port(byte(dice).into()),
        24 => made.vip.set_port(byte(dice).into()),
        _ => {}
    }
    None
}

/// So much that the packet is about as long as the MTU of an interface, or as what is left of it in a tunnel.
fn about_as_long(dice: &mut Dice) -> usize {
    let mtu = mtu([NEAR, FAR][usize::try_from(dice.roll(2)).unwrap()]);
    usize::try_from(u64::from(mtu) - dice.roll(140)).unwrap()
}

/// Breaks a frame.
fn spoil(dice: &mut Dice, frame: &mut Vec<u8>) {
    let at = |dice: &mut Dice, len: usize| usize::try_from(dice.roll(len as u64)).unwrap();
    match dice.roll(8) {
        0 | 1 => {
            let length = 14 + at(dice, frame.len() - 13);
            frame.truncate(length);
        }
        2 => frame.resize(frame.len() + at(dice, 20), 0),
        3 => {
            let tag = [0x81, 0, 0, u8::try_from(dice.roll(100)).unwrap()];
            frame.splice(12..12, tag);
        }
        4 => {
            let ethertype = [[8, 6], [0x86, 0xdd], [8, 0], [0x88, 0xa8], [0, 38]];
            let ethertype = ethertype[at(dice, ethertype.len())];
            frame[12..14].copy_from_slice(&ethertype);
        }
        // The headers, most of all the lengths in them.
        5 | 6 => {
            let place = 14 + at(dice, 30.min(frame.len() - 14));
            frame[place] = u8::try_from(dice.roll(256)).unwrap();
        }
        _ => {
            let place = at(dice, frame.len());
            frame[place] ^= 1 << dice.roll(8);
        }
    }
}
