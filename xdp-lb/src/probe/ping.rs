//! `PING_CHECK`: an ICMP echo is answered.
//!
//! The socket is a raw one: what the kernel has for pings is closed to everybody unless a setting of
//! the whole host (`ping_group_range`) is changed, as keepalived does.

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Icmpv6Header, Icmpv6Slice, Icmpv6Type,
    Ipv4Slice,
};
use socket2::{Protocol, Type};

use super::exchange::{Exchange, LONGEST};
use super::{Context, RANDOM, random};
use crate::config::model::{Connection, Family};
use crate::health::Outcome;

/// Pings once.
pub async fn run(connection: &Connection, context: &Context) -> Outcome {
    match check(connection, context).await {
        Ok(()) => Outcome::Passed,
        Err(outcome) => outcome,
    }
}

async fn check(connection: &Connection, context: &Context) -> Result<(), Outcome> {
    let family = Family::of(connection.target.ip());
    let protocol = match family {
        Family::V4 => Protocol::ICMPV4,
        Family::V6 => Protocol::ICMPV6,
    };
    let exchange = Exchange::open(connection, context, Type::RAW, Some(protocol))?;
    let echo = Echo::new(random());
    exchange.send(&echo.request(family)).await?;
    let mut buffer = vec![0; LONGEST];
    // All that the host sends by ICMP comes here, replies to others included. An end to it is set by
    // the time.
    while let Some(length) = exchange.receive(&mut buffer).await? {
        if echo.is_answered_by(family, buffer.get(..length).unwrap_or_default()) {
            return Ok(());
        }
    }
    Err(exchange.silence("echo reply"))
}

/// An echo that is told from all others.
#[derive(Debug)]
struct Echo {
    header: IcmpEchoHeader,
    payload: [u8; RANDOM],
}

impl Echo {
    fn new(random: [u8; RANDOM]) -> Self {
        let [a, b, c, d, ..] = random;
        Self {
            header: IcmpEchoHeader::from_bytes([a, b, c, d]),
            payload: random,
        }
    }

    fn request(&self, family: Family) -> Vec<u8> {
        let mut packet = Vec::new();
        match family {
            Family::V4 => {
                let kind = Icmpv4Type::EchoRequest(self.header);
                let header = Icmpv4Header::with_checksum(kind, &self.payload);
                packet.extend_from_slice(&header.to_bytes());
            }
            // The kernel fills in its checksum, which covers addresses too.
            Family::V6 => {
                let header = Icmpv6Header::new(Icmpv6Type::EchoRequest(self.header));
                packet.extend_from_slice(&header.to_bytes());
            }
        }
        packet.extend_from_slice(&self.payload);
        packet
    }

    /// `packet` as the kernel hands it over: IPv4 with its header, IPv6 without.
    fn is_answered_by(&self, family: Family, packet: &[u8]) -> bool {
        match family {
            Family::V4 => Ipv4Slice::from_slice(packet).is_ok_and(|ip| {
                Icmpv4Slice::from_slice(ip.payload().payload).is_ok_and(|icmp| {
                    icmp.icmp_type() == Icmpv4Type::EchoReply(self.header)
                        && icmp.payload() == self.payload
                })
            }),
            Family::V6 => Icmpv6Slice::from_slice(packet).is_ok_and(|icmp| {
                icmp.icmp_type() == Icmpv6Type::EchoReply(self.header)
                    && icmp.payload() == self.payload
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    const OURS: [u8; RANDOM] = [7; RANDOM];

    fn v4(build: impl Fn(IcmpEchoHeader) -> Icmpv4Type, id: u16, payload: &[u8]) -> Vec<u8> {
        let mut header = Echo::new(OURS).header;
        header.id = id;
        let builder = PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64);
        let mut packet = Vec::new();
        let builder = builder.icmpv4(build(header));
        builder.write(&mut packet, payload).unwrap();
        packet
    }

    #[test]
    fn only_the_reply_to_this_echo_counts() {
        let echo = Echo::new(OURS);
        let id = echo.header.id;
        let answers = |packet: &[u8]| echo.is_answered_by(Family::V4, packet);
        assert!(answers(&v4(Icmpv4Type::EchoReply, id, &OURS)));
        assert!(!answers(&v4(Icmpv4Type::EchoReply, id ^ 1, &OURS)));
        assert!(!answers(&v4(Icmpv4Type::EchoReply, id, &[8; RANDOM])));
        // What a host sends to itself it also gets itself.
        assert!(!answers(&v4(Icmpv4Type::EchoRequest, id, &OURS)));
        let mut reply = echo.request(Family::V6);
        assert!(!echo.is_answered_by(Family::V6, &reply));
        reply[0] = 129;
        assert!(echo.is_answered_by(Family::V6, &reply));
        reply[7] ^= 1;
        assert!(!echo.is_answered_by(Family::V6, &reply));
    }

    proptest! {
        #[test]
        fn no_packet_is_too_strange(packet in prop::collection::vec(any::<u8>(), 0..80)) {
            let echo = Echo::new(OURS);
            for family in [Family::V4, Family::V6] {
                prop_assert!(!echo.is_answered_by(family, &packet));
            }
        }
    }
}
