//! Packets of clients, as a router hands them to the director, and the stations on its network.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};
use etherparse::{IpFragOffset, Ipv4Header, Ipv6Header, PacketBuilder, TcpHeader};

/// The port of all services.
pub const PORT: u16 = 80;

/// MAC of the director.
pub const DIRECTOR: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC of the router that all clients are behind.
pub const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// MAC of real server `number`.
pub const fn server_mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, number]
}

/// The real server that a frame is for.
pub fn server_of(frame: &[u8]) -> Option<u8> {
    let number = *frame.get(5)?;
    frame.starts_with(&server_mac(number)).then_some(number)
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UDP.
    Datagram,
    /// TCP: it opens a connection.
    Syn,
    /// TCP: data, or an answer to the server.
    Ack,
    /// TCP: the client's last.
    Fin,
    /// TCP: an end at once.
    Rst,
}

/// A packet of a client to a virtual IP.
///
/// # Errors
/// When the two are of different families.
pub fn frame(client: SocketAddr, vip: IpAddr, kind: Kind) -> Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(ROUTER, DIRECTOR);
    let packet = match (client.ip(), vip) {
        (IpAddr::V4(client), IpAddr::V4(vip)) => ethernet.ip(etherparse::IpHeaders::Ipv4(
            Ipv4Header {
                identification: 1,
                dont_fragment: true,
                fragment_offset: IpFragOffset::ZERO,
                time_to_live: 64,
                source: client.octets(),
                destination: vip.octets(),
                ..Ipv4Header::default()
            },
            etherparse::Ipv4Extensions::default(),
        )),
        (IpAddr::V6(client), IpAddr::V6(vip)) => ethernet.ip(etherparse::IpHeaders::Ipv6(
            Ipv6Header {
                hop_limit: 64,
                source: client.octets(),
                destination: vip.octets(),
                ..Ipv6Header::default()
            },
            etherparse::Ipv6Extensions::default(),
        )),
        (client, vip) => bail!("{client} cannot send to {vip}"),
    };
    let mut bytes = Vec::new();
    match kind {
        Kind::Datagram => packet.udp(client.port(), PORT).write(&mut bytes, b"x")?,
        Kind::Syn | Kind::Ack | Kind::Fin | Kind::Rst => {
            let header = TcpHeader {
                syn: kind == Kind::Syn,
                ack: matches!(kind, Kind::Ack | Kind::Fin),
                fin: kind == Kind::Fin,
                rst: kind == Kind::Rst,
                ..TcpHeader::new(client.port(), PORT, 1, 65_535)
            };
            packet.tcp_header(header).write(&mut bytes, &[])?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_of_its_family_and_kind() {
        let of = |client: &str, vip: &str, kind| {
            frame(client.parse().unwrap(), vip.parse().unwrap(), kind)
        };
        let syn = of("10.2.0.1:1024", "10.1.0.100", Kind::Syn).unwrap();
        assert_eq!(
            (syn.len(), syn[12..14].to_vec(), syn[47]),
            (54, vec![8, 0], 2)
        );
        let fin = of("[fd00:2::1]:1024", "fd00:1::64", Kind::Fin).unwrap();
        assert_eq!(
            (fin.len(), fin[12..14].to_vec(), fin[67]),
            (74, vec![0x86, 0xdd], 0x11)
        );
        assert!(of("10.2.0.1:1024", "fd00:1::64", Kind::Syn).is_err());
    }

    #[test]
    fn a_server_is_known_by_its_mac() {
        assert_eq!(server_of(&server_mac(3)), Some(3));
        assert_eq!(server_of(&ROUTER), None);
        assert_eq!(server_of(&[2, 0]), None);
    }
}
